//! The search with AVX-512: 32 trellises in the 16-bit lanes of a register.

#![allow(unsafe_code)]

mod backward;
mod branch;
mod forward;

use std::arch::x86_64::*;

use super::machine::{covers, never_cut, words};
use super::tables::EIGHT;
use super::{Choice, Scratch, Search, portable};

/// Whether this machine can run the search.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
}

/// Searches the trellises from `lane` on, on a machine that the kernel of the decoder
/// runs on.
pub fn search(search: &Search<'_>, lane: usize, scratch: &mut Scratch, choice: &mut Choice) {
    assert!(is_available());
    let step = match forward::step_of(&search.metrics.trellis) {
        Some(step) if covers(search.metrics) => step,
        _ => return portable::search(search, lane, scratch, choice),
    };
    let eight = search.metrics.trellis == EIGHT && never_cut(search.metrics);
    let one_word = words(&search.metrics.trellis) == 1;
    // SAFETY: the features are there.
    unsafe {
        let last = match (eight, search.metrics.raw_bits > 0) {
            (true, false) => forward::eight::<false>(search, lane, scratch),
            (true, true) => forward::eight::<true>(search, lane, scratch),
            (false, false) => forward::any::<false>(search, lane, step, scratch),
            (false, true) => forward::any::<true>(search, lane, step, scratch),
        };
        match (one_word, search.metrics.raw_bits > 0) {
            (true, false) => backward::backward::<true, false>(search, lane, last, scratch, choice),
            (true, true) => backward::backward::<true, true>(search, lane, last, scratch, choice),
            (false, false) => backward::backward::<false, false>(search, lane, last, scratch, choice),
            (false, true) => backward::backward::<false, true>(search, lane, last, scratch, choice),
        }
    }
}

/// The lanes that take part in a step.
fn lanes(active: usize) -> u32 {
    (u64::MAX >> (64 - active)) as u32
}

/// A table of 32 16-bit numbers, looked up in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn look_up<T>(table: &[T; 32], index: __m512i) -> __m512i {
    const { assert!(size_of::<T>() == 2) };
    // SAFETY: the table is 64 bytes.
    _mm512_permutexvar_epi16(index, unsafe { _mm512_loadu_si512(table.as_ptr().cast()) })
}

/// By number of the bit, in every lane. The compiler is not to know them: of a masked
/// addition of a constant it makes three instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn single_bits() -> [__m512i; 16] {
    std::hint::black_box(std::array::from_fn(|bit| _mm512_set1_epi16(1 << bit)))
}
