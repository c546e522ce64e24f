//! The slots of an entry, as runs of neighbours.

use crate::codec::entropy::alias::AliasTable;
use crate::codec::params::ENTRIES;

/// Some occurrences of an entry that own neighbouring slots.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// The first occurrence, counted over all entries of the context.
    pub first: u16,
    /// Its slot.
    pub slot: u16,
    pub len: u16,
}

/// All segments of a class: of each context at most 2 per bucket less one, in the
/// order of the entries and their occurrences, covering all slots.
pub struct Segments {
    pub contexts: Vec<Vec<Segment>>,
    /// Occurrences, modulo 65536, of the entries of its context before each entry.
    pub start: [u16; ENTRIES],
}

impl Segments {
    pub fn new(table: &AliasTable, contexts: usize) -> Segments {
        let len = ENTRIES / contexts;
        let size = AliasTable::bucket_size(contexts) as u16;
        let mut start = [0u16; ENTRIES];
        let segments = |base: usize| {
            let mut segments = Vec::new();
            let mut before = 0u16;
            for (entry, start) in start.iter_mut().enumerate().skip(base).take(len) {
                *start = before;
                let slot = |bucket: usize| (bucket - base) as u16 * size;
                if table.threshold[entry] > 0 {
                    segments.push(Segment { first: before, slot: slot(entry), len: table.threshold[entry] });
                }
                for bucket in base..base + len {
                    let own = table.threshold[bucket];
                    if own < size && usize::from(table.alias[bucket]) == entry {
                        let occurrence = own.wrapping_add(table.adjust[bucket]);
                        let first = before.wrapping_add(occurrence);
                        segments.push(Segment { first, slot: slot(bucket) + own, len: size - own });
                    }
                }
                before = before.wrapping_add(table.frequency[entry]);
            }
            segments
        };
        let contexts = (0..contexts).map(|context| context * len).map(segments).collect();
        Segments { contexts, start }
    }
}
