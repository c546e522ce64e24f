//! From table entries and raw bits to elements, a step at a time.

use super::Job;
use crate::codec::float::to_bits;
use crate::codec::layout::Step;
use crate::codec::manifold::{CENTRE, Levels, TRELLIS_CENTRE, step_factor, trellis_level};
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, ESCAPE, PrimeSparse};
use crate::dtype::{Dtype, Split};

/// Writes the elements of one step.
pub(super) trait Map {
    /// `entries` and `raw` have an item per element of `out`.
    fn write(&mut self, step: &Step, entries: &[u8], raw: &[u64], out: &mut [u8]);
}

/// Lossless: the field value of the symbol between the raw bits.
pub(super) struct LosslessMap {
    fields: [u64; ENTRIES],
    split: Split,
    zero_bits: u8,
    width: usize,
}

impl LosslessMap {
    pub(super) fn new(job: &Job<'_>, split: Split) -> LosslessMap {
        let fields = job.side.field_values.map(|v| u64::from(v) << split.shift);
        LosslessMap { fields, split, zero_bits: job.params.zero_bits(), width: job.params.dtype.bits() as usize / 8 }
    }

    /// The field value of each symbol at its place in the element.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn fields(&self) -> &[u64; ENTRIES] {
        &self.fields
    }

    #[inline(always)]
    fn write_as<const WIDTH: usize>(&self, entries: &[u8], raw: &[u64], out: &mut [u8]) {
        let zero_bits = u32::from(self.zero_bits);
        let low = (1u64 << (self.split.shift - self.zero_bits)) - 1;
        // Nothing lies above a field that reaches the top; the shift may be one by 64.
        let above = zero_bits + u32::from(self.split.bits);
        for ((out, &entry), &raw) in out.chunks_exact_mut(WIDTH).zip(entries).zip(raw) {
            let field = self.fields[usize::from(entry) % ENTRIES];
            let element = (raw & low) << zero_bits | field | (raw & !low).unbounded_shl(above);
            out.copy_from_slice(&element.to_le_bytes()[..WIDTH]);
        }
    }
}

impl Map for LosslessMap {
    fn write(&mut self, _: &Step, entries: &[u8], raw: &[u64], out: &mut [u8]) {
        match self.width {
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
        TableMap { tables, table_of, row_steps, width: dtype.bits() as usize / 8 }
    }

    #[cfg(target_arch = "x86_64")]
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
    fn write(&mut self, step: &Step, entries: &[u8], _: &[u64], out: &mut [u8]) {
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

/// Prime-sparse with every hook: the value of each element by itself.
pub(super) struct GeneralMap {
    values: [f32; ENTRIES],
    numbers: Levels,
    step: f32,
    raw_bits: u8,
    trellis: bool,
    row_factors: Vec<f32>,
    column_factors: Vec<f32>,
    dtype: Dtype,
}

impl GeneralMap {
    pub(super) fn new(job: &Job<'_>, params: &PrimeSparse) -> GeneralMap {
        let raw_bits = job.params.raw_bits;
        GeneralMap {
            values: entry_values(job, params),
            numbers: Levels::new(params.grid, largest_level(raw_bits)),
            step: params.step,
            raw_bits,
            trellis: params.trellis.is_some(),
            row_factors: job.payload.row_steps.iter().map(|&byte| step_factor(byte)).collect(),
            column_factors: job.side.column_steps.iter().map(|&byte| step_factor(byte)).collect(),
            dtype: job.params.dtype,
        }
    }

    #[inline]
    fn value(&self, entry: u8, raw: u64) -> f32 {
        if self.raw_bits == 0 {
            return self.values[usize::from(entry) % ENTRIES];
        }
        let (symbol, quantiser, centre) = split_entry(entry, self.trellis);
        if symbol == ESCAPE {
            return 0.0;
        }
        let index = ((i32::from(symbol) - centre) << self.raw_bits) + raw as i32;
        let level = if self.trellis { trellis_level(quantiser, index) } else { index };
        self.numbers.number(level) * self.step
    }
}

impl Map for GeneralMap {
    fn write(&mut self, step: &Step, entries: &[u8], raw: &[u64], out: &mut [u8]) {
        let width = out.len() / entries.len();
        let row = self.row_factors.get(step.row).copied().unwrap_or(1.0);
        for (lane, out) in out.chunks_exact_mut(width).enumerate() {
            let column = self.column_factors.get(step.column + lane).copied().unwrap_or(1.0);
            let value = self.value(entries[lane], raw[lane]) * row * column;
            out.copy_from_slice(&to_bits(self.dtype, value).to_le_bytes()[..width]);
        }
    }
}

/// Largest |level| that a symbol with so many raw bits can stand for.
fn largest_level(raw_bits: u8) -> usize {
    (CENTRE as usize) << raw_bits
}

fn split_entry(entry: u8, trellis: bool) -> (u8, usize, i32) {
    if trellis {
        (entry % CONTEXT_ENTRIES, usize::from(entry / CONTEXT_ENTRIES), TRELLIS_CENTRE)
    } else {
        (entry, 0, CENTRE)
    }
}

/// The value of each table entry before row and column steps, without raw bits.
fn entry_values(job: &Job<'_>, params: &PrimeSparse) -> [f32; ENTRIES] {
    if let Some(centroids) = &job.side.centroids {
        return **centroids;
    }
    let numbers = Levels::new(params.grid, largest_level(0));
    std::array::from_fn(|entry| {
        let (symbol, quantiser, centre) = split_entry(entry as u8, params.trellis.is_some());
        if symbol == ESCAPE {
            return 0.0;
        }
        let index = i32::from(symbol) - centre;
        let level = if params.trellis.is_some() { trellis_level(quantiser, index) } else { index };
        numbers.number(level) * params.step
    })
}
