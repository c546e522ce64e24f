//! What can be typed after `upg`.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};

use super::size;
use crate::codec::manifold::Grid;
use crate::ops::convert::{BITS, Columns, GridChoice};

/// Make a model 5 times smaller than BF16, or losslessly a third smaller, in a
/// file that upg-mount shows as ordinary safetensors again.
#[derive(Debug, Parser)]
#[command(name = "upg", version, propagate_version = true, after_help = EXIT_CODES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (bad input, I/O), 2 wrong usage, 128 + N ended by signal N.";

#[derive(Debug, Subcommand)]
pub enum Command {
    Convert(Convert),
    Info(Info),
}

/// Convert safetensors to a .upg file
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").args(["bits", "lossless", "ratio"]), after_help = "\
Examples:
  upg convert models/phi-4 -o phi-4-upg        3.2 bits per weight; a directory with phi-4.upg
  upg convert models/phi-4 -o phi-4.upg        the file alone
  upg convert models/phi-4 --lossless          bit for bit the same, a third smaller
  upg convert model.safetensors --bits 4 --keep 'lm_head.*' -o model.upg")]
pub struct Convert {
    /// Model directory as it lies on the hub, or one .safetensors file
    pub source: PathBuf,

    /// Result: a file if it ends in .upg, else a directory [default: NAME-upg]
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,

    /// Bits per weight of the file, over all tensors that are not kept exactly
    #[arg(long, value_name = "B", default_value_t = 3.2, value_parser = parse_bits)]
    pub bits: f64,

    /// Keep every bit
    #[arg(long)]
    pub lossless: bool,

    /// Size of the safetensors files over that of the result
    #[arg(long, value_name = "R", value_parser = parse_ratio)]
    pub ratio: Option<f64>,

    /// Store tensors with matching names bit for bit; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub keep: Vec<globset::Glob>,

    /// Integers that the groups of weights lie at; auto takes the better per tensor
    #[arg(long, value_enum, default_value_t = GridArg::Auto)]
    pub grid: GridArg,

    /// States of the trellis: more take longer and err less; 1 is no trellis
    #[arg(long, value_enum, default_value_t = Effort::States8)]
    pub effort: Effort,

    /// Give every matrix the same bits per weight; else the output head gets more
    #[arg(long)]
    pub flat: bool,

    /// Steps per column by the gain of the norm before a matrix; auto: in encoders
    /// like BERT, where it helps
    #[arg(long, value_enum, default_value_t = ColumnsArg::Auto)]
    pub columns: ColumnsArg,

    /// Store matrices of FP8, which are small already, lossily, too
    #[arg(long)]
    pub lossy_fp8: bool,

    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Most memory to use, whatever the model's size
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size::parse)]
    pub memory: u64,

    /// Replace OUT if it exists
    #[arg(long)]
    pub force: bool,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Show what a .upg file holds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  upg info phi-4.upg
  upg info phi-4.upg --tensors
  upg info phi-4.upg --json | jq .bits_per_weight")]
pub struct Info {
    pub file: PathBuf,

    /// List every tensor
    #[arg(long)]
    pub tensors: bool,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
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

fn parse_bits(text: &str) -> Result<f64, String> {
    let bits: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !BITS.contains(&bits) {
        return Err(format!("must be from {} to {}; for more there is --lossless", BITS.start(), BITS.end()));
    }
    Ok(bits)
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !ratio.is_finite() || ratio < 1.0 {
        return Err("must be 1 or more".to_owned());
    }
    Ok(ratio)
}
