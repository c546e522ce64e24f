//! The search with AVX-512: 32 trellises in the 16-bit lanes of a register.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::portable::{SETTLE, branch_cap};
use super::tables::{BEFORE_EIGHT, EIGHT, Predecessors, Tables, index_of, predecessors, subset_of};
use super::{Choice, GROUP, GroupStep, PERIOD, Scratch, Search, Source, UNIT};
use crate::codec::manifold::TRELLIS_CENTRE;

/// A group of 16-bit lanes with all bits on where costs must not be chosen.
const UNREACHABLE: i16 = -1;

/// Searches the trellises from `lane` on, on a machine that the kernel of the decoder
/// runs on.
pub fn search(search: &Search<'_>, lane: usize, scratch: &mut Scratch, choice: &mut Choice) {
    assert!(is_available());
    // SAFETY: the features are there.
    unsafe {
        if search.metrics.trellis == EIGHT {
            forward_eight(search, lane, scratch);
        } else {
            forward_any(search, lane, scratch);
        }
        backward(search, lane, scratch, choice);
    }
}

/// Whether this machine can run the search.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
}

/// 8 states: costs stay in registers, predecessors are known to the compiler.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn forward_eight(search: &Search<'_>, lane: usize, scratch: &mut Scratch) {
    let mut costs = [_mm512_set1_epi16(UNREACHABLE); 8];
    costs[0] = _mm512_setzero_si512();
    let mut next = costs;
    forward(search, lane, scratch, &BEFORE_EIGHT, &mut costs, &mut next);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn forward_any(search: &Search<'_>, lane: usize, scratch: &mut Scratch) {
    let before = predecessors(&search.metrics.trellis);
    let mut costs = vec![_mm512_set1_epi16(UNREACHABLE); before.len()];
    costs[0] = _mm512_setzero_si512();
    let mut next = costs.clone();
    forward(search, lane, scratch, &before, &mut costs, &mut next);
}

/// Goes along the steps: the cheapest path to every state. Leaves the cheapest final
/// state of each lane behind the last decisions.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn forward(
    search: &Search<'_>,
    lane: usize,
    scratch: &mut Scratch,
    before: &[Predecessors],
    costs: &mut [__m512i],
    next: &mut [__m512i],
) {
    let states = before.len();
    let cap = _mm512_set1_epi16(branch_cap(search.metrics.trellis.log2_states) as i16);
    let steps = search.steps(lane);
    let count = steps.clone().count();
    let (words, decisions) = (&mut scratch.words, &mut scratch.decisions);
    words.resize(count * GROUP, 0);
    decisions.resize(count * states + GROUP, 0);
    let each = steps.zip(words.as_chunks_mut::<GROUP>().0).zip(decisions.chunks_exact_mut(states));
    for (t, ((step, word), decisions)) in each.enumerate() {
        let lanes = (u64::MAX >> (64 - step.active)) as u32;
        let magnitudes = magnitudes(search, &step, lanes, &mut scratch.escapes);
        let (branches, packed) = branches(magnitudes, search.class_of_row(step.row), search.metrics.raw_bits, cap);
        // SAFETY: a word has room for 32 u16.
        unsafe { _mm512_storeu_si512(word.as_mut_ptr().cast(), packed) };
        for state in 0..states {
            let [(first, odd_first), (second, odd_second)] = before[state];
            let a = _mm512_adds_epu16(costs[first], branches[subset_of(first, odd_first)]);
            let b = _mm512_adds_epu16(costs[second], branches[subset_of(second, odd_second)]);
            decisions[state] = _mm512_cmplt_epu16_mask(b, a);
            next[state] = _mm512_min_epu16(a, b);
        }
        for state in 0..states {
            costs[state] = _mm512_mask_mov_epi16(costs[state], lanes, next[state]);
        }
        if t % SETTLE == SETTLE - 1 {
            let least = costs.iter().fold(costs[0], |least, &cost| _mm512_min_epu16(least, cost));
            costs.iter_mut().for_each(|cost| *cost = _mm512_sub_epi16(*cost, least));
        }
    }
    let least = costs.iter().fold(costs[0], |least, &cost| _mm512_min_epu16(least, cost));
    let last = &mut scratch.decisions[count * states..][..GROUP];
    for state in (0..states).rev() {
        let cheapest = _mm512_cmpeq_epi16_mask(costs[state], least);
        for (i, best) in last.iter_mut().enumerate() {
            if cheapest >> i & 1 == 1 {
                *best = state as u32;
            }
        }
    }
}

/// Fixed-point magnitudes: whole periods, place in the period, and signs.
struct Magnitudes {
    periods: __m512i,
    place: __m512i,
    negative: u32,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn magnitudes(search: &Search<'_>, step: &GroupStep, lanes: u32, escapes: &mut Vec<u32>) -> Magnitudes {
    let scale = _mm512_set1_ps(search.scale_of_row(step.row));
    let masks = [lanes as u16, (lanes >> 16) as u16];
    // SAFETY: elements first .. first + active are in the source, whose length was
    // compared with the block's; the masks keep the loads to them.
    let values: [__m512; 2] = match search.source {
        Source::Bf16(bytes) => unsafe {
            let halves = _mm512_maskz_loadu_epi16(lanes, bytes.as_ptr().add(2 * step.first).cast());
            [_mm512_castsi512_si256(halves), _mm512_extracti64x4_epi64::<1>(halves)]
                .map(|half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))))
        },
        Source::F32(values) => unsafe {
            let from = values.as_ptr().add(step.first);
            [_mm512_maskz_loadu_ps(masks[0], from), _mm512_maskz_loadu_ps(masks[1], from.wrapping_add(16))]
        },
    };
    let mut scaled = values.map(|v| _mm512_mul_ps(v, scale));
    if !search.column_scales.is_empty() {
        // SAFETY: there is a scale per column, and the step ends within the row.
        unsafe {
            let from = search.column_scales.as_ptr().add(step.column);
            scaled[0] = _mm512_mul_ps(scaled[0], _mm512_maskz_loadu_ps(masks[0], from));
            scaled[1] = _mm512_mul_ps(scaled[1], _mm512_maskz_loadu_ps(masks[1], from.wrapping_add(16)));
        }
    }
    let (top, limit) = (_mm512_set1_epi32(search.metrics.top as i32), _mm512_set1_epi32(search.metrics.limit as i32));
    let fixed = scaled.map(|v| {
        let fixed = _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm512_abs_ps(v));
        // What is too large or not a number became 2^31.
        let beyond = _mm512_cmpgt_epu32_mask(fixed, limit);
        (_mm512_maskz_min_epu32(!beyond, fixed, top), beyond)
    });
    let beyond = (u32::from(fixed[0].1) | u32::from(fixed[1].1) << 16) & lanes;
    if beyond != 0 {
        let each = (0..GROUP).filter(|i| beyond >> i & 1 == 1);
        escapes.extend(each.map(|i| (step.first + i) as u32));
    }
    let signs = scaled.map(|v| u32::from(_mm512_cmplt_epi32_mask(_mm512_castps_si512(v), _mm512_setzero_si512())));
    let narrow = |a: __m512i, b: __m512i| {
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)), _mm512_cvtepi32_epi16(b))
    };
    Magnitudes {
        periods: narrow(_mm512_srli_epi32::<15>(fixed[0].0), _mm512_srli_epi32::<15>(fixed[1].0)),
        place: _mm512_and_si512(narrow(fixed[0].0, fixed[1].0), _mm512_set1_epi16(0x7FFF)),
        negative: (signs[0] | signs[1] << 16) & lanes & !beyond,
    }
}

/// Costs of the best candidate of each subset, and the words to keep.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn branches(m: Magnitudes, tables: &Tables, raw_bits: u8, cap: __m512i) -> ([__m512i; 4], __m512i) {
    let (one, period) = (_mm512_set1_epi16(1), _mm512_set1_epi16(PERIOD as u16 as i16));
    let coarse = _mm_cvtsi32_si128(i32::from(raw_bits));
    let mut costs = [_mm512_setzero_si512(); 4];
    let mut packed = _mm512_slli_epi16::<9>(m.periods);
    packed = with_signs(packed, m.negative);
    for subset in 0..4 {
        let mut above = _mm512_sub_epi16(m.place, _mm512_set1_epi16((subset as i32 * UNIT) as i16));
        let below = _mm512_movepi16_mask(above);
        above = _mm512_mask_add_epi16(above, below, above, period);
        // How far the candidate is from the number of whole periods.
        let moved = _mm512_mask_mov_epi16(one, below, _mm512_setzero_si512());
        let row = _mm512_srl_epi16(_mm512_add_epi16(m.periods, moved), coarse);
        let up = _mm512_cmpge_epu16_mask(above, look_up(&tables.threshold[subset], row));
        let moved = _mm512_mask_add_epi16(moved, up, moved, one);
        let candidate = _mm512_add_epi16(m.periods, moved);
        let row = _mm512_srl_epi16(candidate, coarse);
        let mut distance = _mm512_mask_sub_epi16(above, up, above, period);
        distance = _mm512_subs_epi16(distance, look_up(&tables.offset[subset], row));
        if subset == 3 {
            let zero = _mm512_testn_epi16_mask(candidate, candidate);
            distance = _mm512_mask_subs_epi16(distance, zero, distance, _mm512_set1_epi16(UNIT as i16));
        }
        let square = _mm512_mulhi_epi16(distance, distance);
        costs[subset] = _mm512_min_epu16(_mm512_add_epi16(square, look_up(&tables.rate[subset], row)), cap);
        packed = match subset {
            0 => _mm512_or_si512(packed, moved),
            1 => _mm512_or_si512(packed, _mm512_slli_epi16::<2>(moved)),
            2 => _mm512_or_si512(packed, _mm512_slli_epi16::<4>(moved)),
            _ => _mm512_or_si512(packed, _mm512_slli_epi16::<6>(moved)),
        };
    }
    (costs, packed)
}

/// Sets the bit of the sign where the mask says so.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn with_signs(words: __m512i, negative: u32) -> __m512i {
    _mm512_or_si512(words, _mm512_maskz_set1_epi16(negative, 0x100))
}

/// A table of 32 16-bit numbers, looked up in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn look_up<T>(table: &[T; GROUP], index: __m512i) -> __m512i {
    const { assert!(size_of::<T>() == 2) };
    // SAFETY: the table is 64 bytes.
    _mm512_permutexvar_epi16(index, unsafe { _mm512_loadu_si512(table.as_ptr().cast()) })
}

/// Goes back along the winners and writes what they chose.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn backward(search: &Search<'_>, lane: usize, scratch: &Scratch, choice: &mut Choice) {
    let before = predecessors(&search.metrics.trellis);
    let states = before.len();
    // By state and decision: the state before, twice its subset, what `index_of`
    // subtracts, and the first entry of its quantiser.
    let links: Vec<u32> = before
        .iter()
        .flatten()
        .map(|&(from, odd)| {
            let subset = subset_of(from, odd);
            (from | (2 * subset) << 8 | (-index_of(subset, 0)) as usize * (1 << 12) | (from & 1) << 20) as u32
        })
        .collect();
    let few = states <= 8;
    // SAFETY: 16 links are 64 bytes.
    let few_links = if few { load_padded(&links) } else { _mm512_setzero_si512() };
    let raw_bits = search.metrics.raw_bits;
    let shift = _mm_cvtsi32_si128(i32::from(raw_bits));
    let raw_mask = _mm512_set1_epi32((1 << raw_bits) - 1);
    let one = _mm512_set1_epi32(1);
    let numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let lane_numbers = [numbers, _mm512_add_epi32(numbers, _mm512_set1_epi32(16))];
    let count = scratch.words.len() / GROUP;
    let last = scratch.decisions[count * states..].as_chunks::<16>().0;
    let mut state = [load_padded(&last[0]), load_padded(&last[1])];
    let steps = search.steps(lane).rev();
    let each = steps.zip(scratch.words.as_chunks::<GROUP>().0.iter().rev());
    for ((step, words), decisions) in each.zip(scratch.decisions[..count * states].chunks_exact(states).rev()) {
        let few_decisions = if few { load_padded(decisions) } else { _mm512_setzero_si512() };
        for half in 0..2 {
            let active = step.active.saturating_sub(16 * half).min(16);
            let lanes = ((1u32 << active) - 1) as u16;
            if active == 0 {
                break;
            }
            // SAFETY: states are below `states`, the number of decisions, and twice
            // that the number of links; 16 words are 32 bytes.
            let (won, words) = unsafe {
                let won = if few {
                    _mm512_permutexvar_epi32(state[half], few_decisions)
                } else {
                    _mm512_i32gather_epi32::<4>(state[half], decisions.as_ptr().cast())
                };
                (won, _mm256_loadu_si256(words.as_ptr().add(16 * half).cast()))
            };
            let second = _mm512_and_si512(_mm512_srlv_epi32(won, lane_numbers[half]), one);
            let which = _mm512_add_epi32(_mm512_add_epi32(state[half], state[half]), second);
            // SAFETY: as above.
            let link = if few {
                _mm512_permutexvar_epi32(which, few_links)
            } else {
                unsafe { _mm512_i32gather_epi32::<4>(which, links.as_ptr().cast()) }
            };
            state[half] = _mm512_mask_and_epi32(state[half], lanes, link, _mm512_set1_epi32(0xFF));
            let word = _mm512_cvtepu16_epi32(words);
            let nibble = |shift: __m512i| _mm512_and_si512(shift, _mm512_set1_epi32(0xF));
            let twice_subset = nibble(_mm512_srli_epi32::<8>(link));
            let moved = _mm512_and_si512(_mm512_srlv_epi32(word, twice_subset), _mm512_set1_epi32(3));
            let candidate = _mm512_add_epi32(_mm512_srli_epi32::<9>(word), moved);
            let subtracted = nibble(_mm512_srli_epi32::<12>(link));
            let mut index = _mm512_sub_epi32(_mm512_add_epi32(candidate, candidate), subtracted);
            let negative = _mm512_test_epi32_mask(word, _mm512_set1_epi32(0x100));
            index = _mm512_mask_sub_epi32(index, negative, _mm512_setzero_si512(), index);
            let symbol = _mm512_add_epi32(_mm512_sra_epi32(index, shift), _mm512_set1_epi32(TRELLIS_CENTRE));
            let entry = _mm512_add_epi32(symbol, _mm512_slli_epi32::<5>(_mm512_srli_epi32::<20>(link)));
            let at = step.first + 16 * half;
            // SAFETY: elements at .. at + active are in the block, and so in the choice.
            unsafe {
                let to = choice.entries.as_mut_ptr().add(at);
                _mm_mask_storeu_epi8(to.cast(), lanes, _mm512_cvtepi32_epi8(entry));
                if raw_bits > 0 {
                    let raw = _mm512_cvtepi32_epi16(_mm512_and_si512(index, raw_mask));
                    _mm256_mask_storeu_epi16(choice.raw.as_mut_ptr().add(at).cast(), lanes, raw);
                }
            }
        }
    }
}

/// Up to 16 numbers, zeros behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load_padded(numbers: &[u32]) -> __m512i {
    let lanes = (u32::MAX >> (32 - numbers.len().clamp(1, 16))) as u16;
    // SAFETY: the mask keeps the load to the numbers.
    unsafe { _mm512_maskz_loadu_epi32(lanes, numbers.as_ptr().cast()) }
}
