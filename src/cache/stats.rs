//! What a cache has done.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Default)]
pub(super) struct Counters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub evictions: AtomicU64,
    pub decoded_blocks: AtomicU64,
    pub decoded_bytes: AtomicU64,
    pub ahead_blocks: AtomicU64,
    pub wasted_blocks: AtomicU64,
}

/// What the cache has done so far, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    /// What the blocks take of the capacity: a little more than their bytes, if those are few.
    pub bytes: u64,
    pub capacity: u64,
    pub decoded_blocks: u64,
    pub decoded_bytes: u64,
    /// Blocks that were decoded before anybody asked for them.
    pub ahead_blocks: u64,
    /// Those of them that were evicted before anybody did.
    pub wasted_blocks: u64,
}

impl Counters {
    pub fn stats(&self, bytes: u64, capacity: u64) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            bytes,
            capacity,
            decoded_blocks: self.decoded_blocks.load(Relaxed),
            decoded_bytes: self.decoded_bytes.load(Relaxed),
            ahead_blocks: self.ahead_blocks.load(Relaxed),
            wasted_blocks: self.wasted_blocks.load(Relaxed),
        }
    }
}
