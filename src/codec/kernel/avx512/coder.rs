//! Entropy decoding and the trellis.
//!
//! A state is held as two planes of 16-bit halves. Tables of 64 u16 take two
//! registers and are read by `vpermi2w`; gathers would be three times slower. Words
//! are handed to the lanes that are short of one by `vpexpandw` (VBMI2), in lane
//! order, which is the order of the format.

use core::arch::x86_64::*;

use super::super::steps::Steps;
use super::super::vector::{GROUP, Loop, Part, Partial, Raw, Tail, Whole, Words, advance_table};
use super::super::{Job, UNEVEN};
use super::{Table, load_aligned, load_table, look_up};
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
    /// What the parts of a step share, in registers.
    type Row: Copy;

    unsafe fn row(&self, row: usize) -> Self::Row;

    /// The raw values of a part's lanes, at least their lowest bits, 0 for escapes.
    unsafe fn raw<L: Loop>(&self, _part: &Part<L>, _raw: &[u8], _entry: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { zero() }
    }

    /// Writes a part's elements, which `out` holds exactly.
    unsafe fn put<L: Loop>(&self, row: Self::Row, part: &Part<L>, raw: &[u8], symbols: Symbols, out: &mut [u8]);
}

/// What was decoded of 32 elements.
#[derive(Clone, Copy)]
pub struct Symbols {
    pub entry: __m512i,
    /// What [`Output::raw`] gave.
    pub raw: __m512i,
}

#[target_feature(enable = "avx512f")]
#[inline]
fn zero() -> __m512i {
    _mm512_setzero_si512()
}

/// 32 lanes.
#[derive(Clone, Copy)]
struct Group {
    /// Upper and lower halves of the states.
    high: __m512i,
    low: __m512i,
    /// Trellis states from bit 5 on, so that the quantiser is where it chooses the
    /// context; below are remains.
    trellis: __m512i,
}

/// The tables of a row's class, and how a trellis goes on.
#[derive(Clone, Copy)]
struct Tables {
    threshold: Table,
    alias: Table,
    adjust: Table,
    frequency: Table,
    advance: Table,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_tables(alias: &AliasTable, advance: Table) -> Tables {
    Tables {
        threshold: load_table(&alias.threshold),
        alias: load_table(&alias.alias),
        adjust: load_table(&alias.adjust),
        frequency: load_table(&alias.frequency),
        advance,
    }
}

/// Decodes the table entries of the mask's lanes, all if the loop is over whole steps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
fn decode_entries<const TRELLIS: u8, L: Loop, O: Output>(
    tables: &Tables,
    group: &mut Group,
    words: &mut Words<'_>,
    lanes: u32,
) -> __m512i {
    let Group { high, low, trellis } = *group;
    let bucket = if TRELLIS == 1 {
        // a | b & c
        _mm512_ternarylogic_epi32::<0xF8>(_mm512_srli_epi16::<11>(low), trellis, _mm512_set1_epi16(32))
    } else {
        _mm512_srli_epi16::<10>(low)
    };
    let place = _mm512_and_si512(low, _mm512_set1_epi16(if TRELLIS == 1 { 2047 } else { 1023 }));
    let aliased = _mm512_cmpge_epu16_mask(place, look_up(tables.threshold, bucket));
    let entry = _mm512_mask_mov_epi16(bucket, aliased, look_up(tables.alias, bucket));
    let occurrence = _mm512_mask_add_epi16(place, aliased, place, look_up(tables.adjust, bucket));
    let frequency = look_up(tables.frequency, entry);
    // x = frequency * high + occurrence in 32 bits, as two halves.
    let product_low = _mm512_mullo_epi16(frequency, high);
    let product_high = _mm512_mulhi_epu16(frequency, high);
    let next_low = _mm512_add_epi16(product_low, occurrence);
    let carry = _mm512_cmplt_epu16_mask(next_low, occurrence);
    let next_high = _mm512_mask_sub_epi16(product_high, carry, product_high, _mm512_set1_epi16(-1));
    let mut short = _mm512_testn_epi16_mask(next_high, next_high);
    if !L::FULL {
        short &= lanes;
    }
    // SAFETY: 64 bytes.
    let fresh = unsafe { _mm512_loadu_si512(words.peek::<64>().as_ptr().cast()) };
    words.take(2 * short.count_ones() as usize);
    let next_high = _mm512_mask_mov_epi16(next_high, short, next_low);
    let next_low = _mm512_mask_expand_epi16(next_low, short, fresh);
    group.high = if L::FULL { next_high } else { _mm512_mask_mov_epi16(high, lanes, next_high) };
    group.low = if L::FULL { next_low } else { _mm512_mask_mov_epi16(low, lanes, next_low) };
    entry
}

/// Moves the trellis on by the parities of the indices: those of the entries, or of
/// the raw values if there are any.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn move_on<L: Loop, O: Output>(tables: &Tables, group: &mut Group, lanes: u32, entry: __m512i, raw: __m512i) {
    let index = if O::RAW {
        // c ? b : a, so the lowest bit comes from the raw value.
        _mm512_ternarylogic_epi32::<0xD8>(entry, raw, _mm512_set1_epi16(1))
    } else {
        entry
    };
    let half = _mm512_srli_epi16::<1>(group.trellis);
    let next = _mm512_xor_si512(half, look_up(tables.advance, index));
    group.trellis = if L::FULL { next } else { _mm512_mask_mov_epi16(group.trellis, lanes, next) };
}

/// Where a block's elements come from and go to.
struct Block<'a, O: Output> {
    output: &'a O,
    tables: &'a [AliasTable],
    row_classes: &'a [u8],
    advance: Table,
    out: &'a mut [u8],
}

impl<O: Output> Block<'_, O> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn tables(&self, row: usize) -> Tables {
        let class = self.row_classes.get(row).map_or(0, |&class| usize::from(class));
        load_tables(&self.tables[class], self.advance)
    }

    /// A step in which some lanes do not take part. By itself, so that the loop over
    /// whole steps keeps its registers.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    fn partial_step<const TRELLIS: u8>(
        &mut self,
        step: &Step,
        raw: &[u8],
        groups: &mut [Group],
        words: &mut Words<'_>,
    ) {
        let tables = self.tables(step.row);
        // SAFETY: this function has the features.
        let row = unsafe { self.output.row(step.row) };
        for (g, group) in groups.iter_mut().enumerate() {
            let Some(part) = Part::<Partial<TRELLIS>>::new(step, g) else { break };
            let lanes = part.mask();
            let entry = decode_entries::<TRELLIS, Partial<TRELLIS>, O>(&tables, group, words, lanes);
            let to = &mut self.out[O::WIDTH * part.first..][..O::WIDTH * part.active()];
            // SAFETY: this function has the features.
            unsafe {
                let value = self.output.raw(&part, raw, entry);
                if TRELLIS == 1 {
                    move_on::<Partial<TRELLIS>, O>(&tables, group, lanes, entry, value);
                }
                self.output.put(row, &part, raw, Symbols { entry, raw: value }, to);
            }
        }
    }
}

/// Decodes a block of 32 `G` lanes.
///
/// # Safety
/// The machine has the features of this kernel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
pub unsafe fn run<const G: usize, const TRELLIS: u8, O: Output>(
    job: &Job<'_>,
    output: &O,
    out: &mut [u8],
) -> Result<(), Defect> {
    let payload = &job.payload;
    let trellis = job.params.trellis().unwrap_or(Trellis { log2_states: 1, h0: 0, h1: 0 });
    let advance = load_aligned(&advance_table(trellis)).map(|half| _mm512_slli_epi16::<5>(half));
    let mut groups: [Group; G] = core::array::from_fn(|g| {
        let half = |states: &[u8]| {
            let states: &[u8] = &states[2 * GROUP * g..][..2 * GROUP];
            // SAFETY: 64 bytes.
            unsafe { _mm512_loadu_si512(states.as_ptr().cast()) }
        };
        Group { high: half(payload.states_high), low: half(payload.states_low), trellis: zero() }
    });
    let tail = Tail::new(payload.words);
    let mut words = Words::new(payload.words, &tail);
    let mut raw_bits = Raw::new(job);
    let mut block = Block { output, tables: &job.side.tables, row_classes: payload.row_classes, advance, out };

    for step in Steps::new(job.shape) {
        words.begin_step()?;
        let raw = raw_bits.step(step.active);
        if step.active < GROUP * G {
            let (mut copy, mut words_copy) = (groups, words);
            block.partial_step::<TRELLIS>(&step, raw, &mut copy, &mut words_copy);
            (groups, words) = (copy, words_copy);
            continue;
        }
        let tables = block.tables(step.row);
        // SAFETY: this function has the features.
        let row = unsafe { output.row(step.row) };
        for (g, group) in groups.iter_mut().enumerate() {
            let part = Part::<Whole<G, TRELLIS>>::full(&step, g);
            let entry = decode_entries::<TRELLIS, Whole<G, TRELLIS>, O>(&tables, group, &mut words, u32::MAX);
            let to = &mut block.out[O::WIDTH * part.first..][..O::WIDTH * GROUP];
            // SAFETY: this function has the features.
            unsafe {
                let value = output.raw(&part, raw, entry);
                if TRELLIS == 1 {
                    move_on::<Whole<G, TRELLIS>, O>(&tables, group, u32::MAX, entry, value);
                }
                output.put(row, &part, raw, Symbols { entry, raw: value }, to);
            }
        }
    }

    let mut done = words.all_taken();
    for group in groups {
        done &= _mm512_cmpeq_epi16_mask(group.high, _mm512_set1_epi16(1)) == u32::MAX;
        done &= _mm512_cmpeq_epi16_mask(group.low, zero()) == u32::MAX;
    }
    if done { Ok(()) } else { Err(UNEVEN) }
}
