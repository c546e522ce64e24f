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
    Mapped(MmapMut),
}

/// Buffers from this size on are mapped.
pub(super) const MAPPED_FROM: usize = 256 << 10;

/// What a block of so many bytes takes of the budget: a heap of blocks that come and go in any
/// order is never full (it was a tenth larger than what it held).
pub(super) fn cost(length: usize) -> u64 {
    let length = length as u64;
    if length < MAPPED_FROM as u64 { length + length / 8 } else { length }
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
            Buffer::Mapped(bytes) => bytes,
        }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.buffer {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(bytes) => bytes,
        }
    }
}
