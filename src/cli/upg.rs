//! The program `upg`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::Result;
use clap::Parser;
use globset::GlobSet;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::args::{Args, Bench, Catalog, Command, Info, Merge, Unpack, Verify, WRONG};
use super::convert_args::Convert;
use super::generate::generate;
use super::progress::Bar;
use super::threads::threads;
use super::{bench_output, catalog_output, output, verify_output};
use crate::archive::Archive;
use crate::error::Error;
use crate::object;
use crate::ops::convert::{self, SourceTree};
use crate::ops::{bench, catalog, info, merge, unpack, verify};

pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.command, args.generate) {
        (Some(command), _) => run(command),
        (None, Some(directory)) => generate(&directory).map(|()| ExitCode::SUCCESS),
        // clap has made sure that there is one of them.
        (None, None) => Ok(ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            output::print_error("upg", &error);
            error.downcast_ref().map_or(ExitCode::FAILURE, Interrupted::exit_code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Convert(args) => run_convert(&args),
        Command::Catalog(args) => run_catalog(&args),
        Command::Info(args) => run_info(&args),
        Command::Verify(args) => run_verify(&args),
        Command::Unpack(args) => run_unpack(&args),
        Command::Merge(args) => run_merge(&args),
        Command::Bench(args) => run_bench(&args),
    }
}

fn run_convert(args: &Convert) -> Result<ExitCode> {
    let options = args.options()?;
    let report = until_signal("nothing was written", |signal| convert::convert(&options, &Bar::new(signal)))?;
    print(args.json, &report, output::report)
}

fn run_verify(args: &Verify) -> Result<ExitCode> {
    let options = verify::Options {
        file: args.file.clone(),
        against: args.against.clone(),
        model: args.model.clone(),
        threads: threads(args.threads),
    };
    let report = until_signal("it was not checked to the end", |signal| verify::verify(&options, &Bar::new(signal)))?;
    let code = print(args.json, &report, |report| verify_output::report(report, args.tensors))?;
    Ok(if report.findings.is_empty() { code } else { ExitCode::from(WRONG) })
}

fn run_unpack(args: &Unpack) -> Result<ExitCode> {
    let options = unpack::Options {
        file: args.file.clone(),
        output: args.output.clone(),
        selection: unpack::Selection { files: GlobSet::new(&args.files)?, tensors: GlobSet::new(&args.tensors)? },
        threads: threads(args.threads),
        force: args.force,
    };
    let left = "what is finished stays; the same command without --force goes on with the rest";
    let report = until_signal(left, |signal| unpack::unpack(&options, &Bar::new(signal)))?;
    print(args.json, &report, output::unpacked)
}

fn run_merge(args: &Merge) -> Result<ExitCode> {
    let options = merge::Options {
        inputs: args.inputs.clone(),
        output: args.output.clone(),
        delta: args.delta.clone(),
        force: args.force,
    };
    let report = until_signal("nothing was written", |signal| merge::merge(&options, &Bar::new(signal)))?;
    print(args.json, &report, output::merged)
}

fn run_bench(args: &Bench) -> Result<ExitCode> {
    let synthetic = || bench::Synthetic {
        dtype: args.dtype.into(),
        weights: args.weights,
        seed: args.seed,
        bits: args.bits.clone(),
        log2_states: args.effort.log2_states(),
    };
    let options = bench::Options {
        subject: args.file.clone().map_or_else(|| bench::Subject::Synthetic(synthetic()), bench::Subject::File),
        threads: threads(args.threads),
        seconds: args.seconds,
        data: args.data,
    };
    let result = until_signal("nothing was left behind", |signal| bench::bench(&options, &Bar::of_steps(signal)))?;
    print(args.json, &result, bench_output::bench)
}

fn run_catalog(args: &Catalog) -> Result<ExitCode> {
    let is_file = args.source.extension().is_some_and(|extension| extension == "upg") && !args.source.is_dir();
    let catalogs: Vec<_> = if is_file || object::is_address(&args.source) {
        let archive = Archive::open(&args.source)?;
        archive.models().iter().map(|model| catalog::Catalog::of_archive(&archive, model)).collect()
    } else {
        vec![SourceTree::scan(&args.source, None)?.catalog()]
    };
    print(args.json, &catalogs, |catalogs| catalog_output::catalogs(catalogs, args.tensors))
}

fn run_info(args: &Info) -> Result<ExitCode> {
    let info = info::info(&Archive::open(&args.file)?);
    print(args.json, &info, |info| output::info(info, args.tensors))
}

/// Prints what a command has to say, as JSON or as text.
fn print<R: Serialize>(json: bool, report: &R, text: impl FnOnce(&R) -> String) -> Result<ExitCode> {
    output::print(&if json { output::json(report)? } else { text(report) })?;
    Ok(ExitCode::SUCCESS)
}

/// A signal has ended a command: how a shell reports a program that the signal ended, and what became
/// of what it was doing.
#[derive(Debug, thiserror::Error)]
#[error("{}; {left}", Error::Cancelled)]
struct Interrupted {
    signal: u8,
    left: &'static str,
}

impl Interrupted {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(128 + self.signal)
    }
}

/// Runs `work`, which looks at the number of the last signal that asked to stop, or 0. `left`: what
/// becomes of it then.
fn until_signal<R>(left: &'static str, work: impl FnOnce(Arc<AtomicUsize>) -> Result<R, Error>) -> Result<R> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(number, signal.clone(), number as usize)?;
    }
    // A file beyond the limit (ulimit -f) is to be an error, and not the end of the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    work(signal.clone()).map_err(|error| match error {
        Error::Cancelled => Interrupted { signal: signal.load(Relaxed) as u8, left }.into(),
        error => error.into(),
    })
}
