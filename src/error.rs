//! The one error type of the library.

use std::collections::TryReserveError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with bytes that were decoded, without knowing where they lay.
///
/// The codecs return this; whoever knows the file, the tensor and the offset
/// turns it into an [`Error`] with [`Defect::at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defect(pub &'static str);

/// The place of a defect: file, what lies there, byte offset in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub item: String,
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at byte {}", self.file.display(), self.item, self.offset)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes break a rule of the format; serving them would be a guess.
    #[error("{place}: corrupt: {what}")]
    Corrupt { place: Place, what: String },

    /// The file ends before its content does.
    #[error("{place}: truncated: {what}")]
    Truncated { place: Place, what: String },

    /// Well-formed, but made by a newer upg or for another purpose.
    #[error("{}: not supported: {what}", file.display())]
    Unsupported { file: PathBuf, what: String },

    /// The caller asked for something that cannot be done.
    #[error("{0}")]
    Invalid(String),

    /// The caller asked to stop.
    #[error("interrupted")]
    Cancelled,

    #[error("{}: {cause}", file.display())]
    Io { file: PathBuf, cause: io::Error },
}

impl Error {
    pub fn io(file: impl AsRef<Path>, cause: io::Error) -> Error {
        Error::Io { file: file.as_ref().to_path_buf(), cause }
    }

    /// Where much memory is asked for: one read, or a conversion, must fail in order, and not the
    /// process by a signal.
    pub fn no_memory(_: TryReserveError) -> Error {
        Error::io("memory for a block", io::ErrorKind::OutOfMemory.into())
    }

    pub fn corrupt(file: &Path, item: impl Into<String>, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { place: Place::new(file, item, offset), what: what.into() }
    }

    pub fn truncated(file: &Path, item: impl Into<String>, offset: u64, what: impl Into<String>) -> Error {
        Error::Truncated { place: Place::new(file, item, offset), what: what.into() }
    }

    pub fn unsupported(file: &Path, what: impl Into<String>) -> Error {
        Error::Unsupported { file: file.to_path_buf(), what: what.into() }
    }
}

impl Place {
    pub fn new(file: &Path, item: impl Into<String>, offset: u64) -> Place {
        Place { file: file.to_path_buf(), item: item.into(), offset }
    }
}

impl Defect {
    /// The same defect with its place: `item` names the tensor or structure.
    pub fn at(self, file: &Path, item: impl Into<String>, offset: u64) -> Error {
        Error::corrupt(file, item, offset, self.0)
    }
}
