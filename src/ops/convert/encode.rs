//! The second pass: a block of elements becomes stored bytes.

use std::cell::RefCell;

use super::plan::{Coding, Exact, Lossy, Plan, Quality};
use crate::codec::encode::{Symbols, encode_block};
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::layout::BlockShape;
use crate::codec::params::{ESCAPE, SymbolParams};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::format::BlockMode;

/// The stored form of a block.
pub struct Encoded {
    pub mode: BlockMode,
    pub stored: Vec<u8>,
    /// What was measured on the way; of 16-bit types under prime-sparse only the
    /// histogram knows it.
    pub quality: Quality,
}

/// Symbols and raw bits for each pattern of a 16-bit type: symbol in the low
/// byte, raw bits above. Empty for other types.
pub struct PatternTable(Vec<u32>);

impl PatternTable {
    pub fn new(plan: &Plan) -> PatternTable {
        match (&plan.coding, plan.width()) {
            (Coding::PrimeSparse(lossy), 2) => PatternTable(
                (0..=u16::MAX)
                    .map(|bits| {
                        let value = crate::codec::float::from_bits(plan.dtype, u32::from(bits));
                        let (symbol, raw) = lossy.quantiser.symbol(value);
                        u32::from(symbol) | (raw as u32) << 8
                    })
                    .collect(),
            ),
            _ => PatternTable(Vec::new()),
        }
    }
}

/// A block's elements, turned into symbols.
#[derive(Default)]
struct Work {
    symbols: Vec<u8>,
    raw: Vec<u64>,
    escape_positions: Vec<u32>,
    escape_values: Vec<u8>,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

/// Elements that are zero; of floating-point types, of either sign.
fn count_zeros(dtype: Dtype, bytes: &[u8]) -> u64 {
    fn count<const WIDTH: usize>(bytes: &[u8], sign: u8) -> u64 {
        let is_zero = |element: &[u8; WIDTH]| {
            let mut element = *element;
            element[WIDTH - 1] &= !sign;
            element == [0; WIDTH]
        };
        bytes.as_chunks().0.iter().filter(|element| is_zero(element)).count() as u64
    }
    let sign = if dtype.split().is_some() { 0x80 } else { 0 };
    match dtype.bits() / 8 {
        1 => count::<1>(bytes, sign),
        2 => count::<2>(bytes, sign),
        4 => count::<4>(bytes, sign),
        _ => count::<8>(bytes, sign),
    }
}

/// Encodes one block of whole elements.
pub fn encode(plan: &Plan, patterns: &PatternTable, bytes: &[u8]) -> Result<Encoded> {
    let zeros = Quality { zeros: count_zeros(plan.dtype, bytes), ..Quality::default() };
    let exact = |mode, stored| Ok(Encoded { mode, stored, quality: zeros });
    if zeros.zeros == bytes.len() as u64 / plan.width() && bytes.iter().all(|&b| b == 0) {
        return exact(BlockMode::Zeros, Vec::new());
    }
    match &plan.coding {
        Coding::Stored => exact(BlockMode::Stored, bytes.to_vec()),
        Coding::Zstd(level) => {
            let stored = zstd::bulk::compress(bytes, *level)
                .map_err(|e| Error::Invalid(format!("zstd failed to compress {} bytes: {e}", bytes.len())))?;
            if stored.len() < bytes.len() {
                exact(BlockMode::Coded, stored)
            } else {
                exact(BlockMode::Stored, bytes.to_vec())
            }
        }
        Coding::Lossless(exactly) => {
            let Exact { params, split, code, table, .. } = &**exactly;
            let stored = WORK.with_borrow_mut(|work| {
                work.fill(params, bytes, |element| code.split(*split, element));
                work.encode(plan, params, table)
            });
            if stored.len() < bytes.len() {
                exact(BlockMode::Coded, stored)
            } else {
                exact(BlockMode::Stored, bytes.to_vec())
            }
        }
        Coding::PrimeSparse(lossy) => {
            let mut quality = Quality::default();
            let stored = WORK.with_borrow_mut(|work| {
                work.quantise(lossy, patterns, bytes, &mut quality);
                // Of F32 the tables know only what its upper bits told. What they
                // cannot code all the same is kept exactly.
                let codable = plan.width() == 2 || work.symbols.iter().all(|&s| lossy.table.can_code(s));
                codable.then(|| work.encode(plan, &lossy.params, &lossy.table))
            });
            match stored {
                Some(stored) => Ok(Encoded { mode: BlockMode::Coded, stored, quality }),
                None => {
                    let quality = Quality { signal: quality.signal, ..zeros };
                    Ok(Encoded { mode: BlockMode::Stored, stored: bytes.to_vec(), quality })
                }
            }
        }
    }
}

impl Work {
    fn quantise(&mut self, lossy: &Lossy, patterns: &PatternTable, bytes: &[u8], quality: &mut Quality) {
        if lossy.params.dtype == Dtype::F32 {
            self.fill(&lossy.params, bytes, |element| {
                lossy.measure(element as u32, 1, quality);
                lossy.quantiser.symbol(f32::from_bits(element as u32))
            });
        } else {
            self.fill(&lossy.params, bytes, |element| {
                let pattern = patterns.0[element as usize & 0xFFFF];
                (pattern as u8, u64::from(pattern >> 8))
            });
        }
    }

    /// Turns every element into what `split` says: its symbol and raw bits.
    fn fill(&mut self, params: &SymbolParams, bytes: &[u8], split: impl FnMut(u64) -> (u8, u64)) {
        match params.dtype.bits() / 8 {
            1 => self.fill_width::<1>(params, bytes, split),
            2 => self.fill_width::<2>(params, bytes, split),
            4 => self.fill_width::<4>(params, bytes, split),
            _ => self.fill_width::<8>(params, bytes, split),
        }
    }

    fn fill_width<const WIDTH: usize>(
        &mut self,
        params: &SymbolParams,
        bytes: &[u8],
        mut split: impl FnMut(u64) -> (u8, u64),
    ) {
        self.symbols.clear();
        self.raw.clear();
        self.escape_positions.clear();
        self.escape_values.clear();
        let (elements, _) = bytes.as_chunks::<WIDTH>();
        for (i, element) in elements.iter().enumerate() {
            let mut word = [0; 8];
            word[..WIDTH].copy_from_slice(element);
            let (symbol, raw) = split(u64::from_le_bytes(word));
            self.symbols.push(symbol);
            if params.raw_bits > 0 {
                self.raw.push(raw);
            }
            if symbol == ESCAPE {
                self.escape_positions.push(i as u32);
                self.escape_values.extend_from_slice(element);
            }
        }
    }

    fn encode(&self, plan: &Plan, params: &SymbolParams, table: &EncodeTable) -> Vec<u8> {
        let shape = BlockShape { elements: self.symbols.len(), row_len: plan.row_len as usize, lanes: params.lanes };
        let block = Symbols {
            symbols: &self.symbols,
            raw: &self.raw,
            escape_positions: &self.escape_positions,
            escape_values: &self.escape_values,
            row_steps: &[],
            row_classes: &[],
        };
        encode_block(params, &shape, std::slice::from_ref(table), &block)
    }
}
