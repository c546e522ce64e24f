//! How large the reads are that a mount is asked for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many reads were of at most so many bytes, and all their bytes.
#[derive(Default)]
pub struct RequestSizes {
    counts: [AtomicU64; REQUEST_BOUNDS.len() + 1],
    bytes: AtomicU64,
}

const REQUEST_BOUNDS: [u64; 7] = [4 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20];

impl RequestSizes {
    /// Takes note of a read.
    pub fn count(&self, length: u64) {
        self.counts[REQUEST_BOUNDS.partition_point(|&bound| bound < length)].fetch_add(1, Relaxed);
        self.bytes.fetch_add(length, Relaxed);
    }

    /// Upper bound of each class, None for the last, and its count.
    pub fn counts(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = REQUEST_BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts.iter().map(|count| count.load(Relaxed)))
    }

    /// Bytes that were asked for, whether or not a file had as many.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}
