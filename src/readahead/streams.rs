//! Who reads on from where: the streams of reads in one file.
//!
//! A reader is recognised by byte offsets and by nothing else. Handles do not tell
//! readers apart (a loader's threads share one), block numbers do not either (several
//! requests fall into one block), and the kernel has several requests of one reader
//! under way, which arrive in any order. So a read belongs to the stream whose next
//! offset is near its own; what is near none begins a stream, and says nothing yet about
//! what comes next.
//!
//! A reader that has not gone from one tensor into the next is not believed to: whoever
//! wants tensors in an order of their own jumps at the end of each.

use super::stream::{Ahead, Seen, Settled, Stream};
use crate::sync::atomic::Ordering::Relaxed;

/// How far from a stream's next offset a read may be: what the kernel has under way.
const NEAR: u64 = 4 << 20;
/// The same beyond the end of a tensor, where whoever skips the next one begins another
/// stream: one request that overtook another.
const NEAR_BEYOND: u64 = 1 << 20;
/// Streams that are remembered in a file: more than a loader has threads.
const STREAMS: usize = 32;

/// The streams of a file, the last used first.
#[derive(Debug, Default)]
pub struct Streams(Vec<Stream>);

impl Streams {
    /// Takes note of a read and says what should be done ahead of it, and what became of
    /// bytes that were pushed.
    pub fn read(&mut self, seen: &Seen) -> (Option<Ahead>, Settled) {
        let start = seen.read.start;
        let near = |s: &Stream| {
            let limit = if start > s.section_end { NEAR_BEYOND } else { NEAR };
            s.distance(start) <= limit
        };
        let nearest = self.0.iter().enumerate().filter(|(_, s)| near(s)).min_by_key(|(_, s)| s.distance(start));
        let Some((i, _)) = nearest else {
            let wasted = self.forget();
            self.0.insert(0, Stream::new(seen));
            return (None, Settled { hit: 0, wasted });
        };
        let mut stream = self.0.remove(i);
        let outcome = stream.read(seen);
        self.0.insert(0, stream);
        outcome
    }

    /// Makes room for a new stream.
    fn forget(&mut self) -> u64 {
        if self.0.len() < STREAMS {
            return 0;
        }
        self.0.pop().map_or(0, |mut forgotten| {
            forgotten.reader.wanted.store(false, Relaxed);
            forgotten.abandon()
        })
    }
}

#[cfg(test)]
mod tests;
