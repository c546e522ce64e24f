//! The search in plain Rust: what every other kernel must find.

use super::tables::{Predecessors, Tables, index_of, pack, predecessors, subset_of};
use super::{Choice, GROUP, PERIOD, Scratch, Search, UNIT};
use crate::codec::manifold::TRELLIS_CENTRE;
use crate::codec::params::CONTEXT_ENTRIES;

/// Path costs of the states of 32 trellises.
type Costs = Vec<[u16; GROUP]>;
/// Costs are brought back to zero so often.
pub const SETTLE: usize = 4;

pub fn search(search: &Search<'_>, lane: usize, scratch: &mut Scratch, choice: &mut Choice) {
    let trellis = &search.metrics.trellis;
    let before = predecessors(trellis);
    let states = before.len();
    let cap = branch_cap(trellis.log2_states);
    let mut costs: Costs = vec![[u16::MAX; GROUP]; states];
    costs[0] = [0; GROUP];
    let mut next = costs.clone();
    let steps = search.steps(lane);
    let count = steps.clone().count();
    scratch.words.clear();
    scratch.words.resize(count * GROUP, 0);
    scratch.decisions.clear();
    scratch.decisions.resize(count * states, 0);

    for (t, step) in steps.clone().enumerate() {
        let words = &mut scratch.words[t * GROUP..][..GROUP];
        let mut branches = [[0u16; GROUP]; 4];
        let (tables, scale) = (search.class_of_row(step.row), search.scale_of_row(step.row));
        for i in 0..step.active {
            let column = search.column_scales.get(step.column + i).copied().unwrap_or(1.0);
            let value = search.source.get(step.first + i) * scale * column;
            // An escape is listed; its symbol is free to be what suits the path.
            let (magnitude, negative) = match fixed(value) {
                Some(m) if m <= search.metrics.limit => (m.min(search.metrics.top), value.is_sign_negative()),
                _ => {
                    scratch.escapes.push((step.first + i) as u32);
                    (0, false)
                }
            };
            let costs;
            (costs, words[i]) = branch(magnitude, negative, tables, search.metrics.raw_bits);
            for (all, cost) in branches.iter_mut().zip(costs) {
                all[i] = cost.min(cap);
            }
        }
        let decisions = &mut scratch.decisions[t * states..][..states];
        add_compare_select(&before, &costs, &branches, &mut next, decisions);
        for state in 0..states {
            costs[state][..step.active].copy_from_slice(&next[state][..step.active]);
        }
        if t % SETTLE == SETTLE - 1 {
            settle(&mut costs);
        }
    }
    let mut state = best_states(&costs);
    for (t, step) in (0..count).rev().zip(steps.rev()) {
        let words = &scratch.words[t * GROUP..][..GROUP];
        let decisions = &scratch.decisions[t * states..][..states];
        for i in 0..step.active {
            let second = decisions[state[i]] >> i & 1;
            let (from, odd) = before[state[i]][second as usize];
            state[i] = from;
            let (entry, raw) = emit(words[i], from, odd, search.metrics.raw_bits);
            choice.entries[step.first + i] = entry;
            if let Some(slot) = choice.raw.get_mut(step.first + i) {
                *slot = raw;
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

/// |value| rounded to an integer, ties to even; None from 2^30 on.
fn fixed(value: f32) -> Option<u32> {
    let magnitude = value.abs();
    (magnitude < (1u32 << 30) as f32).then(|| magnitude.round_ties_even() as u32)
}

/// Costs of the best candidate of each subset, and the word to keep.
fn branch(magnitude: u32, negative: bool, tables: &Tables, raw_bits: u8) -> ([u16; 4], u16) {
    let periods = (magnitude >> 15) as i32;
    let place = (magnitude & 0x7FFF) as i32;
    let (mut costs, mut moves) = ([0; 4], [0; 4]);
    for subset in 0..4 {
        let mut above = place - subset as i32 * UNIT;
        let mut candidate = periods + 1;
        if above < 0 {
            above += PERIOD;
            candidate -= 1;
        }
        if above >= i32::from(tables.threshold[subset][(candidate >> raw_bits) as usize]) {
            above -= PERIOD;
            candidate += 1;
        }
        let row = (candidate >> raw_bits) as usize;
        let saturated = |v: i32| v.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
        let mut distance = saturated(above - i32::from(tables.offset[subset][row]));
        if subset == 3 && candidate == 0 {
            distance = saturated(distance - UNIT);
        }
        costs[subset] = ((distance * distance) >> 16) as u16 + tables.rate[subset][row];
        moves[subset] = (candidate - periods) as u16;
    }
    (costs, pack(moves, negative, periods as u16))
}

fn add_compare_select(
    before: &[Predecessors],
    costs: &Costs,
    branches: &[[u16; GROUP]; 4],
    next: &mut Costs,
    decisions: &mut [u32],
) {
    for ((from, next), decisions) in before.iter().zip(next).zip(decisions) {
        let [(first, odd_first), (second, odd_second)] = *from;
        let (first, second) =
            ((&costs[first], subset_of(first, odd_first)), (&costs[second], subset_of(second, odd_second)));
        let mut won = 0;
        for i in 0..GROUP {
            let a = first.0[i].saturating_add(branches[first.1][i]);
            let b = second.0[i].saturating_add(branches[second.1][i]);
            next[i] = a.min(b);
            won |= u32::from(b < a) << i;
        }
        *decisions = won;
    }
}

/// Subtracts the least cost of each trellis from all of its costs.
fn settle(costs: &mut Costs) {
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
fn best_states(costs: &Costs) -> [usize; GROUP] {
    std::array::from_fn(|i| (0..costs.len()).min_by_key(|&s| costs[s][i]).unwrap_or(0))
}

/// Table entry and raw bits of the candidate that a path took from state `from`.
#[inline]
pub fn emit(word: u16, from: usize, odd: usize, raw_bits: u8) -> (u8, u16) {
    let subset = subset_of(from, odd);
    let candidate = i32::from(word >> 9) + i32::from(word >> (2 * subset) & 3);
    let magnitude = index_of(subset, candidate);
    let index = if word & 0x100 != 0 { -magnitude } else { magnitude };
    let symbol = (index >> raw_bits) + TRELLIS_CENTRE;
    let raw = index & ((1 << raw_bits) - 1);
    (symbol as u8 + CONTEXT_ENTRIES * (from & 1) as u8, raw as u16)
}
