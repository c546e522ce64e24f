//! The one error type of the library.

use alloc::borrow::ToOwned;
use alloc::collections::TryReserveError;
use alloc::string::String;
use core::fmt;
#[cfg(feature = "std")]
use std::{io, path::Path};

pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What is wrong with bytes that were decoded, without knowing where they lay.
///
/// The codecs return this; whoever knows the file, the tensor and the offset
/// turns it into an [`Error`] with [`Defect::at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defect(pub &'static str);

/// The place of a defect: file, what lies there, byte offset in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name as messages have it: what is not UTF-8 in a path is replaced.
    pub file: String,
    pub item: String,
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at byte {}", self.file, self.item, self.offset)
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
    #[error("{file}: not supported: {what}")]
    Unsupported { file: String, what: String },

    /// The caller asked for something that cannot be done.
    #[error("{0}")]
    Invalid(String),

    /// The caller asked to stop.
    #[error("interrupted")]
    Cancelled,

    /// There is no memory for what was to be read or decoded.
    #[error("memory for a block: out of memory")]
    NoMemory,

    #[cfg(feature = "std")]
    #[error("{file}: {cause}")]
    Io { file: String, cause: io::Error },
}

impl Error {
    #[cfg(feature = "std")]
    pub fn io(file: impl AsRef<Path>, cause: io::Error) -> Error {
        Error::Io { file: file.as_ref().display().to_string(), cause }
    }

    /// Where much memory is asked for: one read, or a conversion, must fail in order, and not the
    /// process by a signal.
    pub fn no_memory(_: TryReserveError) -> Error {
        Error::NoMemory
    }

    pub fn corrupt(file: &str, item: impl Into<String>, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { place: Place::new(file, item, offset), what: what.into() }
    }

    pub fn truncated(file: &str, item: impl Into<String>, offset: u64, what: impl Into<String>) -> Error {
        Error::Truncated { place: Place::new(file, item, offset), what: what.into() }
    }

    pub fn unsupported(file: &str, what: impl Into<String>) -> Error {
        Error::Unsupported { file: file.to_owned(), what: what.into() }
    }
}

impl Place {
    pub fn new(file: &str, item: impl Into<String>, offset: u64) -> Place {
        Place { file: file.to_owned(), item: item.into(), offset }
    }
}

impl Defect {
    /// The same defect with its place: `item` names the tensor or structure.
    pub fn at(self, file: &str, item: impl Into<String>, offset: u64) -> Error {
        Error::corrupt(file, item, offset, self.0)
    }
}
