//! What was asked of the store and of the disk.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Counters {
    /// Requests to the store.
    pub requests: AtomicU64,
    /// Bytes that came from there.
    pub fetched: AtomicU64,
    /// Requests that had to be made again.
    pub retries: AtomicU64,
    /// Bytes that were read from the disk cache.
    pub from_disk: AtomicU64,
    /// Bytes that were written to it.
    pub to_disk: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// Each with its name.
    pub fn all(&self) -> [(&'static str, u64); 5] {
        [
            ("object.requests", self.requests.load(Relaxed)),
            ("object.bytes", self.fetched.load(Relaxed)),
            ("object.retries", self.retries.load(Relaxed)),
            ("disk_cache.bytes_read", self.from_disk.load(Relaxed)),
            ("disk_cache.bytes_written", self.to_disk.load(Relaxed)),
        ]
    }
}
