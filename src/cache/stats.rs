//! What a cache has done.

/// What the cache has done so far, and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Blocks that were asked for and were here, or on their way.
    pub hits: u64,
    /// Those that whoever asked had to decode, or try to.
    pub misses: u64,
    pub evictions: u64,
    /// What the blocks take of the capacity: a little more than their bytes, if those are few.
    pub bytes: u64,
    /// The same of blocks that are being decoded. Both together are more than the capacity only
    /// if these alone are.
    pub in_flight: u64,
    pub capacity: u64,
    pub decoded_blocks: u64,
    pub decoded_bytes: u64,
    /// Blocks that were to be decoded before anybody asked for them.
    pub ahead_blocks: u64,
    /// Those of them that were let go before anybody did.
    pub wasted_blocks: u64,
}
