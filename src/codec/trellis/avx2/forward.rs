//! Along the steps: the cheapest path to every state; see the same file of AVX-512.

use std::arch::x86_64::*;

use super::branch::{branches, class_planes, magnitudes, scaling};
use super::{Pair, lanes, store, store_half};
use crate::codec::params::Trellis;
use crate::codec::trellis::machine::{Butterfly, Known, folded, words};
use crate::codec::trellis::portable::{PER_WORD, SETTLE, branch_cap};
use crate::codec::trellis::tables::{SUBSETS, row_shift};
use crate::codec::trellis::{CODES, GROUP, Scratch, Search};

/// Costs that must not be chosen.
const UNREACHABLE: i16 = -1;

/// From the costs of one half of the lanes before a step to those behind it, with the
/// costs of the branches, the half, and room for the decisions.
type Step = unsafe fn(&[__m256i], &mut [__m256i], &[__m256i; 4], usize, &mut [[u16; GROUP]]);

/// The step of a machine, if it is known.
pub fn step_of(trellis: &Trellis) -> Option<Step> {
    for_code!(trellis, CODE => {
        step::<{ 1 << CODE.log2_states }, { CODE.log2_states }, { CODE.h0 }, { CODE.h1 }> as Step
    })
}

/// Gives the cheapest final state of each lane.
#[target_feature(enable = "avx2")]
pub fn forward<const RAW: bool>(search: &Search<'_>, lane: usize, step_on: Step, scratch: &mut Scratch) -> Pair {
    let trellis = &search.metrics.trellis;
    let states = 1 << trellis.log2_states;
    let cap = _mm256_set1_epi16(branch_cap(trellis.log2_states) as i16);
    // By half of the lanes.
    let mut room = [0; 2].map(|_| vec![_mm256_set1_epi16(UNREACHABLE); 2 * states]);
    let mut costs = room.each_mut().map(|room| room.split_at_mut(states));
    costs.iter_mut().for_each(|(costs, _)| costs[0] = _mm256_setzero_si256());
    let classes: Vec<_> = folded(search.metrics).iter().map(|tables| class_planes(tables)).collect();
    let raw_bits = _mm_cvtsi32_si128(i32::from(row_shift(search.metrics.raw_bits)));
    let runs = search.runs(lane);
    let per_step = words(trellis);
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
            store(word, packed);
            for (h, (costs, next)) in costs.iter_mut().enumerate() {
                let branches = branches.map(|pair| _mm256_min_epu16(pair[h], cap));
                // SAFETY: it has the features of this function.
                unsafe { step_on(costs, next, &branches, h, decided) };
                if run.active < GROUP {
                    for (next, cost) in next.iter_mut().zip(costs.iter()) {
                        *next = _mm256_blendv_epi8(*cost, *next, lanes[h]);
                    }
                }
                std::mem::swap(costs, next);
                if step % SETTLE == SETTLE - 1 {
                    settle(costs);
                }
            }
        }
    }
    costs.each_ref().map(|(costs, _)| cheapest(costs))
}

#[target_feature(enable = "avx2")]
fn step<const S: usize, const LOG2_STATES: u8, const H0: u16, const H1: u16>(
    costs: &[__m256i],
    next: &mut [__m256i],
    branches: &[__m256i; 4],
    half: usize,
    decided: &mut [[u16; GROUP]],
) {
    let (Some(costs), Some(next)) = (costs.first_chunk::<S>(), next.first_chunk_mut::<S>()) else { unreachable!() };
    let all = &Known::<LOG2_STATES, H0, H1>::BUTTERFLIES[..S / 2];
    let mut keep = |word: usize, odds| store_half(&mut decided[word].as_chunks_mut().0[half], odds);
    if S <= PER_WORD {
        let mut odds = [_mm256_setzero_si256(); 2];
        for b in all {
            butterfly(b, costs, next, by(b, branches), &mut odds);
        }
        keep(0, _mm256_or_si256(odds[0], odds[1]));
        return;
    }
    // So many that the states of a chunk share words, straight and crossed, and halves.
    for chunk in all.chunks_exact(if S < 128 { 8 } else { 16 }) {
        let mut odds = [_mm256_setzero_si256(); 2];
        let by = by(&chunk[0], branches);
        for b in chunk {
            butterfly(b, costs, next, by, &mut odds);
        }
        let words = [chunk[0].straight, chunk[0].crossed].map(|state| usize::from(state) / PER_WORD);
        if words[0] == words[1] {
            keep(words[0], _mm256_or_si256(odds[0], odds[1]));
        } else {
            keep(words[0], odds[0]);
            keep(words[1], odds[1]);
        }
    }
}

/// What an even and an odd index cost.
#[inline]
fn by(b: &Butterfly, branches: &[__m256i; 4]) -> [__m256i; 2] {
    SUBSETS[usize::from(b.low % 2)].map(|subset| branches[subset])
}

/// A single bit, by its number, in every lane.
#[inline]
#[target_feature(enable = "avx2")]
fn bit(number: usize) -> __m256i {
    static BITS: [[u16; 16]; PER_WORD] = {
        let mut bits = [[0; 16]; PER_WORD];
        let mut number = 0;
        while number < PER_WORD {
            bits[number] = [1 << number; 16];
            number += 1;
        }
        bits
    };
    // SAFETY: 16 u16 are 32 bytes.
    unsafe { _mm256_loadu_si256(BITS[number].as_ptr().cast()) }
}

/// Adds decisions to those of the straight and of the crossed states.
#[inline]
#[target_feature(enable = "avx2")]
fn butterfly<const S: usize>(
    b: &Butterfly,
    costs: &[__m256i; S],
    next: &mut [__m256i; S],
    [by_even, by_odd]: [__m256i; 2],
    odds: &mut [__m256i; 2],
) {
    let [low, high, straight, crossed] = [b.low, b.high, b.straight, b.crossed].map(|state| usize::from(state) % S);
    let (low, high) = (costs[low], costs[high]);
    let (even, odd) = (_mm256_adds_epu16(low, by_even), _mm256_adds_epu16(high, by_odd));
    let least = _mm256_min_epu16(even, odd);
    // With equal costs `low` wins.
    let won = _mm256_andnot_si256(_mm256_cmpeq_epi16(least, even), bit(straight % PER_WORD));
    odds[0] = _mm256_or_si256(odds[0], won);
    next[straight] = least;
    let (odd, even) = (_mm256_adds_epu16(low, by_odd), _mm256_adds_epu16(high, by_even));
    let least = _mm256_min_epu16(even, odd);
    let won = _mm256_and_si256(_mm256_cmpeq_epi16(least, odd), bit(crossed % PER_WORD));
    odds[1] = _mm256_or_si256(odds[1], won);
    next[crossed] = least;
}

#[inline]
#[target_feature(enable = "avx2")]
fn least(costs: &[__m256i]) -> __m256i {
    costs.iter().fold(costs[0], |least, &cost| _mm256_min_epu16(least, cost))
}

/// Subtracts the least cost of each trellis from all of its costs.
#[inline]
#[target_feature(enable = "avx2")]
fn settle(costs: &mut [__m256i]) {
    let least = least(costs);
    costs.iter_mut().for_each(|cost| *cost = _mm256_sub_epi16(*cost, least));
}

/// The cheapest state of each trellis, the first of equals.
#[target_feature(enable = "avx2")]
fn cheapest(costs: &[__m256i]) -> __m256i {
    let least = least(costs);
    let all = costs.iter().enumerate().rev();
    all.fold(_mm256_setzero_si256(), |best, (state, &cost)| {
        _mm256_blendv_epi8(best, _mm256_set1_epi16(state as i16), _mm256_cmpeq_epi16(cost, least))
    })
}
