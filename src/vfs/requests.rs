//! How large the reads are that a mount is asked for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many reads were of at most so many bytes.
#[derive(Default)]
pub struct RequestSizes([AtomicU64; REQUEST_BOUNDS.len() + 1]);

const REQUEST_BOUNDS: [u64; 7] = [4 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20];

impl RequestSizes {
    pub(super) fn count(&self, length: u64) {
        self.0[REQUEST_BOUNDS.partition_point(|&bound| bound < length)].fetch_add(1, Relaxed);
    }

    /// Upper bound of each class, None for the last, and its count.
    pub fn counts(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = REQUEST_BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}
