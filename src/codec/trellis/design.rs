//! The choice of step, tables and grid for a tensor, from a sample of it.
//!
//! Rates depend on the tables, the tables on the choices of the search, and these on
//! the rates and the step: a few rounds of search, count and adjust settle all of it
//! (as in the design of entropy-constrained quantisers: Chou, Lookabaugh and Gray,
//! IEEE Trans. ASSP 37(1), 1989).

use super::count::Count;
use super::{Choice, MOST_RAW_BITS, Metrics, Sample, Scratch, Search, Source};
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::isa::Isa;
use crate::codec::manifold::{Grid, Levels, TRELLIS_CENTRE, trellis_level};
use crate::codec::params::{CONTEXT_ENTRIES, ENTRIES, ESCAPE, Trellis};

/// Squared steps that a bit is worth, where the rates of all levels are known. The
/// high-rate theory says 2 ln 2 times the noise of 0.26 squared steps; a little more
/// is measured as best at all rates up to 4 bits.
const LAMBDA: f64 = 0.42;
/// The same with raw bits: levels that share a symbol share its price, so that it
/// says little about each.
const LAMBDA_RAW: f64 = 0.25;
/// Rounds of search, count and adjust over a part of the sample, until tables and
/// choices agree: at low rates they approach each other slowly.
const COARSE_ROUNDS: usize = 24;
/// Rounds over all of it.
const ROUNDS: usize = 8;
/// Close enough to the bits asked for, in bits per weight.
const CLOSE: f64 = 0.0002;
/// A design whose bits stay farther from those asked for than this is none.
const NEAR: f64 = 0.02;
/// Rounds after which it may be close enough.
const LEAST_ROUNDS: usize = 3;
/// Most bits per weight before which the search without raw bits is worth trying, and
/// least after which each further raw bit is.
const WITHOUT_RAW: f64 = 4.3;
const EACH_RAW: f64 = 3.6;

/// A quantiser for a tensor.
#[derive(Debug, Clone)]
pub struct Design {
    pub trellis: Trellis,
    pub grid: Grid,
    /// Value of a unit of the integer grid.
    pub step: f32,
    pub raw_bits: u8,
    pub frequencies: Vec<Frequencies>,
    /// Bits per weight of the sample: symbols, raw bits and escapes.
    pub bits: f64,
    /// Mean squared error of the sample, with row and column steps divided out.
    pub noise: f64,
    /// The same if every entry stood for the mean of its weights.
    noise_of_centroids: f64,
    /// Where each entry lies, in steps of the level grid.
    values: [f64; ENTRIES],
    /// How far from there the mean of its weights is.
    centroids: [f64; ENTRIES],
}

impl Design {
    /// The quantiser of least noise at `bits` per weight on each of `grids`, where there
    /// is one: not for constant or wild tensors.
    pub fn find(isa: Isa, sample: &Sample, trellis: Trellis, grids: &[Grid], bits: f64) -> Vec<Design> {
        let Some(spread) = sample.spread() else { return Vec::new() };
        let part = sample.part();
        let mut found = Vec::new();
        for raw_bits in (0..=MOST_RAW_BITS).filter(|&raw_bits| is_worth_trying(raw_bits, bits)) {
            // The rate of a Gaussian at steps of two units.
            let mut state = State::gaussian(spread, spread * (2.05 - bits).exp2() / 2.0, raw_bits, sample.classes);
            for &grid in grids.iter().filter(|&&grid| grid == Grid::Uniform || raw_bits == 0) {
                if let Some(part) = &part {
                    Rounds::new(isa, part, trellis, grid, raw_bits, &mut state).run(bits, COARSE_ROUNDS);
                }
                found.extend(Rounds::new(isa, sample, trellis, grid, raw_bits, &mut state).run(bits, ROUNDS));
            }
        }
        let best_on = |grid: &Grid| {
            let of_grid = found.iter().filter(|design| design.grid == *grid);
            of_grid.min_by(|a, b| a.noise_at(bits).total_cmp(&b.noise_at(bits))).cloned()
        };
        grids.iter().filter_map(best_on).collect()
    }

    /// The noise that this quantiser would have if its bits were exactly these.
    pub fn noise_at(&self, bits: f64) -> f64 {
        self.noise * (2.0 * (self.bits - bits)).exp2()
    }

    /// Bits per weight that centroids are worth.
    pub fn centroids_save(&self) -> f64 {
        0.5 * (self.noise / self.noise_of_centroids).log2()
    }

    /// The value of each entry's centroid.
    pub fn centroids(&self) -> [f32; ENTRIES] {
        let step = f64::from(self.step) * f64::from(self.grid.spacing());
        std::array::from_fn(|entry| match (entry as u8 % CONTEXT_ENTRIES, self.values[entry]) {
            (ESCAPE, _) => 0.0,
            (_, at) => ((at + self.centroids[entry]) * step) as f32,
        })
    }

    /// A magnitude that no level exceeds, with row and column steps of 1.
    pub fn reach(&self) -> f64 {
        let levels = f64::from(32u32 << self.raw_bits);
        // The primes run ahead of the multiples of six by less than two, and centroids of
        // their levels by at most one step.
        (levels + 3.0) * f64::from(self.step) * f64::from(self.grid.spacing())
    }

    /// For the search over the tensor.
    pub fn metrics(&self) -> Metrics {
        let costs: Vec<_> = self.frequencies.iter().map(costs).collect();
        metrics(
            self.trellis,
            f64::from(self.step) * f64::from(self.grid.spacing()),
            self.raw_bits,
            &costs,
            self.grid,
            &self.values,
        )
    }
}

fn metrics(
    trellis: Trellis,
    step: f64,
    raw_bits: u8,
    costs: &[[f64; ENTRIES]],
    grid: Grid,
    values: &[f64; ENTRIES],
) -> Metrics {
    let lambda = if raw_bits == 0 { LAMBDA } else { LAMBDA_RAW };
    Metrics::new(trellis, step as f32, raw_bits, lambda, costs, (grid == Grid::Prime).then_some(values))
}

/// Bits of each entry; what does not occur is dear but not impossible.
fn costs(frequencies: &Frequencies) -> [f64; ENTRIES] {
    frequencies.costs().map(|bits| bits.min(17.0))
}

/// The value of an entry in steps of the level grid.
fn values(grid: Grid) -> [f64; ENTRIES] {
    let levels = Levels::new(grid, 32);
    std::array::from_fn(|entry| {
        let (quantiser, symbol) = (entry / usize::from(CONTEXT_ENTRIES), entry % usize::from(CONTEXT_ENTRIES));
        let level = trellis_level(quantiser, symbol as i32 - TRELLIS_CENTRE);
        f64::from(levels.number(level) / grid.spacing())
    })
}

fn is_worth_trying(raw_bits: u8, bits: f64) -> bool {
    let more = f64::from(raw_bits) - 1.0;
    if raw_bits == 0 { bits <= WITHOUT_RAW } else { (EACH_RAW + more..WITHOUT_RAW + 1.3 + more).contains(&bits) }
}

/// What the rounds work on.
struct State {
    /// Of the level grid.
    step: f64,
    /// Bits of each entry, per class.
    costs: Vec<[f64; ENTRIES]>,
}

impl State {
    fn gaussian(spread: f64, step: f64, raw_bits: u8, classes: usize) -> State {
        let at = values(Grid::Uniform);
        let scale = step * f64::from(1u32 << raw_bits) / spread;
        // -log2 of the normal density at a level, which is log2(sqrt(2 pi)) + log2(e) / 2 x^2, and of how
        // much is nearest to it: the levels of a quantiser lie two steps apart.
        let costs = at.map(|at| (1.33 - (2.0 * scale).log2() + 0.72 * (at * scale).powi(2)).clamp(0.5, 17.0));
        State { step, costs: vec![costs; classes] }
    }
}

struct Rounds<'a> {
    isa: Isa,
    sample: &'a Sample,
    trellis: Trellis,
    grid: Grid,
    raw_bits: u8,
    values: [f64; ENTRIES],
    state: &'a mut State,
    scratch: Scratch,
    choice: Choice,
}

impl<'a> Rounds<'a> {
    fn new(
        isa: Isa,
        sample: &'a Sample,
        trellis: Trellis,
        grid: Grid,
        raw_bits: u8,
        state: &'a mut State,
    ) -> Rounds<'a> {
        Rounds {
            isa,
            sample,
            trellis,
            grid,
            raw_bits,
            values: values(grid),
            state,
            scratch: Scratch::default(),
            choice: Choice::default(),
        }
    }

    fn run(mut self, wanted: f64, rounds: usize) -> Option<Design> {
        let mut best: Option<Design> = None;
        for round in 0..rounds {
            let design = self.round()?;
            let (bits, miss) = (design.bits, (design.bits - wanted).abs());
            if round + 1 >= LEAST_ROUNDS && best.as_ref().is_none_or(|best| miss < (best.bits - wanted).abs()) {
                best = Some(design);
                if miss < CLOSE {
                    break;
                }
            }
            self.state.step *= (bits - wanted).clamp(-2.0, 2.0).exp2();
        }
        best.filter(|best| (best.bits - wanted).abs() < NEAR)
    }

    /// Searches with the step and costs as they are, and takes new costs from it.
    fn round(&mut self) -> Option<Design> {
        let sample = self.sample;
        // The step that the file will have, rounded as it will be.
        let step = (self.state.step / f64::from(self.grid.spacing())) as f32;
        let level_step = f64::from(step) * f64::from(self.grid.spacing());
        if !step.is_normal() || !(1.0 / (level_step as f32)).is_finite() {
            return None;
        }
        let metrics = metrics(self.trellis, level_step, self.raw_bits, &self.state.costs, self.grid, &self.values);
        let search = Search {
            shape: sample.shape(),
            source: Source::F32(&sample.values),
            metrics: &metrics,
            row_scales: &sample.row_scales,
            column_scales: &sample.column_scales,
            row_classes: &sample.row_classes,
        };
        search.run(self.isa, &mut self.scratch, &mut self.choice);
        let count = Count::new(sample, &self.choice, &self.values, self.raw_bits, level_step);
        let frequencies: Vec<_> = count.counts.iter().map(|counts| Frequencies::from_counts(counts, 2)).collect();
        self.state.costs = frequencies.iter().map(costs).collect();
        let n = sample.values.len() as f64;
        let coded: f64 = count
            .counts
            .iter()
            .flatten()
            .zip(self.state.costs.iter().flatten())
            .map(|(&count, cost)| count as f64 * cost)
            .sum();
        let escaped = self.choice.escapes.len() as f64 * sample.escape_bits;
        Some(Design {
            trellis: self.trellis,
            grid: self.grid,
            step,
            raw_bits: self.raw_bits,
            frequencies,
            bits: (coded + escaped) / n + f64::from(self.raw_bits),
            noise: count.noise * level_step * level_step / n,
            noise_of_centroids: count.noise_of_centroids * level_step * level_step / n,
            values: self.values,
            centroids: count.centroids,
        })
    }
}
