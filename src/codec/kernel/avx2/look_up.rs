//! Tables of 64 numbers, looked up by `vpshufb`.
//!
//! A plane is a byte of each of the 64 numbers; a look-up in it is four shuffles for 32
//! lanes at once. All bytes are in the order that [`pack`] leaves.

use core::arch::asm;
use core::arch::x86_64::*;

use super::super::vector::{both, four};
use crate::codec::params::ENTRIES;

/// 64 bytes in four registers, each 16 of them twice. All but the first are what is to be
/// exclusive-ored to the 16 before, so that a look-up needs no blends: it takes the first,
/// and of the others those that the index reaches.
pub type Plane = [__m256i; 4];
/// 64 u16 as lower and upper bytes.
pub type Table = [Plane; 2];
/// 32 u16 in the order of the lanes.
pub type Words16 = [__m256i; 2];

#[inline]
#[target_feature(enable = "avx2")]
pub fn plane(bytes: [u8; ENTRIES]) -> Plane {
    core::array::from_fn(|k| {
        let part: [u8; 16] = core::array::from_fn(|i| match k {
            0 => bytes[i],
            _ => bytes[16 * k + i] ^ bytes[16 * (k - 1) + i],
        });
        // SAFETY: 16 bytes.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(part.as_ptr().cast()) })
    })
}

#[inline]
#[target_feature(enable = "avx2")]
pub fn table(words: &[u16; ENTRIES]) -> Table {
    [plane(words.map(|w| w as u8)), plane(words.map(|w| (w >> 8) as u8))]
}

/// The same reference, but the compiler does not know that. Without this it reads the
/// tables, which are more than there are registers, ahead of a loop, and copies them to
/// the stack every time.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // That nothing is read through it is the point.
pub fn opaque<T>(of: &T) -> &T {
    let mut at: *const T = of;
    // SAFETY: there is no instruction, so the pointer stays what it was.
    unsafe {
        asm!("/* {0} */", inout(reg) at, options(nomem, nostack, preserves_flags));
        &*at
    }
}

/// 32 indices below 64, as bytes.
pub type Index = __m256i;

#[inline]
#[target_feature(enable = "avx2")]
pub fn look_up(plane: &Plane, i: Index) -> __m256i {
    let [found] = look_up_each(plane, &[i]);
    found
}

/// The same for groups side by side, so that a part of the table is loaded once.
#[inline]
#[target_feature(enable = "avx2")]
pub fn look_up_each<const N: usize>(plane: &Plane, indices: &[Index; N]) -> [__m256i; N] {
    let mut found = [_mm256_setzero_si256(); N];
    for (found, &i) in found.iter_mut().zip(indices) {
        // A shuffle goes by the lowest 4 bits, and gives 0 for what is negative.
        let parts = four!(|k| {
            let from = _mm256_sub_epi8(i, _mm256_set1_epi8(16 * k as i8));
            _mm256_shuffle_epi8(plane[k], from)
        });
        *found = _mm256_xor_si256(_mm256_xor_si256(parts[0], parts[1]), _mm256_xor_si256(parts[2], parts[3]));
    }
    found
}

#[inline]
#[target_feature(enable = "avx2")]
pub fn look_up_words(table: &Table, i: Index) -> Words16 {
    widen(look_up(&table[0], i), look_up(&table[1], i))
}

/// 32 u16 below 256 as bytes: the 8 first lanes of both halves, then the 8 last.
#[inline]
#[target_feature(enable = "avx2")]
pub fn pack(words: Words16) -> __m256i {
    _mm256_packus_epi16(words[0], words[1])
}

/// The same of masks of all bits or none, or for bit 15 as bit 7.
#[inline]
#[target_feature(enable = "avx2")]
pub fn pack_signs(words: Words16) -> __m256i {
    _mm256_packs_epi16(words[0], words[1])
}

/// 32 bytes in the order of the lanes, in the order of [`pack`], and the other way round.
#[inline]
#[target_feature(enable = "avx2")]
pub fn packed(bytes: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes)
}

/// 32 u16 from their halves, which are in the order of [`pack`].
#[inline]
#[target_feature(enable = "avx2")]
pub fn widen(low: __m256i, high: __m256i) -> Words16 {
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}

/// This bit in the bytes of the lanes of the mask, in the order of [`pack`].
#[inline]
#[target_feature(enable = "avx2")]
pub fn bit_of_bytes(mask: u32, bit: u8) -> __m256i {
    _mm256_and_si256(spread_bytes(mask), _mm256_set1_epi8(bit as i8))
}

/// All bits of the bytes of the lanes of the mask, in the order of [`pack`].
#[inline]
#[target_feature(enable = "avx2")]
pub fn spread_bytes(mask: u32) -> __m256i {
    const EIGHT: i64 = 0x0101_0101_0101_0101;
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let order = _mm256_setr_epi64x(0, 2 * EIGHT, EIGHT, 3 * EIGHT);
    let lanes = _mm256_shuffle_epi8(_mm256_set1_epi32(mask as i32), order);
    _mm256_cmpeq_epi8(_mm256_and_si256(lanes, bits), bits)
}

/// All bits of the 16-bit lanes of a mask.
#[inline]
#[target_feature(enable = "avx2")]
pub fn spread(mask: u32) -> Words16 {
    let bytes = spread_bytes(mask);
    widen(bytes, bytes)
}

/// 32 lanes of 32 bits each from their lower and upper halves.
#[inline]
#[target_feature(enable = "avx2")]
pub fn join_halves(low: Words16, high: Words16) -> [__m256i; 4] {
    let [a, b] = both!(|h| {
        let (even, odd) = (_mm256_unpacklo_epi16(low[h], high[h]), _mm256_unpackhi_epi16(low[h], high[h]));
        [_mm256_permute2x128_si256::<0x20>(even, odd), _mm256_permute2x128_si256::<0x31>(even, odd)]
    });
    [a[0], a[1], b[0], b[1]]
}
