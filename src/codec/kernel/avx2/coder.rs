//! Entropy decoding and the trellis.
//!
//! Indices and trellis states are bytes, all 32 in one register; states of the entropy
//! coder are 16-bit halves. Words go to the lanes that are short of one by a shuffle
//! whose control is looked up by the mask.

use std::arch::x86_64::*;

use super::super::Job;
use super::super::steps::Steps;
use super::super::vector::{GROUP, Loop, Part, Partial, Raw, Tail, Whole, Words, both};
use super::{Index, Plane, Table, Words16, index, look_up, look_up_words, pack, plane, spread, table};
use crate::codec::entropy::alias::AliasTable;
use crate::codec::layout::Step;
use crate::codec::params::Trellis;
use crate::error::Defect;

/// Makes elements of table entries.
///
/// The methods are unsafe because they may use the features of this kernel, which is
/// all that they demand of the caller.
pub trait Output {
    /// Bytes of an element.
    const WIDTH: usize;
    /// Whether an index has raw bits, so that the entry does not tell its parity.
    const RAW: bool;

    /// The raw values of a part's lanes, at least their lowest bits, 0 for escapes.
    unsafe fn raw<L: Loop>(&self, _part: &Part<L>, _raw: &[u8], _entry: Index) -> Words16 {
        // SAFETY: the caller's promise.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    /// Writes a part's elements, which `out` holds exactly.
    unsafe fn put<L: Loop>(&self, row: usize, part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]);
}

/// What was decoded of 32 elements.
#[derive(Clone, Copy)]
pub struct Symbols {
    pub entry: Index,
    /// What [`Output::raw`] gave.
    pub raw: Words16,
}

/// How the states of a trellis are held, as a constant of the loop.
pub struct TrellisKind;

impl TrellisKind {
    pub const NONE: u8 = 0;
    /// At most 8 states: twice the state, and the quantiser in bit 5. One look-up of 16
    /// bytes gives what follows.
    pub const SMALL: u8 = 1;
    /// At most 256 states.
    pub const ANY: u8 = 2;
}

/// For each index of a look-up, what `move_on` needs.
#[inline]
#[target_feature(enable = "avx2")]
fn advance_table(trellis: Trellis, kind: u8) -> __m256i {
    let bytes: [u8; 16] = std::array::from_fn(|i| {
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

/// The tables of a class.
struct Tables {
    threshold: Table,
    alias: Plane,
    adjust: Table,
    frequency: Table,
}

#[inline]
#[target_feature(enable = "avx2")]
fn tables(alias: &AliasTable) -> Tables {
    Tables {
        threshold: table(&alias.threshold),
        alias: plane(alias.alias.map(|entry| entry as u8)),
        adjust: table(&alias.adjust),
        frequency: table(&alias.frequency),
    }
}

/// 32 lanes.
#[derive(Clone, Copy)]
struct Group {
    /// Upper and lower halves of the states.
    high: Words16,
    low: Words16,
    /// Trellis states as bytes, in the order that [`pack`] leaves.
    trellis: __m256i,
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

/// The next words for the lanes of the mask, whose bytes are in the order of [`pack`].
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn take_words(words: &mut Words<'_>, mask: u32) -> Words16 {
    let next = words.peek::<64>();
    let mut at = 0;
    let mut eight = |shift: u32| {
        let mask = (mask >> shift & 0xFF) as usize;
        let control: &[u8; 16] = &EXPAND[mask];
        // SAFETY: the control has 16 bytes. `at` rises by at most 16 each of 4 times, so
        // 16 bytes from it on are among the 64.
        let fresh = unsafe {
            let control = _mm_loadu_si128(control.as_ptr().cast());
            _mm_shuffle_epi8(_mm_loadu_si128(next.as_ptr().add(at).cast()), control)
        };
        at += 2 * mask.count_ones() as usize;
        fresh
    };
    let [a, b, c, d] = [eight(0), eight(16), eight(8), eight(24)];
    words.take(at);
    [_mm256_set_m128i(b, a), _mm256_set_m128i(d, c)]
}

/// Decodes the table entries of the lanes, all if the loop is over whole steps.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn decode_entries<const TRELLIS: u8, L: Loop, O: Output>(
    tables: &Tables,
    group: &mut Group,
    words: &mut Words<'_>,
    lanes: Words16,
) -> Index {
    let zero = _mm256_setzero_si256();
    let sign = _mm256_set1_epi16(i16::MIN);
    let low_bits = _mm256_set1_epi16(if TRELLIS == TrellisKind::NONE { 1023 } else { 2047 });
    let Group { high, low, trellis } = *group;
    let context_bit = _mm256_set1_epi8(32);
    let bucket = match TRELLIS {
        TrellisKind::NONE => pack(both!(|h| _mm256_srli_epi16::<10>(low[h]))),
        TrellisKind::SMALL => {
            let bucket = pack(both!(|h| _mm256_srli_epi16::<11>(low[h])));
            _mm256_or_si256(bucket, _mm256_and_si256(trellis, context_bit))
        }
        _ => {
            let bucket = pack(both!(|h| _mm256_srli_epi16::<11>(low[h])));
            let context = _mm256_and_si256(_mm256_slli_epi16::<5>(trellis), context_bit);
            _mm256_or_si256(bucket, context)
        }
    };
    let bucket = index(bucket);
    let threshold = look_up_words(&tables.threshold, bucket);
    let place = both!(|h| _mm256_and_si256(low[h], low_bits));
    // Both are at most 2048, so the signed comparison is right.
    let own: Words16 = both!(|h| _mm256_cmpgt_epi16(threshold[h], place[h]));
    let own_bytes = _mm256_packs_epi16(own[0], own[1]);
    let alias = look_up(&tables.alias, bucket);
    let entry = index(_mm256_blendv_epi8(alias, bucket.bytes, own_bytes));
    let adjust = look_up_words(&tables.adjust, bucket);
    let frequency = look_up_words(&tables.frequency, entry);

    let mut next_low = [zero; 2];
    let mut next_high = [zero; 2];
    let mut short = [zero; 2];
    for h in 0..2 {
        let occurrence = _mm256_add_epi16(place[h], _mm256_andnot_si256(own[h], adjust[h]));
        // x = frequency * high + occurrence in 32 bits, as two halves.
        let product_low = _mm256_mullo_epi16(frequency[h], high[h]);
        let product_high = _mm256_mulhi_epu16(frequency[h], high[h]);
        next_low[h] = _mm256_add_epi16(product_low, occurrence);
        let carry = _mm256_cmpgt_epi16(_mm256_xor_si256(occurrence, sign), _mm256_xor_si256(next_low[h], sign));
        next_high[h] = _mm256_sub_epi16(product_high, carry);
        short[h] = _mm256_cmpeq_epi16(next_high[h], zero);
        if !L::FULL {
            short[h] = _mm256_and_si256(short[h], lanes[h]);
        }
    }
    let mask = _mm256_movemask_epi8(_mm256_packs_epi16(short[0], short[1])) as u32;
    let fresh = take_words(words, mask);
    for h in 0..2 {
        let shifted = _mm256_blendv_epi8(next_high[h], next_low[h], short[h]);
        let refilled = _mm256_blendv_epi8(next_low[h], fresh[h], short[h]);
        group.high[h] = if L::FULL { shifted } else { _mm256_blendv_epi8(high[h], shifted, lanes[h]) };
        group.low[h] = if L::FULL { refilled } else { _mm256_blendv_epi8(low[h], refilled, lanes[h]) };
    }
    entry
}

/// Moves the trellis on by the parities of the indices: those of the entries (the centre
/// is even, and so is the escape), or of the raw values if there are any.
#[inline]
#[target_feature(enable = "avx2")]
fn move_on<const TRELLIS: u8, L: Loop, O: Output>(
    advance: __m256i,
    group: &mut Group,
    lanes: Words16,
    symbols: Symbols,
) {
    let one = _mm256_set1_epi8(1);
    let odd = if O::RAW {
        pack(both!(|h| _mm256_and_si256(symbols.raw[h], _mm256_set1_epi16(1))))
    } else {
        _mm256_and_si256(symbols.entry.bytes, one)
    };
    let state = group.trellis;
    let next = if TRELLIS == TrellisKind::SMALL {
        // A look-up heeds bits 0 to 3, and bit 7, which is clear.
        _mm256_shuffle_epi8(advance, _mm256_or_si256(state, odd))
    } else {
        let quantiser = _mm256_and_si256(_mm256_add_epi8(state, state), _mm256_set1_epi8(2));
        let half = _mm256_and_si256(_mm256_srli_epi16::<1>(state), _mm256_set1_epi8(0x7F));
        _mm256_xor_si256(half, _mm256_shuffle_epi8(advance, _mm256_or_si256(quantiser, odd)))
    };
    group.trellis =
        if L::FULL { next } else { _mm256_blendv_epi8(state, next, _mm256_packs_epi16(lanes[0], lanes[1])) };
}

/// A step in which some lanes do not take part. By itself, so that the loop over whole
/// steps keeps its registers.
#[inline(never)]
#[target_feature(enable = "avx2,f16c,popcnt")]
fn partial_step<const TRELLIS: u8, O: Output>(
    (output, tables, advance): (&O, &Tables, __m256i),
    step: &Step,
    raw: &[u8],
    groups: &mut [Group],
    words: &mut Words<'_>,
    out: &mut [u8],
) {
    for (g, group) in groups.iter_mut().enumerate() {
        let Some(part) = Part::<Partial<TRELLIS>>::new(step, g) else { break };
        let lanes = spread(part.mask());
        let entry = decode_entries::<TRELLIS, Partial<TRELLIS>, O>(tables, group, words, lanes);
        let to = &mut out[O::WIDTH * part.first..][..O::WIDTH * part.active()];
        // SAFETY: this function has the features.
        unsafe {
            let symbols = Symbols { entry, raw: output.raw(&part, raw, entry) };
            if TRELLIS != TrellisKind::NONE {
                move_on::<TRELLIS, Partial<TRELLIS>, O>(advance, group, lanes, symbols);
            }
            output.put(step.row, &part, raw, symbols, to);
        }
    }
}

/// Decodes a block of 32 `G` lanes.
///
/// # Safety
/// The machine has the features of this kernel.
#[target_feature(enable = "avx2,f16c,popcnt")]
pub unsafe fn run<const G: usize, const TRELLIS: u8, O: Output>(
    job: &Job<'_>,
    output: &O,
    out: &mut [u8],
) -> Result<(), Defect> {
    let payload = &job.payload;
    let classes: Vec<Tables> = job.side.tables.iter().map(|alias| tables(alias)).collect();
    let trellis = job.params.trellis().unwrap_or(Trellis { log2_states: 1, h0: 0, h1: 0 });
    let advance = advance_table(trellis, TRELLIS);
    let all = [_mm256_set1_epi8(-1); 2];
    let zero = _mm256_setzero_si256();
    let mut groups: [Group; G] = std::array::from_fn(|g| {
        let half = |states: &[u8]| {
            [0, 1].map(|h| {
                let states: &[u8] = &states[2 * GROUP * g + 32 * h..][..32];
                // SAFETY: 32 bytes.
                unsafe { _mm256_loadu_si256(states.as_ptr().cast()) }
            })
        };
        Group { high: half(payload.states_high), low: half(payload.states_low), trellis: zero }
    });
    let tail = Tail::new(payload.words);
    let mut words = Words::new(payload.words, &tail);
    let mut raw_bits = Raw::new(job);

    for step in Steps::new(job.shape) {
        words.begin_step()?;
        let raw = raw_bits.step(step.active);
        let tables = &classes[payload.row_classes.get(step.row).map_or(0, |&class| usize::from(class))];
        if step.active < GROUP * G {
            let (mut groups_copy, mut words_copy) = (groups, words);
            let shared = (output, tables, advance);
            partial_step::<TRELLIS, O>(shared, &step, raw, &mut groups_copy, &mut words_copy, out);
            (groups, words) = (groups_copy, words_copy);
            continue;
        }
        for (g, group) in groups.iter_mut().enumerate() {
            let part = Part::<Whole<G, TRELLIS>>::full(&step, g);
            let entry = decode_entries::<TRELLIS, Whole<G, TRELLIS>, O>(tables, group, &mut words, all);
            let to = &mut out[O::WIDTH * part.first..][..O::WIDTH * GROUP];
            // SAFETY: this function has the features.
            unsafe {
                let symbols = Symbols { entry, raw: output.raw(&part, raw, entry) };
                if TRELLIS != TrellisKind::NONE {
                    move_on::<TRELLIS, Whole<G, TRELLIS>, O>(advance, group, all, symbols);
                }
                output.put(step.row, &part, raw, symbols, to);
            }
        }
    }

    let mut off = zero;
    for Group { high, low, .. } in groups {
        for h in 0..2 {
            off = _mm256_or_si256(off, _mm256_xor_si256(high[h], _mm256_set1_epi16(1)));
            off = _mm256_or_si256(off, low[h]);
        }
    }
    let done = words.all_taken() && _mm256_testz_si256(off, off) == 1;
    if done { Ok(()) } else { Err(Defect("lanes or words do not end where they should")) }
}
