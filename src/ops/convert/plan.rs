//! How each tensor is to be coded, decided from its histogram.

use super::trellis::TrellisPlan;
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::histogram::{Histogram, entropy};
use crate::codec::lossless::{self, Choice, FieldCode};
use crate::codec::manifold::Grid;
use crate::codec::params::{ENTRIES, LANE_UNIT, PrimeSparse, SymbolMap, SymbolParams};
use crate::codec::side::{Side, SideContent};
use crate::codec::sparse::Quantiser;
use crate::dtype::Dtype;
use crate::format::{ARRAY_LEN, BLOCK_LEN, EXTENT_LEN};
use crate::shard::ShardTensor;

/// Decoded bytes per block, at most.
const BLOCK_BYTES: u64 = 1 << 20;
/// How far apart the elements of one step and the next are, in steps. Next to each
/// other, the decoder's recent stores would cover every address modulo 4096, which
/// is how a processor first tells loads from pending stores, and its loads would
/// wait: measured as half the speed (5.1 against 11.8 GB/s with 128 lanes).
const STEPS_PER_ROW: u64 = 16;
/// Zstandard's level for headers and small files, of which there is little.
pub const ZSTD_FOR_SMALL: i32 = 9;
/// The same for tensors, and where only its size is wanted.
pub const ZSTD_FOR_MUCH: i32 = 3;
/// Fewer elements than this are stored as they are.
const LEAST_CODED: u64 = 2048;
/// What the entropy coder takes beyond the entropy, with states of 32 bits and
/// frequencies of 16: measured as 0.05 to 0.15 %.
pub const CODER_LOSS: f64 = 0.0012;

/// Bytes of the index per block, and per tensor without names and shape.
pub const BLOCK_RECORD_BYTES: u64 = BLOCK_LEN as u64;
const INDEX_BYTES_PER_TENSOR: u64 = (ARRAY_LEN + EXTENT_LEN) as u64;

/// Bytes of the index that a tensor takes, besides its blocks.
pub fn index_bytes(tensor: &ShardTensor) -> u64 {
    INDEX_BYTES_PER_TENSOR + tensor.name.len() as u64 + 8 * tensor.shape.len() as u64
}

/// An array about to be encoded.
pub struct Plan {
    pub dtype: Dtype,
    pub elements: u64,
    pub row_len: u64,
    pub block_elems: u32,
    pub coding: Coding,
}

pub enum Coding {
    /// Bytes as they are.
    Stored,
    /// Zstandard at this level, block by block.
    Zstd(i32),
    Lossless(Box<Exact>),
    /// Prime-sparse without a trellis.
    PrimeSparse(Box<Lossy>),
    Trellis(Box<TrellisPlan>),
}

/// Lossless with all that encoding needs.
pub struct Exact {
    pub params: SymbolParams,
    pub code: FieldCode,
    pub table: EncodeTable,
    pub side: Vec<u8>,
}

/// Prime-sparse with all that encoding needs.
pub struct Lossy {
    pub params: SymbolParams,
    pub quantiser: Quantiser,
    pub table: EncodeTable,
    pub side: Vec<u8>,
    pub parsed: Side,
    /// Bits that the whole tensor may take, without overhead.
    pub budget: f64,
    /// What this grid costs against the uniform one, in dB, where both were tried.
    pub grid_cost_db: Option<f64>,
}

/// The element type of the array that holds a tensor of this type.
pub fn array_dtype(dtype: Dtype) -> Dtype {
    if dtype.width().is_some() { dtype } else { Dtype::U8 }
}

impl Plan {
    /// For bytes without structure, such as headers and small files.
    pub fn bytes(length: u64) -> Plan {
        let block_elems = BLOCK_BYTES.min(length) as u32;
        Plan { dtype: Dtype::U8, elements: length, row_len: 1, block_elems, coding: Coding::Zstd(ZSTD_FOR_SMALL) }
    }

    /// For elements that no entropy coder of ours fits: zstd where it helps.
    pub fn opaque(dtype: Dtype, elements: u64, zstd_helps: bool) -> Plan {
        let width = dtype.width_in_array() as u64;
        let block_elems = (BLOCK_BYTES / width).min(elements) as u32;
        let coding = if zstd_helps { Coding::Zstd(ZSTD_FOR_MUCH) } else { Coding::Stored };
        Plan { dtype, elements, row_len: 1, block_elems, coding }
    }

    /// Bit-exact, by the entropy of the split field; None if it would not pay.
    pub fn lossless(dtype: Dtype, histogram: &Histogram) -> Option<Plan> {
        Plan::exact(dtype, histogram.total(), lossless::choose(dtype, histogram)?)
    }

    /// The same for differences to elements that are much alike.
    pub fn difference(dtype: Dtype, histogram: &Histogram) -> Option<Plan> {
        Plan::exact(dtype, histogram.total(), lossless::choose_for_differences(dtype, histogram)?)
    }

    fn exact(dtype: Dtype, elements: u64, choice: Choice) -> Option<Plan> {
        if elements < LEAST_CODED {
            return None;
        }
        let raw_bits = choice.raw_bits(dtype);
        let Choice { split, code, .. } = choice;
        let geometry = Geometry::new(dtype, elements);
        let frequencies = Frequencies::from_counts(&code.counts, 1);
        let params = SymbolParams {
            dtype,
            lanes: geometry.lanes,
            raw_bits,
            classes: 1,
            row_classes: false,
            map: SymbolMap::Lossless(split),
        };
        let frequencies = [frequencies];
        let side = SideContent { frequencies: &frequencies, field_values: Some(&code.values), ..Default::default() };
        let (side, table) = (side.to_bytes(), EncodeTable::new(&frequencies[0], 1));
        let plan = geometry.plan(Coding::Lossless(Box::new(Exact { params, code, table, side })));
        (plan.estimated_bytes() < (elements * dtype.width_in_array() as u64) as f64).then_some(plan)
    }

    /// Lossily without a trellis, on the best of `grids`, with at most `bits` bits per
    /// weight for everything that the tensor adds to the file. None if it cannot be done.
    pub fn scalar(tensor: &ShardTensor, histogram: &Histogram, grids: &[Grid], bits: f64) -> Option<Plan> {
        let (dtype, elements) = (tensor.dtype, histogram.total());
        let geometry = Geometry::new(dtype, elements);
        let overhead = geometry.overhead(2 * ENTRIES as u64) + index_bytes(tensor);
        let budget = (bits * elements as f64 - 8.0 * overhead as f64) / (1.0 + CODER_LOSS);
        let values = histogram.values();
        let on = |grid| grids.contains(&grid).then(|| Quantiser::search(&values, grid, budget, dtype)).flatten();
        let (prime, uniform) = (on(Grid::Prime), on(Grid::Uniform));
        let cost = prime
            .as_ref()
            .zip(uniform.as_ref())
            .map(|(prime, uniform)| 10.0 * (prime.outcome.noise / uniform.outcome.noise).log10());
        let quantiser =
            [uniform, prime].into_iter().flatten().min_by(|a, b| a.outcome.noise.total_cmp(&b.outcome.noise))?;
        let lossy = Lossy::new(dtype, geometry.lanes, quantiser, budget, cost);
        Some(geometry.plan(Coding::PrimeSparse(Box::new(lossy))))
    }

    /// Whether a losslessly coded array will take no more than so many bits per weight.
    pub fn takes_at_most(&self, bits: f64) -> bool {
        8.0 * self.estimated_bytes() <= bits * self.elements as f64
    }

    pub fn block_count(&self) -> u64 {
        self.elements.div_ceil(u64::from(self.block_elems))
    }

    pub fn width(&self) -> u64 {
        self.dtype.width_in_array() as u64
    }

    /// Bytes that a losslessly coded array will take, from its entropy.
    pub fn estimated_bytes(&self) -> f64 {
        match &self.coding {
            Coding::Lossless(exact) => {
                let Exact { params, code, side, .. } = &**exact;
                let escapes = code.counts[0] as f64 * (4.0 + self.width() as f64);
                let symbols = entropy(&code.counts) + f64::from(params.raw_bits);
                let geometry = Geometry::new(self.dtype, self.elements);
                symbols * self.elements as f64 / 8.0 + escapes + geometry.overhead(side.len() as u64) as f64
            }
            _ => (self.elements * self.width()) as f64,
        }
    }
}

impl Lossy {
    fn new(dtype: Dtype, lanes: usize, quantiser: Quantiser, budget: f64, grid_cost_db: Option<f64>) -> Lossy {
        let params = SymbolParams {
            dtype,
            lanes,
            raw_bits: quantiser.raw_bits,
            classes: 1,
            row_classes: false,
            map: SymbolMap::PrimeSparse(PrimeSparse {
                step: quantiser.step,
                grid: quantiser.grid,
                trellis: None,
                row_steps: false,
                column_steps: false,
                centroids: false,
            }),
        };
        let (table, side, parsed) = tables(&params, &quantiser.outcome.counts);
        Lossy { params, quantiser, table, side, parsed, budget, grid_cost_db }
    }

    /// Takes what was counted in place of what the histogram said, and returns the
    /// bits that the tensor will then take.
    pub fn recount(&mut self, counts: [u64; ENTRIES]) -> f64 {
        (self.table, self.side, self.parsed) = tables(&self.params, &counts);
        self.quantiser.outcome.counts = counts;
        self.quantiser.bits(&counts, self.params.dtype)
    }
}

fn tables(params: &SymbolParams, counts: &[u64; ENTRIES]) -> (EncodeTable, Vec<u8>, Side) {
    let frequencies = Frequencies::from_counts(counts, 1);
    let table = EncodeTable::new(&frequencies, 1);
    let frequencies = [frequencies];
    let bytes = SideContent { frequencies: &frequencies, ..Default::default() }.to_bytes();
    let side = Side::parse(params, 1, &bytes).unwrap_or_else(|_| unreachable!("frequencies made to be valid"));
    (table, bytes, side)
}

/// A lane costs 24 bits per block, and more lanes decode faster: a block of 500,000
/// weights has 128 at 0.006 bits per weight, a smaller one fewer.
fn lanes_for(block_elems: u64) -> usize {
    match block_elems {
        0..0x5_0000 => LANE_UNIT,
        0x5_0000..0x6_0000 => 2 * LANE_UNIT,
        _ => 4 * LANE_UNIT,
    }
}

/// How an array is cut into blocks and lanes.
pub struct Geometry {
    dtype: Dtype,
    elements: u64,
    pub lanes: usize,
    pub row_len: u64,
    block_elems: u32,
}

impl Geometry {
    /// Nothing here is per row or column, so rows can have any length.
    pub fn new(dtype: Dtype, elements: u64) -> Geometry {
        let blocks = elements.div_ceil(Self::most_elements(dtype));
        let even = elements.div_ceil(blocks);
        let lanes = lanes_for(even);
        let row_len = STEPS_PER_ROW * lanes as u64;
        let block_elems = even.next_multiple_of(row_len) as u32;
        Geometry { dtype, elements, lanes, row_len, block_elems }
    }

    /// With the rows of the tensor, of which one must fit a block.
    pub fn of_rows(dtype: Dtype, elements: u64, row_len: u64) -> Geometry {
        let rows = elements.div_ceil(row_len);
        let blocks = rows.div_ceil(Self::most_elements(dtype) / row_len);
        let block_elems = rows.div_ceil(blocks) * row_len;
        let lanes = lanes_for(block_elems).min((row_len as usize).next_multiple_of(LANE_UNIT));
        let lanes = if lanes.is_power_of_two() { lanes } else { lanes.next_power_of_two() / 2 };
        Geometry { dtype, elements, lanes, row_len, block_elems: block_elems as u32 }
    }

    /// What a block holds at most.
    pub fn most_elements(dtype: Dtype) -> u64 {
        BLOCK_BYTES / dtype.width_in_array() as u64
    }

    /// Bytes besides the symbols: side block, lanes' states, records of blocks.
    pub fn overhead(&self, side: u64) -> u64 {
        let blocks = self.elements.div_ceil(u64::from(self.block_elems));
        side + BLOCK_RECORD_BYTES + blocks * (4 + 3 * self.lanes as u64 + BLOCK_RECORD_BYTES)
    }

    pub fn plan(self, coding: Coding) -> Plan {
        Plan {
            dtype: self.dtype,
            elements: self.elements,
            row_len: self.row_len,
            block_elems: self.block_elems,
            coding,
        }
    }
}
