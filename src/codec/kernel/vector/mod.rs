//! What the vector kernels share: the order of work, the words, what they cover.

mod values;
mod words;

pub use values::{Aligned, Factors, LevelTable, RowTables, advance_table, fields, halves};
pub use words::{STEP, Tail, Words};

use core::marker::PhantomData;

use super::Job;
use crate::codec::layout::{BlockShape, Step};
use crate::codec::manifold::Grid;
use crate::codec::params::SymbolMap;
use crate::dtype::Split;

/// Lanes that are decoded together.
pub const GROUP: usize = 32;

/// How the vector kernels make elements of table entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Elements of 2 bytes come from a table.
    Table16,
    /// Elements of 4 bytes come from a table.
    Table32,
    /// Exponents, in place, come from a table; the other bits are raw.
    Bf16,
    F16,
    F32,
    F8,
    /// Values come from a table and meet a step of their column.
    Columns,
    /// Levels are put together from a table and raw bits.
    Levels,
}

/// How the vector kernels decode such a block, or that they do not.
pub fn form(job: &Job<'_>) -> Option<Form> {
    if !matches!(job.shape.lanes, 32 | 64 | 128 | 256) {
        return None;
    }
    let width = job.params.dtype.width()?;
    match &job.params.map {
        SymbolMap::Lossless(_) if job.params.zero_bits() > 0 => None,
        SymbolMap::Lossless(split) => match (width, *split) {
            (2, Split { shift: 7, bits: 8 }) => Some(Form::Bf16),
            (2, Split { shift: 9, bits: 6 }) => Some(Form::F16),
            (4, Split { shift: 23, bits: 8 }) => Some(Form::F32),
            (1, Split { shift: 1, bits: 6 }) => Some(Form::F8),
            _ => None,
        },
        SymbolMap::PrimeSparse(_) if width == 1 => None,
        SymbolMap::PrimeSparse(p) if job.params.raw_bits > 0 => {
            (p.grid == Grid::Uniform && job.params.raw_bits <= MAX_RAW_BITS).then_some(Form::Levels)
        }
        SymbolMap::PrimeSparse(p) if p.column_steps => Some(Form::Columns),
        SymbolMap::PrimeSparse(_) if width == 2 => Some(Form::Table16),
        SymbolMap::PrimeSparse(_) => Some(Form::Table32),
    }
}

/// With more raw bits levels leave 16 bits.
const MAX_RAW_BITS: u8 = 10;

/// The loop that a function serves. A type of its own for each loop gives the loop a
/// copy of the function, which the compiler then puts into the loop whatever its size.
pub trait Loop {
    /// Whether all lanes take part.
    const FULL: bool;
}

/// The loop over steps in which all lanes, 32 `G`, take part.
pub struct Whole<const G: usize, const TRELLIS: u8>;
/// Steps in which some lanes do not take part.
pub struct Partial<const TRELLIS: u8>;

impl<const G: usize, const TRELLIS: u8> Loop for Whole<G, TRELLIS> {
    const FULL: bool = true;
}

impl<const TRELLIS: u8> Loop for Partial<TRELLIS> {
    const FULL: bool = false;
}

/// What [`both`] does, for 0 to 3.
#[allow(clippy::identity_op)]
macro_rules! four {
    (|$i:ident| $value:expr) => {
        [
            {
                let $i = 0usize;
                $value
            },
            {
                let $i = 1usize;
                $value
            },
            {
                let $i = 2usize;
                $value
            },
            {
                let $i = 3usize;
                $value
            },
        ]
    };
}

pub(super) use crate::codec::isa::both;
pub(super) use four;

/// Up to 32 lanes of a step.
pub struct Part<L> {
    /// Index of the first element within the block.
    pub first: usize,
    /// Column of the first element.
    pub column: usize,
    /// First lane.
    lane: usize,
    /// Lanes that take part, from 1 to 32.
    active: usize,
    /// The same of the whole step.
    step_active: usize,
    of: PhantomData<L>,
}

impl<const G: usize, const TRELLIS: u8> Part<Whole<G, TRELLIS>> {
    /// A group's part of a step in which all lanes take part.
    #[inline(always)]
    pub fn full(step: &Step, group: usize) -> Self {
        let lane = GROUP * group;
        Part {
            first: step.first + lane,
            column: step.column + lane,
            lane,
            active: GROUP,
            step_active: GROUP * G,
            of: PhantomData,
        }
    }
}

impl<const TRELLIS: u8> Part<Partial<TRELLIS>> {
    /// A group's part of any step, unless none of its lanes take part.
    #[inline(always)]
    pub fn new(step: &Step, group: usize) -> Option<Self> {
        let lane = GROUP * group;
        let active = step.active.saturating_sub(lane).min(GROUP);
        let (first, column) = (step.first + lane, step.column + lane);
        (active > 0).then_some(Part { first, column, lane, active, step_active: step.active, of: PhantomData })
    }
}

impl<L: Loop> Part<L> {
    #[inline(always)]
    pub fn active(&self) -> usize {
        if L::FULL { GROUP } else { self.active }
    }

    /// A bit for each lane that takes part.
    #[inline(always)]
    pub fn mask(&self) -> u32 {
        u32::MAX >> (GROUP - self.active())
    }

    /// The bytes of one of the step's whole raw bytes, a byte per lane.
    #[inline(always)]
    pub fn raw_bytes<'a>(&self, raw: &'a [u8], plane: usize) -> &'a [u8] {
        &raw[plane * self.step_active + self.lane..][..self.active()]
    }

    /// One of the step's single raw bits, behind so many whole bytes: a bit per lane.
    #[inline(always)]
    pub fn raw_bit(&self, raw: &[u8], whole_bytes: usize, plane: usize) -> u32 {
        let at = whole_bytes * self.step_active + plane * self.step_active.div_ceil(8) + self.lane / 8;
        if L::FULL {
            let bytes = &raw[at..at + 4];
            return u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        first_bits(&raw[at..], self.active)
    }
}

/// So many bits from bytes that may end with them.
#[inline(never)]
fn first_bits(bytes: &[u8], bits: usize) -> u32 {
    let mut four = [0; 4];
    let len = bits.div_ceil(8);
    four[..len].copy_from_slice(&bytes[..len]);
    u32::from_le_bytes(four) & u32::MAX >> (GROUP - bits)
}

/// The raw bits of one step after the other.
pub struct Raw<'a> {
    rest: &'a [u8],
    bits: u8,
}

impl<'a> Raw<'a> {
    pub fn new(job: &Job<'a>) -> Raw<'a> {
        Raw { rest: job.payload.raw, bits: job.params.raw_bits }
    }

    #[inline(always)]
    pub fn step(&mut self, active: usize) -> &'a [u8] {
        let (step, rest) = self.rest.split_at(BlockShape::raw_bytes_of_step(active, self.bits));
        self.rest = rest;
        step
    }
}
