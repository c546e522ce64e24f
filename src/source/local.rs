//! Files of the file system.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

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
}

/// Tells the system what will become of a part of a file.
pub fn advise(file: &File, range: Range<u64>, advice: Advice) {
    // No length would mean everything.
    if let Some(length) = range.end.checked_sub(range.start).and_then(NonZeroU64::new) {
        // Nothing depends on its being taken.
        let _ = fadvise(file, range.start, Some(length), advice);
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
        advise(&self.file, range, Advice::WillNeed);
    }

    fn will_not_need(&self, range: Range<u64>) {
        advise(&self.file, range, Advice::DontNeed);
    }

    fn mode(&self) -> Option<u32> {
        self.metadata().ok().map(|metadata| metadata.mode())
    }

    fn fetch_no_more_than_asked(&self) {
        advise(&self.file, 0..self.size, Advice::Random);
    }
}
