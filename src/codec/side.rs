//! The side block: what all blocks of an array share (`docs/format.md`, 7.1).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::codec::entropy::alias::AliasTable;
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::params::{ENTRIES, SymbolMap, SymbolParams};
use crate::error::Defect;

/// The parsed side block of an array.
#[derive(Debug, Clone)]
pub struct Side {
    /// One per class.
    pub tables: Vec<AliasTable>,
    /// Lossless: the field value of each symbol.
    pub field_values: [u16; ENTRIES],
    /// Prime-sparse: the centroid of each table entry, if transmitted.
    pub centroids: Option<Box<[f32; ENTRIES]>>,
    /// Prime-sparse: a step byte per column, or none.
    pub column_steps: Vec<u8>,
}

/// The content of a side block, for writing.
#[derive(Debug, Clone, Default)]
pub struct SideContent<'a> {
    pub frequencies: &'a [Frequencies],
    pub field_values: Option<&'a [u16; ENTRIES]>,
    pub centroids: Option<&'a [f32; ENTRIES]>,
    pub column_steps: &'a [u8],
}

/// Contexts of an array's tables: one, or one per quantiser of a trellis.
pub fn contexts(params: &SymbolParams) -> usize {
    if params.trellis().is_some() { 2 } else { 1 }
}

impl SideContent<'_> {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let words = self.frequencies.iter().flat_map(|f| f.0).chain(self.field_values.into_iter().flatten().copied());
        out.extend(words.flat_map(u16::to_le_bytes));
        out.extend(self.centroids.into_iter().flatten().flat_map(|c| c.to_le_bytes()));
        out.extend_from_slice(self.column_steps);
        out
    }
}

impl Side {
    /// Length in bytes that the side block of such an array must have.
    pub fn stored_len(params: &SymbolParams, row_len: usize) -> usize {
        let tables = usize::from(params.classes) * 2 * ENTRIES;
        match &params.map {
            SymbolMap::Lossless(_) => tables + 2 * ENTRIES,
            SymbolMap::PrimeSparse(p) => {
                tables + if p.centroids { 4 * ENTRIES } else { 0 } + if p.column_steps { row_len } else { 0 }
            }
        }
    }

    pub fn parse(params: &SymbolParams, row_len: usize, bytes: &[u8]) -> Result<Side, Defect> {
        if bytes.len() != Self::stored_len(params, row_len) {
            return Err(Defect("side block has the wrong length"));
        }
        let contexts = contexts(params);
        let (tables, mut rest) = bytes.split_at(usize::from(params.classes) * 2 * ENTRIES);
        let tables = tables
            .chunks_exact(2 * ENTRIES)
            .map(|t| Ok(AliasTable::new(&Frequencies(u16s(t)).validate(contexts)?, contexts)))
            .collect::<Result<Vec<_>, Defect>>()?;
        let mut side = Side { tables, field_values: [0; ENTRIES], centroids: None, column_steps: Vec::new() };
        match &params.map {
            SymbolMap::Lossless(split) => {
                side.field_values = u16s(rest);
                let limit = 1u32 << split.bits;
                if side.field_values[0] != 0 || side.field_values.iter().any(|&v| u32::from(v) >= limit) {
                    return Err(Defect("field value out of range"));
                }
            }
            SymbolMap::PrimeSparse(p) => {
                if p.centroids {
                    let (bytes, after) = rest.split_at(4 * ENTRIES);
                    rest = after;
                    side.centroids = Some(parse_centroids(bytes, contexts)?);
                }
                if p.column_steps {
                    side.column_steps = rest.to_vec();
                }
            }
        }
        Ok(side)
    }
}

fn u16s(bytes: &[u8]) -> [u16; ENTRIES] {
    core::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
}

fn parse_centroids(bytes: &[u8], contexts: usize) -> Result<Box<[f32; ENTRIES]>, Defect> {
    let mut centroids = Box::new([0f32; ENTRIES]);
    for (value, bytes) in centroids.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    if centroids.iter().any(|c| !c.is_finite()) {
        return Err(Defect("centroid is not a number"));
    }
    if centroids.chunks_exact(ENTRIES / contexts).any(|context| context[0].to_bits() != 0) {
        return Err(Defect("the escape's centroid is not 0"));
    }
    Ok(centroids)
}
