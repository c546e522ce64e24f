//! In place of `kept` where there is no std, and so no lock: an archive is read as it was opened,
//! and a side block parsed for every block that needs it.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::reader::{Archive, ArrayId};
use crate::codec::side::Side;
use crate::format::Index;

/// Runs `run` with a buffer for stored bytes.
pub fn with_buffer<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    run(&mut Vec::new())
}

/// Runs `run` with a buffer for what a difference is from.
pub fn with_base_buffer<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    run(&mut Vec::new())
}

pub struct Kept;

impl Kept {
    pub fn new(_: &Index, _: u64, _: u64) -> Kept {
        Kept
    }

    pub fn side(&self, _: ArrayId) -> Option<&Side> {
        None
    }

    pub fn keep_side(&self, _: ArrayId, side: Side, _: u64) -> Cow<'_, Side> {
        Cow::Owned(side)
    }
}

impl Archive {
    /// Nobody keeps the stored bytes of a block.
    pub(super) fn done_with(&self, _: u32) {}
}
