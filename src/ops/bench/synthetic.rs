//! Gaussian weights: how near conversion comes to what information theory allows.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::blocks::Blocks;
use super::timing::Pieces;
use super::{Direction, Speed, Speeds};
use crate::archive::{Archive, ArrayId};
use crate::codec::isa::Isa;
use crate::codec::manifold::Grid;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, ExtentKind};
use crate::ops::convert::{self, BlockEncoder, Columns, GridChoice, Target};
use crate::ops::progress::Progress;

/// Weights per row.
pub const ROW: u64 = 2048;
/// Standard deviation of the weights.
const SIGMA: f64 = 0.02;
/// dB that a bit per weight is worth: 20 log10(2).
const DB_PER_BIT: f64 = 6.020_599_913_279_624;
/// A rate farther from the one that was asked for was not met.
const TOLERANCE: f64 = 0.01;

/// What to make, and how to convert it.
pub struct Synthetic {
    /// BF16 or F32.
    pub dtype: Dtype,
    /// Whole rows of [`ROW`].
    pub weights: u64,
    pub seed: u64,
    /// Bits per weight to ask for.
    pub bits: Vec<f64>,
    pub log2_states: u8,
}

#[derive(Debug, Serialize)]
pub struct SyntheticBench {
    pub dtype: &'static str,
    pub weights: u64,
    pub seed: u64,
    /// Of the trellis that was asked for; 1 is none.
    pub states: u32,
    pub rates: Vec<Rate>,
}

/// A conversion and what came of it.
#[derive(Debug, Serialize)]
pub struct Rate {
    pub asked_bits: f64,
    pub file_bytes: u64,
    /// Of the whole file.
    pub bits_per_weight: f64,
    /// None if the weights were stored exactly.
    pub snr_db: Option<f64>,
    /// R(D) of a Gaussian source at as many bits.
    pub bound_db: f64,
    pub gap_db: Option<f64>,
    pub grid: Option<&'static str>,
    /// Of the trellis that was used; 1 is none.
    pub states: u32,
    pub raw_bits: u8,
    /// Share of the weights that are exactly zero.
    pub sparsity: f64,
    /// Of the whole conversion, planning and writing included.
    pub convert_seconds: f64,
    /// The same on either grid, where both meet the rate with the same trellis.
    pub prime: Option<Alternative>,
    pub uniform: Option<Alternative>,
    /// What the prime grid costs, corrected for the difference in bits.
    pub prime_cost_db: Option<f64>,
    pub speeds: Vec<Speed>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Alternative {
    pub bits_per_weight: f64,
    pub snr_db: f64,
}

/// Conversions have bytes to report; here a step is a conversion or a measurement.
struct Silent<'a>(&'a dyn Progress);

impl Progress for Silent<'_> {
    fn begin(&self, _: u64) {}
    fn advance(&self, _: u64) {}
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

impl Synthetic {
    pub(super) fn run(&self, speeds: &Speeds<'_>) -> Result<SyntheticBench> {
        speeds.progress.begin(self.bits.len() as u64 * (2 + 2 * speeds.count()));
        let directory = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
        let tensor = self.tensor();
        let source = directory.path().join("gaussian.safetensors");
        fs::write(&source, self.safetensors(&tensor)).map_err(|e| Error::io(&source, e))?;
        // As often as it takes to be beyond the caches.
        let times = if speeds.seconds > 0.0 { (speeds.data_bytes as usize).div_ceil(tensor.len()) } else { 1 };
        let tiles = tensor.repeat(times);
        let rates = self.bits.iter().map(|&bits| self.rate(bits, &source, &tiles, tensor.len(), speeds));
        Ok(SyntheticBench {
            dtype: self.dtype.name(),
            weights: self.weights,
            seed: self.seed,
            states: 1 << self.log2_states,
            rates: rates.collect::<Result<_>>()?,
        })
    }

    fn rate(&self, bits: f64, source: &Path, tiles: &[u8], len: usize, speeds: &Speeds<'_>) -> Result<Rate> {
        let output = source.with_extension("upg");
        let options = |grid| convert::Options {
            target: Target::Bits(bits),
            grid,
            log2_states: self.log2_states,
            flat: true,
            columns: Columns::None,
            threads: speeds.thread_counts.last().copied().unwrap_or(1),
            force: true,
            ..convert::Options::new(source, &output)
        };
        let silent = Silent(speeds.progress);
        // The grid that auto does not choose, for comparison, and auto last, whose file stays.
        let auto = convert::convert(&options(GridChoice::Auto), &silent)?;
        let chosen = Outcome::read(&output)?;
        speeds.progress.advance(1);
        let other = match chosen.grid {
            Some(Grid::Prime) => Some(Grid::Uniform),
            Some(Grid::Uniform) => Some(Grid::Prime),
            None => None,
        };
        let other = match other {
            Some(grid) => {
                let aside = source.with_file_name("other.upg");
                let options = convert::Options { output: aside.clone(), ..options(GridChoice::Only(grid)) };
                convert::convert(&options, &silent)?;
                Some(Outcome::read(&aside)?).filter(|other| other.compares_with(&chosen, bits))
            }
            None => None,
        };
        speeds.progress.advance(1);
        let on = |grid: Grid| {
            let found = [Some(&chosen), other.as_ref()].into_iter().flatten().find(|o| o.grid == Some(grid))?;
            Some(Alternative { bits_per_weight: found.bits_per_weight, snr_db: found.snr_db? })
        };
        let (prime, uniform) = (on(Grid::Prime), on(Grid::Uniform));
        let measured = if speeds.seconds > 0.0 {
            let encoder = BlockEncoder::new(&options(GridChoice::Auto), &silent)?;
            self.speeds(&encoder, &output, tiles, len, speeds)?
        } else {
            Vec::new()
        };
        let bound_db = DB_PER_BIT * chosen.bits_per_weight;
        Ok(Rate {
            asked_bits: bits,
            file_bytes: auto.file_bytes,
            bits_per_weight: chosen.bits_per_weight,
            snr_db: chosen.snr_db,
            bound_db,
            gap_db: chosen.snr_db.map(|snr| bound_db - snr),
            grid: chosen.grid.map(Grid::name),
            states: chosen.states,
            raw_bits: chosen.raw_bits,
            sparsity: chosen.sparsity,
            convert_seconds: auto.seconds,
            prime,
            uniform,
            prime_cost_db: prime.zip(uniform).map(|(prime, uniform)| {
                uniform.snr_db - prime.snr_db + DB_PER_BIT * (prime.bits_per_weight - uniform.bits_per_weight)
            }),
            speeds: measured,
        })
    }

    /// Encoding the tensor's blocks, and decoding what the conversion wrote.
    fn speeds(
        &self,
        encoder: &BlockEncoder,
        file: &Path,
        tiles: &[u8],
        len: usize,
        speeds: &Speeds<'_>,
    ) -> Result<Vec<Speed>> {
        let archive = Archive::open(file)?;
        let (id, array) = tensor_of(&archive)?;
        let mut blocks = Blocks::default();
        blocks.add(&archive, id, 0..array.block_count())?;
        let block_bytes = encoder.block_bytes();
        let of_tensor = len.div_ceil(block_bytes);
        // What is measured must be what a conversion does, whatever the instruction set.
        for isa in Isa::available() {
            let stored = encoder.encode(isa, 0, &tiles[..block_bytes.min(len)])?;
            if blocks.stored(0).is_some_and(|expected| expected != stored) {
                return Err(Error::Invalid(format!("{} encodes a block differently", isa.name())));
            }
        }
        let ranges = (0..tiles.len() / len)
            .flat_map(|tile| (0..len).step_by(block_bytes).map(move |at| (tile * len, at)))
            .map(|(tile, at)| tile + at..tile + (at + block_bytes).min(len));
        // A block at a time: without vectors it may take seconds.
        let pieces = Pieces { bytes: tiles, ranges: ranges.collect(), turn_bytes: 1 };
        let width = array.width() as usize;
        let mut measured = speeds.measure(Direction::Encode, &pieces, width, |isa, i, _| {
            let bytes = &tiles[pieces.ranges[i].clone()];
            std::hint::black_box(encoder.encode(isa, (i % of_tensor) as u64, bytes)?);
            Ok(())
        })?;
        blocks.repeat(speeds.data_bytes);
        measured.extend(blocks.measure(speeds)?);
        Ok(measured)
    }

    /// Standard normal numbers by the Box-Muller method, in the element type.
    fn tensor(&self) -> Vec<u8> {
        let mut state = self.seed.wrapping_mul(2).wrapping_add(1);
        let mut uniform = move || {
            // A linear congruential generator (Knuth's MMIX); its upper bits are good.
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let mut bytes = Vec::with_capacity(self.weights as usize * self.dtype.width_in_array());
        let mut push = |weight: f64| match self.dtype {
            Dtype::BF16 => bytes.extend_from_slice(&half::bf16::from_f64(weight).to_le_bytes()),
            _ => bytes.extend_from_slice(&(weight as f32).to_le_bytes()),
        };
        for _ in 0..self.weights / 2 {
            let radius = SIGMA * (-2.0 * uniform().ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
            push(radius * cos);
            push(radius * sin);
        }
        bytes
    }

    fn safetensors(&self, tensor: &[u8]) -> Vec<u8> {
        let header = serde_json::json!({"gaussian": {
            "dtype": self.dtype.name(),
            "shape": [self.weights / ROW, ROW],
            "data_offsets": [0, tensor.len()],
        }})
        .to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), tensor].concat()
    }
}

/// What a file of one tensor says of it.
struct Outcome {
    bits_per_weight: f64,
    snr_db: Option<f64>,
    grid: Option<Grid>,
    states: u32,
    raw_bits: u8,
    sparsity: f64,
}

impl Outcome {
    fn read(path: &Path) -> Result<Outcome> {
        let archive = Archive::open(path)?;
        let (_, array) = tensor_of(&archive)?;
        let sparse = array.codec.prime_sparse();
        Ok(Outcome {
            bits_per_weight: 8.0 * archive.size() as f64 / array.elements as f64,
            snr_db: array.snr_db(),
            grid: sparse.map(|sparse| sparse.grid),
            states: sparse.and_then(|sparse| sparse.trellis).map_or(1, |trellis| 1 << trellis.log2_states),
            raw_bits: array.codec.symbols().map_or(0, |params| params.raw_bits),
            sparsity: array.zeros as f64 / array.elements as f64,
        })
    }

    /// Whether it is another answer to the same question. The prime grid, which has no raw
    /// bits, ends at about 4.3 bits: beyond, it takes fewer than asked for, or no trellis.
    fn compares_with(&self, other: &Outcome, bits: f64) -> bool {
        self.states == other.states && (self.bits_per_weight / bits - 1.0).abs() < TOLERANCE
    }
}

fn tensor_of(archive: &Archive) -> Result<(ArrayId, &ArrayInfo)> {
    let mut extents = archive.index().extents.iter().filter(|extent| extent.kind == ExtentKind::Tensor);
    let id = extents.find_map(|extent| extent.array).map(ArrayId);
    let id = id.ok_or_else(|| Error::Invalid(format!("{}: no tensor", archive.name())))?;
    Ok((id, archive.array(id)))
}
