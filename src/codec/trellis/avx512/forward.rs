//! Along the steps: the cheapest path to every state.

use std::arch::x86_64::*;

use super::branch::{branches, magnitudes, scaling};
use super::lanes;
use crate::codec::trellis::machine::{EIGHT_FROM, MOST_STATES, Machine, PER_WORD, SUBSETS, folded};
use crate::codec::trellis::portable::{SETTLE, branch_cap};
use crate::codec::trellis::tables::row_shift;
use crate::codec::trellis::{GROUP, Scratch, Search};

/// Costs that must not be chosen.
const UNREACHABLE: i16 = -1;

/// 8 states, whose costs stay in registers. Gives the cheapest final state of each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn eight<const RAW: bool>(search: &Search<'_>, lane: usize, scratch: &mut Scratch) -> __m512i {
    let mut costs = [_mm512_set1_epi16(UNREACHABLE); 8];
    costs[0] = _mm512_setzero_si512();
    let classes = folded(search.metrics);
    let raw_bits = _mm_cvtsi32_si128(i32::from(row_shift(search.metrics.raw_bits)));
    let runs = search.runs(lane);
    scratch.fit(&runs, 1);
    for run in &runs {
        let scaling = scaling(search, run);
        let words = scratch.words[run.before * GROUP..].as_chunks_mut::<GROUP>().0;
        let decisions = scratch.decisions[run.before * GROUP..].as_chunks_mut::<GROUP>().0;
        for ((step, row, first), (word, decided)) in
            run.steps(search.shape.row_len).zip(words.iter_mut().zip(decisions))
        {
            let m = magnitudes(search, &scaling, run, row, first, &mut scratch.escapes);
            let (branches, packed) = branches::<RAW>(&m, &classes[search.class_of_row(row)], raw_bits);
            store(word, packed);
            let mut odds = _mm512_setzero_si512();
            let mut next = costs;
            for state in 0..8 {
                let [from_even, from_odd] = EIGHT_FROM[state];
                let [by_even, by_odd] = SUBSETS[state / 4];
                let even = _mm512_adds_epu16(costs[from_even], branches[by_even]);
                let odd = _mm512_adds_epu16(costs[from_odd], branches[by_odd]);
                let won = if from_odd < from_even {
                    _mm512_cmple_epu16_mask(odd, even)
                } else {
                    _mm512_cmplt_epu16_mask(odd, even)
                };
                odds = _mm512_mask_add_epi16(odds, won, odds, _mm512_set1_epi16(1 << state));
                next[state] = _mm512_min_epu16(even, odd);
            }
            store(decided, odds);
            if run.active < GROUP {
                for (next, cost) in next.iter_mut().zip(costs) {
                    *next = _mm512_mask_mov_epi16(cost, lanes(run.active), *next);
                }
            }
            costs = next;
            if step % SETTLE == SETTLE - 1 {
                settle(&mut costs);
            }
        }
    }
    cheapest(&costs)
}

/// Any number of states.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn any<const RAW: bool>(search: &Search<'_>, lane: usize, machine: &Machine, scratch: &mut Scratch) -> __m512i {
    let states = machine.states();
    let bits: [__m512i; PER_WORD] = std::array::from_fn(|bit| _mm512_set1_epi16(1 << bit));
    let cap = _mm512_set1_epi16(branch_cap(machine.log2_states) as i16);
    // Of a fixed length, so that no index needs a check.
    let (costs, next) =
        (&mut [_mm512_set1_epi16(UNREACHABLE); MOST_STATES], &mut [_mm512_setzero_si512(); MOST_STATES]);
    let (mut costs, mut next) = (costs, next);
    costs[0] = _mm512_setzero_si512();
    let classes = folded(search.metrics);
    let raw_bits = _mm_cvtsi32_si128(i32::from(row_shift(search.metrics.raw_bits)));
    let runs = search.runs(lane);
    let per_step = machine.words.len();
    scratch.fit(&runs, per_step);
    for run in &runs {
        let lanes = lanes(run.active);
        let scaling = scaling(search, run);
        let words = scratch.words[run.before * GROUP..].as_chunks_mut::<GROUP>().0;
        let decisions = scratch.decisions[run.before * per_step * GROUP..].as_chunks_mut::<GROUP>().0;
        for ((step, row, first), (word, decided)) in
            run.steps(search.shape.row_len).zip(words.iter_mut().zip(decisions.chunks_exact_mut(per_step)))
        {
            let m = magnitudes(search, &scaling, run, row, first, &mut scratch.escapes);
            let (branches, packed) = branches::<RAW>(&m, &classes[search.class_of_row(row)], raw_bits);
            let branches = branches.map(|cost| _mm512_min_epu16(cost, cap));
            store(word, packed);
            for (parts, decided) in machine.words.iter().zip(decided) {
                let mut odds = _mm512_setzero_si512();
                for part in parts {
                    let [by_even, by_odd] = SUBSETS[usize::from(part.upper)].map(|subset| branches[subset]);
                    let first = part.odd_first;
                    for to in &part.moves {
                        let (state, before) = (usize::from(to.to), &*costs);
                        let even = _mm512_adds_epu16(before[usize::from(to.even)], by_even);
                        let odd = _mm512_adds_epu16(before[usize::from(to.odd)], by_odd);
                        let won =
                            if first { _mm512_cmple_epu16_mask(odd, even) } else { _mm512_cmplt_epu16_mask(odd, even) };
                        odds = _mm512_mask_add_epi16(odds, won, odds, bits[state % PER_WORD]);
                        next[state] = _mm512_mask_min_epu16(before[state], lanes, even, odd);
                    }
                }
                store(decided, odds);
            }
            std::mem::swap(&mut costs, &mut next);
            if step % SETTLE == SETTLE - 1 {
                settle(&mut costs[..states]);
            }
        }
    }
    cheapest(&costs[..states])
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn store(to: &mut [u16; GROUP], lanes: __m512i) {
    // SAFETY: 32 u16 are 64 bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), lanes) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn least(costs: &[__m512i]) -> __m512i {
    costs.iter().fold(costs[0], |least, &cost| _mm512_min_epu16(least, cost))
}

/// Subtracts the least cost of each trellis from all of its costs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn settle(costs: &mut [__m512i]) {
    let least = least(costs);
    costs.iter_mut().for_each(|cost| *cost = _mm512_sub_epi16(*cost, least));
}

/// The cheapest state of each trellis, the first of equals.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn cheapest(costs: &[__m512i]) -> __m512i {
    let least = least(costs);
    let all = costs.iter().enumerate().rev();
    all.fold(_mm512_setzero_si512(), |best, (state, &cost)| {
        _mm512_mask_mov_epi16(best, _mm512_cmpeq_epi16_mask(cost, least), _mm512_set1_epi16(state as i16))
    })
}
