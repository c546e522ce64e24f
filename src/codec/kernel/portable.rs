//! The portable kernel, and the oracle for every other.

use super::Job;
use super::map::{GeneralMap, LosslessMap, Map, TableMap};
use super::steps::Steps;
use crate::codec::entropy::INITIAL_STATE;
use crate::codec::entropy::alias::AliasTable;
use crate::codec::layout::BlockShape;
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, ESCAPE, MAX_LANES, SymbolMap, Trellis};
use crate::error::Defect;

pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    match &job.params.map {
        SymbolMap::Lossless(split) => run(job, LosslessMap::new(job, *split), out),
        SymbolMap::PrimeSparse(p) if p.column_steps || job.params.raw_bits > 0 => {
            run(job, GeneralMap::new(job, p), out)
        }
        SymbolMap::PrimeSparse(p) => run(job, TableMap::new(job, p, job.params.dtype), out),
    }
}

fn run(job: &Job<'_>, map: impl Map, out: &mut [u8]) -> Result<(), Defect> {
    // Contexts and raw bits are constants of the loop in the common cases.
    match (job.params.trellis(), job.params.raw_bits) {
        (None, 0) => steps::<false, false>(job, map, out),
        (None, _) => steps::<false, true>(job, map, out),
        (Some(_), 0) => steps::<true, false>(job, map, out),
        (Some(_), _) => steps::<true, true>(job, map, out),
    }
}

fn steps<const TRELLIS: bool, const RAW: bool>(job: &Job<'_>, mut map: impl Map, out: &mut [u8]) -> Result<(), Defect> {
    let tables: Vec<_> = job.side.tables.iter().map(PackedTable::new).collect();
    let mut lanes = Lanes::new(job);
    let mut raw_bytes = job.payload.raw;
    let mut raw = [0u64; MAX_LANES];
    let width = out.len() / job.shape.elements;
    let trellis = job.params.trellis().unwrap_or(Trellis { log2_states: 1, h0: 0, h1: 0 });

    for step in Steps::new(job.shape) {
        let class = job.payload.row_classes.get(step.row).map_or(0, |&class| usize::from(class));
        lanes.decode::<TRELLIS>(&tables[class], step.active)?;
        let raw = &mut raw[..step.active];
        if RAW {
            raw_bytes = read_raw_bits(job.params.raw_bits, raw_bytes, raw);
        }
        let entries = &lanes.entries[..step.active];
        let bytes = &mut out[step.first * width..(step.first + step.active) * width];
        map.write(&step, entries, raw, bytes);
        if TRELLIS {
            lanes.advance::<RAW>(&trellis, raw);
        }
    }
    lanes.finish()
}

/// An alias table as a scalar decoder likes it: both answers of a bucket side
/// by side, chosen by an index instead of a branch.
struct PackedTable {
    thresholds: [u16; ENTRIES],
    /// Entry `2 b` is bucket b's own, `2 b + 1` its alias.
    answers: [Answer; 2 * ENTRIES],
}

#[derive(Clone, Copy, Default)]
#[repr(align(8))]
struct Answer {
    frequency: u16,
    entry: u16,
    adjust: u16,
}

impl PackedTable {
    fn new(table: &AliasTable) -> PackedTable {
        let mut answers = [Answer::default(); 2 * ENTRIES];
        for bucket in 0..ENTRIES {
            let alias = usize::from(table.alias[bucket]);
            let adjust = table.adjust[bucket];
            answers[2 * bucket] = Answer { frequency: table.frequency[bucket], entry: bucket as u16, adjust: 0 };
            answers[2 * bucket + 1] = Answer { frequency: table.frequency[alias], entry: alias as u16, adjust };
        }
        PackedTable { thresholds: table.threshold, answers }
    }
}

/// The lanes' states and the sequence of words that they share.
struct Lanes {
    states: [u32; MAX_LANES],
    trellis: [u16; MAX_LANES],
    /// Table entries of the last step.
    entries: [u8; MAX_LANES],
    count: usize,
    /// The words, and as many zeros as a step can take beyond the end.
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
        let mut words = Vec::with_capacity(job.payload.words.len() / 2 + MAX_LANES);
        words.extend(job.payload.words.chunks_exact(2).map(|w| u16::from_le_bytes([w[0], w[1]])));
        words.resize(words.len() + MAX_LANES, 0);
        Lanes { states, trellis: [0; MAX_LANES], entries: [0; MAX_LANES], count, words, next: 0 }
    }

    #[inline(always)]
    fn decode<const TRELLIS: bool>(&mut self, table: &PackedTable, active: usize) -> Result<(), Defect> {
        let shift = if TRELLIS { 11 } else { 10 };
        let window = self.words.get(self.next..self.next + active).ok_or(Defect("block ends early"))?;
        let mut used = 0;
        let states = &mut self.states[..active];
        let entries = &mut self.entries[..active];
        let trellis = &self.trellis[..active];
        for ((state, entry), trellis) in states.iter_mut().zip(entries).zip(trellis) {
            let slot = *state & 0xFFFF;
            let mut bucket = (slot >> shift) as usize;
            if TRELLIS {
                bucket += usize::from(CONTEXT_ENTRIES) * usize::from(trellis & 1);
            }
            let low = slot & ((1 << shift) - 1);
            let second = low >= u32::from(table.thresholds[bucket % ENTRIES]);
            let answer = table.answers[(2 * bucket + usize::from(second)) % (2 * ENTRIES)];
            let occurrence = (low as u16).wrapping_add(answer.adjust);
            let x = u32::from(answer.frequency) * (*state >> 16) + u32::from(occurrence);
            // A step takes at most one word per lane, so the window lasts. Whether
            // a word is due cannot be predicted: masks, not branches.
            let word = u32::from(window[used]);
            let due = u32::from(x < 1 << 16);
            *state = x << (16 * due) | (word & due.wrapping_neg());
            used += due as usize;
            *entry = answer.entry as u8;
        }
        self.next += used;
        Ok(())
    }

    /// Moves the trellis states on by the parities of the step's indices.
    #[inline(always)]
    fn advance<const RAW: bool>(&mut self, trellis: &Trellis, raw: &[u64]) {
        for ((state, &entry), &raw) in self.trellis.iter_mut().zip(&self.entries).zip(raw) {
            let symbol = entry % CONTEXT_ENTRIES;
            let parity = if symbol == ESCAPE {
                0
            } else if RAW {
                raw as u16
            } else {
                u16::from(symbol)
            };
            *state = trellis.next(*state, parity & 1);
        }
    }

    fn finish(&self) -> Result<(), Defect> {
        if self.next + MAX_LANES != self.words.len() {
            return Err(Defect("block has words left, or too few"));
        }
        if self.states[..self.count].iter().any(|&state| state != INITIAL_STATE) {
            return Err(Defect("lanes do not end where they began"));
        }
        Ok(())
    }
}

/// Reads one step's raw values and returns what follows them.
fn read_raw_bits<'a>(raw_bits: u8, bytes: &'a [u8], raw: &mut [u64]) -> &'a [u8] {
    let active = raw.len();
    let (here, rest) = bytes.split_at(BlockShape::raw_bytes_of_step(active, raw_bits));
    let (planes, bits) = here.split_at(usize::from(raw_bits / 8) * active);
    let mut whole = planes.chunks_exact(active).enumerate();
    match whole.next() {
        Some((_, plane)) => raw.iter_mut().zip(plane).for_each(|(raw, &byte)| *raw = u64::from(byte)),
        None => raw.fill(0),
    }
    for (j, plane) in whole {
        for (raw, &byte) in raw.iter_mut().zip(plane) {
            *raw |= u64::from(byte) << (8 * j);
        }
    }
    for (j, plane) in bits.chunks_exact(active.div_ceil(8)).enumerate() {
        let bit = u32::from(raw_bits & !7) + j as u32;
        for (lane, raw) in raw.iter_mut().enumerate() {
            *raw |= u64::from(plane[lane / 8] >> (lane % 8) & 1) << bit;
        }
    }
    rest
}
