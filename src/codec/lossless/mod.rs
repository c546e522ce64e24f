//! Lossless coding: which values of the split field get a symbol.
//!
//! The exponents of trained weights take few values, so coding them with the
//! entropy coder and keeping sign and mantissa as they are comes close to the
//! best that is known (ZipNN, arXiv 2411.05239; DFloat11, arXiv 2504.11651).

mod block;
mod choose;

pub use block::encode;
pub use choose::{Choice, choose, choose_for_differences};

use crate::codec::params::{ENTRIES, ESCAPE};

/// The symbols of the field values of one array.
#[derive(Debug, Clone)]
pub struct FieldCode {
    /// Field value of each symbol; 0 for the escape and for unused symbols.
    pub values: [u16; ENTRIES],
    /// How often each symbol occurs.
    pub counts: [u64; ENTRIES],
    /// The symbol of every field value: one that is 16 bits wide is always inside.
    symbol_of: Box<[u8; 1 << 16]>,
}

impl FieldCode {
    /// The 63 most frequent values get symbols, ascending; the rest escapes.
    pub fn new(field_counts: &[u64]) -> FieldCode {
        let mut fields: Vec<usize> = (0..field_counts.len()).filter(|&f| field_counts[f] > 0).collect();
        fields.sort_by_key(|&f| (std::cmp::Reverse(field_counts[f]), f));
        fields.truncate(ENTRIES - 1);
        fields.sort_unstable();
        let symbol_of = Box::new([ESCAPE; 1 << 16]);
        let mut code = FieldCode { values: [0; ENTRIES], counts: [0; ENTRIES], symbol_of };
        for (i, &field) in fields.iter().enumerate() {
            code.values[i + 1] = field as u16;
            code.counts[i + 1] = field_counts[field];
            code.symbol_of[field] = i as u8 + 1;
        }
        let coded: u64 = code.counts.iter().sum();
        code.counts[usize::from(ESCAPE)] = field_counts.iter().sum::<u64>() - coded;
        code
    }
}

#[cfg(test)]
mod tests;
