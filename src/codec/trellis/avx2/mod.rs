//! The search with AVX2: 32 trellises in the 16-bit lanes of two registers.

#![allow(unsafe_code)]

mod backward;
mod branch;
mod forward;

use std::arch::x86_64::*;

use super::machine::covers;
use super::{Choice, GROUP, Scratch, Search, portable};

/// 32 16-bit lanes.
type Pair = [__m256i; 2];

/// Whether this machine can run the search.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Searches the trellises from `lane` on, on a machine that the kernel of the decoder
/// runs on.
pub fn search(search: &Search<'_>, lane: usize, scratch: &mut Scratch, choice: &mut Choice) {
    assert!(is_available());
    let step = match forward::step_of(&search.metrics.trellis) {
        Some(step) if covers(search.metrics) => step,
        _ => return portable::search(search, lane, scratch, choice),
    };
    // SAFETY: the features are there.
    unsafe {
        if search.metrics.raw_bits > 0 {
            let last = forward::forward::<true>(search, lane, step, scratch);
            backward::backward::<true>(search, lane, last, scratch, choice);
        } else {
            let last = forward::forward::<false>(search, lane, step, scratch);
            backward::backward::<false>(search, lane, last, scratch, choice);
        }
    }
}

/// All bits of the lanes that take part in a step.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes(active: usize) -> Pair {
    let numbers = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    [0, 16].map(|before| _mm256_cmpgt_epi16(_mm256_set1_epi16(active as i16 - before), numbers))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: &[u16; GROUP]) -> Pair {
    // SAFETY: 32 u16 are twice 32 bytes.
    [0, 16].map(|i| unsafe { _mm256_loadu_si256(lanes.as_ptr().add(i).cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [u16; GROUP], lanes: Pair) {
    for (to, half) in to.as_chunks_mut::<16>().0.iter_mut().zip(lanes) {
        store_half(to, half);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_half(to: &mut [u16; 16], lanes: __m256i) {
    // SAFETY: 16 u16 are 32 bytes.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), lanes) };
}
