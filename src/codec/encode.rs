//! Writing the payload of a block from symbols that were already chosen.

use crate::codec::entropy::encode::{EncodeTable, Encoder};
use crate::codec::layout::{BlockShape, Step};
use crate::codec::params::{CONTEXT_ENTRIES, ESCAPE, SymbolParams};
use crate::error::Defect;

/// A block's symbols with all that goes beside them, in element order.
#[derive(Debug, Default)]
pub struct Symbols<'a> {
    /// A symbol per element (below 32 with a trellis).
    pub symbols: &'a [u8],
    /// Index within the block of each escape, ascending.
    pub escape_positions: &'a [u32],
    /// The exact bytes of the escaped elements.
    pub escape_values: &'a [u8],
    /// A step byte per row, or empty.
    pub row_steps: &'a [u8],
    /// A table class per row, or empty.
    pub row_classes: &'a [u8],
}

/// Writes the payload of a block. `raw` gives the raw bits of an element (those of
/// escapes are ignored); it is asked, and more than once, only if the array has any.
/// The tables are those of the array's classes;
/// fails if one of them cannot code a symbol that occurs.
pub fn encode_block(
    params: &SymbolParams,
    shape: &BlockShape,
    tables: &[EncodeTable],
    block: &Symbols<'_>,
    raw: impl Fn(usize) -> u64,
) -> Result<Vec<u8>, Defect> {
    let mut out = Vec::new();
    out.extend_from_slice(&(block.escape_positions.len() as u32).to_le_bytes());
    out.extend_from_slice(block.row_steps);
    out.extend_from_slice(block.row_classes);
    if params.raw_bits > 0 {
        for step in shape.steps() {
            write_raw_bits(params.raw_bits, &step, block.symbols, &raw, &mut out);
        }
    }
    out.extend(block.escape_positions.iter().flat_map(|p| p.to_le_bytes()));
    out.extend_from_slice(block.escape_values);

    let entries = trellis_entries(params, shape, block.symbols, &raw);
    let entries = entries.as_deref().unwrap_or(block.symbols);
    let mut encoder = Encoder::new(shape.lanes, shape.elements);
    for step in shape.steps().rev() {
        let class = block.row_classes.get(step.row).map_or(0, |&class| usize::from(class));
        encoder.step(&tables[class], &entries[step.first..step.first + step.active]);
    }
    encoder.finish(&mut out)?;
    Ok(out)
}

fn write_raw_bits(raw_bits: u8, step: &Step, symbols: &[u8], raw: impl Fn(usize) -> u64, out: &mut Vec<u8>) {
    let elements = step.first..step.first + step.active;
    let values = elements.map(|i| if symbols[i] == ESCAPE { 0 } else { raw(i) });
    for plane in 0..raw_bits / 8 {
        out.extend(values.clone().map(|raw| (raw >> (8 * plane)) as u8));
    }
    for bit in (raw_bits & !7)..raw_bits {
        let start = out.len();
        out.resize(start + step.active.div_ceil(8), 0);
        for (lane, raw) in values.clone().enumerate() {
            out[start + lane / 8] |= ((raw >> bit & 1) as u8) << (lane % 8);
        }
    }
}

/// With a trellis: the table entry of each element, which depends on the path
/// through the trellis that the lane's earlier indices took.
fn trellis_entries(
    params: &SymbolParams,
    shape: &BlockShape,
    symbols: &[u8],
    raw: impl Fn(usize) -> u64,
) -> Option<Vec<u8>> {
    let trellis = params.trellis()?;
    let mut entries = symbols.to_vec();
    let mut states = vec![0u16; shape.lanes];
    for step in shape.steps() {
        for (lane, state) in states[..step.active].iter_mut().enumerate() {
            let element = step.first + lane;
            let symbol = symbols[element];
            entries[element] += (*state & 1) as u8 * CONTEXT_ENTRIES;
            // The centre is even, so a symbol has the parity of its index.
            let parity = if symbol == ESCAPE {
                0
            } else if params.raw_bits == 0 {
                u16::from(symbol)
            } else {
                raw(element) as u16
            };
            *state = trellis.next(*state, parity & 1);
        }
    }
    Some(entries)
}
