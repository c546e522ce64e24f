//! Whoever reads on where he stopped, without saying so beforehand.

use std::ops::Range;

/// Readers that are told apart.
const MOST: usize = 8;
/// Units ahead of one, at most.
const LARGEST: u64 = 48;

/// For each reader the unit behind his last, and how many to be ahead of him; the last to read is the
/// last in the list.
#[derive(Default)]
pub struct Sequences(Vec<(u64, u64)>);

impl Sequences {
    /// Takes note of a read, and says what may be asked for next.
    pub fn read(&mut self, units: &Range<u64>) -> Range<u64> {
        let goes_on = |next: u64| units.contains(&next) || units.end == next;
        let found = self.0.iter().position(|&(next, _)| goes_on(next));
        let (next, window) = found.map_or((units.end, 0), |i| self.0.remove(i));
        // Several reads of one unit are not a sequence yet.
        let window = if units.end > next { (2 * window).clamp(2, LARGEST) } else { window };
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        let next = next.max(units.end);
        self.0.push((next, window));
        next..next + window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_grows_while_somebody_reads_on() {
        let mut sequences = Sequences::default();
        assert_eq!(sequences.read(&(7..8)), 8..8);
        assert_eq!(sequences.read(&(7..8)), 8..8);
        assert_eq!(sequences.read(&(8..9)), 9..11);
        assert_eq!(sequences.read(&(100..101)), 101..101);
        assert_eq!(sequences.read(&(8..10)), 10..14);
        assert_eq!(sequences.read(&(101..102)), 102..104);
        let last = (10..100).map(|i| sequences.read(&(i..i + 1))).last();
        assert_eq!(last, Some(100..100 + LARGEST));
    }
}
