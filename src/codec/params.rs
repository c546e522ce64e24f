//! The validated parameters of the entropy-coded codecs.

use crate::codec::manifold::Grid;
use crate::dtype::{Dtype, Split};
use crate::error::Defect;

/// Table entries per class: symbols 0 to 63, or 32 for each of two quantisers.
pub const ENTRIES: usize = 64;
/// Entries of one of two contexts.
pub const CONTEXT_ENTRIES: u8 = 32;
/// The symbol that stands for an element listed exactly.
pub const ESCAPE: u8 = 0;
pub const MAX_LANES: usize = 256;
pub const LANE_UNIT: usize = 32;
pub const MAX_CLASSES: u8 = 16;
pub const MAX_PRIME_SPARSE_RAW_BITS: u8 = 12;
/// The prime grid is a table: with more raw bits it would be a long one.
pub const MAX_PRIME_RAW_BITS: u8 = 4;

/// What lossless and prime-sparse share (`docs/format.md`, section 7).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SymbolParams {
    pub dtype: Dtype,
    /// Elements coded side by side: a multiple of 32, at most 256.
    pub lanes: usize,
    /// Bits per element stored beside the symbol.
    pub raw_bits: u8,
    /// Frequency tables, of which each row uses one.
    pub classes: u8,
    /// Whether rows say which class they use; all use class 0 otherwise.
    pub row_classes: bool,
    pub map: SymbolMap,
}

/// What symbol and raw bits stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SymbolMap {
    Lossless(Split),
    PrimeSparse(PrimeSparse),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrimeSparse {
    /// Value of one unit of the integer grid; finite and above 0.
    pub step: f32,
    pub grid: Grid,
    pub trellis: Option<Trellis>,
    pub row_steps: bool,
    pub column_steps: bool,
    pub centroids: bool,
}

/// A trellis that chooses one of two quantisers for each element of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trellis {
    pub log2_states: u8,
    pub h0: u16,
    pub h1: u16,
}

impl Trellis {
    /// The state after an index of parity `odd` (0 or 1) in `state`.
    #[inline]
    pub fn next(&self, state: u16, odd: u16) -> u16 {
        // Masks: the compiler makes branches of products.
        let if_set = |bit: u16, h: u16| (bit & 1).wrapping_neg() & (h >> 1);
        (state >> 1) ^ if_set(state, self.h0) ^ if_set(odd, self.h1)
    }
}

impl SymbolParams {
    /// Checks every rule of `docs/format.md`, 4.6, that concerns codecs 2 and 3.
    pub fn validate(self) -> Result<SymbolParams, Defect> {
        let width = self.dtype.width().ok_or(Defect("coded elements must be whole bytes"))?;
        if self.lanes == 0 || !self.lanes.is_multiple_of(LANE_UNIT) || self.lanes > MAX_LANES {
            return Err(Defect("number of lanes out of range"));
        }
        if self.classes == 0 || self.classes > MAX_CLASSES {
            return Err(Defect("number of table classes out of range"));
        }
        match &self.map {
            SymbolMap::Lossless(split) => {
                let bits = 8 * width as u32;
                let field = u32::from(split.bits);
                if field == 0 || field > 16 || u32::from(split.shift) + field > bits {
                    return Err(Defect("split outside the element"));
                }
                let below = u32::from(split.shift);
                if u32::from(self.raw_bits) > bits - field || u32::from(self.raw_bits) + below < bits - field {
                    return Err(Defect("raw bits do not complete the split"));
                }
            }
            SymbolMap::PrimeSparse(p) => p.validate(self.dtype, self.raw_bits)?,
        }
        Ok(self)
    }

    /// Lossless: bits at the lower end of the elements that are zero and not stored.
    pub fn zero_bits(&self) -> u8 {
        match &self.map {
            SymbolMap::Lossless(split) => (self.dtype.bits() - u32::from(split.bits) - u32::from(self.raw_bits)) as u8,
            SymbolMap::PrimeSparse(_) => 0,
        }
    }

    pub fn prime_sparse(&self) -> Option<&PrimeSparse> {
        match &self.map {
            SymbolMap::PrimeSparse(p) => Some(p),
            SymbolMap::Lossless(_) => None,
        }
    }

    pub fn trellis(&self) -> Option<Trellis> {
        self.prime_sparse().and_then(|p| p.trellis)
    }

    pub fn row_steps(&self) -> bool {
        self.prime_sparse().is_some_and(|p| p.row_steps)
    }
}

impl PrimeSparse {
    fn validate(&self, dtype: Dtype, raw_bits: u8) -> Result<(), Defect> {
        if !dtype.lossy_when_asked() {
            return Err(Defect("prime-sparse cannot hold this element type"));
        }
        if !self.step.is_finite() || self.step <= 0.0 {
            return Err(Defect("step is not a positive number"));
        }
        if raw_bits > MAX_PRIME_SPARSE_RAW_BITS || (self.centroids && raw_bits > 0) {
            return Err(Defect("too many raw bits"));
        }
        if self.grid == Grid::Prime && raw_bits > MAX_PRIME_RAW_BITS {
            return Err(Defect("too many raw bits for the prime grid"));
        }
        if let Some(t) = self.trellis {
            let states = 1u32 << t.log2_states.min(16);
            if t.log2_states == 0 || t.log2_states > 8 || u32::from(t.h0.max(t.h1)) >= 2 * states {
                return Err(Defect("trellis out of range"));
            }
        }
        Ok(())
    }
}
