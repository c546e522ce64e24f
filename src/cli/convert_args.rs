//! What can be typed after `upg convert`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ArgGroup;

use super::size;
use super::threads::threads;
use super::values::{ColumnsArg, Effort, GridArg, parse_bits, parse_ratio};
use crate::archive::Archive;
use crate::ops::choose::choose;
use crate::ops::convert::{DEFAULT_BITS, Keep, Options, Part, Target};

/// Convert safetensors to a .upg file
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").args(["bits", "lossless", "ratio"]), after_help = "\
Examples:
  upg convert models/phi-4 -o phi-4-upg        3.2 bits per weight; a directory with phi-4.upg
  upg convert models/phi-4 -o phi-4.upg        the file alone
  upg convert models/phi-4 --lossless          bit for bit the same, a third smaller
  upg convert model.safetensors --bits 4 --keep 'lm_head.*' -o model.upg
  upg convert models/grok-1 --part 1/4         a quarter, for upg merge: docs/fleets.md
  upg convert run-7 --like phi-4.upg           for merging: unchanged tensors come out the same")]
pub struct Convert {
    /// Model directory as it lies on the hub, or one .safetensors file
    pub source: PathBuf,

    /// Result: a file if it ends in .upg, else a directory [default: NAME-upg, of a part
    /// NAME-I-of-N.upg]
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,

    /// Bits per weight of the file, over all tensors that are neither kept nor quantised already
    #[arg(long, value_name = "B", default_value_t = DEFAULT_BITS, value_parser = parse_bits)]
    pub bits: f64,

    /// Keep every bit
    #[arg(long)]
    pub lossless: bool,

    /// Size of the safetensors files over that of the result
    #[arg(long, value_name = "R", value_parser = parse_ratio)]
    pub ratio: Option<f64>,

    /// Convert as the model in this .upg file was converted, each tensor at the rate that it has there.
    /// Tensors that both models have alike come out alike then, and upg merge stores them once
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["target", "grid", "effort", "flat", "columns", "lossy_fp8"])]
    pub like: Option<PathBuf>,

    /// Which model of several in that file
    #[arg(long, value_name = "NAME", requires = "like")]
    pub like_model: Option<String>,

    /// Convert only part I of N: whole safetensors files, shared out by size. Rates are those of the
    /// whole model, all of which must be there to be looked at; upg merge joins the parts
    #[arg(long, value_name = "I/N")]
    pub part: Option<Part>,

    /// Store tensors with matching names bit for bit; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub keep: Vec<globset::Glob>,

    /// Grid that quantised weights lie on; auto takes the better for each tensor
    #[arg(long, value_enum, default_value_t = GridArg::Auto)]
    pub grid: GridArg,

    /// States of the trellis: more take longer and err less; 1 is no trellis
    #[arg(long, value_enum, default_value_t = Effort::States8)]
    pub effort: Effort,

    /// Give every matrix the same bits per weight; else the output head gets more
    #[arg(long)]
    pub flat: bool,

    /// Scale columns by the gain of the preceding norm; auto: only in BERT-like encoders,
    /// where it helps
    #[arg(long, value_enum, default_value_t = ColumnsArg::Auto)]
    pub columns: ColumnsArg,

    /// Also store FP8 matrices lossily (they are small already)
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

impl Convert {
    pub fn options(&self) -> Result<Options> {
        // The only part is the whole.
        let part = self.part.filter(|part| part.of() > 1);
        let options = Options {
            source: self.source.clone(),
            output: self.output.clone().map_or_else(|| default_output(&self.source, part), Ok)?,
            target: match (self.lossless, self.ratio) {
                (true, _) => Target::Lossless,
                (false, Some(ratio)) => Target::Ratio(ratio),
                (false, None) => Target::Bits(self.bits),
            },
            grid: self.grid.into(),
            log2_states: self.effort.log2_states(),
            flat: self.flat,
            columns: self.columns.into(),
            lossy_fp8: self.lossy_fp8,
            keep: Keep::new(self.keep.clone())?,
            like: None,
            part,
            threads: threads(self.threads),
            memory: self.memory,
            force: self.force,
        };
        match &self.like {
            Some(file) => {
                let archive = Archive::open(file)?;
                let model = choose(&archive, self.like_model.as_deref(), None, "--like-model")?;
                Ok(options.like(&archive, model)?)
            }
            None => Ok(options),
        }
    }
}

/// `phi-4-upg` in the current directory for `models/phi-4`.
fn default_output(source: &Path, part: Option<Part>) -> Result<PathBuf> {
    let location = source.canonicalize().with_context(|| source.display().to_string())?;
    let name = location.file_stem().filter(|_| location.is_file()).or(location.file_name());
    let mut name = name.context("the source has no name; choose one with -o")?.to_os_string();
    name.push(part.map_or("-upg".to_owned(), |part| format!("-{}-of-{}.upg", part.number(), part.of())));
    Ok(PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    #[test]
    fn what_is_not_typed_is_what_the_library_has() {
        let args = Args::try_parse_from(["upg", "convert", "model", "-o", "out.upg"]).expect("arguments");
        let Some(Command::Convert(args)) = args.command else { panic!("another command") };
        let (typed, own) = (args.options().expect("options"), Options::new("model", "out.upg"));
        assert_eq!((typed.source, typed.output, typed.target), (own.source, own.output, own.target));
        assert_eq!((typed.grid, typed.log2_states, typed.flat), (own.grid, own.log2_states, own.flat));
        assert_eq!((typed.columns, typed.lossy_fp8), (own.columns, own.lossy_fp8));
        assert_eq!((typed.threads, typed.memory, typed.force), (own.threads, own.memory, own.force));
        assert!(typed.keep.is_empty() && typed.like.is_none() && typed.part.is_none());
    }
}
