//! Tables that the vector kernels keep in registers.

use alloc::vec::Vec;

use super::super::Job;
use super::super::map::{TableMap, lossless_fields, split_entry};
use crate::codec::manifold::{TRELLIS_CENTRE, step_factor};
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, ESCAPE, PrimeSparse, Trellis};
use crate::dtype::{Dtype, Split};

/// 64 numbers, aligned so that no load of a part crosses a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Aligned(pub [u16; ENTRIES]);

/// For each table entry, what to exclusive-or into half the trellis state: the next
/// state is `state / 2 ^ table[entry]`. The entry tells the quantiser and the parity of
/// the index: the centre is even, and so is the escape.
pub fn advance_table(trellis: Trellis) -> Aligned {
    Aligned(core::array::from_fn(|entry| {
        let entry = entry as u16;
        trellis.next(entry / u16::from(CONTEXT_ENTRIES), entry & 1)
    }))
}

/// Lossless: the field value of each symbol at its place in the upper 16 bits of an
/// element (in all of a shorter one).
pub fn fields(job: &Job<'_>, split: Split) -> Aligned {
    let above = job.params.dtype.bits().saturating_sub(16);
    Aligned(lossless_fields(job, split).map(|field| (field >> above) as u16))
}

/// A `T` for each row step that occurs, such as a table of the elements.
pub struct RowTables<'a, T> {
    tables: Vec<T>,
    map: TableMap<'a>,
}

impl<'a, T> RowTables<'a, T> {
    /// `make` gets the elements of all table entries as `dtype`, in the low bytes: the
    /// array's type, or F32 to calculate with.
    pub fn new(job: &Job<'a>, params: &PrimeSparse, dtype: Dtype, make: impl Fn(&[u32; ENTRIES]) -> T) -> Self {
        let map = TableMap::new(job, params, dtype);
        RowTables { tables: map.tables().iter().map(make).collect(), map }
    }

    #[inline(always)]
    pub fn of_row(&self, row: usize) -> &T {
        &self.tables[self.map.table_of_row(row)]
    }
}

/// The lower and upper halves of 64 numbers.
pub fn halves(table: &[u32; ENTRIES]) -> [Aligned; 2] {
    [Aligned(table.map(|v| v as u16)), Aligned(table.map(|v| (v >> 16) as u16))]
}

/// With raw bits: the level of each table entry whose raw bits are 0, as i16; the level
/// rises by `1` (2 with a trellis) per unit of the raw value.
///
/// Two exceptions: an escape is 0 whatever its raw bits, and quantiser 1 of a trellis
/// has 0 in place of -1 where symbol and raw bits give index 0.
pub struct LevelTable {
    pub levels: Aligned,
    /// Entries of escapes have none of these bits.
    pub symbol_bits: u16,
    /// The entry of index 0 under quantiser 1, if there is one.
    pub odd_zero: Option<u16>,
}

impl LevelTable {
    pub fn new(params: &PrimeSparse, raw_bits: u8) -> LevelTable {
        let trellis = params.trellis.is_some();
        let level = |entry: usize| {
            let (symbol, quantiser, centre) = split_entry(entry as u8, trellis);
            if symbol == ESCAPE {
                return 0;
            }
            let above = i32::from(symbol) - centre;
            let index = above << raw_bits;
            // Raw bits do not change the sign of an index but from 0 to 1.
            let sign = if above < 0 { -1 } else { 1 };
            if trellis { 2 * index - quantiser as i32 * sign } else { index }
        };
        LevelTable {
            levels: Aligned(core::array::from_fn(|entry| level(entry) as i16 as u16)),
            symbol_bits: if trellis { u16::from(CONTEXT_ENTRIES) - 1 } else { ENTRIES as u16 - 1 },
            odd_zero: trellis.then_some(u16::from(CONTEXT_ENTRIES) + TRELLIS_CENTRE as u16),
        }
    }
}

/// Row and column steps as factors.
pub struct Factors {
    rows: Vec<f32>,
    columns: Vec<f32>,
}

impl Factors {
    pub fn new(job: &Job<'_>) -> Factors {
        let rows = job.payload.row_steps.iter().map(|&byte| step_factor(byte)).collect();
        let columns = job.side.column_steps.iter().map(|&byte| step_factor(byte)).collect();
        Factors { rows, columns }
    }

    #[inline(always)]
    pub fn of_row(&self, row: usize) -> f32 {
        self.rows.get(row).copied().unwrap_or(1.0)
    }

    /// Of so many columns from one on; `None` without column steps.
    #[inline(always)]
    pub fn of_columns(&self, first: usize, len: usize) -> Option<&[f32]> {
        if self.columns.is_empty() { None } else { Some(&self.columns[first..first + len]) }
    }
}
