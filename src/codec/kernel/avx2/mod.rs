//! The AVX2 kernel: 32 lanes as two registers of 16-bit halves, tables read by
//! `vpshufb`.
//!
//! A table of 64 u16 is two planes of 64 bytes, a plane four registers of 16; a
//! look-up is four shuffles and three blends for 32 lanes at once. [`coder`] decodes
//! table entries, the other files make elements of them. Covers what the AVX-512 kernel
//! covers; [`form`] is shared with it.

#![allow(unsafe_code)]

mod coder;
mod lossless;
mod tables;
mod values;

use std::arch::x86_64::*;

use super::Job;
use super::vector::{Form, Loop, Part, both, form, four};
use crate::codec::params::ENTRIES;
use crate::dtype::Dtype;
use crate::error::Defect;
use coder::{Output, TrellisKind};

/// Whether this machine can run the kernel.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("f16c")
}

/// Decodes a block that [`form`] covers, on a machine where [`is_available`].
pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    let form = form(job).filter(|_| is_available());
    let form = form.ok_or(Defect("the AVX2 kernel does not cover this block"))?;
    // SAFETY: the features were detected.
    unsafe {
        match (form, job.params.prime_sparse(), job.params.dtype) {
            (Form::Table16, Some(p), _) => lanes(job, &tables::Table16::new(job, p), out),
            (Form::Table32, Some(p), _) => lanes(job, &tables::Elements32::new(job, p), out),
            (Form::Columns, Some(p), Dtype::BF16) => {
                lanes(job, &values::Values::<_, values::Bf16>::new(job, values::Columns::new(job, p)), out)
            }
            (Form::Columns, Some(p), Dtype::F16) => {
                lanes(job, &values::Values::<_, values::F16>::new(job, values::Columns::new(job, p)), out)
            }
            (Form::Columns, Some(p), _) => {
                lanes(job, &values::Values::<_, values::F32>::new(job, values::Columns::new(job, p)), out)
            }
            (Form::Levels, Some(p), Dtype::BF16) => {
                lanes(job, &values::Values::<_, values::Bf16>::new(job, values::Levels::new(job, p)), out)
            }
            (Form::Levels, Some(p), Dtype::F16) => {
                lanes(job, &values::Values::<_, values::F16>::new(job, values::Levels::new(job, p)), out)
            }
            (Form::Levels, Some(p), _) => {
                lanes(job, &values::Values::<_, values::F32>::new(job, values::Levels::new(job, p)), out)
            }
            (Form::Bf16, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::Bf16::new(job), out),
            (Form::F16, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::F16::new(job), out),
            (Form::F32, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::F32::new(job), out),
            (Form::F8, ..) => on_lanes::<{ TrellisKind::NONE }, _>(job, &lossless::F8::new(job), out),
            (_, None, _) => Err(Defect("only prime-sparse has levels")),
        }
    }
}

/// # Safety
/// The machine has the features.
unsafe fn lanes<O: Output>(job: &Job<'_>, output: &O, out: &mut [u8]) -> Result<(), Defect> {
    // SAFETY: the caller's promise.
    unsafe {
        match job.params.trellis() {
            None => on_lanes::<{ TrellisKind::NONE }, O>(job, output, out),
            Some(trellis) if trellis.log2_states <= 3 => on_lanes::<{ TrellisKind::SMALL }, O>(job, output, out),
            Some(_) => on_lanes::<{ TrellisKind::ANY }, O>(job, output, out),
        }
    }
}

/// # Safety
/// The machine has the features.
unsafe fn on_lanes<const TRELLIS: u8, O: Output>(job: &Job<'_>, output: &O, out: &mut [u8]) -> Result<(), Defect> {
    // SAFETY: the caller's promise.
    unsafe {
        match job.shape.lanes {
            32 => coder::run::<1, TRELLIS, O>(job, output, out),
            64 => coder::run::<2, TRELLIS, O>(job, output, out),
            128 => coder::run::<4, TRELLIS, O>(job, output, out),
            _ => coder::run::<8, TRELLIS, O>(job, output, out),
        }
    }
}

/// 64 bytes in four registers, each 16 of them twice.
type Plane = [__m256i; 4];
/// 64 u16 as lower and upper bytes.
type Table = [Plane; 2];
/// 32 u16 in the order of the lanes.
type Words16 = [__m256i; 2];

#[inline]
#[target_feature(enable = "avx2")]
fn plane(bytes: [u8; ENTRIES]) -> Plane {
    std::array::from_fn(|i| {
        let part: &[u8] = &bytes[16 * i..][..16];
        // SAFETY: 16 bytes.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(part.as_ptr().cast()) })
    })
}

#[inline]
#[target_feature(enable = "avx2")]
fn table(words: &[u16; ENTRIES]) -> Table {
    [plane(words.map(|w| w as u8)), plane(words.map(|w| (w >> 8) as u8))]
}

/// 32 indices below 64 as bytes, in the order that [`pack`] leaves, and with their bits 4
/// and 5 in place for blends.
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
    let [a, b, c, d] = four!(|k| _mm256_shuffle_epi8(plane[k], i.bytes));
    let lower = _mm256_blendv_epi8(a, b, i.bit_4);
    let upper = _mm256_blendv_epi8(c, d, i.bit_4);
    _mm256_blendv_epi8(lower, upper, i.bit_5)
}

/// 32 u16 below 256 as bytes: the 8 first lanes of both halves, then the 8 last.
#[inline]
#[target_feature(enable = "avx2")]
fn pack(words: Words16) -> __m256i {
    _mm256_packus_epi16(words[0], words[1])
}

/// 32 bytes in the order of the lanes, in the order of [`pack`].
#[inline]
#[target_feature(enable = "avx2")]
fn packed(bytes: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes)
}

/// 32 u16 from their halves, which are in the order of [`pack`].
#[inline]
#[target_feature(enable = "avx2")]
fn widen(low: __m256i, high: __m256i) -> Words16 {
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn look_up_words(table: &Table, i: Index) -> Words16 {
    widen(look_up(&table[0], i), look_up(&table[1], i))
}

/// All bits of the 16-bit lanes of a mask.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(mask: u32) -> Words16 {
    let bits = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, i16::MIN);
    both!(|h| {
        let half = (mask >> (16 * h)) as i16;
        let lanes = _mm256_and_si256(_mm256_set1_epi16(half), bits);
        _mm256_cmpeq_epi16(lanes, bits)
    })
}

/// One of the step's whole raw bytes, in the order of the lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn byte_plane<L: Loop>(part: &Part<L>, raw: &[u8], plane: usize) -> __m256i {
    let bytes = part.raw_bytes(raw, plane);
    match bytes.first_chunk::<32>() {
        // SAFETY: 32 bytes.
        Some(bytes) => unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) },
        None => load_few(bytes),
    }
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn load_few(bytes: &[u8]) -> __m256i {
    let mut copy = [0u8; 32];
    copy[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(copy.as_ptr().cast()) }
}

/// Writes as many bytes as `to` holds, at most 32 of each register.
#[inline]
#[target_feature(enable = "avx2")]
fn store<const N: usize>(to: &mut [u8], elements: [__m256i; N]) {
    for (to, part) in to.chunks_mut(32).zip(elements) {
        match to.first_chunk_mut::<32>() {
            // SAFETY: 32 bytes.
            Some(to) => unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), part) },
            None => store_few(to, part),
        }
    }
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn store_few(to: &mut [u8], part: __m256i) {
    let mut copy = [0u8; 32];
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(copy.as_mut_ptr().cast(), part) };
    to.copy_from_slice(&copy[..to.len()]);
}

/// 32 lanes of 32 bits each from their lower and upper halves.
#[inline]
#[target_feature(enable = "avx2")]
fn join_halves(low: Words16, high: Words16) -> [__m256i; 4] {
    let [a, b] = both!(|h| {
        let (even, odd) = (_mm256_unpacklo_epi16(low[h], high[h]), _mm256_unpackhi_epi16(low[h], high[h]));
        [_mm256_permute2x128_si256::<0x20>(even, odd), _mm256_permute2x128_si256::<0x31>(even, odd)]
    });
    [a[0], a[1], b[0], b[1]]
}
