//! The encoder of the entropy coder: entries become words and states.
//!
//! As with the decoders there is a module per instruction set, and every one yields
//! what the portable one does.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod segments;
#[cfg(target_arch = "x86_64")]
mod vector_table;

use std::cell::RefCell;

use crate::codec::entropy::INITIAL_STATE;
use crate::codec::entropy::alias::AliasTable;
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::isa::Isa;
use crate::codec::layout::BlockShape;
use crate::codec::params::MAX_LANES;
use crate::error::Defect;
use segments::Segments;

/// What coding one class needs: the inverse of its [`AliasTable`].
pub struct EncodeTable {
    scalar: portable::Table,
    #[cfg(target_arch = "x86_64")]
    vector: vector_table::Table,
    #[cfg(target_arch = "x86_64")]
    bytes: avx2::Table,
    contexts: usize,
}

impl EncodeTable {
    /// `frequencies` must be valid for so many contexts, with none of 1.
    pub fn new(frequencies: &Frequencies, contexts: usize) -> EncodeTable {
        assert!(!frequencies.0.contains(&1), "the encoder's reciprocals need frequencies of 2 and more");
        let segments = Segments::new(&AliasTable::new(frequencies, contexts), contexts);
        #[cfg(target_arch = "x86_64")]
        let vector = vector_table::Table::new(frequencies, &segments);
        EncodeTable {
            scalar: portable::Table::new(frequencies, &segments),
            #[cfg(target_arch = "x86_64")]
            bytes: avx2::Table::new(&vector),
            #[cfg(target_arch = "x86_64")]
            vector,
            contexts,
        }
    }
}

/// The entries of a block and what codes them.
pub struct Job<'a> {
    /// One per class, all for the same number of contexts.
    pub tables: &'a [EncodeTable],
    pub shape: BlockShape,
    /// A table entry per element.
    pub entries: &'a [u8],
    /// A class per row, or empty.
    pub row_classes: &'a [u8],
}

impl Job<'_> {
    #[inline(always)]
    fn table_of_row(&self, row: usize) -> &EncodeTable {
        &self.tables[self.row_classes.get(row).map_or(0, |&class| usize::from(class))]
    }
}

/// The upper and lower halves of the lanes' states.
struct States {
    high: [u16; MAX_LANES],
    low: [u16; MAX_LANES],
}

thread_local! {
    /// Words are written from the end, as their number is not known before: room
    /// for them that is kept, as fresh memory costs more than coding.
    static WORDS: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
}

/// What encoders may write below the words, in words.
const SLACK: usize = 32;

/// Appends the states and the words as the payload has them. Fails if an entry that
/// occurs has a frequency of 0.
pub fn encode(isa: Isa, job: &Job<'_>, out: &mut Vec<u8>) -> Result<(), Defect> {
    assert_eq!(job.entries.len(), job.shape.elements);
    WORDS.with_borrow_mut(|words| {
        // An element emits at most one word.
        let most = job.shape.elements + SLACK;
        if words.len() < most {
            words.resize(most, 0);
        }
        let words = &mut words[..most];
        let mut states =
            States { high: [(INITIAL_STATE >> 16) as u16; MAX_LANES], low: [INITIAL_STATE as u16; MAX_LANES] };
        let first = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if avx512::supports(job) => avx512::encode(job, &mut states, words),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 if avx2::supports(job) => avx2::encode(job, &mut states, words),
            _ => portable::encode(job, &mut states, words),
        }?;
        let lanes = job.shape.lanes;
        let words = &words[first..];
        out.reserve(4 * lanes + 2 * words.len());
        for half in [&states.high[..lanes], &states.low[..lanes], words] {
            out.extend(half.iter().flat_map(|word| word.to_le_bytes()));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
