//! Prime-sparse with column steps or raw bits: the value of each element by itself.

use alloc::vec::Vec;

use super::Job;
use super::map::{Map, entry_values, largest_level, split_entry};
use crate::codec::float::to_bits;
use crate::codec::layout::Step;
use crate::codec::manifold::{Levels, step_factor, trellis_level};
use crate::codec::params::{ENTRIES, ESCAPE, MAX_LANES, PrimeSparse};
use crate::dtype::Dtype;

/// Works in passes over a step, of which the compiler makes vector code where it can.
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

    /// The values before row and column steps.
    #[inline(always)]
    fn values(&self, entries: &[u8], raw: &[u16], values: &mut [f32]) {
        if self.raw_bits == 0 {
            for (value, &entry) in values.iter_mut().zip(entries) {
                *value = self.values[usize::from(entry) % ENTRIES];
            }
            return;
        }
        let mut levels = [0; MAX_LANES];
        let levels = &mut levels[..entries.len()];
        if self.trellis {
            self.levels::<true>(entries, raw, levels)
        } else {
            self.levels::<false>(entries, raw, levels)
        }
        for (value, &level) in values.iter_mut().zip(&*levels) {
            *value = self.numbers.number(level) * self.step;
        }
    }

    /// The levels of symbols with raw bits.
    #[inline(always)]
    fn levels<const TRELLIS: bool>(&self, entries: &[u8], raw: &[u16], levels: &mut [i32]) {
        for ((level, &entry), &raw) in levels.iter_mut().zip(entries).zip(raw) {
            let (symbol, quantiser, centre) = split_entry(entry, TRELLIS);
            let index = ((i32::from(symbol) - centre) << self.raw_bits) + i32::from(raw);
            let coded = if TRELLIS { trellis_level(quantiser, index) } else { index };
            *level = if symbol == ESCAPE { 0 } else { coded };
        }
    }
}

impl Map for GeneralMap {
    type Raw = u16;

    fn write(&mut self, step: &Step, entries: &[u8], raw: &mut [u16], out: &mut [u8]) {
        let mut values = [0.0; MAX_LANES];
        let values = &mut values[..entries.len()];
        self.values(entries, raw, values);
        let row = self.row_factors.get(step.row).copied().unwrap_or(1.0);
        values.iter_mut().for_each(|value| *value *= row);
        if !self.column_factors.is_empty() {
            let columns = &self.column_factors[step.column..];
            values.iter_mut().zip(columns).for_each(|(value, column)| *value *= column);
        }
        // The type is a constant of each loop.
        match self.dtype {
            Dtype::BF16 => put(values, out, |v| (to_bits(Dtype::BF16, v) as u16).to_le_bytes()),
            Dtype::F16 => put(values, out, |v| (to_bits(Dtype::F16, v) as u16).to_le_bytes()),
            Dtype::F8_E5M2 => put(values, out, |v| [to_bits(Dtype::F8_E5M2, v) as u8]),
            Dtype::F8_E4M3 => put(values, out, |v| [to_bits(Dtype::F8_E4M3, v) as u8]),
            _ => put(values, out, |v| to_bits(Dtype::F32, v).to_le_bytes()),
        }
    }
}

#[inline(always)]
fn put<const WIDTH: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; WIDTH]) {
    for (out, &value) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(values) {
        *out = bytes(value);
    }
}
