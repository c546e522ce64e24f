//! What can be typed after `upg`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::convert_args::Convert;
use super::size;
use super::values::{DtypeArg, Effort, parse_bits, parse_input, parse_seconds, parse_weights};
use crate::ops::merge::Input;

/// Make a model 5 times smaller than BF16, or losslessly a third smaller, in a
/// file that upg-mount shows as ordinary safetensors again.
#[derive(Debug, Parser)]
#[command(name = "upg", version, propagate_version = true, after_help = EXIT_CODES)]
#[command(override_usage = "upg <COMMAND>\n       upg --generate <DIR>")]
#[command(arg_required_else_help = true, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Write manual pages, and completions for bash, zsh and fish, as they lie below /usr/share
    #[arg(long, value_name = "DIR", required = true)]
    pub generate: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Exit code: something is wrong with the file that was verified.
pub const WRONG: u8 = 3;

pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed (bad input, I/O), 2 wrong usage, 3 verify found something wrong, 128 + N ended by signal N.";

#[derive(Debug, Subcommand)]
pub enum Command {
    Convert(Convert),
    Catalog(Catalog),
    Info(Info),
    Verify(Verify),
    Unpack(Unpack),
    Merge(Merge),
    Bench(Bench),
}

/// List a model's tensors and what its layers and kinds of tensors amount to, from headers alone
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  upg catalog models/phi-4
  upg catalog models/phi-4 --tensors
  upg catalog phi-4.upg --json | jq '.[0].layers[3]'")]
pub struct Catalog {
    /// A model directory, one .safetensors file, or a .upg file
    pub source: PathBuf,

    /// List every tensor
    #[arg(long)]
    pub tensors: bool,

    /// Print everything as JSON: a list of models
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

/// Check that a .upg file is whole, and compare it with its source
///
/// Structure and every checksum are checked, and every block is decoded. With --against, names,
/// types and shapes are compared with the source, bit for bit what is stored exactly, and of the
/// rest the noise is measured again and compared with what the file says of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  upg verify phi-4.upg
  upg verify phi-4.upg --against models/phi-4
  upg verify phi-4.upg --json | jq .findings

Exit codes: 0 nothing is wrong, 1 it could not be checked, 2 wrong usage, 3 something is wrong.")]
pub struct Verify {
    pub file: PathBuf,

    /// What it was made of: a model directory, or one .safetensors file
    #[arg(long, value_name = "SRC")]
    pub against: Option<PathBuf>,

    /// Which model to compare, if FILE holds several [default: the one named like SRC]
    #[arg(long, value_name = "NAME", requires = "against")]
    pub model: Option<String>,

    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// List every tensor that was compared
    #[arg(long, requires = "against")]
    pub tensors: bool,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// Write the files of a .upg file to a directory, as a mount shows them
///
/// A file appears whole or not at all. If unpacking is interrupted, the same command goes on with
/// what is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  upg unpack phi-4.upg -o phi-4
  upg unpack phi-4.upg -o phi-4 --file '*.json'
  upg unpack phi-4.upg -o head --tensor 'lm_head.*' --tensor 'model.norm.*'")]
pub struct Unpack {
    pub file: PathBuf,

    /// Directory to write to; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,

    /// Only files with matching paths; may be repeated
    #[arg(long = "file", value_name = "GLOB")]
    pub files: Vec<globset::Glob>,

    /// Only tensors with matching names, in shards that have no others; may be repeated
    #[arg(long = "tensor", value_name = "GLOB")]
    pub tensors: Vec<globset::Glob>,

    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Replace files that exist
    #[arg(long)]
    pub force: bool,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Make one .upg file of several, each model in a directory of its own
///
/// Nothing is coded again. What is the same in several is stored once, down to single blocks of
/// tensors. The parts of a model (upg convert --part) become that model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  upg merge phi-4.upg qwen3.upg -o models.upg
  upg merge grok-1-1-of-2.upg grok-1-2-of-2.upg -o grok-1.upg
  upg merge phi-4.upg tuned=/data/run-7/phi-4.upg -o both.upg
  upg merge phi-4.upg tuned=/data/run-7/phi-4.upg -o both.upg --delta phi-4")]
pub struct Merge {
    /// .upg files; NAME=FILE gives the model in FILE another name
    #[arg(value_name = "[NAME=]FILE", required = true, value_parser = parse_input)]
    pub inputs: Vec<Input>,

    /// Result
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Store tensors as differences to those of this model where that is smaller. Both must be
    /// stored losslessly
    #[arg(long, value_name = "MODEL")]
    pub delta: Option<String>,

    /// Replace the result if it exists
    #[arg(long)]
    pub force: bool,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Measure rate, noise and speed on this machine
///
/// Without FILE, Gaussian weights are converted to temporary files at several rates: the
/// bits per weight of the files, their noise beside the bound of rate-distortion theory,
/// what the prime grid costs, and how fast blocks are encoded and decoded. With FILE, how
/// fast its own blocks decode. Speeds are of blocks in memory, medians of turns that
/// alternate with memcpy of as many bytes, over more than the caches hold.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  upg bench                                    Gaussian weights in BF16, 1.6 to 8 bits
  upg bench --synthetic --dtype F32 --bits 3.2 --effort max
  upg bench --seconds 0 --json > rates.json    rates and noise without speeds
  upg bench phi-4.upg                          how fast this file decodes")]
pub struct Bench {
    /// A .upg file
    #[arg(conflicts_with = "synthetic")]
    pub file: Option<PathBuf>,

    /// Convert Gaussian weights, as without FILE
    #[arg(long)]
    pub synthetic: bool,

    /// Bits per weight to convert to
    #[arg(long, value_name = "B,...", value_delimiter = ',', value_parser = parse_bits, conflicts_with = "file",
          default_values_t = [1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.0, 8.0])]
    pub bits: Vec<f64>,

    /// Type of the weights; BF16 is rounded, which shows from 6 bits on
    #[arg(long, value_enum, ignore_case = true, default_value_t = DtypeArg::Bf16, conflicts_with = "file")]
    pub dtype: DtypeArg,

    /// States of the trellis; 1 is no trellis
    #[arg(long, value_enum, default_value_t = Effort::States8, conflicts_with = "file")]
    pub effort: Effort,

    /// Seed of the random weights
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "file")]
    pub seed: u64,

    /// Time for each measurement of speed, at least five turns; 0 for none
    #[arg(long, value_name = "S", default_value_t = 0.3, value_parser = parse_seconds)]
    pub seconds: f64,

    /// Most threads to measure with, besides one [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,

    /// Weights of the tensor: whole rows of 2048
    #[arg(long, value_name = "N", default_value_t = 4 << 20, value_parser = parse_weights, hide = true)]
    pub weights: u64,

    /// Bytes to measure speed over [default: four times the last cache, at least 256 MiB]
    #[arg(long, value_name = "SIZE", value_parser = size::parse, hide = true)]
    pub data: Option<u64>,
}
