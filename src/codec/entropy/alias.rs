//! The alias table: which entry owns a slot, and as which of its occurrences.

use alloc::vec;
use alloc::vec::Vec;

use crate::codec::entropy::frequencies::{Frequencies, TOTAL};
use crate::codec::params::ENTRIES;

/// The decoding table of one class, as `docs/format.md`, 7.5, builds it.
///
/// Four arrays of 64 u16, so that a vector unit holds each in two registers.
/// With two contexts, the buckets and entries of context 1 are 32 to 63.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct AliasTable {
    /// Slots of a bucket that belong to the bucket's own entry.
    pub threshold: [u16; ENTRIES],
    /// The entry that owns the bucket's other slots.
    pub alias: [u16; ENTRIES],
    /// What to add, modulo 65536, to a slot's place in the bucket to get the
    /// occurrence of the alias.
    pub adjust: [u16; ENTRIES],
    pub frequency: [u16; ENTRIES],
}

impl AliasTable {
    /// `frequencies` must have been validated for so many contexts.
    pub fn new(frequencies: &Frequencies, contexts: usize) -> AliasTable {
        let mut table =
            AliasTable { threshold: [0; ENTRIES], alias: [0; ENTRIES], adjust: [0; ENTRIES], frequency: frequencies.0 };
        let len = ENTRIES / contexts;
        for context in 0..contexts {
            table.build_context(context * len, len);
        }
        table
    }

    /// Slots per bucket.
    pub fn bucket_size(contexts: usize) -> u32 {
        TOTAL / (ENTRIES / contexts) as u32
    }

    fn build_context(&mut self, base: usize, len: usize) {
        let size = TOTAL / len as u32;
        let mut left: Vec<u32> = self.frequency[base..base + len].iter().map(|&f| u32::from(f)).collect();
        let mut threshold = vec![size; len];
        let mut alias: Vec<usize> = (0..len).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..len).partition(|&i| left[i] < size);
        while let Some(s) = small.pop() {
            // The sum is len * size, so something is above average while anything is below.
            let Some(&l) = large.last() else { break };
            threshold[s] = left[s];
            alias[s] = l;
            left[l] -= size - left[s];
            if left[l] < size {
                large.pop();
                small.push(l);
            }
        }
        let mut next = threshold.clone();
        for i in 0..len {
            self.threshold[base + i] = threshold[i] as u16;
            self.alias[base + i] = (base + alias[i]) as u16;
            if threshold[i] < size {
                let j = alias[i];
                self.adjust[base + i] = next[j].wrapping_sub(threshold[i]) as u16;
                next[j] += size - threshold[i];
            }
        }
    }

    /// The entry that owns `slot` (0..65536) of `context`, and as which occurrence.
    #[inline]
    pub fn look_up(&self, slot: u32, context: usize, contexts: usize) -> (usize, u32) {
        let size = Self::bucket_size(contexts);
        let bucket = (slot / size) as usize + context * (ENTRIES / contexts);
        let low = slot % size;
        if low < u32::from(self.threshold[bucket]) {
            (bucket, low)
        } else {
            let entry = usize::from(self.alias[bucket]);
            (entry, (low + u32::from(self.adjust[bucket])) & 0xFFFF)
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_entry_owns_each_of_its_occurrences_once(
            counts in proptest::collection::vec(prop_oneof![Just(0u64), 0..5u64, 0..1u64 << 40], ENTRIES),
            contexts in 1..=2usize,
        ) {
            let counts: [u64; ENTRIES] = counts.try_into().expect("64 counts");
            let f = Frequencies::from_counts(&counts, contexts);
            let table = AliasTable::new(&f, contexts);
            for context in 0..contexts {
                let mut seen: Vec<Vec<bool>> = f.0.iter().map(|&f| vec![false; usize::from(f)]).collect();
                for slot in 0..TOTAL {
                    let (entry, occurrence) = table.look_up(slot, context, contexts);
                    prop_assert_eq!(entry / (ENTRIES / contexts), context);
                    prop_assert!(!core::mem::replace(&mut seen[entry][occurrence as usize], true));
                }
            }
        }
    }
}
