//! The AVX2 encoder: 32 lanes in a pair of registers, tables read by `vpshufb`.
//!
//! The method is that of the AVX-512 encoder: quotients by normalised reciprocals in
//! 16-bit arithmetic, slots by a binary search for the segment. What is looked up is
//! split into bytes, and the lanes' indices are bytes, so that a look-up serves all 32
//! lanes. There are no shifts by as many bits as each lane likes: products with powers
//! of two take their place.
//!
//! A table has more bytes than the registers have room for, and each is used once per
//! group of lanes: they are loaded where they are used, which makes a class per row free.

#![allow(unsafe_code)]

mod division;
mod tables;

use std::arch::x86_64::*;

use super::{Job, SLACK, States};
use crate::codec::isa::both;
use crate::codec::params::{ENTRIES, MAX_LANES};
use crate::error::Defect;
use division::{at_least, divide};
pub use tables::Table;
use tables::{look_up, look_up_words, offsets, powers, widen};

/// Lanes that are coded together.
const GROUP: usize = 32;

fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")
}

/// Whether this encoder covers such a block on this machine.
pub fn supports(job: &Job<'_>) -> bool {
    job.shape.lanes.is_multiple_of(GROUP) && job.shape.lanes <= MAX_LANES && is_available()
}

/// Writes the words to the end of `words`, and returns where they start.
pub fn encode(job: &Job<'_>, states: &mut States, words: &mut [u16]) -> Result<usize, Defect> {
    if !supports(job) || words.len() < job.shape.elements + SLACK || job.entries.len() != job.shape.elements {
        return Err(Defect("the AVX2 encoder does not cover this block"));
    }
    // SAFETY: the features were detected.
    unsafe {
        match job.tables[0].contexts {
            2 => run::<true>(job, states, words),
            _ => run::<false>(job, states, words),
        }
    }
}

/// 32 words: those of lanes 0 to 7 and 16 to 23, then all others. Packed to bytes, they
/// are in the order of the lanes.
type Words = [__m256i; 2];

/// 32 lanes.
#[derive(Clone, Copy)]
struct Group {
    /// Upper and lower halves of the states.
    high: Words,
    low: Words,
    /// The least frequency that was met.
    least: __m256i,
}

/// For each mask of 8 lanes, the shuffle that moves their words to the upper end.
static COMPRESS: [[u8; 16]; 256] = compress_table();

const fn compress_table() -> [[u8; 16]; 256] {
    let mut table = [[0x80; 16]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut word) = (8, 8);
        while lane > 0 {
            lane -= 1;
            if mask >> lane & 1 == 1 {
                word -= 1;
                table[mask][2 * word] = 2 * lane as u8;
                table[mask][2 * word + 1] = 2 * lane as u8 + 1;
            }
        }
        mask += 1;
    }
    table
}

/// Writes the words of the lanes of the mask to the end of `room`, and returns how many.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn put_words(room: &mut [u16; GROUP], words: Words, mask: u32) -> usize {
    let mut at = GROUP;
    let mut eight = |words: __m128i, shift: u32| {
        let mask = (mask >> shift & 0xFF) as usize;
        let control: &[u8; 16] = &COMPRESS[mask];
        // SAFETY: the control has 16 bytes. `at` was lowered by at most 8 each of at
        // most 3 times, so 8 words below it are among the 32. Those that are not the
        // lanes' will be overwritten.
        unsafe {
            let control = _mm_loadu_si128(control.as_ptr().cast());
            _mm_storeu_si128(room.as_mut_ptr().add(at - 8).cast(), _mm_shuffle_epi8(words, control));
        }
        at -= mask.count_ones() as usize;
    };
    eight(_mm256_extracti128_si256::<1>(words[1]), 24);
    eight(_mm256_extracti128_si256::<1>(words[0]), 16);
    eight(_mm256_castsi256_si128(words[1]), 8);
    eight(_mm256_castsi256_si128(words[0]), 0);
    GROUP - at
}

/// What is to be coded of a group, as bytes: a table entry per lane, and -1 for lanes
/// that take part, else 0.
#[derive(Clone, Copy)]
struct Part {
    entry: __m256i,
    lanes: __m256i,
}

/// A part of all lanes. Entries are taken modulo 64, as the portable encoder takes them.
#[inline]
#[target_feature(enable = "avx2")]
fn part(entries: &[u8; GROUP]) -> Part {
    // SAFETY: 32 bytes.
    let entry = unsafe { _mm256_loadu_si256(entries.as_ptr().cast()) };
    Part { entry: _mm256_and_si256(entry, _mm256_set1_epi8(ENTRIES as i8 - 1)), lanes: _mm256_set1_epi8(-1) }
}

/// The part of less than 32 lanes.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn small_part(entries: &[u8]) -> Part {
    let (mut padded, mut lanes) = ([0; GROUP], [0; GROUP]);
    padded[..entries.len()].copy_from_slice(entries);
    lanes[..entries.len()].fill(u8::MAX);
    // SAFETY: 32 bytes.
    Part { lanes: unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }, ..part(&padded) }
}

/// The first half of coding a group's entries: the upper halves of the states become
/// quotients and the lower ones occurrences, from which [`place`] makes slots. Returns
/// how many words that took.
///
/// In two halves, as each is short enough for the processor to begin the next group's
/// before it is done with this one's. Not inlined, or else tables would be loaded before
/// the loop over groups, and spilt.
#[inline(never)]
#[target_feature(enable = "avx2,popcnt")]
fn divide_states(table: &Table, group: &mut Group, part: Part, room: &mut [u16; GROUP]) -> usize {
    let (entry, lanes) = (part.entry, widen(part.lanes, part.lanes));
    let Group { high, low, least } = *group;
    let frequency = look_up_words(&table.frequency, entry);
    let due = both!(|h| _mm256_and_si256(at_least(high[h], frequency[h]), lanes[h]));
    let count = put_words(room, low, _mm256_movemask_epi8(_mm256_packs_epi16(due[0], due[1])) as u32);

    let power = powers(look_up(&table.shift, entry));
    let reciprocal = look_up_words(&table.reciprocal, entry);
    let start = look_up_words(&table.start, entry);
    let none = _mm256_set1_epi8(-1);
    let [(quotient_0, rest_0), (quotient_1, rest_1)] = both!(|h| {
        let dividend_high = _mm256_andnot_si256(due[h], high[h]);
        let dividend_low = _mm256_blendv_epi8(low[h], high[h], due[h]);
        divide(dividend_high, dividend_low, frequency[h], power[h], reciprocal[h])
    });
    let (quotient, rest) = ([quotient_0, quotient_1], [rest_0, rest_1]);
    let occurrence = both!(|h| _mm256_add_epi16(rest[h], start[h]));
    let frequency = both!(|h| _mm256_blendv_epi8(none, frequency[h], lanes[h]));
    *group = Group {
        high: both!(|h| _mm256_blendv_epi8(high[h], quotient[h], lanes[h])),
        low: both!(|h| _mm256_blendv_epi8(low[h], occurrence[h], lanes[h])),
        least: _mm256_min_epu16(least, _mm256_min_epu16(frequency[0], frequency[1])),
    };
    count
}

/// The second half: to the lower halves is added what makes slots of occurrences.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn place<const TRELLIS: bool>(table: &Table, group: &mut Group, part: Part) {
    let (entry, lanes) = (part.entry, widen(part.lanes, part.lanes));
    let offset = offsets::<TRELLIS>(table, entry, group.low);
    group.low = both!(|h| _mm256_add_epi16(group.low[h], _mm256_and_si256(offset[h], lanes[h])));
}

/// The halves of a group's states in the order of [`Words`], or back from it.
#[inline]
#[target_feature(enable = "avx2")]
fn reorder(words: Words) -> Words {
    [_mm256_permute2x128_si256::<0x20>(words[0], words[1]), _mm256_permute2x128_si256::<0x31>(words[0], words[1])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(words: &[u16; GROUP]) -> Words {
    // SAFETY: 16 words from 16 h on, of 32.
    reorder(both!(|h| unsafe { _mm256_loadu_si256(words.as_ptr().add(16 * h).cast()) }))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(words: &mut [u16; GROUP], from: Words) {
    let from = reorder(from);
    // SAFETY: 16 words from 16 h on, of 32.
    both!(|h| unsafe { _mm256_storeu_si256(words.as_mut_ptr().add(16 * h).cast(), from[h]) });
}

#[target_feature(enable = "avx2,popcnt")]
fn run<const TRELLIS: bool>(job: &Job<'_>, states: &mut States, words: &mut [u16]) -> Result<usize, Defect> {
    let none = [_mm256_setzero_si256(); 2];
    let mut groups = [Group { high: none, low: none, least: _mm256_set1_epi8(-1) }; MAX_LANES / GROUP];
    let halves = states.high.as_chunks().0.iter().zip(states.low.as_chunks().0);
    for (group, (high, low)) in groups.iter_mut().zip(halves) {
        (group.high, group.low) = (load(high), load(low));
    }
    let mut at = words.len();

    for step in job.shape.steps().rev() {
        let table = &job.table_of_row(step.row).bytes;
        let (whole, rest) = job.entries[step.first..][..step.active].as_chunks::<GROUP>();
        let (first, last) = groups.split_at_mut(whole.len());
        let last = last.first_mut().filter(|_| !rest.is_empty()).map(|group| (group, small_part(rest)));
        let mut advance = |group: &mut Group, part| {
            let room = words[..at].last_chunk_mut().ok_or(Defect("more words than elements"))?;
            at -= divide_states(table, group, part, room);
            Ok(())
        };
        if let Some((group, part)) = last {
            advance(group, part)?;
            place::<TRELLIS>(table, group, part);
        }
        for (entries, group) in whole.iter().zip(first.iter_mut()).rev() {
            advance(group, part(entries))?;
        }
        for (entries, group) in whole.iter().zip(first).rev() {
            place::<TRELLIS>(table, group, part(entries));
        }
    }
    let mut least = _mm256_set1_epi8(-1);
    let halves = states.high.as_chunks_mut().0.iter_mut().zip(states.low.as_chunks_mut().0);
    for (group, (high, low)) in groups.into_iter().zip(halves) {
        store(high, group.high);
        store(low, group.low);
        least = _mm256_min_epu16(least, group.least);
    }
    let lost = _mm256_cmpeq_epi16(least, _mm256_setzero_si256());
    match _mm256_testz_si256(lost, lost) {
        0 => Err(Defect("a symbol that its table cannot code")),
        _ => Ok(at),
    }
}
