//! Files of the file system.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::ReadAt;
use crate::error::{Error, Result};

/// A local file, read with pread: a file that shrinks or vanishes gives an error
/// where a mapping would give SIGBUS.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    name: String,
    size: u64,
}

impl LocalFile {
    pub fn open(path: &Path) -> Result<LocalFile> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(Error::Invalid(format!("{}: not a regular file", path.display())));
        }
        Ok(LocalFile { file, name: path.display().to_string(), size: metadata.len() })
    }

    pub fn metadata(&self) -> Result<std::fs::Metadata> {
        self.file.metadata().map_err(|e| Error::io(&self.name, e))
    }

    fn advise(&self, range: Range<u64>, advice: PosixFadviseAdvice) {
        // A length of 0 would mean everything.
        if !range.is_empty() {
            // Nothing depends on its being taken.
            let _ = posix_fadvise(&self.file, range.start as i64, (range.end - range.start) as i64, advice);
        }
    }
}

impl ReadAt for LocalFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                let what = format!("{} bytes were to be read; the file had {} when opened", buffer.len(), self.size);
                Error::truncated(&self.name, "file", offset, what)
            }
            _ => Error::io(&self.name, e),
        })
    }

    fn will_need(&self, range: Range<u64>) {
        self.advise(range, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }

    fn will_not_need(&self, range: Range<u64>) {
        self.advise(range, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    fn mode(&self) -> Option<u32> {
        self.metadata().ok().map(|metadata| metadata.mode())
    }

    fn fetch_no_more_than_asked(&self) {
        self.advise(0..self.size, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    }
}
