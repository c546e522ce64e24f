//! The AVX2 kernel: 32 lanes as two registers of 16-bit halves, tables read by
//! `vpshufb`.
//!
//! A table of 64 u16 is two planes of 64 bytes, a plane four registers of 16; a
//! look-up is four shuffles and three blends for 32 lanes at once. Words go to the
//! lanes that are short of one by a shuffle whose control is looked up by the mask.
//! Covers what the AVX-512 kernel covers; [`supports`] is shared with it.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Job;
use super::vector::{GROUP, LOAD, TAIL, Values, supports};
use crate::codec::entropy::alias::AliasTable;
use crate::codec::params::{ENTRIES, Trellis};
use crate::error::Defect;

/// Whether this machine can run the kernel.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")
}

/// Decodes a block that [`supports`] covers, on a machine where [`is_available`].
pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    if !is_available() || !supports(job) || out.len() != 2 * job.shape.elements {
        return Err(Defect("the AVX2 kernel does not cover this block"));
    }
    let trellis = job.params.trellis().is_some();
    let lossless = job.params.prime_sparse().is_none();
    // SAFETY: the features were detected, the block is covered and `out` has two
    // bytes per element, as `run` requires.
    unsafe {
        match (job.shape.lanes, trellis, lossless) {
            (32, false, false) => run::<1, false, false>(job, out),
            (32, true, _) => run::<1, true, false>(job, out),
            (32, false, true) => run::<1, false, true>(job, out),
            (64, false, false) => run::<2, false, false>(job, out),
            (64, true, _) => run::<2, true, false>(job, out),
            (64, false, true) => run::<2, false, true>(job, out),
            (128, false, false) => run::<4, false, false>(job, out),
            (128, true, _) => run::<4, true, false>(job, out),
            (128, false, true) => run::<4, false, true>(job, out),
            (_, false, false) => run::<8, false, false>(job, out),
            (_, true, _) => run::<8, true, false>(job, out),
            (_, false, true) => run::<8, false, true>(job, out),
        }
    }
}

/// 64 bytes in four registers, each 16 of them twice.
type Plane = [__m256i; 4];

/// 64 u16 as lower and upper bytes.
#[derive(Clone, Copy)]
struct Table {
    low: Plane,
    high: Plane,
}

/// A class's alias table.
struct ClassTables {
    threshold: Table,
    alias: Plane,
    adjust: Table,
    frequency: Table,
}

#[inline]
#[target_feature(enable = "avx2")]
fn plane(bytes: [u8; ENTRIES]) -> Plane {
    std::array::from_fn(|i| {
        // SAFETY: 16 bytes from 16 i on, of 64; the load needs no alignment.
        let part = unsafe { _mm_loadu_si128(bytes.as_ptr().add(16 * i).cast()) };
        _mm256_broadcastsi128_si256(part)
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn table(words: &[u16; ENTRIES]) -> Table {
    Table { low: plane(words.map(|w| w as u8)), high: plane(words.map(|w| (w >> 8) as u8)) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn class_tables(alias: &AliasTable) -> ClassTables {
    ClassTables {
        threshold: table(&alias.threshold),
        alias: plane(alias.alias.map(|entry| entry as u8)),
        adjust: table(&alias.adjust),
        frequency: table(&alias.frequency),
    }
}

/// Indices below 64 with their bits 4 and 5 in place for blends.
#[derive(Clone, Copy)]
struct Index {
    bytes: __m256i,
    bit_4: __m256i,
    bit_5: __m256i,
}

#[inline]
#[target_feature(enable = "avx2")]
fn index(bytes: __m256i) -> Index {
    // What shifts in from a neighbouring byte stays below bit 7, which decides.
    Index { bytes, bit_4: _mm256_slli_epi16::<3>(bytes), bit_5: _mm256_slli_epi16::<2>(bytes) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn look_up(plane: &Plane, i: Index) -> __m256i {
    let [a, b, c, d] = plane.map(|part| _mm256_shuffle_epi8(part, i.bytes));
    let lower = _mm256_blendv_epi8(a, b, i.bit_4);
    let upper = _mm256_blendv_epi8(c, d, i.bit_4);
    _mm256_blendv_epi8(lower, upper, i.bit_5)
}

/// Both halves of 32 u16, from bytes in the order that `packus` leaves.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(low: __m256i, high: __m256i) -> [__m256i; 2] {
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn look_up_words(table: &Table, i: Index) -> [__m256i; 2] {
    widen(look_up(&table.low, i), look_up(&table.high, i))
}

/// For each mask of 8 lanes, the shuffle that hands successive words to them.
static EXPAND: [[u8; 16]; 256] = expand_table();

const fn expand_table() -> [[u8; 16]; 256] {
    let mut table = [[0x80; 16]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut word) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask][2 * lane] = 2 * word;
                table[mask][2 * lane + 1] = 2 * word + 1;
                word += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
}

/// # Safety
/// The machine has the features, [`supports`] covers the job, its lanes are 32 `G`,
/// and `out` holds two bytes per element.
#[target_feature(enable = "avx2,popcnt")]
unsafe fn run<const G: usize, const TRELLIS: bool, const LOSSLESS: bool>(
    job: &Job<'_>,
    out: &mut [u8],
) -> Result<(), Defect> {
    let payload = &job.payload;
    let classes: Vec<ClassTables> = job.side.tables.iter().map(|alias| class_tables(alias)).collect();
    let values = Values::new(job);
    let tables: Vec<Table> = values.tables.iter().map(|values| table(values)).collect();
    let trellis = job.params.trellis().unwrap_or(Trellis { log2_states: 1, h0: 0, h1: 0 });
    let (h0, h1) = (_mm256_set1_epi16((trellis.h0 >> 1) as i16), _mm256_set1_epi16((trellis.h1 >> 1) as i16));
    let zero = _mm256_setzero_si256();
    let one = _mm256_set1_epi16(1);
    let sign = _mm256_set1_epi16(i16::MIN);
    let low_bits = _mm256_set1_epi16(if TRELLIS { 2047 } else { 1023 });
    let lane_numbers = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

    let (mut high, mut low, mut state) = ([[zero; 2]; G], [[zero; 2]; G], [[zero; 2]; G]);
    for g in 0..G {
        for h in 0..2 {
            // SAFETY: each half of the states has 2 bytes for each of 32 G lanes.
            unsafe {
                high[g][h] = _mm256_loadu_si256(payload.states_high.as_ptr().add(LOAD * g + 32 * h).cast());
                low[g][h] = _mm256_loadu_si256(payload.states_low.as_ptr().add(LOAD * g + 32 * h).cast());
            }
        }
    }

    // Loads run beyond the words that are taken: near the end they move to a copy
    // with room behind it.
    let mut tail = [0u8; TAIL];
    let mut words = payload.words.as_ptr();
    let (mut in_tail, mut at, mut room) = (false, 0, payload.words.len());
    let mut raw = payload.raw;

    for step in job.shape.steps() {
        if room - at < LOAD * G && !in_tail {
            tail[..room - at].copy_from_slice(&payload.words[at..]);
            (room, at, in_tail) = (room - at, 0, true);
            words = tail.as_ptr();
        }
        let class = &classes[payload.row_classes.get(step.row).map_or(0, |&class| usize::from(class))];
        let value = &tables[values.table_of_row(step.row)];
        for g in 0..G {
            let active = step.active.saturating_sub(GROUP * g).min(GROUP);
            if active == 0 {
                break;
            }
            let limit = |h: i16| _mm256_set1_epi16(active as i16 - 16 * h);
            let lanes = [_mm256_cmpgt_epi16(limit(0), lane_numbers), _mm256_cmpgt_epi16(limit(1), lane_numbers)];

            let x = low[g];
            let buckets: [__m256i; 2] = std::array::from_fn(|h| {
                if TRELLIS {
                    let context = _mm256_slli_epi16::<5>(_mm256_and_si256(state[g][h], one));
                    _mm256_or_si256(_mm256_srli_epi16::<11>(x[h]), context)
                } else {
                    _mm256_srli_epi16::<10>(x[h])
                }
            });
            let bucket = index(_mm256_packus_epi16(buckets[0], buckets[1]));
            let threshold = look_up_words(&class.threshold, bucket);
            let adjust = look_up_words(&class.adjust, bucket);
            let place = x.map(|x| _mm256_and_si256(x, low_bits));
            // Both are at most 2048, so the signed comparison is right.
            let own: [__m256i; 2] = std::array::from_fn(|h| _mm256_cmpgt_epi16(threshold[h], place[h]));
            let own_bytes = _mm256_packs_epi16(own[0], own[1]);
            let entry = index(_mm256_blendv_epi8(look_up(&class.alias, bucket), bucket.bytes, own_bytes));
            let frequency = look_up_words(&class.frequency, entry);
            for h in 0..2 {
                let occurrence = _mm256_add_epi16(place[h], _mm256_andnot_si256(own[h], adjust[h]));
                // x = frequency * high + occurrence in 32 bits, as two halves.
                let product_low = _mm256_mullo_epi16(frequency[h], high[g][h]);
                let product_high = _mm256_mulhi_epu16(frequency[h], high[g][h]);
                let next_low = _mm256_add_epi16(product_low, occurrence);
                let carry = _mm256_cmpgt_epi16(_mm256_xor_si256(occurrence, sign), _mm256_xor_si256(next_low, sign));
                let next_high = _mm256_sub_epi16(product_high, carry);
                let short = _mm256_and_si256(_mm256_cmpeq_epi16(next_high, zero), lanes[h]);
                let mask = _mm256_movemask_epi8(_mm256_packs_epi16(short, zero)) as u32;
                let mut fresh = [_mm_setzero_si128(); 2];
                for (i, fresh) in fresh.iter_mut().enumerate() {
                    let mask = (mask >> (16 * i) & 0xFF) as usize;
                    // SAFETY: at the start of the step there were 64 G bytes from `at`
                    // on, or the words are in `tail`, of which `room`, below 64 G, is
                    // the most that `at` is then; each group takes at most 64, 16 at a
                    // time. A row of EXPAND has 16 bytes.
                    unsafe {
                        let control = _mm_loadu_si128(EXPAND[mask].as_ptr().cast());
                        *fresh = _mm_shuffle_epi8(_mm_loadu_si128(words.add(at).cast()), control);
                    }
                    at += 2 * mask.count_ones() as usize;
                }
                let fresh = _mm256_set_m128i(fresh[1], fresh[0]);
                let (shifted, kept) = (_mm256_blendv_epi8(next_high, next_low, short), next_low);
                high[g][h] = _mm256_blendv_epi8(high[g][h], shifted, lanes[h]);
                low[g][h] = _mm256_blendv_epi8(x[h], _mm256_blendv_epi8(kept, fresh, short), lanes[h]);
            }
            if TRELLIS {
                // The centre is even and so is the escape: parity is the entry's.
                let entries = widen(entry.bytes, zero);
                for h in 0..2 {
                    let now = state[g][h];
                    let odd = |v| _mm256_cmpeq_epi16(_mm256_and_si256(v, one), one);
                    let next = _mm256_xor_si256(_mm256_srli_epi16::<1>(now), _mm256_and_si256(odd(now), h0));
                    let next = _mm256_xor_si256(next, _mm256_and_si256(odd(entries[h]), h1));
                    state[g][h] = _mm256_blendv_epi8(now, next, lanes[h]);
                }
            }
            let mut elements = look_up_words(value, entry);
            if LOSSLESS {
                let mut bytes = [0u8; GROUP];
                bytes[..active].copy_from_slice(&raw[..active]);
                raw = &raw[active..];
                for (h, element) in elements.iter_mut().enumerate() {
                    // SAFETY: 16 of the 32 bytes.
                    let half = unsafe { _mm_loadu_si128(bytes.as_ptr().add(16 * h).cast()) };
                    let half = _mm256_cvtepu8_epi16(half);
                    let mantissa = _mm256_and_si256(half, _mm256_set1_epi16(0x7F));
                    let sign = _mm256_slli_epi16::<8>(_mm256_and_si256(half, _mm256_set1_epi16(0x80)));
                    *element = _mm256_or_si256(*element, _mm256_or_si256(mantissa, sign));
                }
            }
            let first = 2 * (step.first + GROUP * g);
            let to = &mut out[first..first + 2 * active];
            let mut buffer = [0u8; LOAD];
            let target = if active == GROUP { to.as_mut_ptr() } else { buffer.as_mut_ptr() };
            // SAFETY: 64 bytes are there in either case.
            unsafe {
                _mm256_storeu_si256(target.cast(), elements[0]);
                _mm256_storeu_si256(target.add(32).cast(), elements[1]);
            }
            if active < GROUP {
                to.copy_from_slice(&buffer[..2 * active]);
            }
        }
        if at > room {
            return Err(Defect("block ends early"));
        }
    }

    let mut off = zero;
    for g in 0..G {
        for h in 0..2 {
            off = _mm256_or_si256(off, _mm256_xor_si256(high[g][h], one));
            off = _mm256_or_si256(off, low[g][h]);
        }
    }
    let done = at == room && _mm256_testz_si256(off, off) == 1;
    if done { Ok(()) } else { Err(Defect("lanes or words do not end where they should")) }
}
