//! Where the bytes of a file come from.

#[cfg(feature = "std")]
mod local;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

#[cfg(feature = "std")]
pub use local::LocalFile;
#[cfg(feature = "object-store")]
pub(crate) use local::advise;

use crate::error::{Error, Result};

/// Bytes that can be read at any offset, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// What to call it in messages.
    fn name(&self) -> &str;

    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// The same for who knows the bytes' checksum, and whether it fits what came: damage on the way here
    /// is mended where it can be, by fetching them anew.
    fn read_right_at(&self, buffer: &mut [u8], offset: u64, is_right: &dyn Fn(&[u8]) -> bool) -> Result<bool> {
        self.read_exact_at(buffer, offset)?;
        Ok(is_right(buffer))
    }

    /// What would be read, without copying it: if it lies in memory, in one piece.
    fn lend(&self, _range: Range<u64>) -> Option<Box<dyn AsRef<[u8]> + '_>> {
        None
    }

    /// These bytes will be read soon: fetch them if that can be done without waiting.
    fn will_need(&self, _range: Range<u64>) {}

    /// These bytes will not be read again soon: the system need not keep what it can let go
    /// of without letting go of others.
    fn will_not_need(&self, _range: Range<u64>) {}

    /// Reads come in no order: fetch what they ask for, and nothing else.
    fn fetch_no_more_than_asked(&self) {}

    /// Ends the threads that it has, if any; they start again when they are needed. Nobody reads
    /// meanwhile.
    fn rest(&self) {}

    /// What it counts, each with its name.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Who may do what with it, as stat says; None if that is not known.
    fn mode(&self) -> Option<u32> {
        None
    }

    /// When it was last changed, if that is known.
    #[cfg(feature = "std")]
    fn modified(&self) -> Option<std::time::SystemTime> {
        None
    }

    /// What to call the place of a byte in messages: a file, and the offset there.
    fn locate(&self, offset: u64) -> (&str, u64) {
        (self.name(), offset)
    }
}

/// A file that is bytes in memory: a `Vec`, or a slice of what lies there already.
#[derive(Debug, Clone)]
pub struct Memory<B> {
    name: String,
    bytes: B,
}

impl<B: AsRef<[u8]>> Memory<B> {
    /// `name` is for messages.
    pub fn new(name: impl Into<String>, bytes: B) -> Memory<B> {
        Memory { name: name.into(), bytes }
    }

    fn get(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.bytes.as_ref().get(usize::try_from(offset).ok()?..)?.get(..length)
    }
}

impl<B: AsRef<[u8]> + Send + Sync> ReadAt for Memory<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.bytes.as_ref().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let range = self.get(offset, buffer.len()).ok_or_else(|| {
            let what = format!("{} bytes were to be read; there are {}", buffer.len(), self.size());
            Error::truncated(&self.name, "memory", offset, what)
        })?;
        buffer.copy_from_slice(range);
        Ok(())
    }

    fn lend(&self, range: Range<u64>) -> Option<Box<dyn AsRef<[u8]> + '_>> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        Some(Box::new(self.get(range.start, length)?))
    }
}
