//! What the search looks up: the state machine turned round, and the cost of each
//! choice.
//!
//! Magnitudes are measured in steps of the fine grid; the sign is put back at the
//! end. The levels fall into four *subsets* of period 4, numbered by their offset:
//! 0 is quantiser 0 with even indices, 2 the same with odd ones, 1 is quantiser 1 with
//! odd indices, 3 the same with even ones (to which, instead of -1, 0 belongs).
//! Within a subset a magnitude has two candidates, the level below and the one above.

use super::{MOST_RAW_BITS, PERIOD, UNIT};
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, Trellis};

/// Table entries per subset; 9 of them can be reached.
pub const ROWS: usize = 16;
/// What a unit of squared distance, one squared step, weighs.
pub const SQUARE: f64 = (UNIT as f64) * (UNIT as f64) / 65536.0;
/// Squared steps that a bit is worth at high rates: 2 ln 2 times the noise.
const WORTH_OF_BITS: f64 = 0.36;
/// Three of these and three squared periods together stay below 65536.
const DEAREST: f64 = 5400.0;

/// One class's costs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Tables {
    /// From how far above the lower candidate on the upper one is chosen.
    pub threshold: [[u16; 2 * ROWS]; 4],
    /// Where a candidate's value lies from its level.
    pub offset: [[i16; 2 * ROWS]; 4],
    /// Lagrangian times bits.
    pub rate: [[u16; 2 * ROWS]; 4],
}

/// A quantiser as the search needs it.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub trellis: Trellis,
    /// Fixed-point units per unit of value.
    pub scale: f32,
    pub raw_bits: u8,
    /// Magnitudes are clipped here, which every candidate's index allows.
    pub top: u32,
    /// Magnitudes above this, and what is not a number, are escapes.
    pub limit: u32,
    pub classes: Vec<Tables>,
}

/// The index of the candidate after `periods` of a subset, without sign.
#[inline]
pub fn index_of(subset: usize, candidate: i32) -> i32 {
    2 * candidate - [2, 1, 1, 0][subset]
}

/// By quantiser and parity of the index: the subset.
pub const SUBSETS: [[usize; 2]; 2] = [[0, 2], [3, 1]];

/// Which subset follows from a state's quantiser and a parity.
#[inline]
pub const fn subset_of(state: usize, odd: usize) -> usize {
    SUBSETS[state & 1][odd]
}

/// A state's two predecessors, with the parities that lead from them.
pub type Predecessors = [(usize, usize); 2];

/// For every state, if it has two of them, as with all of [`super::ungerboeck`].
pub fn predecessors(trellis: &Trellis) -> Vec<Predecessors> {
    let mut all = vec![Vec::new(); 1 << trellis.log2_states];
    for state in 0..all.len() {
        for odd in 0..2 {
            all[usize::from(trellis.next(state as u16, odd as u16))].push((state, odd));
        }
    }
    all.iter().map(|from| [from[0], from[1]]).collect()
}

/// The machine of eight states, which has a search of its own.
pub const EIGHT: Trellis = Trellis { log2_states: 3, h0: 0o13, h1: 0o4 };

impl Metrics {
    /// `costs`: bits of each table entry of each class. `lambda`: squared steps per
    /// bit. `values`: where each entry lies, in steps (odd for either sign), if not
    /// at its level; only without raw bits.
    pub fn new(
        trellis: Trellis,
        step: f32,
        raw_bits: u8,
        lambda: f64,
        costs: &[[f64; ENTRIES]],
        values: Option<&[f64; ENTRIES]>,
    ) -> Metrics {
        assert!(raw_bits <= MOST_RAW_BITS);
        let largest = 30u32 << raw_bits;
        // With raw bits no threshold stops at the last level, and one raw bit needs every
        // row of the tables before it.
        let top = match raw_bits {
            0 => (largest + 1) * UNIT as u32 - 1,
            1 => (largest - 2) * UNIT as u32 - 1,
            _ => (largest - 1) * UNIT as u32 - 1,
        };
        // What is farther from the last level than that is worth an escape's 50 bits.
        let beyond = (WORTH_OF_BITS * 50.0).sqrt().min(f64::from(2 * largest)) * f64::from(UNIT);
        let limit = largest * UNIT as u32 + beyond as u32;
        Metrics {
            trellis,
            scale: UNIT as f32 / step,
            raw_bits,
            top,
            limit,
            classes: costs.iter().map(|costs| Tables::new(raw_bits, lambda, costs, values)).collect(),
        }
    }
}

/// By how many bits a candidate's number is shifted to find its row. With one raw bit
/// every candidate still has a symbol, and so a row, of its own.
pub fn row_shift(raw_bits: u8) -> u8 {
    raw_bits.saturating_sub(1)
}

impl Tables {
    fn new(raw_bits: u8, lambda: f64, costs: &[f64; ENTRIES], values: Option<&[f64; ENTRIES]>) -> Tables {
        let mut tables = Tables { threshold: [[0; 2 * ROWS]; 4], offset: [[0; 2 * ROWS]; 4], rate: [[0; 2 * ROWS]; 4] };
        for subset in 0..4 {
            let context = (subset & 1) * usize::from(CONTEXT_ENTRIES);
            let entry = |index: i32| context + (16 + index.clamp(-15, 15)) as usize;
            // Where a row stands for several candidates, the middle one speaks.
            let shift = row_shift(raw_bits);
            let index = |row: usize| index_of(subset, ((row << shift) + (1 << shift) / 2) as i32).max(0);
            let bits = |row: usize| {
                let (above, below) = (index(row) >> raw_bits, -index(row) >> raw_bits);
                // The signs share their price: -log2 of the mean probability.
                let mean = ((-costs[entry(above)]).exp2() + (-costs[entry(below)]).exp2()) / 2.0;
                if mean > 0.0 { -mean.log2() } else { 16.0 }
            };
            let offset = |row: usize| match values {
                Some(values) if raw_bits == 0 => {
                    let index = index(row);
                    let at = (values[entry(index)] - values[entry(-index)]) / 2.0;
                    at - f64::from(4 * (row as i32 - 1) + subset as i32) - zero_moves(subset, row)
                }
                _ => 0.0,
            };
            for row in 0..ROWS {
                let price = lambda * bits(row) * SQUARE;
                tables.rate[subset][row] = price.round().min(DEAREST) as u16;
                let here = offset(row) * f64::from(UNIT);
                tables.offset[subset][row] = here.round().clamp(-12288.0, 12288.0) as i16;
            }
            for row in 0..ROWS - 1 {
                tables.threshold[subset][row] =
                    if shift == 0 { threshold(subset, row, raw_bits, &tables) } else { (PERIOD / 2) as u16 };
            }
            tables.threshold[subset][ROWS - 1] = u16::MAX;
        }
        for table in [&mut tables.threshold[..], &mut tables.rate[..]] {
            table.iter_mut().for_each(repeat);
        }
        tables.offset.iter_mut().for_each(repeat);
        tables
    }
}

/// Vectors look up rows modulo 32.
fn repeat<T: Copy>(table: &mut [T; 2 * ROWS]) {
    table.copy_within(0..ROWS, ROWS);
}

/// The candidate of subset 3 below its first level is 0 and not -1, in steps.
fn zero_moves(subset: usize, row: usize) -> f64 {
    if subset == 3 && row == 0 { 1.0 } else { 0.0 }
}

/// The distance above the lower candidate's level at which both cost the same.
fn threshold(subset: usize, row: usize, raw_bits: u8, tables: &Tables) -> u16 {
    if index_of(subset, row as i32) < 0 {
        return 0;
    }
    if index_of(subset, row as i32 + 1) > 15 << raw_bits {
        return u16::MAX;
    }
    let unit = f64::from(UNIT);
    let lower = f64::from(tables.offset[subset][row]) / unit + zero_moves(subset, row);
    let upper = 4.0 + f64::from(tables.offset[subset][row + 1]) / unit;
    let price = |row: usize| f64::from(tables.rate[subset][row]) / SQUARE;
    let at = (lower + upper) / 2.0 + (price(row + 1) - price(row)) / (2.0 * (upper - lower));
    (at * unit).round().clamp(0.0, f64::from(PERIOD)) as u16
}

/// What the search keeps of a magnitude: how far the chosen candidate of each subset
/// is from the number of whole periods (two bits each), sign, whole periods.
#[inline]
pub fn pack(steps: [u16; 4], negative: bool, periods: u16) -> u16 {
    steps[0] | steps[1] << 2 | steps[2] << 4 | steps[3] << 6 | u16::from(negative) << 8 | periods << 9
}
