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

use super::portable::PER_WORD;
use super::tables::{Metrics, ROWS, Tables};
use super::{PERIOD, UNIT, portable};
use crate::codec::params::Trellis;

/// The most states that a machine has.
pub const MOST_STATES: usize = 256;
pub const MOST_WORDS: usize = MOST_STATES / PER_WORD;

/// Two states with the same two predecessors.
#[derive(Debug, Clone, Copy)]
pub struct Butterfly {
    /// The predecessors; with equal costs `low` wins.
    pub low: u8,
    pub high: u8,
    /// An even index leads here from `low`, an odd one from `high`.
    pub straight: u8,
    /// The other way round.
    pub crossed: u8,
}

/// A machine that the compiler knows: loops over its states become straight lines.
pub struct Known<const LOG2_STATES: u8, const H0: u16, const H1: u16>;

impl<const LOG2_STATES: u8, const H0: u16, const H1: u16> Known<LOG2_STATES, H0, H1> {
    pub const STATES: usize = 1 << LOG2_STATES;
    /// Half as many as states.
    pub const BUTTERFLIES: [Butterfly; MOST_STATES / 2] = {
        let trellis = Trellis { log2_states: LOG2_STATES, h0: H0, h1: H1 };
        let mut all = [Butterfly { low: 0, high: 0, straight: 0, crossed: 0 }; MOST_STATES / 2];
        let (mut state, mut count) = (0, 0);
        while state < Self::STATES {
            let [low, high] = predecessors(state, &trellis);
            if low < high {
                let (straight, crossed) = (state as u8, state as u8 ^ (H1 >> 1) as u8);
                all[count] = Butterfly { low: low as u8, high: high as u8, straight, crossed };
                count += 1;
            }
            state += 1;
        }
        all
    };
}

/// Words of decisions per step and lane.
pub fn words(trellis: &Trellis) -> usize {
    (1usize << trellis.log2_states).div_ceil(PER_WORD)
}

/// A state's predecessors by parity, if the machine is of the kind above.
pub const fn predecessors(state: usize, trellis: &Trellis) -> [usize; 2] {
    let upper = state >> (trellis.log2_states - 1);
    let t = state ^ (upper * (trellis.h0 >> 1) as usize);
    [2 * t + upper, 2 * (t ^ (trellis.h1 >> 1) as usize) + upper]
}

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

/// The tables as vectors compare and look them up: thresholds less one and not above the
/// last place of a period, and without raw bits what is special about 0 as an offset.
pub fn folded(metrics: &Metrics) -> Vec<Tables> {
    const PLACES: u16 = (PERIOD - 1) as u16;
    let mut classes = metrics.classes.clone();
    for tables in &mut classes {
        tables.threshold.as_flattened_mut().iter_mut().for_each(|at| *at = at.saturating_sub(1).min(PLACES));
        if metrics.raw_bits == 0 {
            for row in [0, ROWS] {
                tables.offset[3][row] = tables.offset[3][row].saturating_add(UNIT as i16);
            }
        }
    }
    classes
}
