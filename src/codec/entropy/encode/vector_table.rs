//! What a vector encoder looks up, laid out for registers.

use super::segments::Segments;
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::params::ENTRIES;

/// Segments that the search tells apart: more than a class has.
const SEGMENTS: usize = 128;

/// The tables of a class, as the registers take them.
#[repr(C, align(64))]
pub struct Table {
    /// Frequencies, shifted to the left until the uppermost bit is set.
    pub divisor: [u16; ENTRIES],
    /// By how many bits.
    pub shift: [u16; ENTRIES],
    /// floor((2^32 - 1) / divisor) - 2^16.
    pub reciprocal: [u16; ENTRIES],
    /// Occurrences before those of the entry.
    pub start: [u16; ENTRIES],
    /// The first occurrence of every fourth segment, as a search tree: the root at 1,
    /// the children of `i` at `2 i` and `2 i + 1`.
    pub tree: [u16; SEGMENTS / 4],
    /// That of segment 4 i + 2.
    pub middle: [u16; SEGMENTS / 4],
    /// That of segment 2 i + 1.
    pub odd: [u16; SEGMENTS / 2],
    /// What to add, modulo 65536, to an occurrence of the segment to get its slot.
    pub offset: [u16; SEGMENTS],
}

impl Table {
    pub fn new(frequencies: &Frequencies, segments: &Segments) -> Table {
        // Segments that do not exist come after all others and are like the last.
        let (mut first, mut offset) = (Vec::new(), Vec::new());
        let room = SEGMENTS / segments.contexts.len();
        for context in &segments.contexts {
            assert!(context.len() <= room, "every bucket but one has at most two segments");
            let slots = context.iter().map(|s| s.slot.wrapping_sub(s.first));
            let end = first.len() + room;
            first.extend(context.iter().map(|s| s.first));
            offset.extend(slots);
            first.resize(end, u16::MAX);
            offset.resize(end, *offset.last().unwrap_or(&0));
        }
        let shift = frequencies.0.map(|f| if f == 0 { 0 } else { f.leading_zeros() as u16 });
        let divisor: [u16; ENTRIES] = std::array::from_fn(|i| frequencies.0[i] << shift[i]);
        let mut tree = [0; SEGMENTS / 4];
        for (i, first_of_node) in tree.iter_mut().enumerate().skip(1) {
            let depth = i.ilog2();
            let place = i - (1 << depth);
            *first_of_node = first[((2 * place + 1) * SEGMENTS / 2) >> depth];
        }
        Table {
            divisor,
            shift,
            reciprocal: divisor.map(|d| if d == 0 { 0 } else { (u32::MAX / u32::from(d)) as u16 }),
            start: segments.start,
            tree,
            middle: std::array::from_fn(|i| first[4 * i + 2]),
            odd: std::array::from_fn(|i| first[2 * i + 1]),
            offset: std::array::from_fn(|i| offset[i]),
        }
    }
}
