//! How each tensor is to be coded, decided from its histogram.

use crate::codec::entropy::encode::EncodeTable;
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::float::{from_bits, to_bits};
use crate::codec::histogram::Histogram;
use crate::codec::lossless::{self, Choice, FieldCode};
use crate::codec::manifold::{Grid, Levels};
use crate::codec::params::{ENTRIES, LANE_UNIT, PrimeSparse, SymbolMap, SymbolParams};
use crate::codec::side::SideContent;
use crate::codec::sparse::Quantiser;
use crate::dtype::Dtype;
use crate::shard::ShardTensor;

/// Decoded bytes per block, at most.
const BLOCK_BYTES: u64 = 1 << 20;
/// How far apart the elements of one step and the next are, in steps. Next to each
/// other, the decoder's recent stores would cover every address modulo 4096, which
/// is how a processor first tells loads from pending stores, and its loads would
/// wait: measured as half the speed (5.1 against 11.8 GB/s with 128 lanes).
const STEPS_PER_ROW: u64 = 16;
/// Fewer elements than this are stored exactly: tables would outweigh them.
const LEAST_MATRIX: u64 = 4096;
/// Fewer elements than this are stored as they are.
const LEAST_CODED: u64 = 2048;
/// What the prime grid may cost against the uniform one before it is given up.
const PRIME_COST_DB: f64 = 0.15;

/// What the entropy coder takes beyond the entropy, with states of 32 bits and
/// frequencies of 16: measured as 0.05 to 0.15 %.
const CODER_LOSS: f64 = 0.0012;

/// Bytes of the index per block, and per tensor without names and shape.
const INDEX_BYTES_PER_BLOCK: u64 = 24;
const INDEX_BYTES_PER_TENSOR: u64 = 80 + 40;

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
    PrimeSparse(Box<Lossy>),
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
    pub levels: Levels,
    pub table: EncodeTable,
    pub side: Vec<u8>,
    /// Bits that the whole tensor may take, without overhead.
    pub budget: f64,
    /// What this grid costs against the uniform one, in dB, where both were tried.
    pub grid_cost_db: Option<f64>,
}

/// Sums that become SNR and sparsity.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    pub signal: f64,
    pub noise: f64,
    pub zeros: u64,
}

impl Quality {
    pub fn add(&mut self, other: &Quality) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.zeros += other.zeros;
    }
}

/// Whether a tensor may be stored lossily: a matrix of floating-point numbers
/// that is large enough for its tables.
pub fn is_matrix(tensor: &ShardTensor) -> bool {
    tensor.dtype.lossy_by_default()
        && tensor.shape.iter().filter(|&&dim| dim > 1).count() >= 2
        && tensor.elements() >= LEAST_MATRIX
}

/// The element type of the array that holds a tensor of this type.
pub fn array_dtype(dtype: Dtype) -> Dtype {
    if dtype.width().is_some() { dtype } else { Dtype::U8 }
}

impl Plan {
    /// For bytes without structure, such as headers and small files.
    pub fn bytes(length: u64, level: i32) -> Plan {
        let block_elems = BLOCK_BYTES.min(length) as u32;
        Plan { dtype: Dtype::U8, elements: length, row_len: 1, block_elems, coding: Coding::Zstd(level) }
    }

    /// For elements that no entropy coder of ours fits: zstd where it helps.
    pub fn opaque(dtype: Dtype, elements: u64, zstd_helps: bool) -> Plan {
        let width = u64::from(dtype.bits() / 8);
        let block_elems = (BLOCK_BYTES / width).min(elements) as u32;
        let coding = if zstd_helps { Coding::Zstd(3) } else { Coding::Stored };
        Plan { dtype, elements, row_len: 1, block_elems, coding }
    }

    /// Bit-exact, by the entropy of the split field; None if it would not pay.
    pub fn lossless(dtype: Dtype, histogram: &Histogram) -> Option<Plan> {
        let elements = histogram.total();
        let choice = lossless::choose(dtype, histogram).filter(|_| elements >= LEAST_CODED)?;
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
        (plan.estimated_bytes() < (elements * u64::from(dtype.bits() / 8)) as f64).then_some(plan)
    }

    /// Lossily, with at most `bits` bits per weight for everything that the
    /// tensor adds to the file; `names` are the bytes of its name and shape.
    /// None if it cannot be done, or if lossless coding takes less.
    pub fn lossy(dtype: Dtype, histogram: &Histogram, grid: Grid, bits: f64, names: u64) -> Option<Plan> {
        let elements = histogram.total();
        let geometry = Geometry::new(dtype, elements);
        let overhead = geometry.overhead(2 * ENTRIES as u64) + INDEX_BYTES_PER_TENSOR + names;
        let budget = (bits * elements as f64 - 8.0 * overhead as f64) / (1.0 + CODER_LOSS);
        let values = histogram.values();
        let uniform = Quantiser::search(&values, Grid::Uniform, budget, dtype);
        let prime = match grid {
            Grid::Prime => Quantiser::search(&values, Grid::Prime, budget, dtype),
            Grid::Uniform => None,
        };
        let cost = prime
            .as_ref()
            .zip(uniform.as_ref())
            .map(|(prime, uniform)| 10.0 * (prime.outcome.noise / uniform.outcome.noise).log10());
        let quantiser = match (prime, uniform, cost) {
            (Some(prime), None, _) => prime,
            (Some(prime), _, Some(cost)) if cost <= PRIME_COST_DB => prime,
            (_, uniform, _) => uniform?,
        };
        if Self::lossless(dtype, histogram).is_some_and(|plan| plan.estimated_bytes() < budget / 8.0) {
            return None;
        }
        let lossy = Lossy::new(dtype, geometry.lanes, quantiser, budget, cost);
        Some(geometry.plan(Coding::PrimeSparse(Box::new(lossy))))
    }

    pub fn block_count(&self) -> u64 {
        self.elements.div_ceil(u64::from(self.block_elems))
    }

    pub fn width(&self) -> u64 {
        u64::from(self.dtype.bits() / 8)
    }

    /// Bytes that a losslessly coded array will take, from its entropy.
    pub fn estimated_bytes(&self) -> f64 {
        match &self.coding {
            Coding::Lossless(exact) => {
                let Exact { params, code, side, .. } = &**exact;
                let escapes = code.counts[0] as f64 * (4.0 + self.width() as f64);
                let symbols = lossless::entropy(&code.counts) + f64::from(params.raw_bits);
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
        let (table, side) = tables(&quantiser.outcome.counts);
        Lossy { params, levels: quantiser.levels(), quantiser, table, side, budget, grid_cost_db }
    }

    /// Takes what was counted in place of what the histogram said, and returns the
    /// bits that the tensor will then take.
    pub fn recount(&mut self, counts: [u64; ENTRIES]) -> f64 {
        (self.table, self.side) = tables(&counts);
        self.quantiser.outcome.counts = counts;
        self.quantiser.bits(&counts, self.params.dtype)
    }

    /// Adds what an element of these bits contributes, `count` times.
    #[inline]
    pub fn measure(&self, bits: u32, count: u64, quality: &mut Quality) {
        let value = from_bits(self.params.dtype, bits);
        if !value.is_finite() {
            return;
        }
        let decoded = match self.quantiser.index(value) {
            None => value,
            Some(index) => {
                let decoded = Quantiser::value(&self.levels, self.quantiser.step, index);
                from_bits(self.params.dtype, to_bits(self.params.dtype, decoded))
            }
        };
        let (value, count_f) = (f64::from(value), count as f64);
        quality.signal += count_f * value * value;
        quality.noise += count_f * (value - f64::from(decoded)).powi(2);
        quality.zeros += if decoded == 0.0 { count } else { 0 };
    }
}

fn tables(counts: &[u64; ENTRIES]) -> (EncodeTable, Vec<u8>) {
    let frequencies = [Frequencies::from_counts(counts, 1)];
    let side = SideContent { frequencies: &frequencies, ..Default::default() }.to_bytes();
    (EncodeTable::new(&frequencies[0], 1), side)
}

/// How an array is cut into blocks and lanes.
struct Geometry {
    dtype: Dtype,
    elements: u64,
    lanes: usize,
    row_len: u64,
    block_elems: u32,
}

impl Geometry {
    /// Nothing here is per row or column, so rows can have any length.
    fn new(dtype: Dtype, elements: u64) -> Geometry {
        let most = BLOCK_BYTES / u64::from(dtype.bits() / 8);
        let blocks = elements.div_ceil(most);
        let even = elements.div_ceil(blocks);
        // 24 bits per lane and block: 128 lanes cost 0.4 % of 250,000 weights.
        let lanes = if even >= 1 << 18 {
            4 * LANE_UNIT
        } else if even >= 1 << 16 {
            2 * LANE_UNIT
        } else {
            LANE_UNIT
        };
        let row_len = STEPS_PER_ROW * lanes as u64;
        let block_elems = even.next_multiple_of(row_len) as u32;
        Geometry { dtype, elements, lanes, row_len, block_elems }
    }

    /// Bytes besides the symbols: side block, lanes' states, records of blocks.
    fn overhead(&self, side: u64) -> u64 {
        let blocks = self.elements.div_ceil(u64::from(self.block_elems));
        side + INDEX_BYTES_PER_BLOCK + blocks * (4 + 3 * self.lanes as u64 + INDEX_BYTES_PER_BLOCK)
    }

    fn plan(self, coding: Coding) -> Plan {
        Plan {
            dtype: self.dtype,
            elements: self.elements,
            row_len: self.row_len,
            block_elems: self.block_elems,
            coding,
        }
    }
}
