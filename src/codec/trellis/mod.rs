//! Trellis-coded quantisation: the encoder's search for the best path.
//!
//! Two quantisers share the levels of one fine grid, and a finite state machine
//! driven by the parities of the indices says which of them is next (Marcellin and
//! Fischer, IEEE Trans. Commun. 38(1), 1990; entropy-coded: Fischer and Wang, IEEE
//! Trans. Inf. Theory 38(2), 1992). The union is as fine as a grid at twice the rate,
//! and choosing the path well gains about 1 dB of the 1.53 that scalar quantisation
//! leaves. The path is found by the Viterbi algorithm with the rate as part of the
//! cost.
//!
//! All costs are 16-bit integers, so that every instruction set finds the same
//! path and a vector holds as many trellises as it has 16-bit lanes.

/// What `$value` is where `$code` is the machine of a trellis, for any of [`CODES`]: a constant, so
/// that the compiler knows it.
#[cfg(target_arch = "x86_64")]
macro_rules! for_code {
    ($trellis:expr, $code:ident => $value:expr) => {
        for_code!($trellis, $code => $value, 0 1 2 3 4 5 6)
    };
    ($trellis:expr, $code:ident => $value:expr, $($i:literal)*) => {
        match CODES.iter().position(|code| code == $trellis) {
            $(Some($i) => {
                const $code: Trellis = CODES[$i];
                Some($value)
            })*
            _ => None,
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod count;
mod design;
#[cfg(target_arch = "x86_64")]
mod machine;
mod portable;
mod sample;
mod tables;
#[cfg(test)]
mod tests;

pub use design::Design;
pub use sample::Sample;
pub use tables::{Metrics, Tables};

use crate::codec::isa::Isa;
use crate::codec::layout::BlockShape;
use crate::codec::params::Trellis;
use tables::EIGHT;

/// Trellises that are searched side by side.
pub const GROUP: usize = 32;
/// One step of the grid in the fixed-point numbers of the search.
pub const UNIT: i32 = 1 << 13;
/// Levels of one subset are four steps apart.
pub const PERIOD: i32 = 4 * UNIT;
/// Raw bits that the search covers: the word that it keeps per weight has seven bits
/// for the number of whole periods.
pub const MOST_RAW_BITS: u8 = 4;

/// The machines that weights are quantised with, of 4 to 256 states: Ungerboeck's codes for amplitude
/// modulation (IEEE Trans. Inf. Theory 28(1), 1982; IEEE Commun. Mag. 25(2), 1987).
const CODES: [Trellis; 7] = [
    Trellis { log2_states: 2, h0: 0o5, h1: 0o2 },
    EIGHT,
    Trellis { log2_states: 4, h0: 0o23, h1: 0o4 },
    Trellis { log2_states: 5, h0: 0o45, h1: 0o10 },
    Trellis { log2_states: 6, h0: 0o103, h1: 0o24 },
    Trellis { log2_states: 7, h0: 0o235, h1: 0o126 },
    Trellis { log2_states: 8, h0: 0o515, h1: 0o362 },
];

/// The machine of so many states.
pub fn ungerboeck(log2_states: u8) -> Option<Trellis> {
    CODES.into_iter().find(|code| code.log2_states == log2_states)
}

/// The elements of a block, little-endian, in element order.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// BF16.
    Bf16(&'a [u8]),
    F32(&'a [f32]),
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::Bf16(bytes) => bytes.len() / 2,
            Source::F32(values) => values.len(),
        }
    }

    #[inline]
    fn get(&self, i: usize) -> f32 {
        match self {
            Source::Bf16(bytes) => {
                f32::from_bits(u32::from(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])) << 16)
            }
            Source::F32(values) => values[i],
        }
    }
}

/// A block to be searched.
pub struct Search<'a> {
    pub shape: BlockShape,
    pub source: Source<'a>,
    pub metrics: &'a Metrics,
    /// Per row: 1 over the row's step factor, or empty.
    pub row_scales: &'a [f32],
    /// Per column: 1 over the column's step factor, or empty.
    pub column_scales: &'a [f32],
    /// Per row: which of the metrics' tables, or empty.
    pub row_classes: &'a [u8],
}

/// What the search chose, in element order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Symbol + 32 times quantiser.
    pub entries: Vec<u8>,
    /// The raw bits, if there are any.
    pub raw: Vec<u16>,
    /// Index of each element that is beyond the grid, ascending.
    pub escapes: Vec<u32>,
}

/// The memory of a search, to be used again.
#[derive(Default)]
pub struct Scratch {
    /// A word per step and lane: what the magnitude offers each subset.
    words: Vec<u16>,
    /// A bit per step, lane and state: which predecessor won.
    decisions: Vec<u16>,
    escapes: Vec<u32>,
}

/// Successive steps of one group of trellises that are alike: neighbouring elements
/// of one row after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Steps before this run.
    before: usize,
    rows: usize,
    first_row: usize,
    column: usize,
    /// 1 to 32.
    active: usize,
}

impl Scratch {
    /// Makes room for the steps of these runs, and so many decision words in each.
    fn fit(&mut self, runs: &[Run], per_step: usize) {
        let steps = runs.last().map_or(0, |run| run.before + run.rows);
        self.words.resize(steps * GROUP, 0);
        self.decisions.resize(steps * per_step * GROUP, 0);
    }
}

impl Run {
    /// Step, row and index of the first element.
    fn steps(self, row_len: usize) -> impl DoubleEndedIterator<Item = (usize, usize, usize)> {
        (0..self.rows).map(move |i| {
            let row = self.first_row + i;
            (self.before + i, row, row * row_len + self.column)
        })
    }
}

impl Search<'_> {
    /// The steps of the trellises from `lane` on, in order.
    fn runs(&self, lane: usize) -> Vec<Run> {
        let BlockShape { elements, row_len, lanes } = self.shape;
        let width = GROUP.min(lanes - lane);
        let (whole_rows, rest) = (elements / row_len, elements % row_len);
        let mut runs = Vec::new();
        let mut before = 0;
        for column in (lane..row_len).step_by(lanes) {
            let last = (whole_rows, 1, rest.saturating_sub(column));
            for (first_row, rows, left) in [(0, whole_rows, row_len - column), last] {
                if rows > 0 && left > 0 {
                    runs.push(Run { before, rows, first_row, column, active: left.min(width) });
                    before += rows;
                }
            }
        }
        runs
    }

    fn scale_of_row(&self, row: usize) -> f32 {
        self.metrics.scale * self.row_scales.get(row).copied().unwrap_or(1.0)
    }

    fn class_of_row(&self, row: usize) -> usize {
        self.row_classes.get(row).map_or(0, |&class| usize::from(class))
    }

    /// Finds the path of least cost for every lane.
    pub fn run(&self, isa: Isa, scratch: &mut Scratch, choice: &mut Choice) {
        let n = self.shape.elements;
        assert_eq!(self.source.len(), n);
        assert!(self.row_scales.is_empty() || self.row_scales.len() >= self.shape.rows());
        assert!(self.row_classes.is_empty() || self.row_classes.len() >= self.shape.rows());
        assert!(self.column_scales.is_empty() || self.column_scales.len() == self.shape.row_len);
        // Every element is written, so what is there may stay.
        choice.entries.resize(n, 0);
        choice.raw.resize(if self.metrics.raw_bits > 0 { n } else { 0 }, 0);
        scratch.escapes.clear();
        for lane in (0..self.shape.lanes).step_by(GROUP) {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512::search(self, lane, scratch, choice),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::search(self, lane, scratch, choice),
                _ => portable::search(self, lane, scratch, choice),
            }
        }
        scratch.escapes.sort_unstable();
        choice.escapes.clone_from(&scratch.escapes);
    }
}
