//! Entropy decoding and the trellis.
//!
//! Indices and trellis states are bytes, all 32 in one register; states of the entropy
//! coder are 16-bit halves.

use core::arch::x86_64::*;

use super::super::vector::Loop;
use super::look_up::{Index, Table, Words16, look_up_each, pack, pack_signs, table, widen};
use super::take::take_words;
use crate::codec::entropy::alias::AliasTable;
use crate::codec::params::{ENTRIES, Trellis};

/// How the states of a trellis are held, as a constant of the loop.
pub struct TrellisKind;

impl TrellisKind {
    pub const NONE: u8 = 0;
    /// At most 8 states: twice the state, and the quantiser in bit 5, where an index has it.
    /// One look-up of 16 bytes gives what follows.
    pub const SMALL: u8 = 1;
    /// At most 256 states.
    pub const ANY: u8 = 2;
}

/// For each index of a look-up, what `move_on` needs.
#[inline]
#[target_feature(enable = "avx2")]
pub fn advance_table(trellis: Trellis, kind: u8) -> __m256i {
    let bytes: [u8; 16] = core::array::from_fn(|i| {
        let (state, odd) = (i as u16 / 2, i as u16 & 1);
        if kind == TrellisKind::SMALL {
            let next = trellis.next(state, odd) as u8;
            next << 1 | (next & 1) << 5
        } else {
            trellis.next(state & 1, odd) as u8
        }
    });
    // SAFETY: 16 bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Bits of a slot that tell the bucket; as many as an entry within its context has.
const fn bucket_bits(kind: u8) -> u32 {
    if kind == TrellisKind::NONE { 6 } else { 5 }
}

/// The tables of a class.
pub struct Tables {
    /// For each bucket, its threshold above what tells its alias from itself (within the
    /// context, by exclusive or): together they are 16 bits. Bit 15 is inverted, for a
    /// signed comparison.
    bucket: Table,
    adjust: Table,
    frequency: Table,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn new(alias: &AliasTable, kind: u8) -> Tables {
        let bits = bucket_bits(kind);
        let bucket: [u16; ENTRIES] = core::array::from_fn(|b| {
            // A threshold of the whole bucket has no bit. But then the alias is the bucket's own
            // entry, not adjusted, so that a threshold of 0 is as good.
            let differs = (alias.alias[b] ^ b as u16) & ((1 << bits) - 1);
            let word = alias.threshold[b] << bits | differs;
            word ^ 0x8000
        });
        Tables { bucket: table(&bucket), adjust: table(&alias.adjust), frequency: table(&alias.frequency) }
    }
}

/// 32 lanes.
#[derive(Clone, Copy)]
pub struct Group {
    /// Upper and lower halves of the states.
    pub high: Words16,
    pub low: Words16,
    /// Trellis states as bytes, in the order that [`pack`] leaves.
    pub trellis: __m256i,
}

/// What was decoded of 32 elements.
#[derive(Clone, Copy)]
pub struct Symbols {
    pub entry: Index,
    /// The lower and upper bytes of the raw values, in the order of [`pack`].
    pub raw: [__m256i; 2],
}

/// The bucket of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn bucket<const TRELLIS: u8>(group: &Group) -> Index {
    let Group { low, trellis, .. } = *group;
    if TRELLIS == TrellisKind::NONE {
        return pack([_mm256_srli_epi16::<10>(low[0]), _mm256_srli_epi16::<10>(low[1])]);
    }
    let within = pack([_mm256_srli_epi16::<11>(low[0]), _mm256_srli_epi16::<11>(low[1])]);
    let context = if TRELLIS == TrellisKind::SMALL { trellis } else { _mm256_slli_epi16::<5>(trellis) };
    _mm256_or_si256(within, _mm256_and_si256(context, _mm256_set1_epi8(32)))
}

/// Decodes the table entries of the lanes of groups side by side; all lanes take part if
/// the loop is over whole steps. Moves `next` behind the words that were taken. The output gives its loop
/// a copy of this function, see [`Loop`].
///
/// # Safety
/// From `next` on 64 bytes can be read for each group.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub unsafe fn decode_entries<const TRELLIS: u8, const N: usize, L: Loop, O>(
    _output: &O,
    tables: &Tables,
    groups: &mut [Group; N],
    next: &mut *const u8,
    lanes: Words16,
) -> [Index; N] {
    let zero = _mm256_setzero_si256();
    let bits = bucket_bits(TRELLIS);
    let entry_bits = _mm256_set1_epi8((1 << bits) - 1);
    let place_bits = _mm256_set1_epi16((1 << (16 - bits)) - 1);
    // Below the place, all bits: then it is at least the threshold with whatever is below that
    // just where the place is at least the threshold.
    let bias = _mm256_set1_epi16(i16::MIN | ((1 << bits) - 1));
    let mut buckets = [zero; N];
    for (bucket_of, group) in buckets.iter_mut().zip(&*groups) {
        *bucket_of = bucket::<TRELLIS>(group);
    }
    let bucket_low = look_up_each(&tables.bucket[0], &buckets);
    let bucket_high = look_up_each(&tables.bucket[1], &buckets);
    let adjust_low = look_up_each(&tables.adjust[0], &buckets);
    let adjust_high = look_up_each(&tables.adjust[1], &buckets);
    let mut entries = buckets;
    let mut occurrences = [[zero; 2]; N];
    for n in 0..N {
        let low = groups[n].low;
        let threshold = widen(bucket_low[n], bucket_high[n]);
        let adjust = widen(adjust_low[n], adjust_high[n]);
        let mut own = [zero; 2];
        for h in 0..2 {
            let place = if TRELLIS == TrellisKind::NONE {
                _mm256_slli_epi16::<6>(low[h])
            } else {
                _mm256_slli_epi16::<5>(low[h])
            };
            own[h] = _mm256_cmpgt_epi16(threshold[h], _mm256_xor_si256(place, bias));
            let place = _mm256_and_si256(low[h], place_bits);
            occurrences[n][h] = _mm256_add_epi16(place, _mm256_andnot_si256(own[h], adjust[h]));
        }
        let differs = _mm256_and_si256(bucket_low[n], entry_bits);
        entries[n] = _mm256_xor_si256(buckets[n], _mm256_andnot_si256(pack_signs(own), differs));
    }
    let frequency_low = look_up_each(&tables.frequency[0], &entries);
    let frequency_high = look_up_each(&tables.frequency[1], &entries);
    for n in 0..N {
        let frequency = widen(frequency_low[n], frequency_high[n]);
        // SAFETY: each group so far took at most 64 bytes.
        let taken = unsafe { refill::<L>(&mut groups[n], frequency, occurrences[n], *next, lanes) };
        *next = next.wrapping_add(taken);
    }
    entries
}

/// Gives the lanes their next states and returns how many bytes of words they took.
///
/// # Safety
/// From `next` on 64 bytes can be read.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn refill<L: Loop>(
    group: &mut Group,
    frequency: Words16,
    occurrence: Words16,
    next: *const u8,
    lanes: Words16,
) -> usize {
    let zero = _mm256_setzero_si256();
    let Group { high, low, .. } = *group;
    let mut next_low = [zero; 2];
    let mut next_high = [zero; 2];
    let mut short = [zero; 2];
    for h in 0..2 {
        // x = frequency * high + occurrence in 32 bits, as two halves.
        let product_low = _mm256_mullo_epi16(frequency[h], high[h]);
        let product_high = _mm256_mulhi_epu16(frequency[h], high[h]);
        next_low[h] = _mm256_add_epi16(product_low, occurrence[h]);
        let no_carry = _mm256_cmpeq_epi16(_mm256_min_epu16(next_low[h], occurrence[h]), occurrence[h]);
        next_high[h] = _mm256_add_epi16(product_high, _mm256_add_epi16(no_carry, _mm256_set1_epi16(1)));
        short[h] = _mm256_cmpeq_epi16(next_high[h], zero);
        if !L::FULL {
            short[h] = _mm256_and_si256(short[h], lanes[h]);
        }
    }
    let mask = _mm256_movemask_epi8(pack_signs(short)) as u32;
    // SAFETY: the caller's promise.
    let fresh = unsafe { take_words(next, mask) };
    for h in 0..2 {
        // The upper half of a short state is 0, and so is the word of any other.
        let up = _mm256_and_si256(next_low[h], short[h]);
        let shifted = _mm256_or_si256(next_high[h], up);
        let refilled = _mm256_or_si256(_mm256_xor_si256(next_low[h], up), fresh[h]);
        group.high[h] = if L::FULL { shifted } else { _mm256_blendv_epi8(high[h], shifted, lanes[h]) };
        group.low[h] = if L::FULL { refilled } else { _mm256_blendv_epi8(low[h], refilled, lanes[h]) };
    }
    2 * mask.count_ones() as usize
}

/// Moves the trellis on by the parities of the indices: those of the entries (the centre
/// is even, and so is the escape), or of the raw values if there are any (a constant of the loop).
#[inline]
#[target_feature(enable = "avx2")]
pub fn move_on<const TRELLIS: u8, L: Loop>(
    advance: __m256i,
    group: &mut Group,
    lanes: Words16,
    symbols: Symbols,
    raw: bool,
) {
    let parity_of = if raw { symbols.raw[0] } else { symbols.entry };
    let odd = _mm256_and_si256(parity_of, _mm256_set1_epi8(1));
    let state = group.trellis;
    let next = if TRELLIS == TrellisKind::SMALL {
        // Bit 5 makes no difference to a shuffle.
        _mm256_shuffle_epi8(advance, _mm256_or_si256(state, odd))
    } else {
        let quantiser = _mm256_and_si256(_mm256_add_epi8(state, state), _mm256_set1_epi8(2));
        let half = _mm256_and_si256(_mm256_srli_epi16::<1>(state), _mm256_set1_epi8(0x7F));
        _mm256_xor_si256(half, _mm256_shuffle_epi8(advance, _mm256_or_si256(quantiser, odd)))
    };
    group.trellis = if L::FULL { next } else { _mm256_blendv_epi8(state, next, pack_signs(lanes)) };
}
