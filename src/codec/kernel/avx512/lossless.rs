//! Lossless: exponents from a table, all other bits raw.

use core::arch::x86_64::*;

use super::super::Job;
use super::super::vector::{Aligned, Loop, Part, fields};
use super::coder::{Output, Symbols};
use super::{Table, join_halves, load_aligned, look_up, store_16, store_32};
use crate::dtype::Split;

/// The bytes of one plane as 16 bits each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn byte_plane<L: Loop>(part: &Part<L>, raw: &[u8], plane: usize) -> __m512i {
    let bytes = part.raw_bytes(raw, plane);
    let bytes = if let Some(bytes) = bytes.first_chunk::<32>() {
        // SAFETY: 32 bytes.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    } else {
        // SAFETY: a byte per lane of the mask, which keeps the load to them.
        unsafe { _mm256_maskz_loadu_epi8(part.mask(), bytes.as_ptr().cast()) }
    };
    _mm512_cvtepu8_epi16(bytes)
}

/// Sets this bit in the lanes of the mask, where it was not set before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn set_bit(value: __m512i, lanes: u32, bit: u16) -> __m512i {
    _mm512_mask_add_epi16(value, lanes, value, _mm512_set1_epi16(bit as i16))
}

/// 7 bits below the exponent, and the sign above it, from bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn with_sign(exponent: __m512i, bytes: __m512i) -> __m512i {
    // a | b & c
    let unsigned = _mm512_ternarylogic_epi32::<0xF8>(exponent, bytes, _mm512_set1_epi16(0x7F));
    _mm512_ternarylogic_epi32::<0xF8>(unsigned, _mm512_slli_epi16::<8>(bytes), _mm512_set1_epi16(i16::MIN))
}

macro_rules! lossless {
    ($(#[$comment:meta])* $name:ident, $width:literal, $split:expr, |$part:ident, $raw:ident, $field:ident, $out:ident| $put:block) => {
        $(#[$comment])*
        pub struct $name(Aligned);

        impl $name {
            pub fn new(job: &Job<'_>) -> $name {
                $name(fields(job, $split))
            }
        }

        impl Output for $name {
            const WIDTH: usize = $width;
            const RAW: bool = false;
            type Row = Table;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
            unsafe fn row(&self, _: usize) -> Table {
                load_aligned(&self.0)
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
            unsafe fn put<L: Loop>(&self, row: Table, $part: &Part<L>, $raw: &[u8], symbols: Symbols, $out: &mut [u8]) {
                let $field = look_up(row, symbols.entry);
                $put
            }
        }
    };
}

lossless!(Bf16, 2, Split { shift: 7, bits: 8 }, |part, raw, field, out| {
    store_16(out, part.mask(), with_sign(field, byte_plane(part, raw, 0)));
});

lossless!(
    /// 9 bits of the mantissa are raw.
    F16, 2, Split { shift: 9, bits: 6 }, |part, raw, field, out| {
    let low = _mm512_or_si512(field, byte_plane(part, raw, 0));
    let unsigned = set_bit(low, part.raw_bit(raw, 1, 0), 1 << 8);
    store_16(out, part.mask(), set_bit(unsigned, part.raw_bit(raw, 1, 1), 1 << 15));
});

lossless!(F32, 4, Split { shift: 23, bits: 8 }, |part, raw, field, out| {
    let low = _mm512_or_si512(byte_plane(part, raw, 0), _mm512_slli_epi16::<8>(byte_plane(part, raw, 1)));
    let high = with_sign(field, byte_plane(part, raw, 2));
    store_32(out, part.mask(), join_halves(low, high));
});

lossless!(
    /// Elements of 8 bits: all but the lowest bit of the mantissa and the sign have symbols.
    F8, 1, Split { shift: 1, bits: 6 }, |part, raw, field, out| {
    let unsigned = set_bit(field, part.raw_bit(raw, 0, 0), 1);
    let elements = _mm512_cvtepi16_epi8(set_bit(unsigned, part.raw_bit(raw, 0, 1), 1 << 7));
    if let Some(out) = out.first_chunk_mut::<32>() {
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), elements) }
    } else {
        assert!(out.len() == part.active());
        // SAFETY: the mask keeps the store to the active lanes, of which `out` holds a byte each.
        unsafe { _mm256_mask_storeu_epi8(out.as_mut_ptr().cast(), part.mask(), elements) }
    }
});
