//! The portable kernel, and the oracle for every other.

use alloc::vec::Vec;
use core::hint::select_unpredictable;

use super::general::GeneralMap;
use super::map::{LosslessMap, Map, TableMap};
use super::raw_bits::{RawValue, read_raw_bits};
use super::steps::Steps;
use super::{Job, UNEVEN};
use crate::codec::entropy::INITIAL_STATE;
use crate::codec::entropy::alias::AliasTable;
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, ESCAPE, MAX_LANES, SymbolMap, Trellis};
use crate::error::Defect;

pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    match &job.params.map {
        SymbolMap::Lossless(split) => match job.params.dtype.bits() {
            8 | 16 => run(job, LosslessMap::<u16>::new(job, *split), out),
            32 => run(job, LosslessMap::<u32>::new(job, *split), out),
            _ => run(job, LosslessMap::<u64>::new(job, *split), out),
        },
        SymbolMap::PrimeSparse(p) if p.column_steps || job.params.raw_bits > 0 => {
            run(job, GeneralMap::new(job, p), out)
        }
        SymbolMap::PrimeSparse(p) => run(job, TableMap::new(job, p, job.params.dtype), out),
    }
}

fn run(job: &Job<'_>, map: impl Map, out: &mut [u8]) -> Result<(), Defect> {
    // Contexts and raw bits are constants of the loop in the common cases.
    match (job.params.trellis(), job.params.raw_bits) {
        (None, 0) => steps::<false, false, _>(job, map, out),
        (None, _) => steps::<false, true, _>(job, map, out),
        (Some(_), 0) => steps::<true, false, _>(job, map, out),
        (Some(_), _) => steps::<true, true, _>(job, map, out),
    }
}

fn steps<const TRELLIS: bool, const RAW: bool, M: Map>(
    job: &Job<'_>,
    mut map: M,
    out: &mut [u8],
) -> Result<(), Defect> {
    let tables: Vec<_> = job.side.tables.iter().map(|table| PackedTable::new(table, TRELLIS)).collect();
    let mut lanes = Lanes::new(job);
    let mut raw_bytes = job.payload.raw;
    let mut raw = [M::Raw::ZERO; MAX_LANES];
    let width = out.len() / job.shape.elements;
    let trellis = job.params.trellis().unwrap_or(Trellis { log2_states: 1, h0: 0, h1: 0 });

    for step in Steps::new(job.shape) {
        let class = job.payload.row_classes.get(step.row).map_or(0, |&class| usize::from(class));
        lanes.decode::<TRELLIS>(&tables[class], step.active)?;
        let raw = &mut raw[..step.active];
        if RAW {
            raw_bytes = read_raw_bits(job.params.raw_bits, raw_bytes, raw);
        }
        let bytes = &mut out[step.first * width..(step.first + step.active) * width];
        if TRELLIS {
            lanes.advance::<RAW, _>(&trellis, raw);
        }
        map.write(&step, &lanes.entries[..step.active], raw, bytes);
    }
    lanes.finish()
}

/// An alias table as a scalar decoder likes it: both answers of a bucket side
/// by side, chosen by an index instead of a branch.
struct PackedTable {
    /// The first slot of each bucket that belongs to the alias.
    thresholds: [u32; ENTRIES],
    /// Entry `2 b` is bucket b's own, `2 b + 1` its alias.
    answers: [Answer; 2 * ENTRIES],
}

/// Read field by field: one load of 64 bits and shifts were measured, and are slower.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Answer {
    frequency: u16,
    entry: u16,
    /// What to add to the slot, modulo 2^32, to get the occurrence.
    adjust: u32,
}

impl PackedTable {
    fn new(table: &AliasTable, trellis: bool) -> PackedTable {
        let contexts = if trellis { 2 } else { 1 };
        let mut packed = PackedTable { thresholds: [0; ENTRIES], answers: [Answer::default(); 2 * ENTRIES] };
        for bucket in 0..ENTRIES {
            let first = (bucket % (ENTRIES / contexts)) as u32 * AliasTable::bucket_size(contexts);
            let threshold = first + u32::from(table.threshold[bucket]);
            let entries = [bucket, usize::from(table.alias[bucket])];
            // The occurrences that the first slot of each is, modulo 65536 as the format has it.
            let occurrences = [0, table.threshold[bucket].wrapping_add(table.adjust[bucket])];
            packed.thresholds[bucket] = threshold;
            for (i, slot) in [first, threshold].into_iter().enumerate() {
                packed.answers[2 * bucket + i] = Answer {
                    frequency: table.frequency[entries[i]],
                    entry: entries[i] as u16,
                    adjust: u32::from(occurrences[i]).wrapping_sub(slot),
                };
            }
        }
        packed
    }
}

/// Lanes whose decoding is written out one after the other.
const SIDE_BY_SIDE: usize = 4;
/// Words that are looked at for those; a power of two, so that indices need no check.
const SPARE: usize = 8;
/// What a step can look at beyond the end of the words.
const BEHIND: usize = MAX_LANES + SPARE;

/// The lanes' states and the sequence of words that they share.
struct Lanes {
    states: [u32; MAX_LANES],
    trellis: [u16; MAX_LANES],
    /// First table entry of each lane's quantiser.
    contexts: [u8; MAX_LANES],
    /// Table entries of the last step.
    entries: [u8; MAX_LANES],
    count: usize,
    /// The words, and `BEHIND` zeros.
    words: Vec<u16>,
    next: usize,
}

impl Lanes {
    fn new(job: &Job<'_>) -> Lanes {
        let count = job.shape.lanes;
        let mut states = [INITIAL_STATE; MAX_LANES];
        for (lane, state) in states[..count].iter_mut().enumerate() {
            *state = job.payload.state(lane);
        }
        let mut words = Vec::with_capacity(job.payload.words.len() / 2 + BEHIND);
        words.extend(job.payload.words.chunks_exact(2).map(|w| u16::from_le_bytes([w[0], w[1]])));
        words.resize(words.len() + BEHIND, 0);
        Lanes {
            states,
            trellis: [0; MAX_LANES],
            contexts: [0; MAX_LANES],
            entries: [0; MAX_LANES],
            count,
            words,
            next: 0,
        }
    }

    #[inline(always)]
    fn decode<const TRELLIS: bool>(&mut self, table: &PackedTable, active: usize) -> Result<(), Defect> {
        let window = self.words.get(self.next..self.next + active + SPARE).ok_or(UNEVEN)?;
        let (states, few_states) = self.states[..active].as_chunks_mut::<SIDE_BY_SIDE>();
        let (entries, few_entries) = self.entries[..active].as_chunks_mut::<SIDE_BY_SIDE>();
        let (contexts, few_contexts) = self.contexts[..active].as_chunks::<SIDE_BY_SIDE>();
        let mut used = 0;
        for ((states, entries), contexts) in states.iter_mut().zip(entries).zip(contexts) {
            // A step takes at most one word per lane, so the window lasts.
            let Some(words) = window[used..].first_chunk::<SPARE>() else { break };
            let mut taken = 0;
            for i in 0..SIDE_BY_SIDE {
                taken += decode_lane::<TRELLIS>(table, &mut states[i], &mut entries[i], contexts[i], words[taken]);
            }
            used += taken;
        }
        for ((state, entry), &context) in few_states.iter_mut().zip(few_entries).zip(few_contexts) {
            used += decode_lane::<TRELLIS>(table, state, entry, context, window[used]);
        }
        self.next += used;
        Ok(())
    }

    /// Moves the trellis states on by the parities of the step's indices.
    #[inline(always)]
    fn advance<const RAW: bool, R: RawValue>(&mut self, trellis: &Trellis, raw: &[R]) {
        let lanes = self.trellis.iter_mut().zip(&mut self.contexts).zip(&self.entries).zip(raw);
        for (((state, context), &entry), &raw) in lanes {
            // The escape, whose raw bits do not count, is even.
            let parity = if RAW {
                raw.low_bits() & u16::from(entry % CONTEXT_ENTRIES == ESCAPE).wrapping_sub(1)
            } else {
                u16::from(entry)
            };
            *state = trellis.next(*state, parity & 1);
            *context = CONTEXT_ENTRIES * (*state & 1) as u8;
        }
    }

    fn finish(&self) -> Result<(), Defect> {
        let done = self.next + BEHIND == self.words.len();
        let done = done && self.states[..self.count].iter().all(|&state| state == INITIAL_STATE);
        if done { Ok(()) } else { Err(UNEVEN) }
    }
}

/// Decodes the entry of one lane and returns how many words it took, of which `word` is
/// the next.
#[inline(always)]
fn decode_lane<const TRELLIS: bool>(
    table: &PackedTable,
    state: &mut u32,
    entry: &mut u8,
    context: u8,
    word: u16,
) -> usize {
    let slot = *state & 0xFFFF;
    let bucket = if TRELLIS { (slot >> 11) | u32::from(context) } else { slot >> 10 } as usize;
    let second = slot >= table.thresholds[bucket % ENTRIES];
    let answer = &table.answers[(2 * bucket + usize::from(second)) % (2 * ENTRIES)];
    let x = (u32::from(answer.frequency) * (*state >> 16)).wrapping_add(slot.wrapping_add(answer.adjust));
    // Whether a word is due cannot be predicted: no branches.
    let due = x < 1 << 16;
    *state = select_unpredictable(due, x << 16 | u32::from(word), x);
    *entry = answer.entry as u8;
    usize::from(due)
}
