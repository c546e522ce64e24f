//! Back along the winners: what they chose.

use std::arch::x86_64::*;

use super::{lanes, look_up};
use crate::codec::manifold::TRELLIS_CENTRE;
use crate::codec::params::CONTEXT_ENTRIES;
use crate::codec::trellis::machine::{MOST_WORDS, predecessors, words};
use crate::codec::trellis::portable::PER_WORD;
use crate::codec::trellis::tables::SUBSETS;
use crate::codec::trellis::{Choice, GROUP, Scratch, Search};

/// `ONE`: up to 16 states, whose decisions are one word.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn backward<const ONE: bool, const RAW: bool>(
    search: &Search<'_>,
    lane: usize,
    last: __m512i,
    scratch: &Scratch,
    choice: &mut Choice,
) {
    let trellis = &search.metrics.trellis;
    let (states, per_step) = (1usize << trellis.log2_states, words(trellis));
    let set = |v: usize| _mm512_set1_epi16(v as i16);
    let (one, two) = (set(1), set(2));
    let (g0, g1, half) = (set(usize::from(trellis.h0 >> 1)), set(usize::from(trellis.h1 >> 1)), set(states / 2));
    // By twice the state plus the parity that led to it, if that fits a register.
    let mut origins = [0u16; GROUP];
    let mut reaches = [0u16; GROUP];
    for (i, (origin, reach)) in origins.iter_mut().zip(&mut reaches).enumerate().take(2 * states) {
        let (state, odd) = (i / 2, i % 2);
        *origin = predecessors(state, trellis)[odd] as u16;
        *reach = 4 - SUBSETS[state / (states / 2)][odd] as u16;
    }
    // By twice the half plus that parity.
    let reaches_of_halves: [u16; GROUP] = std::array::from_fn(|i| 4 - SUBSETS[i / 2 % 2][i % 2] as u16);
    let centre = set(TRELLIS_CENTRE as usize);
    let raw_bits = search.metrics.raw_bits;
    let shift = _mm_cvtsi32_si128(i32::from(raw_bits));
    let raw_mask = set((1 << raw_bits) - 1);
    // Tells the compiler that shifts are by less than 16, which it would check.
    let most = set(PER_WORD - 1);
    let mut state = last;
    for run in search.runs(lane).iter().rev() {
        let lanes = lanes(run.active);
        let kept = scratch.words[run.before * GROUP..].as_chunks::<GROUP>().0;
        let decisions = scratch.decisions[run.before * per_step * GROUP..].as_chunks::<GROUP>().0;
        let each = kept.iter().zip(decisions.chunks_exact(per_step)).take(run.rows);
        for ((_, _, first), (word, decisions)) in run.steps(search.shape.row_len).rev().zip(each.rev()) {
            let word = load(word);
            let (from, reach);
            if ONE {
                let odd = _mm512_srlv_epi16(load(&decisions[0]), _mm512_and_si512(state, most));
                // 2 state | (odd & 1)
                let which = _mm512_or_si512(_mm512_add_epi16(state, state), _mm512_and_si512(odd, one));
                (from, reach) = (look_up(&origins, which), look_up(&reaches, which));
            } else {
                let decision = select(decisions, state);
                let odd = _mm512_srlv_epi16(decision, _mm512_and_si512(state, most));
                let odd = _mm512_test_epi16_mask(odd, one);
                let upper = _mm512_test_epi16_mask(state, half);
                let t = _mm512_xor_si512(state, _mm512_maskz_mov_epi16(upper, g0));
                let t = _mm512_xor_si512(t, _mm512_maskz_mov_epi16(odd, g1));
                let doubled = _mm512_add_epi16(t, t);
                from = _mm512_mask_add_epi16(doubled, upper, doubled, one);
                let which = _mm512_maskz_mov_epi16(upper, two);
                reach = look_up(&reaches_of_halves, _mm512_mask_add_epi16(which, odd, which, one));
            }
            state = if run.active == GROUP { from } else { _mm512_mask_mov_epi16(state, lanes, from) };
            let candidate = _mm512_srli_epi16::<1>(_mm512_add_epi16(_mm512_srli_epi16::<6>(word), reach));
            let candidate = _mm512_and_si512(candidate, set(!1));
            let up = _mm512_and_si512(_mm512_srlv_epi16(word, _mm512_and_si512(reach, most)), two);
            let less = _mm512_srli_epi16::<1>(reach);
            let mut index = _mm512_sub_epi16(_mm512_add_epi16(candidate, up), less);
            let negative = _mm512_test_epi16_mask(word, one);
            index = _mm512_mask_sub_epi16(index, negative, _mm512_setzero_si512(), index);
            let symbol = if RAW { _mm512_sra_epi16(index, shift) } else { index };
            let context = _mm512_slli_epi16::<{ CONTEXT_ENTRIES.trailing_zeros() }>(_mm512_and_si512(from, one));
            let entry = _mm512_cvtepi16_epi8(_mm512_add_epi16(_mm512_add_epi16(symbol, centre), context));
            let entries = &mut choice.entries[first..first + run.active];
            // SAFETY: the slice has a byte per lane, the mask keeps the store to it.
            unsafe {
                if run.active == GROUP {
                    _mm256_storeu_si256(entries.as_mut_ptr().cast(), entry);
                } else {
                    _mm256_mask_storeu_epi8(entries.as_mut_ptr().cast(), lanes, entry);
                }
            }
            if RAW {
                let raw = &mut choice.raw[first..first + run.active];
                // SAFETY: as above, with a u16 per lane.
                unsafe { _mm512_mask_storeu_epi16(raw.as_mut_ptr().cast(), lanes, _mm512_and_si512(index, raw_mask)) };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load(lanes: &[u16; GROUP]) -> __m512i {
    // SAFETY: 32 u16 are 64 bytes.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

/// Of 2 to 16 words per lane the one with the lane's state.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn select(words: &[[u16; GROUP]], state: __m512i) -> __m512i {
    let mut left = [_mm512_setzero_si512(); MOST_WORDS];
    for (to, word) in left.iter_mut().zip(words) {
        *to = load(word);
    }
    let (mut count, mut bit) = (words.len(), PER_WORD);
    while count > 1 {
        let odd = _mm512_test_epi16_mask(state, _mm512_set1_epi16(bit as i16));
        count /= 2;
        for i in 0..count {
            left[i] = _mm512_mask_mov_epi16(left[2 * i], odd, left[2 * i + 1]);
        }
        bit *= 2;
    }
    left[0]
}
