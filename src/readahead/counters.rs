//! What was pushed into the page cache, and what became of it.

use super::stream::Settled;
use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

#[derive(Default)]
pub struct Counters {
    bytes: AtomicU64,
    hit: AtomicU64,
    wasted: AtomicU64,
}

/// Bytes that were pushed into the page cache, and what became of them. The rest waits for
/// its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushStats {
    pub bytes: u64,
    /// A reader went past them without asking.
    pub hit: u64,
    /// They left the page cache before that, or the reader never came, or before them.
    pub wasted: u64,
}

impl Counters {
    /// Bytes were pushed. To be called before anybody can settle them.
    pub fn stored(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub fn settled(&self, settled: Settled) {
        self.hit.fetch_add(settled.hit, Release);
        self.wasted.fetch_add(settled.wasted, Release);
    }

    /// What became of bytes is looked at before how many there are: never is it more.
    pub fn stats(&self) -> PushStats {
        let (hit, wasted) = (self.hit.load(Acquire), self.wasted.load(Acquire));
        PushStats { bytes: self.bytes.load(Relaxed), hit, wasted }
    }
}
