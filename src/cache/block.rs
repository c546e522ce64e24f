//! The memory of one decoded block.

use std::ops::Deref;

use memmap2::MmapMut;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The bytes of a block. Large ones have a mapping of their own, so that memory
/// goes back to the system when they do, and none is lost to fragmentation.
pub struct Block {
    pub(super) buffer: Buffer,
    /// Whether anybody asked for it: false of what was decoded ahead and not read yet.
    pub(super) used: AtomicBool,
    /// Bytes of it that readers were given.
    pub(super) served: AtomicU64,
}

pub(super) enum Buffer {
    Heap(Vec<u8>),
    /// A mapping of [`mapped`] bytes, of which so many are the block.
    Mapped(MmapMut, usize),
}

/// Buffers from this size on are mapped.
pub(super) const MAPPED_FROM: usize = 256 << 10;
/// Blocks are of whole rows, so those of one tensor are a little longer than those of another. What
/// mappings are rounded up to lets one take the other's.
const MAPPED_STEP: usize = 64 << 10;

/// Bytes of the mapping for a block of so many.
pub(super) fn mapped(length: usize) -> usize {
    length.next_multiple_of(MAPPED_STEP)
}

/// What a block of so many bytes takes of the budget: its mapping, or, as a heap of blocks that
/// come and go in any order is never full (it was a tenth larger than what it held), more.
pub(super) fn cost(length: usize) -> u64 {
    let taken = if length < MAPPED_FROM { length + length / 8 } else { mapped(length) };
    taken as u64
}

impl Block {
    pub(super) fn cost(&self) -> u64 {
        cost(self.len())
    }

    /// Whether readers were given as many bytes as it has.
    pub(super) fn is_consumed(&self) -> bool {
        self.served.load(Relaxed) >= self.len() as u64
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(bytes, length) => &mut bytes[..*length],
        }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.buffer {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(bytes, length) => &bytes[..*length],
        }
    }
}
