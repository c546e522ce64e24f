//! The second pass: a block of elements becomes stored bytes.

use std::cell::RefCell;

use super::plan::{Coding, Exact, Lossy, Plan};
use crate::buffer::fit;
use crate::codec::decode_block_on;
use crate::codec::encode::{Symbols, encode_block_on};
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::isa::Isa;
use crate::codec::layout::BlockShape;
use crate::codec::lossless;
use crate::codec::params::{ESCAPE, SymbolParams};
use crate::codec::raw::Raw;
use crate::dtype::Dtype;
use crate::error::{Defect, Error, Result};
use crate::format::BlockMode;
use crate::ops::quality::Quality;

/// The stored form of a block.
pub struct Encoded {
    pub mode: BlockMode,
    pub stored: Vec<u8>,
    /// What became of the elements; of prime-sparse without a trellis the plan knows.
    pub quality: Quality,
}

/// Symbols and raw bits for each pattern of an 8- or 16-bit type: symbol in the low
/// byte, raw bits above. Empty for other types.
pub struct PatternTable(Vec<u32>);

impl PatternTable {
    pub fn new(plan: &Plan) -> PatternTable {
        match (&plan.coding, plan.width()) {
            (Coding::PrimeSparse(lossy), width @ 1..=2) => PatternTable(
                (0..1 << (8 * width))
                    .map(|bits| {
                        let value = crate::codec::float::from_bits(plan.dtype, bits);
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
    static DECODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
    match dtype.width_in_array() {
        1 => count::<1>(bytes, sign),
        2 => count::<2>(bytes, sign),
        4 => count::<4>(bytes, sign),
        _ => count::<8>(bytes, sign),
    }
}

/// Why coding fails: the tables are made of the counts of these very elements.
fn changed(_: Defect) -> Error {
    Error::Invalid("the source changed while it was being converted".into())
}

/// Encodes block number `i` of an array, whole elements, with the encoder of this
/// instruction set (lossless blocks always with the one chosen for the process).
pub fn encode(isa: Isa, plan: &Plan, patterns: &PatternTable, i: u64, bytes: &[u8]) -> Result<Encoded> {
    let zeros = || Quality { zeros: count_zeros(plan.dtype, bytes), ..Quality::default() };
    let uncoded = |mode, stored, quality| Ok(Encoded { mode, stored, quality });
    // What coding does not shrink is stored.
    let smaller = |stored: Vec<u8>| {
        let shrunk = stored.len() < bytes.len();
        let mode = if shrunk { BlockMode::Coded } else { BlockMode::Stored };
        uncoded(mode, if shrunk { stored } else { bytes.to_vec() }, zeros())
    };
    if bytes.iter().all(|&b| b == 0) {
        return uncoded(BlockMode::Zeros, Vec::new(), zeros());
    }
    let stored = match &plan.coding {
        Coding::Stored => return uncoded(BlockMode::Stored, bytes.to_vec(), zeros()),
        Coding::Zstd(level) => {
            let compressed = zstd::bulk::compress(bytes, *level);
            let failed = |e| Error::Invalid(format!("zstd failed on {} bytes: {e}", bytes.len()));
            return smaller(compressed.map_err(failed)?);
        }
        Coding::Lossless(exact) => {
            let Exact { params, code, table, .. } = &**exact;
            return smaller(lossless::encode(params, plan.row_len as usize, code, table, bytes).map_err(changed)?);
        }
        Coding::PrimeSparse(lossy) => {
            let Lossy { params, quantiser, table, .. } = &**lossy;
            if plan.dtype == Dtype::F32 {
                code(isa, plan, params, table, bytes, |element| quantiser.symbol(f32::from_bits(element as u32)))
            } else {
                code(isa, plan, params, table, bytes, |element| {
                    let pattern = patterns.0[element as usize & 0xFFFF];
                    (pattern as u8, u64::from(pattern >> 8))
                })
            }?
        }
        Coding::Trellis(coding) => coding.encode(isa, plan.row_len, i * u64::from(plan.block_elems), bytes)?,
    };
    if stored.len() >= bytes.len() {
        return uncoded(BlockMode::Stored, bytes.to_vec(), Quality::measure(plan.dtype, bytes, bytes));
    }
    let quality = decoded_quality(isa, plan, &stored, bytes)?;
    uncoded(BlockMode::Coded, stored, quality)
}

/// What a prime-sparse block decodes to, compared with what it was made from: the
/// figures in the report and in the file are of the bytes that a reader will get.
fn decoded_quality(isa: Isa, plan: &Plan, stored: &[u8], bytes: &[u8]) -> Result<Quality> {
    let (params, side) = match &plan.coding {
        Coding::PrimeSparse(lossy) => (&lossy.params, &lossy.parsed),
        Coding::Trellis(coding) => (&coding.params, &coding.parsed),
        _ => return Ok(Quality::default()),
    };
    DECODED.with_borrow_mut(|decoded| {
        fit(decoded, bytes.len())?;
        decode_block_on(isa, params, side, plan.row_len as usize, stored, decoded)
            .map_err(|defect| Error::Invalid(format!("a block that was just coded does not decode: {}", defect.0)))?;
        Ok(Quality::measure(plan.dtype, bytes, decoded))
    })
}

/// Codes a block whose elements `split` turns into symbol and raw bits.
fn code(
    isa: Isa,
    plan: &Plan,
    params: &SymbolParams,
    table: &EncodeTable,
    bytes: &[u8],
    split: impl Fn(u64) -> (u8, u64),
) -> Result<Vec<u8>> {
    WORK.with_borrow_mut(|work| match plan.width() {
        1 => work.code::<1>(isa, plan, params, table, bytes, split),
        2 => work.code::<2>(isa, plan, params, table, bytes, split),
        4 => work.code::<4>(isa, plan, params, table, bytes, split),
        _ => work.code::<8>(isa, plan, params, table, bytes, split),
    })
}

impl Work {
    fn code<const WIDTH: usize>(
        &mut self,
        isa: Isa,
        plan: &Plan,
        params: &SymbolParams,
        table: &EncodeTable,
        bytes: &[u8],
        split: impl Fn(u64) -> (u8, u64),
    ) -> Result<Vec<u8>> {
        self.symbols.clear();
        self.escape_positions.clear();
        self.escape_values.clear();
        let (elements, _) = bytes.as_chunks::<WIDTH>();
        let element = |i: usize| {
            let mut word = [0; 8];
            word[..WIDTH].copy_from_slice(&elements[i]);
            u64::from_le_bytes(word)
        };
        self.raw.clear();
        for i in 0..elements.len() {
            let (symbol, raw) = split(element(i));
            self.symbols.push(symbol);
            self.raw.push(if symbol == ESCAPE { 0 } else { raw });
        }
        for (i, _) in self.symbols.iter().enumerate().filter(|(_, symbol)| **symbol == ESCAPE) {
            self.escape_positions.push(i as u32);
            self.escape_values.extend_from_slice(&elements[i]);
        }
        let shape = BlockShape { elements: elements.len(), row_len: plan.row_len as usize, lanes: params.lanes };
        let block = Symbols {
            symbols: &self.symbols,
            escape_positions: &self.escape_positions,
            escape_values: &self.escape_values,
            row_steps: &[],
            row_classes: &[],
        };
        encode_block_on(isa, params, &shape, std::slice::from_ref(table), &block, Raw::U64(&self.raw)).map_err(changed)
    }
}
