//! Where the bytes of a file come from.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::error::{Error, Result};

/// Bytes that can be read at any offset, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// What to call it in messages.
    fn name(&self) -> &Path;

    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// These bytes will be read soon: fetch them if that can be done without waiting.
    fn will_need(&self, _range: Range<u64>) {}

    /// These bytes will not be read again soon: the system need not keep what it can let go
    /// of without letting go of others.
    fn will_not_need(&self, _range: Range<u64>) {}

    /// Reads come in no order: fetch what they ask for, and nothing else.
    fn fetch_no_more_than_asked(&self) {}
}

/// A local file, read with pread: a file that shrinks or vanishes gives an error
/// where a mapping would give SIGBUS.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    path: PathBuf,
    size: u64,
}

impl LocalFile {
    pub fn open(path: &Path) -> Result<LocalFile> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(Error::Invalid(format!("{}: not a regular file", path.display())));
        }
        Ok(LocalFile { file, path: path.to_path_buf(), size: metadata.len() })
    }

    pub fn metadata(&self) -> Result<std::fs::Metadata> {
        self.file.metadata().map_err(|e| Error::io(&self.path, e))
    }

    fn advise(&self, range: Range<u64>, advice: PosixFadviseAdvice) {
        // A length of 0 would mean everything.
        if !range.is_empty() {
            // Nothing depends on its being taken.
            let _ = posix_fadvise(&self.file, range.start as i64, (range.end - range.start) as i64, advice);
        }
    }
}

/// A file that is bytes in memory.
#[derive(Debug, Clone)]
pub struct Memory {
    name: PathBuf,
    bytes: Box<[u8]>,
}

impl Memory {
    /// `name` is for messages.
    pub fn new(name: impl Into<PathBuf>, bytes: impl Into<Box<[u8]>>) -> Memory {
        Memory { name: name.into(), bytes: bytes.into() }
    }
}

impl ReadAt for Memory {
    fn name(&self) -> &Path {
        &self.name
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let range = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..)?.get(..buffer.len()));
        let range = range.ok_or_else(|| {
            let what = format!("{} bytes were to be read; there are {}", buffer.len(), self.bytes.len());
            Error::truncated(&self.name, "memory", offset, what)
        })?;
        buffer.copy_from_slice(range);
        Ok(())
    }
}

impl ReadAt for LocalFile {
    fn name(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                let what = format!("{} bytes were to be read; the file had {} when opened", buffer.len(), self.size);
                Error::truncated(&self.path, "file", offset, what)
            }
            _ => Error::io(&self.path, e),
        })
    }

    fn will_need(&self, range: Range<u64>) {
        self.advise(range, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }

    fn will_not_need(&self, range: Range<u64>) {
        self.advise(range, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    fn fetch_no_more_than_asked(&self) {
        self.advise(0..self.size, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    }
}
