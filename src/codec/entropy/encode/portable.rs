//! The portable encoder, and the oracle for every other.

use super::segments::{Segment, Segments};
use super::{Job, States};
use crate::codec::entropy::frequencies::{Frequencies, TOTAL};
use crate::codec::params::{ENTRIES, MAX_LANES};
use crate::error::Defect;

pub struct Table {
    entries: [Entry; ENTRIES],
    /// Per context: which slot an occurrence owns.
    slots: Vec<Slots>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// ceil(2^64 / frequency): the upper half of the product with a 32-bit
    /// number is the exact quotient for frequencies of 2 and more.
    reciprocal: u64,
    frequency: u32,
    /// Occurrences of the context before those of the entry.
    start: u16,
    context: u16,
}

/// From an occurrence, counted over all entries of a context, to its slot.
///
/// By the segment that it lies in: a table of all slots would be 128 KiB per context,
/// and the classes of a matrix would push each other out of the cache.
struct Slots {
    /// The segment of the first of every [`STRIDE`] occurrences.
    coarse: [u8; TOTAL as usize / STRIDE],
    /// The occurrence at which each segment ends, and what to add to one to get its slot.
    segments: [(u32, u16); 2 * ENTRIES],
}

/// Occurrences that share a look-up. Few of them hold the end of a segment.
const STRIDE: usize = 16;

impl Slots {
    fn new(context: &[Segment]) -> Slots {
        let mut slots = Slots { coarse: [0; TOTAL as usize / STRIDE], segments: [(TOTAL, 0); 2 * ENTRIES] };
        let mut end = 0usize;
        for (i, segment) in context.iter().enumerate() {
            slots.coarse[end.div_ceil(STRIDE)..].fill(i as u8);
            end += usize::from(segment.len);
            slots.segments[i] = (end as u32, segment.slot.wrapping_sub(segment.first));
        }
        slots
    }

    #[inline(always)]
    fn slot(&self, occurrence: u16) -> u16 {
        let mut segment = usize::from(self.coarse[usize::from(occurrence) / STRIDE]);
        // The last segment ends at 65536, and so do those that do not exist.
        while u32::from(occurrence) >= self.segments[segment % (2 * ENTRIES)].0 {
            segment += 1;
        }
        occurrence.wrapping_add(self.segments[segment % (2 * ENTRIES)].1)
    }
}

impl Table {
    pub fn new(frequencies: &Frequencies, segments: &Segments) -> Table {
        let contexts = segments.contexts.len();
        let entries = std::array::from_fn(|i| {
            let frequency = u32::from(frequencies.0[i]);
            let reciprocal = if frequency == 0 { 0 } else { u64::MAX / u64::from(frequency) + 1 };
            let context = (i / (ENTRIES / contexts)) as u16;
            Entry { reciprocal, frequency, start: segments.start[i], context }
        });
        Table { entries, slots: segments.contexts.iter().map(|context| Slots::new(context)).collect() }
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
            let occurrence = e.start.wrapping_add((x - quotient * e.frequency) as u16);
            *state = (quotient << 16) | u32::from(table.slots[usize::from(e.context)].slot(occurrence));
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
