//! Back along the winners: what they chose; see the same file of AVX-512.

use std::arch::x86_64::*;

use super::{Pair, lanes, load, store};
use crate::codec::manifold::TRELLIS_CENTRE;
use crate::codec::params::CONTEXT_ENTRIES;
use crate::codec::trellis::machine::{MOST_WORDS, words};
use crate::codec::trellis::portable::PER_WORD;
use crate::codec::trellis::{Choice, GROUP, Scratch, Search};

#[target_feature(enable = "avx2")]
pub fn backward<const RAW: bool>(search: &Search<'_>, lane: usize, last: Pair, scratch: &Scratch, choice: &mut Choice) {
    let trellis = &search.metrics.trellis;
    let per_step = words(trellis);
    let set = |v: u16| _mm256_set1_epi16(v as i16);
    let (g0, g1, half) = (set(trellis.h0 >> 1), set(trellis.h1 >> 1), set(1 << (trellis.log2_states - 1)));
    let centre = set(TRELLIS_CENTRE as u16);
    let raw_bits = search.metrics.raw_bits;
    let shift = _mm_cvtsi32_si128(i32::from(raw_bits));
    let raw_mask = set((1 << raw_bits) - 1);
    let mut state = last;
    for run in search.runs(lane).iter().rev() {
        let lanes = lanes(run.active);
        let kept = scratch.words[run.before * GROUP..].as_chunks::<GROUP>().0;
        let decisions = scratch.decisions[run.before * per_step * GROUP..].as_chunks::<GROUP>().0;
        let each = kept.iter().zip(decisions.chunks_exact(per_step)).take(run.rows);
        for ((_, _, first), (word, decisions)) in run.steps(search.shape.row_len).rev().zip(each.rev()) {
            let word = load(word);
            let decision = if per_step == 1 { load(&decisions[0]) } else { select(decisions, state) };
            let (mut entry, mut raw) = ([_mm256_setzero_si256(); 2], [_mm256_setzero_si256(); 2]);
            for h in 0..2 {
                let odd = has(decision[h], single_bit(_mm256_and_si256(state[h], set(PER_WORD as u16 - 1))));
                let upper = has(state[h], half);
                let t = _mm256_xor_si256(state[h], _mm256_and_si256(upper, g0));
                let t = _mm256_xor_si256(t, _mm256_and_si256(odd, g1));
                let from = _mm256_sub_epi16(_mm256_add_epi16(t, t), upper);
                state[h] = if run.active == GROUP { from } else { _mm256_blendv_epi8(state[h], from, lanes[h]) };
                let of_lower = _mm256_blendv_epi8(set(4), set(2), odd);
                let of_upper = _mm256_blendv_epi8(set(1), set(3), odd);
                let reach = _mm256_blendv_epi8(of_lower, of_upper, upper);
                let candidate = _mm256_srli_epi16::<1>(_mm256_add_epi16(_mm256_srli_epi16::<6>(word[h]), reach));
                let candidate = _mm256_and_si256(candidate, set(!1));
                let up = has(word[h], single_bit(_mm256_add_epi16(reach, set(1))));
                let index = _mm256_add_epi16(candidate, _mm256_and_si256(up, set(2)));
                let index = _mm256_sub_epi16(index, _mm256_srli_epi16::<1>(reach));
                let negative = has(word[h], set(1));
                let index = _mm256_sub_epi16(_mm256_xor_si256(index, negative), negative);
                let symbol = if RAW { _mm256_sra_epi16(index, shift) } else { index };
                let context = _mm256_and_si256(upper, set(u16::from(CONTEXT_ENTRIES)));
                entry[h] = _mm256_add_epi16(_mm256_add_epi16(symbol, centre), context);
                raw[h] = _mm256_and_si256(index, raw_mask);
            }
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(entry[0], entry[1]));
            put(&mut choice.entries[first..first + run.active], |to: &mut [u8; GROUP]| {
                // SAFETY: 32 bytes.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), packed) };
            });
            if RAW {
                put(&mut choice.raw[first..first + run.active], |to| store(to, raw));
            }
        }
    }
}

/// Writes all 32 if there are so many, else by way of a copy.
#[inline]
fn put<T: Copy + Default>(to: &mut [T], write: impl Fn(&mut [T; GROUP])) {
    match to.first_chunk_mut() {
        Some(all) => write(all),
        None => {
            let mut copy = [T::default(); GROUP];
            write(&mut copy);
            to.copy_from_slice(&copy[..to.len()]);
        }
    }
}

/// The lanes where a bit is set.
#[inline]
#[target_feature(enable = "avx2")]
fn has(lanes: __m256i, bit: __m256i) -> __m256i {
    _mm256_cmpeq_epi16(_mm256_and_si256(lanes, bit), bit)
}

/// 1 shifted left by numbers below 16.
#[inline]
#[target_feature(enable = "avx2")]
fn single_bit(numbers: __m256i) -> __m256i {
    let low = _mm256_broadcastsi128_si256(_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    // The number for the lower byte, the same less or more by 8 for the upper one.
    let twice = _mm256_mullo_epi16(numbers, _mm256_set1_epi16(0x101));
    _mm256_shuffle_epi8(low, _mm256_xor_si256(twice, _mm256_set1_epi16(0x800)))
}

/// Of 2 to 16 words per lane the one with the lane's state.
#[inline]
#[target_feature(enable = "avx2")]
fn select(words: &[[u16; GROUP]], state: Pair) -> Pair {
    let mut left = [[_mm256_setzero_si256(); 2]; MOST_WORDS];
    for (to, word) in left.iter_mut().zip(words) {
        *to = load(word);
    }
    let (mut count, mut bit) = (words.len(), PER_WORD);
    while count > 1 {
        count /= 2;
        for h in 0..2 {
            let odd = has(state[h], _mm256_set1_epi16(bit as i16));
            for i in 0..count {
                left[i][h] = _mm256_blendv_epi8(left[2 * i][h], left[2 * i + 1][h], odd);
            }
        }
        bit *= 2;
    }
    left[0]
}
