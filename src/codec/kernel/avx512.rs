//! The AVX-512 kernel: 32 lanes in a pair of registers, all tables in registers.
//!
//! A state is held as two planes of 16-bit halves. Tables of 64 u16 take two
//! registers and are read by `vpermi2w`; gathers would be three times slower. Words
//! are handed to the lanes that are short of one by `vpexpandw` (VBMI2), in lane
//! order, which is the order of the format.
//!
//! Covers what [`supports`] says; the rest is portable.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Job;
use super::vector::{GROUP, LOAD, TAIL, Values, supports};
use crate::codec::entropy::alias::AliasTable;
use crate::codec::params::{ENTRIES, Trellis};
use crate::error::Defect;

/// Whether this machine can run the kernel.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("popcnt")
}

/// Decodes a block that [`supports`] covers, on a machine where [`is_available`].
pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    if !is_available() || !supports(job) || out.len() != 2 * job.shape.elements {
        return Err(Defect("the AVX-512 kernel does not cover this block"));
    }
    let values = Values::new(job);
    // SAFETY: the features were detected, the block is covered and `out` has two
    // bytes per element, as `run` requires.
    unsafe {
        match job.shape.lanes {
            32 => dispatch::<1>(job, &values, out),
            64 => dispatch::<2>(job, &values, out),
            128 => dispatch::<4>(job, &values, out),
            _ => dispatch::<8>(job, &values, out),
        }
    }
}

/// # Safety
/// As [`run`].
unsafe fn dispatch<const G: usize>(job: &Job<'_>, values: &Values<'_>, out: &mut [u8]) -> Result<(), Defect> {
    let lossless = job.params.prime_sparse().is_none();
    let rows = values.tables.len() > 1 || !job.payload.row_classes.is_empty();
    // SAFETY: the caller's promise is that of `run`.
    unsafe {
        match (job.params.trellis().is_some(), rows, lossless) {
            (false, false, false) => run::<G, false, false, false>(job, values, out),
            (false, true, false) => run::<G, false, true, false>(job, values, out),
            (true, false, false) => run::<G, true, false, false>(job, values, out),
            (true, true, false) => run::<G, true, true, false>(job, values, out),
            (_, _, true) => run::<G, false, true, true>(job, values, out),
        }
    }
}

/// 64 u16 in two registers.
type Table = [__m512i; 2];

/// The tables that decide a row's symbols and elements.
#[derive(Clone, Copy)]
struct Tables {
    threshold: Table,
    alias: Table,
    adjust: Table,
    frequency: Table,
    value: Table,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn load_table(words: &[u16; ENTRIES]) -> Table {
    let start = words.as_ptr().cast::<__m512i>();
    // SAFETY: 64 u16 are two times 64 bytes; the loads need no alignment.
    unsafe { [_mm512_loadu_si512(start), _mm512_loadu_si512(start.add(1))] }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn load_tables(alias: &AliasTable, value: &[u16; ENTRIES]) -> Tables {
    Tables {
        threshold: load_table(&alias.threshold),
        alias: load_table(&alias.alias),
        adjust: load_table(&alias.adjust),
        frequency: load_table(&alias.frequency),
        value: load_table(value),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn look_up(table: Table, index: __m512i) -> __m512i {
    _mm512_permutex2var_epi16(table[0], index, table[1])
}

/// `ROWS`: tables or values differ between rows and are loaded for each step.
///
/// # Safety
/// The machine has the features, [`supports`] covers the job, its lanes are 32 `G`,
/// and `out` holds two bytes per element.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
unsafe fn run<const G: usize, const TRELLIS: bool, const ROWS: bool, const LOSSLESS: bool>(
    job: &Job<'_>,
    values: &Values<'_>,
    out: &mut [u8],
) -> Result<(), Defect> {
    let payload = &job.payload;
    let trellis = job.params.trellis().unwrap_or(Trellis { log2_states: 1, h0: 0, h1: 0 });
    let (h0, h1) = (_mm512_set1_epi16((trellis.h0 >> 1) as i16), _mm512_set1_epi16((trellis.h1 >> 1) as i16));
    let one = _mm512_set1_epi16(1);
    let zero = _mm512_setzero_si512();
    let low_bits = _mm512_set1_epi16(if TRELLIS { 2047 } else { 1023 });

    let (mut high, mut low, mut state) = ([zero; G], [zero; G], [zero; G]);
    for g in 0..G {
        // SAFETY: each half has 2 bytes for each of 32 G lanes.
        unsafe {
            high[g] = _mm512_loadu_si512(payload.states_high.as_ptr().add(LOAD * g).cast());
            low[g] = _mm512_loadu_si512(payload.states_low.as_ptr().add(LOAD * g).cast());
        }
    }

    // Loads run up to 64 bytes beyond the words that are taken: near the end they
    // move to a copy with room behind it.
    let mut tail = [0u8; TAIL];
    let mut words = payload.words.as_ptr();
    let mut in_tail = false;
    let mut at = 0;
    let mut room = payload.words.len();
    let mut raw = payload.raw;
    let mut tables = load_tables(&job.side.tables[0], &values.tables[0]);

    for step in job.shape.steps() {
        if room - at < LOAD * G && !in_tail {
            tail[..room - at].copy_from_slice(&payload.words[at..]);
            (room, at, in_tail) = (room - at, 0, true);
            words = tail.as_ptr();
        }
        if ROWS {
            let class = payload.row_classes.get(step.row).map_or(0, |&class| usize::from(class));
            tables = load_tables(&job.side.tables[class], &values.tables[values.table_of_row(step.row)]);
        }
        for g in 0..G {
            let active = step.active.saturating_sub(GROUP * g).min(GROUP);
            if active == 0 {
                break;
            }
            let lanes = (u64::MAX >> (64 - active)) as u32;

            let x = low[g];
            let bucket = if TRELLIS {
                _mm512_or_si512(_mm512_srli_epi16::<11>(x), _mm512_slli_epi16::<5>(_mm512_and_si512(state[g], one)))
            } else {
                _mm512_srli_epi16::<10>(x)
            };
            let place = _mm512_and_si512(x, low_bits);
            let aliased = _mm512_cmpge_epu16_mask(place, look_up(tables.threshold, bucket));
            let entry = _mm512_mask_mov_epi16(bucket, aliased, look_up(tables.alias, bucket));
            let occurrence = _mm512_mask_add_epi16(place, aliased, place, look_up(tables.adjust, bucket));
            let frequency = look_up(tables.frequency, entry);
            // x = frequency * high + occurrence in 32 bits, as two halves.
            let product_low = _mm512_mullo_epi16(frequency, high[g]);
            let product_high = _mm512_mulhi_epu16(frequency, high[g]);
            let next_low = _mm512_add_epi16(product_low, occurrence);
            let carry = _mm512_cmplt_epu16_mask(next_low, occurrence);
            let next_high = _mm512_mask_add_epi16(product_high, carry, product_high, one);
            let short = _mm512_mask_testn_epi16_mask(lanes, next_high, next_high);
            // SAFETY: at the start of the step there were 64 G bytes from `at` on, or
            // the words are in `tail`, of which at most half was used (`room` is below
            // 64 G, and `at` is at most that, see below); each group takes up to 64.
            let fresh = unsafe { _mm512_loadu_si512(words.add(at).cast()) };
            at += 2 * short.count_ones() as usize;
            high[g] = _mm512_mask_mov_epi16(high[g], lanes, _mm512_mask_mov_epi16(next_high, short, next_low));
            low[g] = _mm512_mask_mov_epi16(low[g], lanes, _mm512_mask_expand_epi16(next_low, short, fresh));
            if TRELLIS {
                // The centre is even and so is the escape: parity is the entry's.
                let half = _mm512_srli_epi16::<1>(state[g]);
                let odd_state = _mm512_test_epi16_mask(state[g], one);
                let odd_entry = _mm512_test_epi16_mask(entry, one);
                let next = mask_xor(half, odd_state, h0);
                state[g] = _mm512_mask_mov_epi16(state[g], lanes, mask_xor(next, odd_entry, h1));
            }
            let mut element = look_up(tables.value, entry);
            if LOSSLESS {
                // SAFETY: a byte per active lane is left; the mask keeps the load to them.
                let bytes = unsafe { _mm256_maskz_loadu_epi8(lanes, raw.as_ptr().cast()) };
                raw = &raw[active..];
                let bytes = _mm512_cvtepu8_epi16(bytes);
                let mantissa = _mm512_and_si512(bytes, _mm512_set1_epi16(0x7F));
                let sign = _mm512_slli_epi16::<8>(_mm512_and_si512(bytes, _mm512_set1_epi16(0x80)));
                element = _mm512_or_si512(element, _mm512_or_si512(mantissa, sign));
            }
            // SAFETY: elements first + 32 g .. + active lie inside the block, so their
            // bytes inside `out`; the mask keeps the store to them.
            unsafe {
                let to = out.as_mut_ptr().add(2 * (step.first + GROUP * g));
                _mm512_mask_storeu_epi16(to.cast(), lanes, element);
            }
        }
        if at > room {
            return Err(Defect("block ends early"));
        }
    }

    let mut done = at == room;
    for g in 0..G {
        done &= _mm512_cmpeq_epi16_mask(high[g], one) == u32::MAX;
        done &= _mm512_cmpeq_epi16_mask(low[g], zero) == u32::MAX;
    }
    if done { Ok(()) } else { Err(Defect("lanes or words do not end where they should")) }
}

/// XORs `other` into the 16-bit elements that the mask names.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn mask_xor(value: __m512i, mask: u32, other: __m512i) -> __m512i {
    _mm512_xor_si512(value, _mm512_maskz_mov_epi16(mask, other))
}
