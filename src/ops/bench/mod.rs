//! `upg bench`: rate, noise and speed, measured on this machine in one run.
//!
//! Rates and noise are those of files that are really written. Speeds are medians of
//! turns that alternate with copying the same number of bytes, so that what else the
//! machine does meets both: the ratio of the two is the figure to quote.

mod blocks;
mod file;
mod machine;
mod synthetic;
mod timing;

use std::path::PathBuf;

use serde::Serialize;

pub use file::{FileBench, Group};
pub use machine::Machine;
pub use synthetic::{Alternative, ROW, Rate, Synthetic, SyntheticBench};

use crate::codec::isa::Isa;
use crate::error::{Error, Result};
use crate::ops::progress::Progress;

/// Decoded bytes that are measured over: at least so many, and beyond the caches.
const LEAST_DATA: u64 = 256 << 20;
/// How many times what the last cache holds.
const CACHES: u64 = 4;

pub struct Options {
    pub subject: Subject,
    /// The most threads to measure with; one is measured in any case.
    pub threads: usize,
    /// Of each measurement of speed; 0 for none.
    pub seconds: f64,
    /// Decoded bytes that speed is measured over; more than the caches hold if None.
    pub data: Option<u64>,
}

/// What is measured.
pub enum Subject {
    /// Gaussian weights, converted at several rates.
    Synthetic(Synthetic),
    /// The blocks of a `.upg` file.
    File(PathBuf),
}

#[derive(Debug, Serialize)]
pub struct Bench {
    pub upg: &'static str,
    pub machine: Machine,
    /// Of each measurement of speed.
    pub seconds: f64,
    /// Bytes that speed was measured over.
    pub data_bytes: u64,
    #[serde(flatten)]
    pub of: Of,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    Synthetic(SyntheticBench),
    File(FileBench),
}

/// The median pace of one way to encode or decode.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    pub direction: Direction,
    pub isa: &'static str,
    pub threads: usize,
    /// Of all threads together, as are the others.
    pub weights_per_second: f64,
    /// Source bytes encoded, or bytes decoded; 10^9 per second.
    pub gb_per_second: f64,
    /// Copying as many bytes, in turns with it.
    pub memcpy_gb_per_second: f64,
    pub ratio: f64,
    /// That the medians are of.
    pub turns: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Encode,
    Decode,
}

pub fn bench(options: &Options, progress: &dyn Progress) -> Result<Bench> {
    let machine = Machine::here(options.threads);
    let beyond_caches = LEAST_DATA.max(CACHES * machine.cache_bytes.unwrap_or_default());
    let data_bytes = options.data.unwrap_or(beyond_caches);
    let speeds = Speeds { thread_counts: machine.thread_counts(), seconds: options.seconds, data_bytes, progress };
    let of = match &options.subject {
        Subject::Synthetic(synthetic) => Of::Synthetic(synthetic.run(&speeds)?),
        Subject::File(path) => Of::File(file::run(path, &speeds)?),
    };
    Ok(Bench { upg: env!("CARGO_PKG_VERSION"), machine, seconds: options.seconds, data_bytes, of })
}

/// How speed is to be measured.
struct Speeds<'a> {
    thread_counts: Vec<usize>,
    seconds: f64,
    data_bytes: u64,
    progress: &'a dyn Progress,
}

impl Speeds<'_> {
    /// Measurements that [`Speeds::measure`] makes.
    fn count(&self) -> u64 {
        if self.seconds > 0.0 { (Isa::available().len() * self.thread_counts.len()) as u64 } else { 0 }
    }

    /// With every instruction set and number of threads. `work` does piece number `i` with
    /// the room that a copy of it would take.
    fn measure(
        &self,
        direction: Direction,
        pieces: &timing::Pieces<'_>,
        width: usize,
        work: impl Fn(Isa, usize, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<Vec<Speed>> {
        let mut speeds = Vec::new();
        for isa in Isa::available().into_iter().filter(|_| self.seconds > 0.0) {
            for &threads in &self.thread_counts {
                if self.progress.cancelled() {
                    return Err(Error::Cancelled);
                }
                let paces = timing::measure(pieces, threads, self.seconds, |i, out| work(isa, i, out))?;
                speeds.push(Speed {
                    direction,
                    isa: isa.name(),
                    threads,
                    weights_per_second: paces.work / width as f64,
                    gb_per_second: paces.work / 1e9,
                    memcpy_gb_per_second: paces.copy / 1e9,
                    ratio: paces.work / paces.copy,
                    turns: paces.turns,
                });
                self.progress.advance(1);
            }
        }
        Ok(speeds)
    }
}
