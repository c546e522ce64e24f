//! The search in plain Rust: what every other kernel must find.

use super::tables::{Predecessors, Tables, index_of, pack, predecessors, row_shift, subset_of};
use super::{Choice, GROUP, PERIOD, Run, Scratch, Search, UNIT};
use crate::codec::manifold::TRELLIS_CENTRE;
use crate::codec::params::CONTEXT_ENTRIES;

/// A number per trellis.
type Lanes = [u16; GROUP];
/// Costs are brought back to zero so often.
pub const SETTLE: usize = 4;
/// States whose decisions share a word per lane.
pub const PER_WORD: usize = 16;

pub fn search(search: &Search<'_>, lane: usize, scratch: &mut Scratch, choice: &mut Choice) {
    let trellis = &search.metrics.trellis;
    let before = predecessors(trellis);
    let states = before.len();
    let per_step = states.div_ceil(PER_WORD);
    let cap = branch_cap(trellis.log2_states);
    let mut costs: Vec<Lanes> = vec![[u16::MAX; GROUP]; states];
    costs[0] = [0; GROUP];
    let mut next = costs.clone();
    let runs = search.runs(lane);
    scratch.fit(&runs, per_step);

    for run in &runs {
        for (t, row, first) in run.steps(search.shape.row_len) {
            let words = &mut scratch.words[t * GROUP..][..GROUP];
            let branches = branches(search, run, row, first, cap, words, &mut scratch.escapes);
            let decisions = scratch.decisions.as_chunks_mut::<GROUP>().0[t * per_step..][..per_step].iter_mut();
            let each = before.chunks(PER_WORD).zip(next.chunks_mut(PER_WORD)).zip(decisions);
            for ((before, next), decisions) in each {
                *decisions = add_compare_select(before, &costs, &branches, next);
            }
            for (cost, next) in costs.iter_mut().zip(&next) {
                cost[..run.active].copy_from_slice(&next[..run.active]);
            }
            if t % SETTLE == SETTLE - 1 {
                settle(&mut costs);
            }
        }
    }
    let mut state = best_states(&costs);
    for run in runs.iter().rev() {
        for (t, _, first) in run.steps(search.shape.row_len).rev() {
            let words = &scratch.words[t * GROUP..][..GROUP];
            let decisions = &scratch.decisions.as_chunks::<GROUP>().0[t * per_step..][..per_step];
            for i in 0..run.active {
                let second = decisions[state[i] / PER_WORD][i] >> (state[i] % PER_WORD) & 1;
                let (from, odd) = before[state[i]][usize::from(second)];
                state[i] = from;
                let (entry, raw) = emit(words[i], from, odd, search.metrics.raw_bits);
                choice.entries[first + i] = entry;
                if let Some(slot) = choice.raw.get_mut(first + i) {
                    *slot = raw;
                }
            }
        }
    }
    debug_assert!(state.iter().all(|&s| s == 0));
}

/// The most that a branch may cost: with unreachable states at 65535 no path from one
/// can win while any remains, that is for as many steps as states have bits.
pub fn branch_cap(log2_states: u8) -> u16 {
    (65534 / u32::from(log2_states)).min(u32::from(u16::MAX)) as u16
}

/// Costs of the best candidate of each subset; leaves the words to keep.
fn branches(
    search: &Search<'_>,
    run: &Run,
    row: usize,
    first: usize,
    cap: u16,
    words: &mut [u16],
    escapes: &mut Vec<u32>,
) -> [Lanes; 4] {
    let metrics = search.metrics;
    let (tables, scale) = (&metrics.classes[search.class_of_row(row)], search.scale_of_row(row));
    let mut branches = [[0; GROUP]; 4];
    for (i, word) in words.iter_mut().enumerate().take(run.active) {
        let column = search.column_scales.get(run.column + i).copied().unwrap_or(1.0);
        let value = search.source.get(first + i) * scale * column;
        // An escape is listed; its symbol is free to be what suits the path.
        let (magnitude, negative) = match fixed(value) {
            Some(m) if m <= metrics.limit => (m.min(metrics.top), value.is_sign_negative()),
            _ => {
                escapes.push((first + i) as u32);
                (0, false)
            }
        };
        let costs;
        (costs, *word) = branch(magnitude, negative, tables, metrics.raw_bits);
        for (all, cost) in branches.iter_mut().zip(costs) {
            all[i] = cost.min(cap);
        }
    }
    branches
}

/// |value| rounded to an integer, ties to even; None from 2^30 on.
#[inline]
fn fixed(value: f32) -> Option<u32> {
    // From here on the steps between numbers are 1: the sum is rounded as it should be.
    const WHOLE: f32 = (1 << 23) as f32;
    let magnitude = value.abs();
    let rounded = if magnitude < WHOLE { (magnitude + WHOLE) - WHOLE } else { magnitude };
    (magnitude < (1u32 << 30) as f32).then_some(rounded as u32)
}

/// Costs of the best candidate of each subset, and the word to keep.
#[inline]
fn branch(magnitude: u32, negative: bool, tables: &Tables, raw_bits: u8) -> ([u16; 4], u16) {
    let periods = (magnitude >> 15) as i32;
    let place = (magnitude & 0x7FFF) as i32;
    // Rows of the tables; vectors look them up modulo 32, and so nothing needs a check.
    let row_of = |candidate: i32| (candidate >> row_shift(raw_bits)) as usize % 32;
    let (mut costs, mut moves) = ([0; 4], [0; 4]);
    for subset in 0..4 {
        let below = place < subset as i32 * UNIT;
        let above = place - subset as i32 * UNIT + if below { PERIOD } else { 0 };
        let lower = periods + i32::from(!below);
        // At least 1, so that vectors can compare with one less.
        let up = above >= i32::from(tables.threshold[subset][row_of(lower)].max(1));
        let candidate = lower + i32::from(up);
        let row = row_of(candidate);
        // The candidate of subset 3 below its first level is 0.
        let zero = if subset == 3 && candidate == 0 { UNIT } else { 0 };
        let distance = above - if up { PERIOD } else { 0 } - i32::from(tables.offset[subset][row]) - zero;
        let distance = distance.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
        costs[subset] = ((distance * distance) >> 16) as u16 + tables.rate[subset][row];
        moves[subset] = (candidate - periods) as u16;
    }
    (costs, pack(moves, negative, periods as u16))
}

/// Up to 16 states; gives their decisions.
#[inline]
fn add_compare_select(before: &[Predecessors], costs: &[Lanes], branches: &[Lanes; 4], next: &mut [Lanes]) -> Lanes {
    let mut decisions = [0; GROUP];
    for (state, (from, next)) in before.iter().zip(next).enumerate() {
        let [(first, odd_first), (second, odd_second)] = *from;
        let (costs_a, branch_a) = (&costs[first], &branches[subset_of(first, odd_first)]);
        let (costs_b, branch_b) = (&costs[second], &branches[subset_of(second, odd_second)]);
        for i in 0..GROUP {
            let a = costs_a[i].saturating_add(branch_a[i]);
            let b = costs_b[i].saturating_add(branch_b[i]);
            next[i] = a.min(b);
            decisions[i] |= u16::from(b < a) << state;
        }
    }
    decisions
}

/// Subtracts the least cost of each trellis from all of its costs.
fn settle(costs: &mut [Lanes]) {
    let mut least = [u16::MAX; GROUP];
    for cost in costs.iter() {
        for i in 0..GROUP {
            least[i] = least[i].min(cost[i]);
        }
    }
    for cost in costs {
        for i in 0..GROUP {
            cost[i] -= least[i];
        }
    }
}

/// The cheapest state of each trellis, the first of equals.
fn best_states(costs: &[Lanes]) -> [usize; GROUP] {
    std::array::from_fn(|i| (0..costs.len()).min_by_key(|&s| costs[s][i]).unwrap_or(0))
}

/// Table entry and raw bits of the candidate that a path took from state `from`.
#[inline]
fn emit(word: u16, from: usize, odd: usize, raw_bits: u8) -> (u8, u16) {
    let subset = subset_of(from, odd);
    let candidate = i32::from(word >> 9) + i32::from(word >> (2 * subset) & 3);
    let magnitude = index_of(subset, candidate);
    let index = if word & 0x100 != 0 { -magnitude } else { magnitude };
    let symbol = (index >> raw_bits) + TRELLIS_CENTRE;
    let raw = index & ((1 << raw_bits) - 1);
    (symbol as u8 + CONTEXT_ENTRIES * (from & 1) as u8, raw as u16)
}
