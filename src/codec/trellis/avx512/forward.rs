//! Along the steps: the cheapest path to every state.

use std::arch::x86_64::*;

use super::branch::{branches, magnitudes, scaling};
use super::{lanes, single_bits};
use crate::codec::params::Trellis;
use crate::codec::trellis::machine::{Butterfly, Known, folded, words};
use crate::codec::trellis::portable::{PER_WORD, SETTLE, branch_cap};
use crate::codec::trellis::tables::{EIGHT, SUBSETS, row_shift};
use crate::codec::trellis::{CODES, GROUP, Scratch, Search};

type Eight = Known<{ EIGHT.log2_states }, { EIGHT.h0 }, { EIGHT.h1 }>;

/// Costs that must not be chosen.
const UNREACHABLE: i16 = -1;

/// 8 states, whose costs stay in registers. Gives the cheapest final state of each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn eight<const RAW: bool>(search: &Search<'_>, lane: usize, scratch: &mut Scratch) -> __m512i {
    let bits = single_bits();
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
            let (branches, packed) = branches::<RAW>(&m, &classes[search.class_of_row(row)], raw_bits, &bits);
            store(word, packed);
            let mut odds = [_mm512_setzero_si512(); 2];
            let mut next = costs;
            for b in &Eight::BUTTERFLIES[..4] {
                butterfly(b, &costs, &mut next, by(b, &branches), &bits, &mut odds);
            }
            store(decided, _mm512_or_si512(odds[0], odds[1]));
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

/// From the costs before a step to those behind it, with the costs of the branches,
/// [`single_bits`], and room for the decisions.
type Step = unsafe fn(&[__m512i], &mut [__m512i], &[__m512i; 4], &[__m512i; PER_WORD], &mut [[u16; GROUP]]);

/// The step of a machine, if it is known.
pub fn step_of(trellis: &Trellis) -> Option<Step> {
    for_code!(trellis, CODE => {
        step::<{ 1 << CODE.log2_states }, { CODE.log2_states }, { CODE.h0 }, { CODE.h1 }> as Step
    })
}

/// Any number of states.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn any<const RAW: bool>(search: &Search<'_>, lane: usize, step_on: Step, scratch: &mut Scratch) -> __m512i {
    let trellis = &search.metrics.trellis;
    let states = 1 << trellis.log2_states;
    let bits = single_bits();
    let cap = _mm512_set1_epi16(branch_cap(trellis.log2_states) as i16);
    let mut room = vec![_mm512_set1_epi16(UNREACHABLE); 2 * states];
    let (mut costs, mut next) = room.split_at_mut(states);
    costs[0] = _mm512_setzero_si512();
    let classes = folded(search.metrics);
    let raw_bits = _mm_cvtsi32_si128(i32::from(row_shift(search.metrics.raw_bits)));
    let runs = search.runs(lane);
    let per_step = words(trellis);
    scratch.fit(&runs, per_step);
    for run in &runs {
        let scaling = scaling(search, run);
        let words = scratch.words[run.before * GROUP..].as_chunks_mut::<GROUP>().0;
        let decisions = scratch.decisions[run.before * per_step * GROUP..].as_chunks_mut::<GROUP>().0;
        for ((step, row, first), (word, decided)) in
            run.steps(search.shape.row_len).zip(words.iter_mut().zip(decisions.chunks_exact_mut(per_step)))
        {
            let m = magnitudes(search, &scaling, run, row, first, &mut scratch.escapes);
            let (branches, packed) = branches::<RAW>(&m, &classes[search.class_of_row(row)], raw_bits, &bits);
            store(word, packed);
            let branches = branches.map(|cost| _mm512_min_epu16(cost, cap));
            // SAFETY: it has the features of this function.
            unsafe { step_on(costs, next, &branches, &bits, decided) };
            if run.active < GROUP {
                for (next, cost) in next.iter_mut().zip(costs.iter()) {
                    *next = _mm512_mask_mov_epi16(*cost, lanes(run.active), *next);
                }
            }
            std::mem::swap(&mut costs, &mut next);
            if step % SETTLE == SETTLE - 1 {
                settle(costs);
            }
        }
    }
    cheapest(costs)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn step<const S: usize, const LOG2_STATES: u8, const H0: u16, const H1: u16>(
    costs: &[__m512i],
    next: &mut [__m512i],
    branches: &[__m512i; 4],
    bits: &[__m512i; PER_WORD],
    decided: &mut [[u16; GROUP]],
) {
    let (Some(costs), Some(next)) = (costs.first_chunk::<S>(), next.first_chunk_mut::<S>()) else { unreachable!() };
    let all = &Known::<LOG2_STATES, H0, H1>::BUTTERFLIES[..S / 2];
    if S <= PER_WORD {
        let mut odds = [_mm512_setzero_si512(); 2];
        for b in all {
            butterfly(b, costs, next, by(b, branches), bits, &mut odds);
        }
        store(&mut decided[0], _mm512_or_si512(odds[0], odds[1]));
        return;
    }
    // So many that the states of a chunk share words, straight and crossed, and halves.
    for chunk in all.chunks_exact(if S < 128 { 8 } else { 16 }) {
        let mut odds = [_mm512_setzero_si512(); 2];
        let by = by(&chunk[0], branches);
        for b in chunk {
            butterfly(b, costs, next, by, bits, &mut odds);
        }
        let words = [chunk[0].straight, chunk[0].crossed].map(|state| usize::from(state) / PER_WORD);
        if words[0] == words[1] {
            store(&mut decided[words[0]], _mm512_or_si512(odds[0], odds[1]));
        } else {
            store(&mut decided[words[0]], odds[0]);
            store(&mut decided[words[1]], odds[1]);
        }
    }
}

/// What an even and an odd index cost.
#[inline]
fn by(b: &Butterfly, branches: &[__m512i; 4]) -> [__m512i; 2] {
    SUBSETS[usize::from(b.low % 2)].map(|subset| branches[subset])
}

/// Adds decisions to those of the straight and of the crossed states.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn butterfly<const S: usize>(
    b: &Butterfly,
    costs: &[__m512i; S],
    next: &mut [__m512i; S],
    [by_even, by_odd]: [__m512i; 2],
    bits: &[__m512i; PER_WORD],
    odds: &mut [__m512i; 2],
) {
    let [low, high, straight, crossed] = [b.low, b.high, b.straight, b.crossed].map(|state| usize::from(state) % S);
    let (low, high) = (costs[low], costs[high]);
    let (even, odd) = (_mm512_adds_epu16(low, by_even), _mm512_adds_epu16(high, by_odd));
    let won = _mm512_cmplt_epu16_mask(odd, even);
    odds[0] = _mm512_mask_add_epi16(odds[0], won, odds[0], bits[straight % PER_WORD]);
    next[straight] = _mm512_min_epu16(even, odd);
    // With equal costs `low` wins.
    let (odd, even) = (_mm512_adds_epu16(low, by_odd), _mm512_adds_epu16(high, by_even));
    let won = _mm512_cmple_epu16_mask(odd, even);
    odds[1] = _mm512_mask_add_epi16(odds[1], won, odds[1], bits[crossed % PER_WORD]);
    next[crossed] = _mm512_min_epu16(even, odd);
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
