//! What an open archive keeps from one read to the next, and shares between threads.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::decoded::Decoded;
use super::reader::{Archive, ArrayId};
use crate::codec::side::Side;
use crate::format::Index;

/// Side blocks up to this size stay in memory once parsed, together as many bytes as the
/// file has: many arrays may name one side block.
const MAX_KEPT_SIDE: u64 = 64 << 10;

thread_local! {
    /// Stored bytes of the block being decoded.
    static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What a difference is to be applied to: as much as is asked for.
    static BASE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `run` with the buffer that the thread keeps for stored bytes.
pub fn with_buffer<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    STORED.with_borrow_mut(run)
}

/// Runs `run` with the buffer that the thread keeps for what differences are from.
pub fn with_base_buffer<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    BASE.with_borrow_mut(run)
}

pub struct Kept {
    /// Side blocks, parsed when first needed.
    sides: Vec<OnceLock<Side>>,
    /// Stored bytes of side blocks that may still stay in memory once parsed.
    sides_left: AtomicU64,
    index_offset: u64,
    /// If the system is told what was decoded.
    decoded: Option<Decoded>,
}

impl Kept {
    /// `size`: that of the file; `index_offset`: where its blocks end.
    pub fn new(index: &Index, size: u64, index_offset: u64) -> Kept {
        let sides = index.arrays.iter().map(|_| OnceLock::new()).collect();
        Kept { sides, sides_left: AtomicU64::new(size), index_offset, decoded: None }
    }

    /// The side block of an array, if it stayed in memory.
    pub fn side(&self, id: ArrayId) -> Option<&Side> {
        self.sides[id.0 as usize].get()
    }

    /// Keeps a side block of so many stored bytes if there is room for it.
    pub fn keep_side(&self, id: ArrayId, side: Side, length: u64) -> Cow<'_, Side> {
        let left = |left: u64| left.checked_sub(length).filter(|_| length <= MAX_KEPT_SIDE);
        if self.sides_left.fetch_update(Relaxed, Relaxed, left).is_err() {
            return Cow::Owned(side);
        }
        Cow::Borrowed(self.sides[id.0 as usize].get_or_init(|| side))
    }
}

impl Archive {
    /// From now on, tells the system that it need not keep stored bytes in memory once they
    /// are decoded.
    pub fn let_go_of_decoded(&mut self) {
        self.kept.decoded = Some(Decoded::new(self.index.block_count()));
        // Else it would bring in parts of neighbours that nobody decodes.
        self.source.fetch_no_more_than_asked();
        self.source.will_not_need(self.kept.index_offset..self.size());
    }

    /// Stored bytes of a block have served their purpose.
    pub(super) fn done_with(&self, record: u32) {
        if let Some(decoded) = &self.kept.decoded {
            let mut range = decoded.mark(record, |i| self.index.block(i));
            if range.end == self.kept.index_offset {
                range.end = self.size();
            }
            self.source.will_not_need(range);
        }
    }
}
