//! Encoding a block losslessly: elements become symbols and raw bits.

use std::cell::RefCell;

use super::FieldCode;
use crate::codec::encode::{Symbols, encode_block};
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::layout::BlockShape;
use crate::codec::params::{ESCAPE, SymbolMap, SymbolParams};
use crate::codec::raw::Raw;
use crate::dtype::Split;
use crate::error::Defect;

/// Elements that are split together: their fields stay in the first cache.
const CHUNK: usize = 1024;

/// Encodes the elements of a block of an array with such parameters, which are those
/// of codec 2; fails if `table` has no frequency for a symbol that occurs.
pub fn encode(
    params: &SymbolParams,
    row_len: usize,
    code: &FieldCode,
    table: &EncodeTable,
    bytes: &[u8],
) -> Result<Vec<u8>, Defect> {
    match params.dtype.width() {
        Some(1) => encode_as::<u8>(params, row_len, code, table, bytes),
        Some(2) => encode_as::<u16>(params, row_len, code, table, bytes),
        Some(4) => encode_as::<u32>(params, row_len, code, table, bytes),
        Some(8) => encode_as::<u64>(params, row_len, code, table, bytes),
        _ => Err(Defect("coded elements must be whole bytes")),
    }
}

fn encode_as<E: Element>(
    params: &SymbolParams,
    row_len: usize,
    code: &FieldCode,
    table: &EncodeTable,
    bytes: &[u8],
) -> Result<Vec<u8>, Defect> {
    let SymbolMap::Lossless(split) = params.map else { return Err(Defect("not a lossless array")) };
    E::scratch(|scratch| {
        scratch.split(split, params.zero_bits(), code, bytes);
        let elements = scratch.symbols.len();
        let shape = BlockShape { elements, row_len, lanes: params.lanes };
        let block = Symbols {
            symbols: &scratch.symbols,
            escape_positions: &scratch.escape_positions,
            escape_values: &scratch.escape_values,
            row_steps: &[],
            row_classes: &[],
        };
        encode_block(params, &shape, std::slice::from_ref(table), &block, E::raw(&scratch.raw))
    })
}

/// A block's elements, turned into symbols; kept by each thread.
#[derive(Default)]
struct Scratch<E> {
    symbols: Vec<u8>,
    raw: Vec<E>,
    escape_positions: Vec<u32>,
    escape_values: Vec<u8>,
}

impl<E: Element> Scratch<E> {
    fn split(&mut self, split: Split, zero_bits: u8, code: &FieldCode, bytes: &[u8]) {
        let elements = bytes.len() / size_of::<E>();
        self.symbols.resize(elements, ESCAPE);
        self.raw.resize(elements, E::default());
        self.escape_positions.clear();
        self.escape_values.clear();
        let chunks = bytes.chunks(CHUNK * size_of::<E>());
        let outputs = self.symbols.chunks_mut(CHUNK).zip(self.raw.chunks_mut(CHUNK));
        let mut first = 0;
        for (bytes, (symbols, raw)) in chunks.zip(outputs) {
            // Each loop does one thing, so that all but the look-up become vector code.
            let mut fields = [0u16; CHUNK];
            E::fields(bytes, split, &mut fields);
            E::raws(bytes, split, zero_bits, raw);
            for (symbol, &field) in symbols.iter_mut().zip(&fields) {
                *symbol = code.symbol_of[usize::from(field)];
            }
            if zero_bits > 0 {
                E::escape_low_bits(bytes, zero_bits, symbols);
            }
            if symbols.iter().fold(u8::MAX, |least, &symbol| least.min(symbol)) == ESCAPE {
                for i in (0..symbols.len()).filter(|&i| symbols[i] == ESCAPE) {
                    raw[i] = E::default();
                    self.escape_positions.push((first + i) as u32);
                    self.escape_values.extend_from_slice(&bytes[i * size_of::<E>()..(i + 1) * size_of::<E>()]);
                }
            }
            first += symbols.len();
        }
    }
}

/// An element as an unsigned integer.
trait Element: Copy + Default + 'static {
    fn scratch<R>(run: impl FnOnce(&mut Scratch<Self>) -> R) -> R;
    fn raw(values: &[Self]) -> Raw<'_>;
    /// The field of each element.
    fn fields(bytes: &[u8], split: Split, out: &mut [u16]);
    /// The bits around the field of each element, without the lowest `zero_bits`.
    fn raws(bytes: &[u8], split: Split, zero_bits: u8, out: &mut [Self]);
    /// Makes escapes of the elements of which not all the lowest bits are zero.
    fn escape_low_bits(bytes: &[u8], zero_bits: u8, symbols: &mut [u8]);
}

macro_rules! elements {
    ($($element:ident $raw:ident),*) => {$(
        impl Element for $element {
            fn scratch<R>(run: impl FnOnce(&mut Scratch<Self>) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Scratch<$element>> = RefCell::default();
                }
                SCRATCH.with_borrow_mut(run)
            }

            fn raw(values: &[Self]) -> Raw<'_> {
                Raw::$raw(values)
            }

            fn fields(bytes: &[u8], split: Split, out: &mut [u16]) {
                let mask = (u16::MAX >> (16 - split.bits)) as $element;
                for (out, &element) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = ($element::from_le_bytes(element) >> split.shift & mask) as u16;
                }
            }

            fn raws(bytes: &[u8], split: Split, zero_bits: u8, out: &mut [Self]) {
                // The field may reach either end of the element.
                let low: $element = $element::MAX.checked_shr($element::BITS - u32::from(split.shift)).unwrap_or(0);
                let high = $element::MAX.checked_shl(u32::from(split.shift + split.bits)).unwrap_or(0);
                let high_shift = u32::from(split.bits + zero_bits) % $element::BITS;
                for (out, &element) in out.iter_mut().zip(bytes.as_chunks().0) {
                    let element = $element::from_le_bytes(element);
                    *out = (element & low) >> zero_bits | (element & high) >> high_shift;
                }
            }

            fn escape_low_bits(bytes: &[u8], zero_bits: u8, symbols: &mut [u8]) {
                let mask = ((1 as $element) << zero_bits) - 1;
                for (symbol, &element) in symbols.iter_mut().zip(bytes.as_chunks().0) {
                    if $element::from_le_bytes(element) & mask != 0 {
                        *symbol = ESCAPE;
                    }
                }
            }
        }
    )*};
}

elements!(u8 U8, u16 U16, u32 U32, u64 U64);
