//! Prime-sparse with a trellis: planning a matrix from its sizes and a sample, and
//! coding its blocks.

use std::cell::RefCell;

use super::plan::{CODER_LOSS, Coding, Geometry, Plan, index_bytes};
use super::rows;
use crate::codec::encode::{Symbols, encode_block_on};
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::float;
use crate::codec::isa::Isa;
use crate::codec::layout::BlockShape;
use crate::codec::manifold::Grid;
use crate::codec::params::{ENTRIES, PrimeSparse, SymbolMap, SymbolParams, Trellis};
use crate::codec::raw::Raw;
use crate::codec::side::{Side, SideContent};
use crate::codec::trellis::{Choice, Design, Metrics, Sample, Scratch, Search, Source};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// Weights that stand for a matrix while its quantiser is designed: the rate of so many
/// is within 0.05 % of the rate of all.
const SAMPLE: u64 = 1 << 20;
/// Rates from which on there are raw bits, which cost what they are.
const RAW_FROM: f64 = 4.3;
/// What the entropy coder then takes beyond the entropy, in bits per weight: measured as
/// 0.0028 from 5 to 8 bits.
const CODER_LOSS_RAW: f64 = 0.003;
/// What centroids must save beyond their bytes, in bits per weight: they do below about
/// 1.5 bits, and up to 2 where weights are far from Gaussian.
const CENTROIDS_WORTH: f64 = 0.002;
/// Shorter rows have no steps and classes of their own: a byte would weigh too much.
const LEAST_ROW: u64 = 128;

/// A matrix with what is known of it.
pub struct Matrix<'a> {
    pub source: &'a LocalFile,
    pub tensor: &'a ShardTensor,
    /// Root mean square of each row.
    pub rms: &'a [f32],
    /// Whether each row gets a step of its own.
    pub steps_by_row: bool,
    /// What its input is multiplied by, per column; or empty.
    pub gains: &'a [f32],
}

/// All that encoding needs.
pub struct TrellisPlan {
    pub params: SymbolParams,
    pub side: Vec<u8>,
    pub grid_cost_db: Option<f64>,
    metrics: Metrics,
    tables: Vec<EncodeTable>,
    pub parsed: Side,
    row_steps: Vec<u8>,
    row_scales: Vec<f32>,
    row_classes: Vec<u8>,
    column_scales: Vec<f32>,
}

impl Matrix<'_> {
    /// A plan on the best of `grids` that takes `bits` per weight for all that the
    /// tensor adds to the file; None if no trellis fits.
    pub fn plan(&self, grids: &[Grid], trellis: Trellis, bits: f64) -> Result<Option<Plan>> {
        let (tensor, dtype, elements) = (self.tensor, self.tensor.dtype, self.tensor.elements());
        let row_len = tensor.shape.last().copied().unwrap_or(1);
        let wide = (LEAST_ROW..=Geometry::most_elements(dtype)).contains(&row_len);
        let row_steps = if wide && self.steps_by_row { rows::row_steps(self.rms) } else { Vec::new() };
        let column_steps = if wide { rows::column_steps(self.gains) } else { Vec::new() };
        let (row_classes, classes) =
            if wide && row_steps.is_empty() { rows::row_classes(self.rms, row_len) } else { (Vec::new(), 1) };
        let per_row = u64::from(!row_steps.is_empty()) + u64::from(!row_classes.is_empty());
        let geometry = if per_row > 0 || !column_steps.is_empty() {
            Geometry::of_rows(dtype, elements, row_len)
        } else {
            Geometry::new(dtype, elements)
        };
        let side = (classes * 2 * ENTRIES + column_steps.len()) as u64;
        let rows = elements / geometry.row_len;
        let overhead = geometry.overhead(side) + per_row * rows + index_bytes(tensor);
        let coded = (bits * elements as f64 - 8.0 * overhead as f64) / elements as f64;
        let coded = coded - if coded > RAW_FROM { CODER_LOSS_RAW } else { CODER_LOSS * coded.min(3.5) };

        let (row_scales, column_scales) = (rows::scales(&row_steps), rows::scales(&column_steps));
        // The rows of the tensor are known by size, so that few can stand for all.
        let sample_row_len = if self.rms.is_empty() || !wide { geometry.row_len } else { row_len };
        let picked = if sample_row_len == row_len {
            pick_by_size(self.rms, row_len)
        } else {
            pick_evenly(elements, sample_row_len)
        };
        let pick = |all: &[f32]| -> Vec<f32> {
            if all.is_empty() { Vec::new() } else { picked.iter().map(|&row| all[row as usize]).collect() }
        };
        let classes_of_sample: Vec<u8> =
            if classes > 1 { picked.iter().map(|&row| row_classes[row as usize]).collect() } else { Vec::new() };
        let sample = Sample {
            values: self.read_rows(&picked, sample_row_len)?,
            row_len: sample_row_len as usize,
            lanes: geometry.lanes,
            row_scales: pick(&row_scales),
            column_scales: column_scales.clone(),
            row_classes: classes_of_sample,
            classes,
            escape_bits: f64::from(32 + dtype.bits()),
        };
        let designs = Design::find(Isa::chosen(), &sample, trellis, grids, coded);
        let noise_on = |grid| designs.iter().find(|d| d.grid == grid).map(|d| d.noise_at(coded));
        let grid_cost_db =
            noise_on(Grid::Prime).zip(noise_on(Grid::Uniform)).map(|(prime, uniform)| 10.0 * (prime / uniform).log10());
        // No weight may decode to infinity: a grid that reaches so far is for wild tensors.
        let factor = rows::largest_factor(&row_scales) * rows::largest_factor(&column_scales);
        let finite = designs.iter().filter(|d| d.reach() * factor <= f64::from(float::largest(dtype)));
        let best = finite.min_by(|a, b| a.noise_at(coded).total_cmp(&b.noise_at(coded)));
        let Some(design) = best else { return Ok(None) };
        let centroid_bits = 8.0 * (4 * ENTRIES) as f64 / elements as f64;
        let has_centroids = design.centroids_save() > CENTROIDS_WORTH + centroid_bits;
        let centroids = has_centroids.then(|| design.centroids());
        let params = SymbolParams {
            dtype,
            lanes: geometry.lanes,
            raw_bits: design.raw_bits,
            classes: classes as u8,
            row_classes: !row_classes.is_empty(),
            map: SymbolMap::PrimeSparse(PrimeSparse {
                step: design.step,
                grid: design.grid,
                trellis: Some(trellis),
                row_steps: !row_steps.is_empty(),
                column_steps: !column_steps.is_empty(),
                centroids: has_centroids,
            }),
        };
        let content = SideContent {
            frequencies: &design.frequencies,
            centroids: centroids.as_ref(),
            column_steps: &column_steps,
            ..Default::default()
        };
        let side = content.to_bytes();
        let parsed = Side::parse(&params, geometry.row_len as usize, &side)
            .map_err(|defect| Error::Invalid(format!("{}: {}", tensor.name, defect.0)))?;
        let plan = TrellisPlan {
            params,
            side,
            grid_cost_db,
            metrics: design.metrics(),
            tables: design.frequencies.iter().map(|f| EncodeTable::new(f, 2)).collect(),
            parsed,
            row_steps,
            row_scales,
            row_classes,
            column_scales,
        };
        Ok(Some(geometry.plan(Coding::Trellis(Box::new(plan)))))
    }

    fn read_rows(&self, rows: &[u64], row_len: u64) -> Result<Vec<f32>> {
        let (dtype, width) = (self.tensor.dtype, self.tensor.dtype.width_in_array() as u64);
        let mut values = Vec::with_capacity(rows.len() * row_len as usize);
        let mut bytes = Vec::new();
        for &row in rows {
            let from = row * row_len * width;
            bytes.resize((row_len * width).min(self.tensor.length - from) as usize, 0);
            self.source.read_exact_at(&mut bytes, self.tensor.offset + from)?;
            float::extend_values(dtype, &bytes, &mut values);
        }
        Ok(values)
    }
}

/// Rows evenly spread over the tensor; all of them if they are few. Only all may have a
/// short last one.
fn pick_evenly(elements: u64, row_len: u64) -> Vec<u64> {
    if elements <= 2 * SAMPLE {
        return (0..elements.div_ceil(row_len)).collect();
    }
    let whole = elements / row_len;
    let count = (SAMPLE / row_len).clamp(1, whole);
    (0..count).map(|i| i * whole / count).collect()
}

/// Rows whose sizes are evenly spread among the sizes of all; all of them if they are few.
fn pick_by_size(rms: &[f32], row_len: u64) -> Vec<u64> {
    let all = rms.len() as u64;
    if all * row_len <= 2 * SAMPLE {
        return (0..all).collect();
    }
    let mut order: Vec<u64> = (0..all).collect();
    order.sort_by(|&a, &b| rms[a as usize].total_cmp(&rms[b as usize]).then(a.cmp(&b)));
    let count = (SAMPLE / row_len).clamp(1, all);
    let mut picked: Vec<u64> = (0..count).map(|i| order[((2 * i + 1) * all / (2 * count)) as usize]).collect();
    picked.sort_unstable();
    picked
}

#[derive(Default)]
struct Work {
    values: Vec<f32>,
    scratch: Scratch,
    choice: Choice,
    escaped: Vec<u8>,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl TrellisPlan {
    /// Codes the block that begins with this element.
    pub fn encode(&self, isa: Isa, row_len: u64, first: u64, bytes: &[u8]) -> Result<Vec<u8>> {
        WORK.with_borrow_mut(|work| self.encode_with(isa, work, row_len as usize, (first / row_len) as usize, bytes))
    }

    fn encode_with(
        &self,
        isa: Isa,
        work: &mut Work,
        row_len: usize,
        first_row: usize,
        bytes: &[u8],
    ) -> Result<Vec<u8>> {
        let dtype = self.params.dtype;
        let width = dtype.width_in_array();
        let shape = BlockShape { elements: bytes.len() / width, row_len, lanes: self.params.lanes };
        let last_row = first_row + shape.rows();
        let source = if dtype == Dtype::BF16 {
            Source::Bf16(bytes)
        } else {
            work.values.clear();
            float::extend_values(dtype, bytes, &mut work.values);
            Source::F32(&work.values)
        };
        let search = Search {
            shape,
            source,
            metrics: &self.metrics,
            row_scales: of_rows(&self.row_scales, first_row, last_row),
            column_scales: &self.column_scales,
            row_classes: of_rows(&self.row_classes, first_row, last_row),
        };
        search.run(isa, &mut work.scratch, &mut work.choice);
        work.escaped.clear();
        for &at in &work.choice.escapes {
            work.escaped.extend_from_slice(&bytes[at as usize * width..][..width]);
        }
        let symbols = Symbols {
            symbols: &work.choice.entries,
            escape_positions: &work.choice.escapes,
            escape_values: &work.escaped,
            row_steps: of_rows(&self.row_steps, first_row, last_row),
            row_classes: of_rows(&self.row_classes, first_row, last_row),
        };
        let raw = if self.params.raw_bits > 0 { Raw::U16(&work.choice.raw) } else { Raw::None };
        encode_block_on(isa, &self.params, &shape, &self.tables, &symbols, raw)
            .map_err(|defect| Error::Invalid(format!("a block cannot be coded: {}", defect.0)))
    }
}

/// The part of a list that has an item per row, or nothing of an empty one.
fn of_rows<T>(all: &[T], first: usize, last: usize) -> &[T] {
    if all.is_empty() { all } else { &all[first..last] }
}
