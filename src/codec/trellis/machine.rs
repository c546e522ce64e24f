//! What the vector kernels know of the state machine, and the words they keep.
//!
//! Lower states come from even ones, upper states from odd ones: the two predecessors
//! of state n are 2t and 2(t ^ g1), or 2t + 1 and 2(t ^ g1) + 1, where t is n or, of
//! an upper state, n ^ g0. The first of each two has taken the even index. A decision
//! is the parity of the index that led to a state.
//!
//! The word of a magnitude m, in the fixed-point numbers of the search:
//!
//! | bits | |
//! |---|---|
//! | 0 | sign |
//! | 2 to 5 | of subset 3, 2, 1, 0: whether the upper candidate is better |
//! | 6 to 14 | m >> 13 |
//!
//! A subset is best known by its *reach* 4 - subset: the number of the lower candidate
//! is ((m >> 13) + reach) >> 2, and bit reach + 1 says whether it is the upper one.

use super::tables::{EIGHT, Metrics, Tables};
use super::{UNIT, portable};
use crate::codec::params::Trellis;

/// States whose decisions share a word per lane.
pub const PER_WORD: usize = 16;
/// The most states that a machine has.
pub const MOST_STATES: usize = 256;

/// By half and parity of the index: the subset.
pub const SUBSETS: [[usize; 2]; 2] = [[0, 2], [3, 1]];

/// A state and its predecessors, by parity.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    pub to: u8,
    pub even: u8,
    pub odd: u8,
}

/// States of one word that are alike.
#[derive(Debug, Clone)]
pub struct Part {
    pub upper: bool,
    /// The odd predecessor has the smaller number, and wins if costs are equal.
    pub odd_first: bool,
    pub moves: Vec<Move>,
}

#[derive(Debug, Clone)]
pub struct Machine {
    pub log2_states: u8,
    pub g0: u16,
    pub g1: u16,
    /// By word of decisions.
    pub words: Vec<Vec<Part>>,
}

impl Machine {
    /// None if the machine is not of the kind above.
    pub fn new(trellis: &Trellis) -> Option<Machine> {
        let Trellis { log2_states, h0, h1 } = *trellis;
        if !(2..=8).contains(&log2_states) || h0 >> log2_states != 1 || h1 >> log2_states != 0 || h1 < 2 {
            return None;
        }
        let mut machine = Machine { log2_states, g0: h0 >> 1, g1: h1 >> 1, words: Vec::new() };
        let states = machine.states();
        for word in (0..states).step_by(PER_WORD) {
            let mut parts = Vec::new();
            for (upper, odd_first) in [(false, false), (false, true), (true, false), (true, true)] {
                let here = (word..states.min(word + PER_WORD)).map(|state| machine.to(state));
                let alike = |&(_, of, first): &(Move, bool, bool)| (of, first) == (upper, odd_first);
                let moves: Vec<Move> = here.filter(alike).map(|(to, _, _)| to).collect();
                if !moves.is_empty() {
                    parts.push(Part { upper, odd_first, moves });
                }
            }
            machine.words.push(parts);
        }
        Some(machine)
    }

    pub fn states(&self) -> usize {
        1 << self.log2_states
    }

    /// The moves to a state, whether it is an upper one, and [`Part::odd_first`].
    fn to(&self, state: usize) -> (Move, bool, bool) {
        let [even, odd] = predecessors(state, self.log2_states, self.g0, self.g1);
        let to = Move { to: state as u8, even: even as u8, odd: odd as u8 };
        (to, state >= self.states() / 2, odd < even)
    }
}

/// A state's predecessors by parity.
pub const fn predecessors(state: usize, log2_states: u8, g0: u16, g1: u16) -> [usize; 2] {
    let upper = state >> (log2_states - 1);
    let t = state ^ (upper * g0 as usize);
    [2 * t + upper, 2 * (t ^ g1 as usize) + upper]
}

/// [`predecessors`] in the machine of eight states, known to the compiler.
pub const EIGHT_FROM: [[usize; 2]; 8] = {
    let mut all = [[0; 2]; 8];
    let mut state = 0;
    while state < 8 {
        all[state] = predecessors(state, EIGHT.log2_states, EIGHT.h0 >> 1, EIGHT.h1 >> 1);
        state += 1;
    }
    all
};

/// Whether no cost of a branch reaches what it would be cut to.
pub fn never_cut(metrics: &Metrics) -> bool {
    let rates = metrics.classes.iter().flat_map(|tables| tables.rate.iter().flatten());
    let dearest = rates.copied().max().unwrap_or(0);
    // The square of the greatest distance is 2^30.
    u32::from(dearest) + (1 << 14) <= u32::from(portable::branch_cap(metrics.trellis.log2_states))
}

/// Whether [`folded`] tables say it all: with raw bits levels are not moved.
pub fn covers(metrics: &Metrics) -> bool {
    let mut offsets = metrics.classes.iter().flat_map(|tables| tables.offset.iter().flatten());
    metrics.raw_bits == 0 || offsets.all(|&offset| offset == 0)
}

/// The tables, and without raw bits what is special about 0 as an offset.
pub fn folded(metrics: &Metrics) -> Vec<Tables> {
    let mut classes = metrics.classes.clone();
    if metrics.raw_bits == 0 {
        for tables in &mut classes {
            let half = tables.offset[3].len() / 2;
            for row in [0, half] {
                tables.offset[3][row] = tables.offset[3][row].saturating_add(UNIT as i16);
            }
        }
    }
    classes
}
