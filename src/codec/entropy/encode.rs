//! The encoder of the entropy coder.

use crate::codec::entropy::INITIAL_STATE;
use crate::codec::entropy::alias::AliasTable;
use crate::codec::entropy::frequencies::{Frequencies, TOTAL};
use crate::codec::params::ENTRIES;
use crate::error::Defect;

/// What coding one class needs: the inverse of its [`AliasTable`].
pub struct EncodeTable {
    entries: [EncodeEntry; ENTRIES],
    /// Slot of each occurrence of each entry; entry `e` starts at `start`.
    slots: Vec<u16>,
}

#[derive(Clone, Copy, Default)]
struct EncodeEntry {
    /// ceil(2^64 / frequency): the upper half of the product with a 32-bit
    /// number is the exact quotient for frequencies of 2 and more.
    reciprocal: u64,
    frequency: u32,
    start: u32,
}

impl EncodeTable {
    /// `frequencies` must be valid for so many contexts, with none of 1.
    pub fn new(frequencies: &Frequencies, contexts: usize) -> EncodeTable {
        let mut entries = [EncodeEntry::default(); ENTRIES];
        let mut start = 0;
        for (entry, &f) in entries.iter_mut().zip(&frequencies.0) {
            assert_ne!(f, 1, "the encoder's reciprocals need frequencies of 2 and more");
            let frequency = u32::from(f);
            let reciprocal = if f == 0 { 0 } else { u64::MAX / u64::from(f) + 1 };
            *entry = EncodeEntry { reciprocal, frequency, start };
            start += frequency;
        }
        let mut slots = vec![0; start as usize];
        let alias = AliasTable::new(frequencies, contexts);
        for context in 0..contexts {
            for slot in 0..TOTAL {
                let (entry, occurrence) = alias.look_up(slot, context, contexts);
                slots[(entries[entry].start + occurrence) as usize] = slot as u16;
            }
        }
        EncodeTable { entries, slots }
    }
}

/// Encodes backwards: the last symbol first.
pub struct Encoder {
    states: Vec<u32>,
    /// Words in the order in which they were emitted: `words[..emitted]`.
    words: Vec<u16>,
    emitted: usize,
    /// Whether a symbol came that its table cannot code.
    lost: bool,
}

impl Encoder {
    /// For at most `symbols` symbols: each emits at most one word.
    pub fn new(lanes: usize, symbols: usize) -> Encoder {
        Encoder { states: vec![INITIAL_STATE; lanes], words: vec![0; symbols + 1], emitted: 0, lost: false }
    }

    /// Codes one step: entry `entries[l]` on lane `l`.
    #[inline]
    pub fn step(&mut self, table: &EncodeTable, entries: &[u8]) {
        for (&entry, state) in entries.iter().zip(&mut self.states).rev() {
            let e = table.entries[usize::from(entry) % ENTRIES];
            let mut x = *state;
            self.lost |= e.frequency == 0;
            // Whether a word is due is a coin toss to the branch predictor, so
            // it is written anyway and counted when due.
            let due = u32::from((x >> 16) >= e.frequency);
            self.words[self.emitted] = x as u16;
            self.emitted += due as usize;
            x >>= due * 16;
            let quotient = ((u128::from(x) * u128::from(e.reciprocal)) >> 64) as u32;
            let occurrence = x - quotient * e.frequency;
            *state = (quotient << 16) | u32::from(table.slots[(e.start + occurrence) as usize]);
        }
    }

    /// Appends the states and the words as the payload has them. Fails if a symbol
    /// had a frequency of 0.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), Defect> {
        if self.lost {
            return Err(Defect("a symbol that its table cannot code"));
        }
        let words = &self.words[..self.emitted];
        out.reserve(4 * self.states.len() + 2 * words.len());
        out.extend(self.states.iter().flat_map(|x| ((x >> 16) as u16).to_le_bytes()));
        out.extend(self.states.iter().flat_map(|x| (*x as u16).to_le_bytes()));
        out.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
        Ok(())
    }
}
