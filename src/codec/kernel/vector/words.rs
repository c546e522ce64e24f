//! The words that the lanes of a block share, for kernels that load more than they
//! take.

use super::super::UNEVEN;
use crate::codec::params::MAX_LANES;
use crate::error::Defect;

/// The most bytes that all lanes can take in a step.
pub const STEP: usize = 2 * MAX_LANES;

/// The end of the words with room behind it, so that loads may run beyond what is
/// taken.
pub struct Tail {
    bytes: [u8; 3 * STEP],
    len: usize,
}

impl Tail {
    pub fn new(words: &[u8]) -> Tail {
        let len = words.len().min(STEP);
        let mut bytes = [0; 3 * STEP];
        bytes[..len].copy_from_slice(&words[words.len() - len..]);
        Tail { bytes, len }
    }
}

/// The sequence of words that the lanes share.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the words end; `bytes` goes on behind it if they are the tail's.
    end: usize,
    tail: &'a Tail,
}

impl<'a> Words<'a> {
    pub fn new(words: &'a [u8], tail: &'a Tail) -> Words<'a> {
        Words { bytes: words, at: 0, end: words.len(), tail }
    }

    /// To be called before each step: after it, every group of the step can load.
    #[inline(always)]
    pub fn begin_step(&mut self) -> Result<(), Defect> {
        if self.bytes.len() - self.at < STEP {
            // More was taken than there is, or the rest is in the tail.
            let left = self.end.checked_sub(self.at).ok_or(UNEVEN)?;
            self.bytes = &self.tail.bytes;
            self.end = self.tail.len;
            self.at = self.tail.len - left;
        }
        Ok(())
    }

    /// The next bytes, of which [`Words::take`] says how many were used.
    #[inline(always)]
    pub fn peek<const LEN: usize>(&self) -> &'a [u8; LEN] {
        match self.bytes[self.at..].first_chunk() {
            Some(bytes) => bytes,
            None => unreachable!("begin_step leaves enough for every group"),
        }
    }

    #[inline(always)]
    pub fn take(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub fn all_taken(&self) -> bool {
        self.at == self.end
    }
}
