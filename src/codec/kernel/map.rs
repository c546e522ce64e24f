//! From table entries and raw bits to elements, a step at a time.

use alloc::vec::Vec;

use super::Job;
use super::raw_bits::RawValue;
use crate::codec::float::to_bits;
use crate::codec::layout::Step;
use crate::codec::manifold::{CENTRE, Levels, TRELLIS_CENTRE, step_factor, trellis_level};
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, ESCAPE, PrimeSparse};
use crate::dtype::{Dtype, Split};

/// Writes the elements of one step.
pub(super) trait Map {
    /// Holds the raw bits of an element.
    type Raw: RawValue;

    /// `entries` and `raw` have an item per element of `out`; `raw` may be changed.
    fn write(&mut self, step: &Step, entries: &[u8], raw: &mut [Self::Raw], out: &mut [u8]);
}

/// Lossless: the field value of the symbol between the raw bits.
pub(super) struct LosslessMap<R> {
    fields: [R; ENTRIES],
    /// The raw bits below the field.
    low: R,
    zero_bits: u32,
    /// By how much the raw bits above the field are shifted. Nothing lies above a field
    /// that reaches the top; the shift may be one by all bits.
    above: u32,
}

impl<R: RawValue> LosslessMap<R> {
    /// `R` has the width of the elements, or more.
    pub(super) fn new(job: &Job<'_>, split: Split) -> LosslessMap<R> {
        let zero_bits = u32::from(job.params.zero_bits());
        LosslessMap {
            fields: lossless_fields(job, split).map(R::from_low_bits),
            low: R::from_low_bits((1u64 << (u32::from(split.shift) - zero_bits)) - 1),
            zero_bits,
            above: zero_bits + u32::from(split.bits),
        }
    }

    #[inline(always)]
    fn write_as<const WIDTH: usize>(&self, entries: &[u8], raw: &mut [R], out: &mut [u8]) {
        // A pass of its own: the compiler makes vector code of it.
        for raw in raw.iter_mut() {
            *raw = (*raw & self.low).shifted(self.zero_bits) | (*raw & !self.low).shifted(self.above);
        }
        for ((out, &entry), &raw) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(entries).zip(&*raw) {
            *out = (self.fields[usize::from(entry) % ENTRIES] | raw).low_bytes();
        }
    }
}

/// Lossless: the field value of each symbol at its place in the element.
pub(super) fn lossless_fields(job: &Job<'_>, split: Split) -> [u64; ENTRIES] {
    job.side.field_values.map(|v| u64::from(v) << split.shift)
}

impl<R: RawValue> Map for LosslessMap<R> {
    type Raw = R;

    fn write(&mut self, _: &Step, entries: &[u8], raw: &mut [R], out: &mut [u8]) {
        match out.len() / entries.len() {
            1 => self.write_as::<1>(entries, raw, out),
            2 => self.write_as::<2>(entries, raw, out),
            4 => self.write_as::<4>(entries, raw, out),
            _ => self.write_as::<8>(entries, raw, out),
        }
    }
}

/// Prime-sparse without column steps and raw bits: a table of elements per row step.
pub(super) struct TableMap<'a> {
    /// One table, or one for each row step that occurs; elements in the low bytes.
    tables: Vec<[u32; ENTRIES]>,
    /// Which table a step byte has.
    table_of: [u8; 256],
    row_steps: &'a [u8],
    width: usize,
}

impl<'a> TableMap<'a> {
    /// The elements are of this type: the array's, or F32 for values to calculate with.
    pub(super) fn new(job: &Job<'a>, params: &PrimeSparse, dtype: Dtype) -> TableMap<'a> {
        let values = entry_values(job, params);
        let table = |factor: f32| values.map(|v| to_bits(dtype, v * factor));
        let row_steps = job.payload.row_steps;
        let mut occurs = [false; 256];
        row_steps.iter().for_each(|&byte| occurs[usize::from(byte)] = true);
        let (mut tables, mut table_of) = (Vec::new(), [0; 256]);
        for byte in (0..=255).filter(|&byte| occurs[usize::from(byte)]) {
            table_of[usize::from(byte)] = tables.len() as u8;
            tables.push(table(step_factor(byte)));
        }
        if tables.is_empty() {
            tables.push(table(1.0));
        }
        TableMap { tables, table_of, row_steps, width: dtype.width_in_array() }
    }

    #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
    pub(super) fn tables(&self) -> &[[u32; ENTRIES]] {
        &self.tables
    }

    /// Which of the tables a row has.
    #[inline]
    pub(super) fn table_of_row(&self, row: usize) -> usize {
        self.row_steps.get(row).map_or(0, |&byte| usize::from(self.table_of[usize::from(byte)]))
    }
}

impl Map for TableMap<'_> {
    type Raw = u16;

    fn write(&mut self, step: &Step, entries: &[u8], _: &mut [u16], out: &mut [u8]) {
        let table = &self.tables[self.table_of_row(step.row)];
        let elements = entries.iter().map(|&entry| table[usize::from(entry) % ENTRIES]);
        match self.width {
            1 => out.iter_mut().zip(elements).for_each(|(out, element)| *out = element as u8),
            2 => {
                for (out, element) in out.chunks_exact_mut(2).zip(elements) {
                    out.copy_from_slice(&(element as u16).to_le_bytes());
                }
            }
            _ => {
                for (out, element) in out.chunks_exact_mut(4).zip(elements) {
                    out.copy_from_slice(&element.to_le_bytes());
                }
            }
        }
    }
}

/// Largest |level| that a symbol with so many raw bits can stand for.
pub(super) fn largest_level(raw_bits: u8) -> usize {
    (CENTRE as usize) << raw_bits
}

pub(super) fn split_entry(entry: u8, trellis: bool) -> (u8, usize, i32) {
    if trellis {
        (entry % CONTEXT_ENTRIES, usize::from(entry / CONTEXT_ENTRIES), TRELLIS_CENTRE)
    } else {
        (entry, 0, CENTRE)
    }
}

/// The value of each table entry before row and column steps, without raw bits.
pub(super) fn entry_values(job: &Job<'_>, params: &PrimeSparse) -> [f32; ENTRIES] {
    if let Some(centroids) = &job.side.centroids {
        return **centroids;
    }
    let numbers = Levels::new(params.grid, largest_level(0));
    core::array::from_fn(|entry| {
        let (symbol, quantiser, centre) = split_entry(entry as u8, params.trellis.is_some());
        if symbol == ESCAPE {
            return 0.0;
        }
        let index = i32::from(symbol) - centre;
        let level = if params.trellis.is_some() { trellis_level(quantiser, index) } else { index };
        numbers.number(level) * params.step
    })
}
