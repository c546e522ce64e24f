//! The program `upg`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Result, anyhow};
use clap::Parser;
use globset::{Glob, GlobSet, GlobSetBuilder};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::args::{Args, Bench, Catalog, Command, Info, Merge, Unpack, Verify};
use super::convert_args::Convert;
use super::generate::generate;
use super::progress::Bar;
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
            ExitCode::FAILURE
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
    let signal = signals()?;
    let result = convert::convert(&options, &Bar::new(signal.clone()));
    let report = match result {
        Err(Error::Cancelled) => return Ok(interrupted(&signal, "nothing was written")),
        result => result?,
    };
    let text = if args.json { output::json(&report)? } else { output::report(&report) };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Exit code: something is wrong with the file that was verified.
pub const WRONG: u8 = 3;

fn run_verify(args: &Verify) -> Result<ExitCode> {
    let options = verify::Options {
        file: args.file.clone(),
        against: args.against.clone(),
        model: args.model.clone(),
        threads: args.threads.map_or_else(cores, usize::from),
    };
    let signal = signals()?;
    let report = match verify::verify(&options, &Bar::new(signal.clone())) {
        Err(Error::Cancelled) => return Ok(interrupted(&signal, "it was not checked to the end")),
        result => result?,
    };
    let text = if args.json { output::json(&report)? } else { verify_output::report(&report, args.tensors) };
    output::print(&text)?;
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}

fn run_unpack(args: &Unpack) -> Result<ExitCode> {
    let options = unpack::Options {
        file: args.file.clone(),
        output: args.output.clone(),
        selection: unpack::Selection { files: globs(&args.files)?, tensors: globs(&args.tensors)? },
        threads: args.threads.map_or_else(cores, usize::from),
        force: args.force,
    };
    let signal = signals()?;
    let report = match unpack::unpack(&options, &Bar::new(signal.clone())) {
        Err(Error::Cancelled) => {
            return Ok(interrupted(
                &signal,
                "what is finished stays; the same command without --force goes on with the rest",
            ));
        }
        result => result?,
    };
    let text = if args.json { output::json(&report)? } else { output::unpacked(&report) };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn run_merge(args: &Merge) -> Result<ExitCode> {
    let options = merge::Options {
        inputs: args.inputs.clone(),
        output: args.output.clone(),
        delta: args.delta.clone(),
        force: args.force,
    };
    let signal = signals()?;
    let report = match merge::merge(&options, &Bar::new(signal.clone())) {
        Err(Error::Cancelled) => return Ok(interrupted(&signal, "nothing was written")),
        result => result?,
    };
    let text = if args.json { output::json(&report)? } else { output::merged(&report) };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
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
        threads: args.threads.map_or_else(cores, usize::from),
        seconds: args.seconds,
        data: args.data,
    };
    let signal = signals()?;
    let result = match bench::bench(&options, &Bar::of_steps(signal.clone())) {
        Err(Error::Cancelled) => return Ok(interrupted(&signal, "nothing was left behind")),
        result => result?,
    };
    let text = if args.json { output::json(&result)? } else { bench_output::bench(&result) };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Catches the signals that ask to stop: the number of the last one, or 0.
fn signals() -> Result<Arc<AtomicUsize>> {
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(number, signal.clone(), number as usize)?;
    }
    // A file beyond the limit (ulimit -f) is to be an error, and not the end of the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(signal)
}

/// Says so and what became of it, and ends as a shell reports a program that the signal ended.
fn interrupted(signal: &AtomicUsize, what: &'static str) -> ExitCode {
    output::print_error("upg", &anyhow!("{}; {what}", Error::Cancelled));
    ExitCode::from(128 + signal.load(Relaxed) as u8)
}

fn run_catalog(args: &Catalog) -> Result<ExitCode> {
    let is_file = args.source.extension().is_some_and(|extension| extension == "upg") && !args.source.is_dir();
    let catalogs = if is_file || object::is_address(&args.source) {
        let archive = Archive::open(&args.source)?;
        archive.models().iter().map(|model| catalog::Catalog::of_archive(&archive, model)).collect()
    } else {
        vec![SourceTree::scan(&args.source, None)?.catalog()]
    };
    let text = if args.json { output::json(&catalogs)? } else { catalog_output::catalogs(&catalogs, args.tensors) };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn run_info(args: &Info) -> Result<ExitCode> {
    let info = info::info(&Archive::open(&args.file)?);
    let text = if args.json { output::json(&info)? } else { output::info(&info, args.tensors) };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn globs(globs: &[Glob]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    Ok(set.build()?)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
