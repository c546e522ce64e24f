//! Stages 1 and 2: quantisation to an integer grid, with the rate deciding
//! along with the distortion, so that near-zero weights become exact zeros.
//!
//! A weight v takes the group k that minimises `(v - value_k)^2 + lambda *
//! bits_k` (entropy-constrained scalar quantisation: Chou, Lookabaugh and Gray,
//! IEEE Trans. ASSP 37(1), 1989). As functions of v these costs differ by lines,
//! so the choice is a list of thresholds, the lower envelope of the lines. All
//! sums come from the tensor's histogram: a candidate costs microseconds, and
//! its rate and distortion are exact for the 16-bit types.

use crate::codec::float;
use crate::codec::histogram::{Sums, ValueSums, entropy};
use crate::codec::manifold::{CENTRE, Grid, Levels};
use crate::codec::params::{ENTRIES, ESCAPE, MAX_PRIME_SPARSE_RAW_BITS};
use crate::dtype::Dtype;

/// INT8 grid: the prime grid stops at the last prime below 128, index 20.
const LARGEST_PRIME_INDEX: i32 = 20;
/// 31 groups of either sign, and one symbol for the escape.
const LARGEST_INDEX: i32 = 31;
/// Weights beyond the grid are listed at 6 bytes or more: about this share may be.
const TAIL: f64 = 1e-4;
/// However small the tensor, so many weights may be.
const LEAST_TAIL: u64 = 4;
/// Lambda in units of the squared spacing per bit; 0 is plain rounding. The
/// high-rate optimum is ln(2) / 6 = 0.116.
const LAMBDAS: [f64; 5] = [0.0, 0.05, 0.09, 0.116, 0.15];
/// No grid reaches this many times beyond the tail.
const REACH: f32 = 1024.0;
/// How far below the raw bits that reach all but the tail to look for cheaper ones.
const RAW_BITS_TRIED: u8 = 3;

/// A quantiser for one tensor.
#[derive(Debug, Clone)]
pub struct Quantiser {
    pub grid: Grid,
    /// Value of a unit of the integer grid.
    pub step: f32,
    pub raw_bits: u8,
    /// `indices[i]` is for values from `bounds[i - 1]` up to below `bounds[i]`.
    bounds: Vec<f32>,
    /// None: an escape.
    indices: Vec<Option<i32>>,
    /// What the histogram says that it does.
    pub outcome: Outcome,
}

/// Rate and distortion of a quantiser over a whole tensor.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How often each symbol occurs.
    pub counts: [u64; ENTRIES],
    /// Entropy-coded, raw and escaped bits in total.
    pub bits: f64,
    /// Sum of squared errors, before rounding to the element type.
    pub noise: f64,
}

impl Quantiser {
    /// The best quantiser on this grid that takes at most `budget` bits for the
    /// whole tensor of this element type. None if
    /// there is nothing to quantise or the budget cannot be met.
    pub fn search(values: &ValueSums, grid: Grid, budget: f64, dtype: Dtype) -> Option<Quantiser> {
        let count = values.total().count;
        // Not the rms: a single wild outlier would decide it, and is an escape.
        let tail = values.magnitude_exceeded_by(LEAST_TAIL.max((count as f64 * TAIL) as u64));
        let tail = if tail > 0.0 { tail } else { values.magnitude_exceeded_by(0) };
        if tail <= 0.0 {
            return None;
        }
        let values = &values.within(tail * REACH);
        LAMBDAS
            .iter()
            .filter_map(|&lambda| {
                let task = Task { values, grid, lambda, tail, dtype };
                task.meet(budget)
            })
            .min_by(|a, b| a.outcome.noise.total_cmp(&b.outcome.noise))
    }

    /// The index of a weight, or None if it must be escaped.
    #[inline]
    pub fn index(&self, value: f32) -> Option<i32> {
        if !value.is_finite() {
            return None;
        }
        self.indices[self.bounds.partition_point(|&bound| bound <= value)]
    }

    /// Symbol and raw bits of a weight.
    #[inline]
    pub fn symbol(&self, value: f32) -> (u8, u64) {
        match self.index(value) {
            None => (ESCAPE, 0),
            Some(k) => (symbol_of(k, self.raw_bits), (k & ((1 << self.raw_bits) - 1)) as u64),
        }
    }

    /// Bits that symbols, raw bits and escapes take if the symbols occur so often.
    pub fn bits(&self, counts: &[u64; ENTRIES], dtype: Dtype) -> f64 {
        bits(counts, self.raw_bits, dtype)
    }

    /// What a weight of this index decodes to, before rounding to the element type.
    pub fn value(levels: &Levels, step: f32, index: i32) -> f32 {
        levels.number(index) * step
    }

    /// The grid's integers for all indices of this quantiser.
    pub fn levels(&self) -> Levels {
        Levels::new(self.grid, (LARGEST_INDEX as usize + 1) << self.raw_bits)
    }
}

fn symbol_of(k: i32, raw_bits: u8) -> u8 {
    ((k >> raw_bits) + CENTRE) as u8
}

struct Task<'a> {
    values: &'a ValueSums,
    grid: Grid,
    lambda: f64,
    /// The magnitude that the grid must reach.
    tail: f32,
    dtype: Dtype,
}

impl Task<'_> {
    /// The finest step whose rate stays within the budget.
    fn meet(&self, budget: f64) -> Option<Quantiser> {
        let scale = f64::from(self.tail / self.grid.spacing());
        let (mut fine, mut coarse) = ((scale * 2f64.powi(-16)).ln(), (scale * 16.0).ln());
        let mut best = None;
        // 2^-26 of the range: far below what a bit of budget can tell apart.
        for _ in 0..26 {
            let middle = (fine + coarse) / 2.0;
            match self.quantiser(middle.exp() as f32).filter(|q| q.outcome.bits <= budget) {
                Some(quantiser) => {
                    best = Some(quantiser);
                    coarse = middle;
                }
                None => fine = middle,
            }
        }
        best
    }

    /// The quantiser of this step, with the cheapest number of raw bits.
    fn quantiser(&self, step: f32) -> Option<Quantiser> {
        let spread = f64::from(self.tail) / self.spacing(step);
        let largest = f64::from(self.largest_index());
        let enough = (spread / largest).log2().ceil().max(0.0) as u8;
        if !step.is_normal() || enough > self.most_raw_bits() {
            return None;
        }
        (enough.saturating_sub(RAW_BITS_TRIED)..=enough)
            .map(|raw_bits| self.with_raw_bits(step, raw_bits))
            .min_by(|a, b| a.outcome.bits.total_cmp(&b.outcome.bits))
    }

    /// Between neighbouring groups; in f64, as it may be beyond what f32 has.
    fn spacing(&self, step: f32) -> f64 {
        f64::from(step) * f64::from(self.grid.spacing())
    }

    fn largest_index(&self) -> i32 {
        match self.grid {
            Grid::Uniform => LARGEST_INDEX,
            Grid::Prime => LARGEST_PRIME_INDEX,
        }
    }

    fn most_raw_bits(&self) -> u8 {
        match self.grid {
            Grid::Uniform => MAX_PRIME_SPARSE_RAW_BITS,
            Grid::Prime => 0,
        }
    }

    fn with_raw_bits(&self, step: f32, raw_bits: u8) -> Quantiser {
        let largest = self.largest_index() << raw_bits;
        let levels = Levels::new(self.grid, largest as usize);
        let mut groups: Vec<Group> = (-largest..=largest)
            .map(|index| (index, Quantiser::value(&levels, step, index)))
            // No weight may decode to infinity.
            .filter(|(_, value)| value.abs() <= float::largest(self.dtype))
            .map(|(index, value)| Group { index, value: f64::from(value), bits: 0.0 })
            .collect();
        let lambda = if raw_bits == 0 { self.lambda * self.spacing(step).powi(2) } else { 0.0 };
        // Rates follow from counts and counts from rates: three rounds settle it.
        let rounds = if lambda > 0.0 { 4 } else { 1 };
        let mut quantiser = self.assign(step, raw_bits, &groups, lambda);
        for _ in 1..rounds {
            let total = self.values.total().count as f64;
            groups.retain_mut(|group| {
                let count = quantiser.outcome.counts[usize::from(symbol_of(group.index, 0))];
                group.bits = (total / count as f64).log2();
                count > 0
            });
            quantiser = self.assign(step, raw_bits, &groups, lambda);
        }
        quantiser
    }

    /// The quantiser that takes the cheapest group for every value.
    fn assign(&self, step: f32, raw_bits: u8, groups: &[Group], lambda: f64) -> Quantiser {
        // Half a spacing, and what the histogram of F32 does not resolve.
        let reach = |group: &Group| self.spacing(step) / 2.0 + group.value.abs() / 128.0;
        let mut bounds: Vec<f32> = Vec::with_capacity(groups.len() + 1);
        let mut chosen: Vec<&Group> = Vec::with_capacity(groups.len());
        for group in groups {
            let mut bound = group.value - reach(group);
            while let Some(last) = chosen.last() {
                bound = last.bound_to(group, lambda);
                // The last group is cheapest nowhere if it would end before it begins.
                match bounds.last() {
                    Some(&begin) if bound <= f64::from(begin) && chosen.len() > 1 => {
                        chosen.pop();
                        bounds.pop();
                    }
                    _ => break,
                }
            }
            if let Some(&begin) = bounds.last() {
                bound = bound.max(f64::from(begin));
            }
            bounds.push(bound as f32);
            chosen.push(group);
        }
        if let (Some(last), Some(&begin)) = (chosen.last(), bounds.last()) {
            bounds.push(begin.max((last.value + reach(last)) as f32));
        }
        let indices = std::iter::once(None)
            .chain(chosen.iter().map(|group| Some(group.index)))
            .chain(std::iter::once(None))
            .collect();
        let outcome = self.outcome(raw_bits, &bounds, &chosen);
        Quantiser { grid: self.grid, step, raw_bits, bounds, indices, outcome }
    }

    fn outcome(&self, raw_bits: u8, bounds: &[f32], chosen: &[&Group]) -> Outcome {
        let mut outcome = Outcome { counts: [0; ENTRIES], bits: 0.0, noise: 0.0 };
        let mut begin = bounds.first().map_or(Sums::default(), |&bound| self.values.below(bound));
        let mut coded = 0;
        for (group, &bound) in chosen.iter().zip(bounds.iter().skip(1)) {
            let end = self.values.below(bound);
            let here = end - begin;
            begin = end;
            coded += here.count;
            outcome.counts[usize::from(symbol_of(group.index, raw_bits))] += here.count;
            outcome.noise +=
                here.squares - 2.0 * group.value * here.sum + group.value * group.value * here.count as f64;
        }
        let total = self.values.total().count + self.values.others;
        let escapes = total - coded;
        outcome.counts[usize::from(ESCAPE)] = escapes;
        outcome.bits = bits(&outcome.counts, raw_bits, self.dtype);
        outcome
    }
}

fn bits(counts: &[u64; ENTRIES], raw_bits: u8, dtype: Dtype) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let escapes = counts[usize::from(ESCAPE)] as f64;
    (entropy(counts) + f64::from(raw_bits)) * total + escapes * f64::from(32 + dtype.bits())
}

/// The weights that decode to one value.
struct Group {
    index: i32,
    value: f64,
    bits: f64,
}

impl Group {
    /// From which value on `next`, which lies above, is cheaper.
    fn bound_to(&self, next: &Group, lambda: f64) -> f64 {
        (self.value + next.value) / 2.0 + lambda * (next.bits - self.bits) / (2.0 * (next.value - self.value))
    }
}

#[cfg(test)]
mod tests;
