//! Prime-sparse with a trellis: planning a matrix from the sizes of its rows and a sample.

use super::plan::{CODER_LOSS, Coding, Geometry, Plan, index_bytes};
use super::rows;
use super::trellis::TrellisPlan;
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::float;
use crate::codec::isa::Isa;
use crate::codec::manifold::Grid;
use crate::codec::params::{ENTRIES, PrimeSparse, SymbolMap, SymbolParams, Trellis};
use crate::codec::side::{Side, SideContent};
use crate::codec::trellis::{Design, Sample};
use crate::error::{Error, Result};
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// Weights that stand for a matrix while its quantiser is designed: the rate of so many
/// is within 0.05 % of the rate of all.
const SAMPLE: u64 = 1 << 20;
/// Rates from which on there are raw bits, which cost what they are.
const RAW_FROM: f64 = 4.3;
/// Below that the coder's loss grows with the rate, but is never more than at so many bits: a raw bit
/// may take its share from about here on, of which nothing is lost.
const LOSS_GROWS_TO: f64 = 3.5;
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

/// What rows and columns have of their own, and how the matrix is cut.
struct Layout {
    /// Of the tensor.
    row_len: u64,
    /// Whether its rows may have anything of their own.
    wide: bool,
    /// Those that are empty do not differ.
    row_steps: Vec<u8>,
    row_scales: Vec<f32>,
    column_steps: Vec<u8>,
    column_scales: Vec<f32>,
    row_classes: Vec<u8>,
    classes: usize,
    geometry: Geometry,
}

impl Matrix<'_> {
    /// A plan on the best of `grids` that takes `bits` per weight for all that the
    /// tensor adds to the file; None if no trellis fits.
    pub fn plan(&self, grids: &[Grid], trellis: Trellis, bits: f64) -> Result<Option<Plan>> {
        let layout = self.layout();
        let coded = self.coded_bits(&layout, bits);
        let sample = self.sample(&layout)?;
        let designs = Design::find(Isa::chosen(), &sample, trellis, grids, coded);
        // No weight may decode to infinity: a grid that reaches so far is for wild tensors.
        let factor = rows::largest_factor(&layout.row_scales) * rows::largest_factor(&layout.column_scales);
        let largest = f64::from(float::largest(self.tensor.dtype));
        let finite = designs.iter().filter(|d| d.reach() * factor <= largest);
        let best = finite.min_by(|a, b| a.noise_at(coded).total_cmp(&b.noise_at(coded)));
        best.map(|design| self.with_design(layout, design, grid_cost_db(&designs, coded))).transpose()
    }

    fn layout(&self) -> Layout {
        let (dtype, elements) = (self.tensor.dtype, self.tensor.elements());
        let row_len = self.tensor.shape.last().copied().unwrap_or(1);
        let wide = (LEAST_ROW..=Geometry::most_elements(dtype)).contains(&row_len);
        let row_steps = if wide && self.steps_by_row { rows::row_steps(self.rms) } else { Vec::new() };
        let column_steps = if wide { rows::column_steps(self.gains) } else { Vec::new() };
        let (row_classes, classes) =
            if wide && row_steps.is_empty() { rows::row_classes(self.rms, row_len) } else { (Vec::new(), 1) };
        let alike = row_steps.is_empty() && row_classes.is_empty() && column_steps.is_empty();
        let geometry = if alike { Geometry::new(dtype, elements) } else { Geometry::of_rows(dtype, elements, row_len) };
        let (row_scales, column_scales) = (rows::scales(&row_steps), rows::scales(&column_steps));
        Layout { row_len, wide, row_steps, row_scales, column_steps, column_scales, row_classes, classes, geometry }
    }

    /// Of so many bits per weight, those that are left for symbols, raw bits and escapes.
    fn coded_bits(&self, layout: &Layout, bits: f64) -> f64 {
        let elements = self.tensor.elements();
        let side = (layout.classes * 2 * ENTRIES + layout.column_steps.len()) as u64;
        let per_row = u64::from(!layout.row_steps.is_empty()) + u64::from(!layout.row_classes.is_empty());
        let rows = elements / layout.geometry.row_len;
        let overhead = layout.geometry.overhead(side) + per_row * rows + index_bytes(self.tensor);
        let coded = (bits * elements as f64 - 8.0 * overhead as f64) / elements as f64;
        coded - if coded > RAW_FROM { CODER_LOSS_RAW } else { CODER_LOSS * coded.min(LOSS_GROWS_TO) }
    }

    fn sample(&self, layout: &Layout) -> Result<Sample> {
        let Layout { row_len, wide, geometry, .. } = layout;
        // The rows of the tensor are known by size, so that few can stand for all.
        let sample_row_len = if self.rms.is_empty() || !wide { geometry.row_len } else { *row_len };
        let picked = if sample_row_len == *row_len {
            pick_by_size(self.rms, sample_row_len)
        } else {
            pick_evenly(self.tensor.elements(), sample_row_len)
        };
        Ok(Sample {
            values: self.read_rows(&picked, sample_row_len)?,
            row_len: sample_row_len as usize,
            lanes: geometry.lanes,
            row_scales: of_picked(&layout.row_scales, &picked),
            column_scales: layout.column_scales.clone(),
            row_classes: of_picked(&layout.row_classes, &picked),
            classes: layout.classes,
            escape_bits: f64::from(32 + self.tensor.dtype.bits()),
        })
    }

    fn with_design(&self, layout: Layout, design: &Design, grid_cost_db: Option<f64>) -> Result<Plan> {
        let Layout { row_steps, row_scales, column_steps, column_scales, row_classes, classes, geometry, .. } = layout;
        let centroid_bits = 8.0 * (4 * ENTRIES) as f64 / self.tensor.elements() as f64;
        let has_centroids = design.centroids_save() > CENTROIDS_WORTH + centroid_bits;
        let centroids = has_centroids.then(|| design.centroids());
        let params = SymbolParams {
            dtype: self.tensor.dtype,
            lanes: geometry.lanes,
            raw_bits: design.raw_bits,
            classes: classes as u8,
            row_classes: !row_classes.is_empty(),
            map: SymbolMap::PrimeSparse(PrimeSparse {
                step: design.step,
                grid: design.grid,
                trellis: Some(design.trellis),
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
            .map_err(|defect| Error::Invalid(format!("{}: {}", self.tensor.name, defect.0)))?;
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
        Ok(geometry.plan(Coding::Trellis(Box::new(plan))))
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

/// What the prime grid costs against the uniform one, in dB, where both were tried.
fn grid_cost_db(designs: &[Design], bits: f64) -> Option<f64> {
    let noise_on = |grid| designs.iter().find(|d| d.grid == grid).map(|d| d.noise_at(bits));
    noise_on(Grid::Prime).zip(noise_on(Grid::Uniform)).map(|(prime, uniform)| 10.0 * (prime / uniform).log10())
}

/// Of a list that has an item per row, those of the rows that were picked; nothing of an empty one.
fn of_picked<T: Copy>(all: &[T], picked: &[u64]) -> Vec<T> {
    if all.is_empty() { Vec::new() } else { picked.iter().map(|&row| all[row as usize]).collect() }
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
