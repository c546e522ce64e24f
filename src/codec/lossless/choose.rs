//! Which field of a tensor's elements is coded, and what is left out below it.

use super::FieldCode;
use crate::codec::histogram::{Histogram, entropy};
use crate::codec::params::ESCAPE;
use crate::dtype::{Dtype, Split};

/// What leaving out zero bits must save for 16-bit types: blocks without are decoded
/// several times faster.
const LEAST_SAVING: f64 = 0.03;

/// How the elements of a tensor are split.
pub struct Choice {
    pub split: Split,
    /// Bits at the lower end of the elements that are not stored.
    pub zero_bits: u8,
    pub code: FieldCode,
}

impl Choice {
    fn new(dtype: Dtype, histogram: &Histogram, split: Split, zero_bits: u8) -> Choice {
        let (counts, others) = histogram.field_counts_above(split, zero_bits);
        let mut code = FieldCode::new(&counts);
        code.counts[usize::from(ESCAPE)] += others;
        debug_assert!(u32::from(zero_bits + split.bits) <= dtype.bits());
        Choice { split, zero_bits, code }
    }

    /// Bits that an element is stored in beside its symbol.
    pub fn raw_bits(&self, dtype: Dtype) -> u8 {
        dtype.bits() as u8 - self.split.bits - self.zero_bits
    }

    /// Bits that all elements take, escapes included.
    pub fn bits(&self, dtype: Dtype) -> f64 {
        let elements: u64 = self.code.counts.iter().sum();
        let escape = f64::from(32 + dtype.bits());
        (entropy(&self.code.counts) + f64::from(self.raw_bits(dtype))) * elements as f64
            + self.code.counts[usize::from(ESCAPE)] as f64 * escape
    }
}

/// The cheapest way that is known for the type; None if there is none.
pub fn choose(dtype: Dtype, histogram: &Histogram) -> Option<Choice> {
    let splits = dtype.splits().iter();
    if dtype.bits() > 16 {
        return cheapest(dtype, splits.map(|&split| Choice::new(dtype, histogram, split, zeros(histogram, split))));
    }
    let whole = cheapest(dtype, splits.clone().map(|&split| Choice::new(dtype, histogram, split, 0)))?;
    let shortened = splits
        .flat_map(|&split| (1..=split.shift).map(move |zero_bits| Choice::new(dtype, histogram, split, zero_bits)));
    let shortened = cheapest(dtype, shortened);
    let pays = |choice: &Choice| choice.bits(dtype) < (1.0 - LEAST_SAVING) * whole.bits(dtype);
    Some(shortened.filter(pays).unwrap_or(whole))
}

/// The cheapest way to code elements that are differences (exclusive or) between those of two
/// tensors that are much alike: mostly small numbers, whose upper bits are the field.
pub fn choose_for_differences(dtype: Dtype, histogram: &Histogram) -> Option<Choice> {
    let counted = dtype.bits().min(16) as u8;
    let above = dtype.bits() as u8 - counted;
    let splits = (0..counted).map(|low| Split { shift: above + low, bits: counted - low });
    cheapest(
        dtype,
        splits.map(|split| {
            let zero_bits = if above > 0 { zeros(histogram, split) } else { 0 };
            Choice::new(dtype, histogram, split, zero_bits)
        }),
    )
}

fn cheapest(dtype: Dtype, choices: impl Iterator<Item = Choice>) -> Option<Choice> {
    choices.min_by(|a, b| a.bits(dtype).total_cmp(&b.bits(dtype)))
}

/// Bits below a field that are zero in all elements. Of wide types the lower bits were not counted:
/// they are left out if all are zero.
fn zeros(histogram: &Histogram, split: Split) -> u8 {
    (histogram.trailing_zeros() as u8).min(split.shift)
}
