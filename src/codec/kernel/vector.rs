//! What the vector kernels share.

use super::Job;
use super::map::{LosslessMap, TableMap};
use crate::codec::params::{ENTRIES, SymbolMap};
use crate::dtype::Split;

/// Lanes that are decoded together.
pub const GROUP: usize = 32;
/// Bytes of words that a group can take in a step, and that its loads touch.
pub const LOAD: usize = 64;
/// More than all groups can take in a step, twice.
pub const TAIL: usize = 2 * LOAD * 8;

/// Whether the vector kernels cover such a block: 16-bit elements that come from a
/// table (prime-sparse without raw bits and column steps), and lossless BF16.
pub fn supports(job: &Job<'_>) -> bool {
    let lanes = matches!(job.shape.lanes, 32 | 64 | 128 | 256);
    let map = match &job.params.map {
        SymbolMap::Lossless(split) => *split == Split { shift: 7, bits: 8 } && job.params.raw_bits == 8,
        SymbolMap::PrimeSparse(p) => job.params.raw_bits == 0 && !p.column_steps,
    };
    lanes && map && job.params.dtype.bits() == 16
}

/// What the table entries stand for: elements or, with lossless, exponents in place.
pub struct Values<'a> {
    pub tables: Vec<[u16; ENTRIES]>,
    map: Option<TableMap<'a>>,
}

impl<'a> Values<'a> {
    pub fn new(job: &Job<'a>) -> Values<'a> {
        match &job.params.map {
            SymbolMap::Lossless(split) => {
                let fields = LosslessMap::new(job, *split).fields().map(|field| field as u16);
                Values { tables: vec![fields], map: None }
            }
            SymbolMap::PrimeSparse(p) => {
                let map = TableMap::new(job, p);
                let tables = map.tables().iter().map(|table| table.map(|v| v as u16)).collect();
                Values { tables, map: Some(map) }
            }
        }
    }

    /// Which of the tables a row has.
    #[inline]
    pub fn table_of_row(&self, row: usize) -> usize {
        self.map.as_ref().map_or(0, |map| map.table_of_row(row))
    }
}
