//! Lossless: exponents from a table, all other bits raw.

use std::arch::x86_64::*;

use super::super::Job;
use super::super::vector::{Loop, Part, both, fields};
use super::coder::{Output, Symbols};
use super::{Plane, Words16, byte_plane, join_halves, look_up, pack, packed, plane, spread, store, widen};
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

/// Sets this bit in the lanes of the mask.
#[inline]
#[target_feature(enable = "avx2")]
pub fn set_bit(words: Words16, mask: u32, bit: u16) -> Words16 {
    let lanes = spread(mask);
    let bit = _mm256_set1_epi16(bit as i16);
    both!(|h| _mm256_or_si256(words[h], _mm256_and_si256(lanes[h], bit)))
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

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: usize, part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
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

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: usize, part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
        let low = widen(packed(byte_plane(part, raw, 0)), packed(byte_plane(part, raw, 1)));
        store(out, join_halves(low, self.0.join(symbols, byte_plane(part, raw, 2))));
    }
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

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: usize, part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
        let words = widen(packed(byte_plane(part, raw, 0)), look_up(&self.0, symbols.entry));
        let unsigned = set_bit(words, part.raw_bit(raw, 1, 0), 1 << 8);
        store(out, set_bit(unsigned, part.raw_bit(raw, 1, 1), 1 << 15));
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

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, _: usize, part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]) {
        let mantissa = set_bit([_mm256_setzero_si256(); 2], part.raw_bit(raw, 0, 0), 1);
        let others = pack(set_bit(mantissa, part.raw_bit(raw, 0, 1), 1 << 7));
        let elements = _mm256_or_si256(look_up(&self.0, symbols.entry), others);
        // The order of `pack` is its own inverse.
        store(out, [packed(elements)]);
    }
}
