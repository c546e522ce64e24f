//! `upg convert`: a directory of safetensors becomes a `.upg` file.
//!
//! Three threads pass work on through short channels, so that reading, coding
//! and writing overlap and memory stays bounded whatever the model's size: the
//! *planner* counts a tensor's values and chooses its quantiser, the *encoder*
//! codes blocks in parallel, the *writer* appends them in order. Planner and
//! encoder share one pool of threads. What is written does not depend on their
//! number.

mod allocate;
mod analyse;
mod budget;
mod destination;
mod encode;
mod exact;
mod keep;
mod matrix;
mod metadata;
mod part;
mod pipeline;
mod plan;
mod planner;
mod planning;
mod report;
mod roles;
mod rows;
mod single;
mod tree;
mod trellis;

use std::path::PathBuf;
use std::time::Instant;

pub(crate) use encode::{Encoded, PatternTable, encode};
pub use exact::Reason;
pub use keep::Keep;
pub use metadata::{Like, join as join_metadata};
pub use part::{Part, PartNote};
pub(crate) use plan::{Coding, Plan};
pub use report::{ExactTotal, Report, TensorReport};
pub use single::BlockEncoder;
pub use tree::{SourceFile, SourceKind, SourceTree};

use crate::codec::manifold::Grid;
use crate::error::{Error, Result};
use crate::ops::progress::Progress;
use destination::Destination;

/// How much a model should shrink.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Bits per weight of the file, over all tensors that are neither kept nor quantised already.
    Bits(f64),
    /// Size of the safetensors files over the size of the result.
    Ratio(f64),
    Lossless,
}

/// Which integers the groups of weights may lie at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridChoice {
    /// The better of both, for each tensor.
    Auto,
    Only(Grid),
}

/// Which matrices get a step per column, the finer the larger the gain of the norm that
/// stands before the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Where it was found to help: in encoders of BERT's kind.
    Auto,
    /// Wherever the norm is known.
    Gain,
    None,
}

impl GridChoice {
    pub fn name(self) -> &'static str {
        match self {
            GridChoice::Auto => "auto",
            GridChoice::Only(grid) => grid.name(),
        }
    }

    fn from_name(name: &str) -> Option<GridChoice> {
        let all = [GridChoice::Auto, GridChoice::Only(Grid::Uniform), GridChoice::Only(Grid::Prime)];
        all.into_iter().find(|choice| choice.name() == name)
    }
}

impl Columns {
    pub fn name(self) -> &'static str {
        match self {
            Columns::Auto => "auto",
            Columns::Gain => "gain",
            Columns::None => "none",
        }
    }

    fn from_name(name: &str) -> Option<Columns> {
        [Columns::Auto, Columns::Gain, Columns::None].into_iter().find(|columns| columns.name() == name)
    }
}

/// Fewest and most bits per weight that may be asked for.
pub const BITS: std::ops::RangeInclusive<f64> = 1.0..=12.0;
/// Bits per weight, and bytes of memory, if nothing else is asked.
pub const DEFAULT_BITS: f64 = 3.2;
pub const DEFAULT_MEMORY: u64 = 2 << 30;

pub struct Options {
    pub source: PathBuf,
    /// A file if it ends in `.upg`, else a directory.
    pub output: PathBuf,
    pub target: Target,
    pub grid: GridChoice,
    /// Binary logarithm of the trellis states: 2 to 8, or 0 for no trellis.
    pub log2_states: u8,
    /// The same bits for every matrix.
    pub flat: bool,
    pub columns: Columns,
    /// Matrices of 8-bit floating-point numbers, too; else they are kept exactly.
    pub lossy_fp8: bool,
    /// Tensors to store exactly.
    pub keep: Keep,
    /// Rates of another model, for tensors that are in both ([`Options::like`]).
    pub like: Option<Like>,
    /// Only some of the files; the rates are those of the whole model.
    pub part: Option<Part>,
    pub threads: usize,
    /// Bytes.
    pub memory: u64,
    /// Replace what is at the destination.
    pub force: bool,
}

impl Options {
    /// As `upg convert` has it without options.
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Options {
        Options {
            source: source.into(),
            output: output.into(),
            target: Target::Bits(DEFAULT_BITS),
            grid: GridChoice::Auto,
            log2_states: 3,
            flat: false,
            columns: Columns::Auto,
            lossy_fp8: false,
            keep: Keep::default(),
            like: None,
            part: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory: DEFAULT_MEMORY,
            force: false,
        }
    }
}

/// Memory that a thread needs: what it reads and what it makes of it.
const MEMORY_PER_THREAD: u64 = 32 << 20;
/// Least memory that conversion can do with: blocks in flight and buffers.
pub const LEAST_MEMORY: u64 = 128 << 20;

/// Converts and returns what was measured.
pub fn convert(options: &Options, progress: &dyn Progress) -> Result<Report> {
    let start = Instant::now();
    if options.memory < LEAST_MEMORY {
        return Err(Error::Invalid(format!("--memory must be at least {} MiB", LEAST_MEMORY >> 20)));
    }
    let mut tree = SourceTree::scan(&options.source, Some(&options.output))?;
    if let Some(glob) = options.keep.without_match(tree.tensors().map(|tensor| tensor.name.as_str())) {
        let what = format!("--keep {glob:?} matches no tensor; upg catalog --tensors lists them");
        return Err(Error::Invalid(what));
    }
    let note = options.part.map(|part| PartNote::new(part, options, &tree)).transpose()?;
    if let Some(part) = options.part {
        tree.convert_only(&part.files(&tree)?);
    }
    let destination = Destination::prepare(options, &tree)?;
    progress.begin(tree.converted_bytes());
    let mut report = pipeline::run(options, &tree, note, &destination, progress)?;
    report.finish(&tree, options.threads_within_memory(), start.elapsed());
    destination.complete(&tree, &mut report)?;
    Ok(report)
}

impl Options {
    fn threads_within_memory(&self) -> usize {
        self.threads.min((self.memory / MEMORY_PER_THREAD) as usize)
    }
}
