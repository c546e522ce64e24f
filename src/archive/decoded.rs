//! Which blocks were decoded, so that the page cache can let go of their stored bytes.
//!
//! Blocks are not aligned: a page holds the end of one and the beginning of the next, and
//! the system may keep memory in units that hold several. It lets go of whole units only;
//! so it is given a range as long as all of it was decoded.

use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use crate::format::BlockRecord;

/// How far a range goes beyond the block, to either side: the largest unit of memory.
const REACH: u64 = 2 << 20;
/// The same in blocks, for the sake of those that have a few bytes.
const NEIGHBOURS: u32 = 64;

/// A bit per block record.
pub struct Decoded {
    bits: Vec<AtomicU64>,
    count: u32,
}

impl Decoded {
    pub fn new(count: usize) -> Decoded {
        let bits = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Decoded { bits, count: count as u32 }
    }

    fn has(&self, i: u32) -> bool {
        self.bits[i as usize / 64].load(Acquire) >> (i % 64) & 1 == 1
    }

    /// Takes note that block `i` was decoded, and says what will not be read again soon: its
    /// stored bytes with those of its neighbours that were decoded before.
    pub fn mark(&self, i: u32, record: impl Fn(u32) -> BlockRecord) -> Range<u64> {
        // Before the neighbours are looked at: of two threads one sees the other's.
        self.bits[i as usize / 64].fetch_or(1 << (i % 64), AcqRel);
        fence(SeqCst);
        let stored = |i: u32| {
            let block = record(i);
            block.offset..block.offset + u64::from(block.length)
        };
        let own = stored(i);
        let below = (i.saturating_sub(NEIGHBOURS)..i).rev();
        let above = i + 1..self.count.min(i + 1 + NEIGHBOURS);
        let start = self.reach(below, own.start, stored, |block, edge| (block.end == edge).then_some(block.start));
        let end = self.reach(above, own.end, stored, |block, edge| (block.start == edge).then_some(block.end));
        start..end
    }

    /// How far decoded neighbours go on from an edge: `on` gives a block's other edge if it
    /// begins at this one.
    fn reach(
        &self,
        neighbours: impl Iterator<Item = u32>,
        from: u64,
        stored: impl Fn(u32) -> Range<u64>,
        on: impl Fn(Range<u64>, u64) -> Option<u64>,
    ) -> u64 {
        let mut edge = from;
        for (i, block) in neighbours.map(|i| (i, stored(i))).filter(|(_, block)| !block.is_empty()) {
            match on(block, edge).filter(|_| self.has(i) && edge.abs_diff(from) < REACH) {
                Some(next) => edge = next,
                None => break,
            }
        }
        edge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlockMode;

    /// Blocks of 1000 bytes, the third empty, and a gap of one byte before the sixth.
    fn record(i: u32) -> BlockRecord {
        let (offset, length, mode) = match i {
            2 => (16, 0, BlockMode::Zeros),
            0..2 => (16 + 1000 * u64::from(i), 1000, BlockMode::Coded),
            3..5 => (16 + 1000 * u64::from(i - 1), 1000, BlockMode::Coded),
            _ => (17 + 1000 * u64::from(i - 1), 1000, BlockMode::Coded),
        };
        BlockRecord { offset, length, mode, checksum: 0 }
    }

    #[test]
    fn a_range_grows_over_neighbours_that_were_decoded_and_no_others() {
        let decoded = Decoded::new(7);
        assert_eq!(decoded.mark(0, record), 16..1016);
        assert_eq!(decoded.mark(3, record), 2016..3016);
        assert_eq!(decoded.mark(1, record), 16..3016);
        assert_eq!(decoded.mark(6, record), 5017..6017);
        assert_eq!(decoded.mark(4, record), 16..4016);
        assert_eq!(decoded.mark(5, record), 4017..6017);
    }

    #[test]
    fn a_range_has_an_end() {
        let long = |i: u32| BlockRecord { offset: u64::from(i) << 20, length: 1 << 20, ..record(0) };
        let decoded = Decoded::new(1000);
        for i in (0..1000).filter(|i| *i != 500) {
            decoded.mark(i, long);
        }
        assert_eq!(decoded.mark(500, long), 498 << 20..503 << 20);
    }
}
