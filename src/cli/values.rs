//! What can be typed after the options of `upg`.

use clap::ValueEnum;

use crate::codec::manifold::Grid;
use crate::dtype::Dtype;
use crate::ops::bench::ROW;
use crate::ops::convert::{BITS, Columns, GridChoice};
use crate::ops::merge::Input;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    #[value(name = "BF16")]
    Bf16,
    #[value(name = "F32")]
    F32,
}

impl From<DtypeArg> for Dtype {
    fn from(dtype: DtypeArg) -> Dtype {
        match dtype {
            DtypeArg::Bf16 => Dtype::BF16,
            DtypeArg::F32 => Dtype::F32,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GridArg {
    Auto,
    Prime,
    Uniform,
}

impl From<GridArg> for GridChoice {
    fn from(grid: GridArg) -> GridChoice {
        match grid {
            GridArg::Auto => GridChoice::Auto,
            GridArg::Prime => GridChoice::Only(Grid::Prime),
            GridArg::Uniform => GridChoice::Only(Grid::Uniform),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColumnsArg {
    Auto,
    Gain,
    None,
}

impl From<ColumnsArg> for Columns {
    fn from(columns: ColumnsArg) -> Columns {
        match columns {
            ColumnsArg::Auto => Columns::Auto,
            ColumnsArg::Gain => Columns::Gain,
            ColumnsArg::None => Columns::None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Effort {
    #[value(name = "1")]
    States1,
    #[value(name = "4")]
    States4,
    #[value(name = "8")]
    States8,
    #[value(name = "16")]
    States16,
    #[value(name = "32")]
    States32,
    #[value(name = "64")]
    States64,
    #[value(name = "max")]
    States256,
}

impl Effort {
    /// Binary logarithm of the states, 0 without a trellis.
    pub fn log2_states(self) -> u8 {
        match self {
            Effort::States1 => 0,
            Effort::States4 => 2,
            Effort::States8 => 3,
            Effort::States16 => 4,
            Effort::States32 => 5,
            Effort::States64 => 6,
            Effort::States256 => 8,
        }
    }
}

pub fn parse_bits(text: &str) -> Result<f64, String> {
    let bits: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !BITS.contains(&bits) {
        return Err(format!("must be from {} to {}; for more there is --lossless", BITS.start(), BITS.end()));
    }
    Ok(bits)
}

pub fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !ratio.is_finite() || ratio < 1.0 {
        return Err("must be 1 or more".to_owned());
    }
    Ok(ratio)
}

pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.0..=3600.0).contains(&seconds) {
        return Err("must be from 0 to 3600".to_owned());
    }
    Ok(seconds)
}

pub fn parse_weights(text: &str) -> Result<u64, String> {
    let weights: u64 = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if !weights.is_multiple_of(ROW) || !(4 * ROW..=1 << 30).contains(&weights) {
        return Err(format!("must be a multiple of {ROW}, from {} to {}", 4 * ROW, 1u64 << 30));
    }
    Ok(weights)
}

/// A file whose name has a `=` can be given as `./NAME`.
pub fn parse_input(text: &str) -> Result<Input, String> {
    let input = match text.split_once('=') {
        Some((name, file)) if !name.contains('/') => Input { file: file.into(), name: Some(name.to_owned()) },
        _ => Input { file: text.into(), name: None },
    };
    if input.file.as_os_str().is_empty() { Err("no file".to_owned()) } else { Ok(input) }
}
