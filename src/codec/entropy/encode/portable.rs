//! The portable encoder, and the oracle for every other.

use super::segments::Segments;
use super::{Job, States};
use crate::codec::entropy::frequencies::{Frequencies, TOTAL};
use crate::codec::params::{ENTRIES, MAX_LANES};
use crate::error::Defect;

pub struct Table {
    entries: [Entry; ENTRIES],
    /// Slot of each occurrence of each entry, context after context; entry `e`
    /// starts at `start`.
    slots: Vec<u16>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// ceil(2^64 / frequency): the upper half of the product with a 32-bit
    /// number is the exact quotient for frequencies of 2 and more.
    reciprocal: u64,
    frequency: u32,
    start: u32,
}

impl Table {
    pub fn new(frequencies: &Frequencies, segments: &Segments) -> Table {
        let contexts = segments.contexts.len();
        let entries = std::array::from_fn(|i| {
            let frequency = u32::from(frequencies.0[i]);
            let reciprocal = if frequency == 0 { 0 } else { u64::MAX / u64::from(frequency) + 1 };
            // A frequency of 0 may start at 65536, which is 0 here: it is not used.
            let context = (i / (ENTRIES / contexts)) as u32;
            Entry { reciprocal, frequency, start: context * TOTAL + u32::from(segments.start[i]) }
        });
        let mut slots = Vec::with_capacity(contexts * TOTAL as usize);
        for segment in segments.contexts.iter().flatten() {
            slots.extend((0..segment.len).map(|i| segment.slot + i));
        }
        Table { entries, slots }
    }
}

/// Writes the words to the end of `words`, and returns where they start.
pub fn encode(job: &Job<'_>, states: &mut States, words: &mut [u16]) -> Result<usize, Defect> {
    let mut lanes: [u32; MAX_LANES] =
        std::array::from_fn(|lane| u32::from(states.high[lane]) << 16 | u32::from(states.low[lane]));
    let mut at = words.len();
    let mut lost = false;
    for step in job.shape.steps().rev() {
        let table = &job.table_of_row(step.row).scalar;
        let entries = &job.entries[step.first..step.first + step.active];
        for (&entry, state) in entries.iter().zip(&mut lanes[..step.active]).rev() {
            let e = table.entries[usize::from(entry) % ENTRIES];
            let mut x = *state;
            lost |= e.frequency == 0;
            // Whether a word is due is a coin toss to the branch predictor, so
            // it is written anyway and counted when due.
            let due = u32::from((x >> 16) >= e.frequency);
            words[at - 1] = x as u16;
            at -= due as usize;
            x >>= due * 16;
            let quotient = ((u128::from(x) * u128::from(e.reciprocal)) >> 64) as u32;
            let occurrence = x - quotient * e.frequency;
            *state = (quotient << 16) | u32::from(table.slots[(e.start + occurrence) as usize]);
        }
    }
    if lost {
        return Err(Defect("a symbol that its table cannot code"));
    }
    for (lane, &state) in lanes.iter().enumerate() {
        states.high[lane] = (state >> 16) as u16;
        states.low[lane] = state as u16;
    }
    Ok(at)
}
