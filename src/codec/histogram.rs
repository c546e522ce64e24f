//! How often the upper bits of a tensor's elements occur: all that lossless
//! coding and scalar quantisation need to know of it.
//!
//! BF16, F16 and the 8-bit types are counted exactly; of F32 and F64 the upper
//! 16 bits are, which hold the sign, the exponent and, for F32, the mantissa to
//! BF16's precision.

use crate::codec::float;
use crate::dtype::{Dtype, Split};

/// Counts of the upper (up to) 16 bits of elements.
#[derive(Debug, Clone)]
pub struct Histogram {
    dtype: Dtype,
    counts: Vec<u64>,
    /// The bits that are set in any element.
    ones: u64,
}

/// The distinct finite values of a tensor, ascending, with sums over all values
/// before each, so that any range is summed in two look-ups.
#[derive(Debug, Clone)]
pub struct ValueSums {
    values: Vec<f32>,
    /// Count, sum of values, and sum of squares of `values[..i]`.
    sums: Vec<Sums>,
    /// Elements that are infinite, not a number, or left out by
    /// [`ValueSums::within`].
    pub others: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    pub count: u64,
    pub sum: f64,
    pub squares: f64,
}

impl Histogram {
    /// For elements of whole bytes.
    pub fn new(dtype: Dtype) -> Histogram {
        let bins = if dtype.bits() == 8 { 1 << 8 } else { 1 << 16 };
        Histogram { dtype, counts: vec![0; bins], ones: 0 }
    }

    /// Counts whole elements, at most 2^32 - 1 at a time.
    pub fn add(&mut self, bytes: &[u8]) {
        let tables = match self.dtype.width_in_array() {
            1 => count(bytes, &mut self.ones, |&[byte]| usize::from(byte)),
            2 => count(bytes, &mut self.ones, |&element| usize::from(u16::from_le_bytes(element))),
            4 => count(bytes, &mut self.ones, |&[_, _, c, d]| usize::from(u16::from_le_bytes([c, d]))),
            _ => count(bytes, &mut self.ones, |&[_, _, _, _, _, _, g, h]| usize::from(u16::from_le_bytes([g, h]))),
        };
        for table in tables.chunks_exact(BINS) {
            self.counts.iter_mut().zip(table).for_each(|(total, &count)| *total += u64::from(count));
        }
    }

    pub fn merge(mut self, other: &Histogram) -> Histogram {
        self.ones |= other.ones;
        for (total, count) in self.counts.iter_mut().zip(&other.counts) {
            *total += count;
        }
        self
    }

    /// Bits at the lower end that are zero in all elements; 64 if all bits are.
    pub fn trailing_zeros(&self) -> u32 {
        self.ones.trailing_zeros()
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How often each value of the field occurs.
    pub fn field_counts(&self, split: Split) -> Vec<u64> {
        self.field_counts_above(split, 0).0
    }

    /// How often each value of the field occurs in elements whose lowest `zero_bits`
    /// bits are zero, and the number of other elements. Of types wider than 16 bits,
    /// these bits must be zero in all.
    pub fn field_counts_above(&self, split: Split, zero_bits: u8) -> (Vec<u64>, u64) {
        let below = (self.dtype.bits() - self.counts.len().ilog2()) as u8;
        let mask = (1usize << split.bits) - 1;
        let zeros = (1usize << zero_bits.saturating_sub(below)) - 1;
        let (mut fields, mut others) = (vec![0; 1 << split.bits], 0);
        for (top, &count) in self.counts.iter().enumerate() {
            if top & zeros == 0 {
                fields[top >> (split.shift - below) & mask] += count;
            } else {
                others += count;
            }
        }
        (fields, others)
    }

    /// For the types that prime-sparse can hold (the values of F32 stand in the middle
    /// of their bins).
    pub fn values(&self) -> ValueSums {
        let value = |top: usize| match self.dtype {
            Dtype::F32 => f32::from_bits((top as u32) << 16 | 0x8000),
            dtype => float::from_bits(dtype, top as u32),
        };
        let negative = (self.counts.len() / 2..self.counts.len()).rev();
        let positive = 0..self.counts.len() / 2;
        let mut sums = ValueSums { values: Vec::new(), sums: vec![Sums::default()], others: 0 };
        for top in negative.chain(positive) {
            let (count, value) = (self.counts[top], value(top));
            if count == 0 {
                continue;
            }
            if value.is_finite() {
                sums.push(value, count);
            } else {
                sums.others += count;
            }
        }
        sums
    }
}

/// Values that 16 bits have.
const BINS: usize = 1 << 16;

/// Counts elements by their upper bits into two tables, one after the other: equal
/// neighbours would wait for each other's counts. Adds their bits to `ones`.
fn count<const WIDTH: usize>(bytes: &[u8], ones: &mut u64, top: impl Fn(&[u8; WIDTH]) -> usize) -> Vec<u32> {
    let mut tables = vec![0u32; 2 * BINS];
    let (even, odd) = tables.split_at_mut(BINS);
    let (pairs, rest) = bytes.as_chunks::<WIDTH>().0.as_chunks::<2>();
    for [first, second] in pairs {
        even[top(first) % BINS] += 1;
        odd[top(second) % BINS] += 1;
    }
    for element in rest {
        even[top(element) % BINS] += 1;
    }
    // In words of 8 bytes, of which each has an element or several.
    let (words, rest) = bytes.as_chunks::<8>();
    let mut all = words.iter().fold(0, |all, &word| all | u64::from_le_bytes(word));
    for (i, &byte) in rest.iter().enumerate() {
        all |= u64::from(byte) << (8 * i);
    }
    for i in 0..8 / WIDTH {
        *ones |= all >> (8 * WIDTH * i) & (u64::MAX >> (64 - 8 * WIDTH));
    }
    tables
}

impl ValueSums {
    fn push(&mut self, value: f32, count: u64) {
        let before = self.sums[self.values.len()];
        let (v, c) = (f64::from(value), count as f64);
        self.values.push(value);
        self.sums.push(Sums {
            count: before.count + count,
            sum: before.sum + c * v,
            squares: before.squares + c * v * v,
        });
    }

    /// Only the values up to this magnitude: a wild one would drown the sums of
    /// all others in its rounding error.
    pub fn within(&self, magnitude: f32) -> ValueSums {
        let mut inner = ValueSums { values: Vec::new(), sums: vec![Sums::default()], others: self.others };
        for (&value, sums) in self.values.iter().zip(self.sums.windows(2)) {
            let count = sums[1].count - sums[0].count;
            if value.abs() <= magnitude {
                inner.push(value, count);
            } else {
                inner.others += count;
            }
        }
        inner
    }

    /// Over the finite values.
    pub fn total(&self) -> Sums {
        self.sums[self.values.len()]
    }

    /// Over the values below `bound`.
    pub fn below(&self, bound: f32) -> Sums {
        self.sums[self.values.partition_point(|&v| v < bound)]
    }

    /// The smallest magnitude that at most `allowed` values exceed.
    pub fn magnitude_exceeded_by(&self, allowed: u64) -> f32 {
        let (mut low, mut high) = (0, self.values.len());
        let mut left = allowed;
        let mut largest = 0f32;
        while low < high {
            let (first, last) = (self.values[low].abs(), self.values[high - 1].abs());
            let outer = if first > last { low } else { high - 1 };
            let count = self.sums[outer + 1].count - self.sums[outer].count;
            largest = first.max(last);
            if count > left {
                break;
            }
            left -= count;
            if outer == low { low += 1 } else { high -= 1 }
        }
        largest
    }
}

impl std::ops::Sub for Sums {
    type Output = Sums;

    fn sub(self, other: Sums) -> Sums {
        Sums { count: self.count - other.count, sum: self.sum - other.sum, squares: self.squares - other.squares }
    }
}

/// Entropy of counts, in bits per occurrence.
pub fn entropy(counts: &[u64]) -> f64 {
    let total: u64 = counts.iter().sum();
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let p = count as f64 / total as f64;
            -p * p.log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn sums_and_fields_are_those_of_the_elements() {
        let values = [-3.0f32, -0.5, 0.0, 0.25, 0.25, 7.0, f32::INFINITY, f32::NAN];
        let bytes: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        let mut histogram = Histogram::new(Dtype::BF16);
        histogram.add(&bytes);
        let sums = histogram.values();
        assert_eq!(sums.others, 2);
        assert_eq!(sums.total().count, 6);
        assert_eq!(sums.below(0.25).count, 3);
        assert_eq!((sums.total() - sums.below(0.25)).squares, 2.0 * 0.0625 + 49.0);
        assert_eq!(sums.magnitude_exceeded_by(0), 7.0);
        assert_eq!(sums.magnitude_exceeded_by(1), 3.0);
        let split = Dtype::BF16.split().expect("BF16 splits");
        let fields = histogram.field_counts(split);
        assert_eq!(fields[255], 2, "infinity and not-a-number");
        assert_eq!(fields[0], 1, "zero");
        assert_eq!(fields[125], 2, "0.25");
    }

    #[test]
    fn fields_of_every_split_type_come_from_the_right_bits() {
        for dtype in Dtype::all() {
            let (Some(split), Some(width)) = (dtype.split(), dtype.width()) else { continue };
            let field = (1u64 << split.bits) - 2;
            let element = (field << split.shift).to_le_bytes();
            let mut histogram = Histogram::new(dtype);
            histogram.add(&element[..width]);
            assert_eq!(histogram.field_counts(split)[field as usize], 1, "{}", dtype.name());
        }
    }
}
