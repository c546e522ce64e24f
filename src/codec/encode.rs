//! Writing the payload of a block from symbols that were already chosen.

use crate::codec::entropy;
use crate::codec::entropy::encode::{EncodeTable, Job};
use crate::codec::isa::Isa;
use crate::codec::layout::BlockShape;
use crate::codec::params::{CONTEXT_ENTRIES, ESCAPE, SymbolParams};
use crate::codec::raw::Raw;
use crate::error::Defect;

/// A block's symbols with all that goes beside them, in element order.
#[derive(Debug, Default)]
pub struct Symbols<'a> {
    /// A table entry per element: its symbol, with a trellis plus 32 times the
    /// quantiser (`docs/format.md`, 7.5).
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

/// Writes the payload of a block. The tables are those of the array's classes;
/// fails if one of them cannot code a symbol that occurs.
pub fn encode_block(
    params: &SymbolParams,
    shape: &BlockShape,
    tables: &[EncodeTable],
    block: &Symbols<'_>,
    raw: Raw<'_>,
) -> Result<Vec<u8>, Defect> {
    encode_block_on(Isa::chosen(), params, shape, tables, block, raw)
}

/// [`encode_block`] with the encoder of this instruction set, which the machine must
/// have.
pub fn encode_block_on(
    isa: Isa,
    params: &SymbolParams,
    shape: &BlockShape,
    tables: &[EncodeTable],
    block: &Symbols<'_>,
    raw: Raw<'_>,
) -> Result<Vec<u8>, Defect> {
    let mut out = Vec::new();
    out.extend_from_slice(&(block.escape_positions.len() as u32).to_le_bytes());
    out.extend_from_slice(block.row_steps);
    out.extend_from_slice(block.row_classes);
    raw.write(shape, params.raw_bits, &mut out);
    out.extend(block.escape_positions.iter().flat_map(|p| p.to_le_bytes()));
    out.extend_from_slice(block.escape_values);

    let (entries, row_classes) = (block.symbols, block.row_classes);
    entropy::encode::encode(isa, &Job { tables, shape: *shape, entries, row_classes }, &mut out)?;
    Ok(out)
}

/// The table entry of each element from its symbol: with a trellis it depends on the
/// path that the lane's earlier indices took. For encoders that choose symbols
/// without walking the trellis.
pub fn trellis_entries(params: &SymbolParams, shape: &BlockShape, symbols: &[u8], raw: Raw<'_>) -> Vec<u8> {
    let mut entries = symbols.to_vec();
    let Some(trellis) = params.trellis() else { return entries };
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
                symbol & 1
            } else {
                raw.parity(element)
            };
            *state = trellis.next(*state, u16::from(parity));
        }
    }
    entries
}
