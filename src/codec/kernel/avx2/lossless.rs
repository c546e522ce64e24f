//! Lossless: exponents from a table, all other bits raw.

use core::arch::x86_64::*;

use super::super::Job;
use super::super::vector::{Loop, Part, fields};
use super::coder::Symbols;
use super::look_up::{Plane, Words16, bit_of_bytes, join_halves, look_up, packed, plane, widen};
use super::run::Output;
use super::{byte_plane, store};
use crate::dtype::Split;

/// The upper 16 bits of BF16 and F32: exponents rotated right by one, so that a byte of
/// the table holds the bits of either byte of the element.
struct Exponents(Plane);

impl Exponents {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(job: &Job<'_>, split: Split) -> Exponents {
        Exponents(plane(fields(job, split).0.map(|field| ((field >> 7) as u8).rotate_right(1))))
    }

    /// Exponents with sign and mantissa, which `bytes` hold in the order of the lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn join(&self, symbols: Symbols, bytes: __m256i) -> Words16 {
        let (exponent, rest) = (look_up(&self.0, symbols.entry), packed(bytes));
        let differs = _mm256_and_si256(_mm256_xor_si256(exponent, rest), _mm256_set1_epi8(0x7F));
        // Bit 7 of the lower byte is the exponent's, bit 7 of the upper the sign.
        widen(_mm256_xor_si256(exponent, differs), _mm256_xor_si256(rest, differs))
    }
}

pub struct Bf16(Exponents);

impl Bf16 {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'_>) -> Bf16 {
        Bf16(Exponents::new(job, Split { shift: 7, bits: 8 }))
    }
}

impl Output for Bf16 {
    const WIDTH: usize = 2;
    const RAW: bool = false;
    type Row<'r> = ();

    fn row(&self, _: usize) {}

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: (), part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
        store(out, self.0.join(symbols, byte_plane(part, raw, 0)));
    }
}

pub struct F32(Exponents);

impl F32 {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'_>) -> F32 {
        F32(Exponents::new(job, Split { shift: 23, bits: 8 }))
    }
}

impl Output for F32 {
    const WIDTH: usize = 4;
    const RAW: bool = false;
    type Row<'r> = ();

    fn row(&self, _: usize) {}

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: (), part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
        let low = widen(packed(byte_plane(part, raw, 0)), packed(byte_plane(part, raw, 1)));
        store(out, join_halves(low, self.0.join(symbols, byte_plane(part, raw, 2))));
    }
}

/// The two single raw bits, behind so many whole bytes, as the lowest and highest of a
/// byte, in the order of [`super::look_up::pack`].
#[inline]
#[target_feature(enable = "avx2")]
fn raw_bits<L: Loop>(part: &Part<L>, raw: &[u8], whole_bytes: usize) -> __m256i {
    let lowest = bit_of_bytes(part.raw_bit(raw, whole_bytes, 0), 1);
    _mm256_or_si256(lowest, bit_of_bytes(part.raw_bit(raw, whole_bytes, 1), 1 << 7))
}

/// 9 bits of the mantissa are raw, so that the table has nothing in the lower byte.
pub struct F16(Plane);

impl F16 {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'_>) -> F16 {
        F16(plane(fields(job, Split { shift: 9, bits: 6 }).0.map(|field| (field >> 8) as u8)))
    }
}

impl Output for F16 {
    const WIDTH: usize = 2;
    const RAW: bool = false;
    type Row<'r> = ();

    fn row(&self, _: usize) {}

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: (), part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
        let others = raw_bits(part, raw, 1);
        let high = _mm256_or_si256(look_up(&self.0, symbols.entry), others);
        store(out, widen(packed(byte_plane(part, raw, 0)), high));
    }
}

/// Elements of 8 bits: all but the lowest bit of the mantissa and the sign have symbols.
pub struct F8(Plane);

impl F8 {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'_>) -> F8 {
        F8(plane(fields(job, Split { shift: 1, bits: 6 }).0.map(|field| field as u8)))
    }
}

impl Output for F8 {
    const WIDTH: usize = 1;
    const RAW: bool = false;
    type Row<'r> = ();

    fn row(&self, _: usize) {}

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: (), part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
        let elements = _mm256_or_si256(look_up(&self.0, symbols.entry), raw_bits(part, raw, 0));
        store(out, [packed(elements)]);
    }
}
