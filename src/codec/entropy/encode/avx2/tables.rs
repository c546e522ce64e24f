//! Look-ups, and the search for the slots.

use std::arch::x86_64::*;

use super::super::vector_table;
use super::Words;
use crate::codec::isa::both;
use crate::codec::params::ENTRIES;

/// 16 `N` bytes, as many as a look-up has shuffles.
pub type Plane<const N: usize> = [[u8; 16]; N];
/// 16 `N` words, as their lower and upper bytes.
pub type Planes<const N: usize> = [Plane<N>; 2];

/// A [`vector_table::Table`] as `vpshufb` takes it, about 1 KiB.
#[repr(C, align(64))]
pub struct Table {
    pub frequency: Planes<4>,
    pub shift: Plane<4>,
    pub reciprocal: Planes<4>,
    pub start: Planes<4>,
    /// The nodes of the tree: 1 to 15, 16 to 31, 32 to 63 and 64 to 127. The uppermost
    /// bit of a word is flipped, as comparisons are signed.
    nodes_1: Planes<1>,
    nodes_16: Planes<1>,
    nodes_32: Planes<2>,
    nodes_64: Planes<4>,
    offset: Planes<8>,
}

fn plane<const N: usize>(bytes: impl Iterator<Item = u8>) -> Plane<N> {
    let mut plane = [[0; 16]; N];
    plane.iter_mut().flatten().zip(bytes).for_each(|(to, byte)| *to = byte);
    plane
}

fn planes<const N: usize>(words: &[u16], flip: u16) -> Planes<N> {
    [0, 8].map(|shift| plane(words.iter().map(|word| ((word ^ flip) >> shift) as u8)))
}

impl Table {
    pub fn new(table: &vector_table::Table) -> Table {
        let frequency: [u16; ENTRIES] = std::array::from_fn(|i| table.divisor[i] >> table.shift[i]);
        const SIGN: u16 = 1 << 15;
        Table {
            frequency: planes(&frequency, 0),
            shift: plane(table.shift.iter().map(|&shift| shift as u8)),
            reciprocal: planes(&table.reciprocal, 0),
            start: planes(&table.start, 0),
            nodes_1: planes(&table.tree[..16], SIGN),
            nodes_16: planes(&table.tree[16..], SIGN),
            nodes_32: planes(&table.middle, SIGN),
            nodes_64: planes(&table.odd, SIGN),
            offset: planes(&table.offset, 0),
        }
    }
}

/// Bytes below 16 `N` name bytes of the plane. Bits above are not heeded, except that
/// bit 7 must be clear.
#[inline]
#[target_feature(enable = "avx2")]
pub fn look_up<const N: usize>(plane: &Plane<N>, index: __m256i) -> __m256i {
    let mut parts = [index; N];
    for (part, bytes) in parts.iter_mut().zip(plane) {
        // SAFETY: 16 bytes.
        let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        *part = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), index);
    }
    // The highest bit of the index comes to the place of the sign, which decides, and
    // then those below. 16 N = 2^(4 + bits), whose highest bit is 3 + bits.
    let mut decider = index;
    for _ in N.ilog2()..4 {
        decider = _mm256_add_epi8(decider, decider);
    }
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            parts[i] = _mm256_blendv_epi8(parts[i], parts[i + half], decider);
        }
        decider = _mm256_add_epi8(decider, decider);
        half /= 2;
    }
    parts[0]
}

#[inline]
#[target_feature(enable = "avx2")]
pub fn widen(low: __m256i, high: __m256i) -> Words {
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}

#[inline]
#[target_feature(enable = "avx2")]
pub fn look_up_words<const N: usize>(planes: &Planes<N>, index: __m256i) -> Words {
    widen(look_up(&planes[0], index), look_up(&planes[1], index))
}

/// 2 to the power of bytes below 15.
#[inline]
#[target_feature(enable = "avx2")]
pub fn powers(shift: __m256i) -> Words {
    let low = _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, i8::MIN, 0, 0, 0, 0, 0, 0, 0, 0);
    let high = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, i8::MIN);
    let power = |of| _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(of), shift);
    widen(power(low), power(high))
}

/// What to add to occurrences to get their slots.
#[inline]
#[target_feature(enable = "avx2")]
pub fn offsets<const TRELLIS: bool>(table: &Table, entry: __m256i, occurrence: Words) -> Words {
    let flipped = both!(|h| _mm256_xor_si256(occurrence[h], _mm256_set1_epi16(i16::MIN)));
    // From a node, and its segment's first occurrence, to the child.
    let descend = |index: __m256i, first: Words, base: i8| {
        let left = both!(|h| _mm256_cmpgt_epi16(first[h], flipped[h]));
        let left = _mm256_packs_epi16(left[0], left[1]);
        let right = _mm256_sub_epi8(_mm256_add_epi8(index, index), _mm256_set1_epi8(base - 1));
        _mm256_add_epi8(right, left)
    };
    let mut index = if TRELLIS {
        // The upper half of the segments is that of context 1. The bits that come from
        // a neighbour are masked.
        let upper = _mm256_and_si256(_mm256_srli_epi16::<5>(entry), _mm256_set1_epi8(1));
        _mm256_add_epi8(upper, _mm256_set1_epi8(2))
    } else {
        let root = _mm256_set1_epi8(1);
        descend(root, look_up_words(&table.nodes_1, root), 0)
    };
    for _ in 1..4 {
        index = descend(index, look_up_words(&table.nodes_1, index), 0);
    }
    // From here on without the bit that says the level.
    index = descend(index, look_up_words(&table.nodes_16, index), 32);
    index = descend(index, look_up_words(&table.nodes_32, index), 0);
    index = descend(index, look_up_words(&table.nodes_64, index), 0);
    look_up_words(&table.offset, index)
}
