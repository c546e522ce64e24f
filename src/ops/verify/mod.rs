//! `upg verify`: whether a `.upg` file is whole, and how it compares with its source.

mod against;
mod findings;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

pub use against::{Comparison, TensorComparison};
pub use findings::Finding;

use crate::archive::{Archive, ArrayId};
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, Model};
use crate::object;
use crate::ops::convert::{Part, PartNote};
use crate::ops::progress::Progress;
use against::Against;
use findings::BadBlock;

pub struct Options {
    pub file: PathBuf,
    /// What it was made of: a directory, or one safetensors file.
    pub against: Option<PathBuf>,
    /// Which model of several is compared.
    pub model: Option<String>,
    pub threads: usize,
}

/// Sizes in bytes.
#[derive(Debug, Serialize)]
pub struct Report {
    pub file: String,
    pub file_bytes: u64,
    /// Of models that are not whole, with their names.
    pub parts: Vec<(String, Part)>,
    pub blocks: u64,
    /// Of all blocks.
    pub decoded_bytes: u64,
    pub seconds: f64,
    /// Everything that is wrong; empty if nothing is.
    pub findings: Vec<Finding>,
    pub against: Option<Comparison>,
}

/// Checks structure and checksums and decodes everything; compares with the source if one is
/// given. What is wrong with the `.upg` file is in the report; an error is what kept from
/// looking.
pub fn verify(options: &Options, progress: &dyn Progress) -> Result<Report> {
    let start = Instant::now();
    let mut report = Report {
        file: object::shown(&options.file),
        file_bytes: 0,
        parts: Vec::new(),
        blocks: 0,
        decoded_bytes: 0,
        seconds: 0.0,
        findings: Vec::new(),
        against: None,
    };
    let archive = match Archive::open(&options.file) {
        Ok(archive) => archive,
        Err(error @ (Error::Corrupt { .. } | Error::Truncated { .. })) => {
            report.file_bytes = std::fs::metadata(&options.file).map_or(0, |metadata| metadata.len());
            report.findings.push(Finding::of_archive(&error));
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let model = options.model.as_deref();
    let against = options.against.as_deref().map(|source| Against::new(&archive, &options.file, source, model));
    let against = against.transpose()?;
    report.file_bytes = archive.size();
    let part = |model: &Model| PartNote::of(model).map(|note| (model.name.clone(), note.part));
    report.parts = archive.models().iter().filter_map(part).collect();
    let checked = check(&archive, options.threads, progress, |array, block, decoded| {
        match (&against, decoded) {
            (None, _) => {}
            (Some(against), Some(bytes)) => against.compare(array, block, bytes)?,
            (Some(against), None) => against.miss(array, block),
        }
        Ok(())
    })?;
    (report.blocks, report.decoded_bytes, report.findings) = (checked.blocks, checked.bytes, checked.findings);
    if let Some(against) = against {
        let (comparison, findings) = against.finish();
        report.against = Some(comparison);
        report.findings.extend(findings);
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// What decoding everything in an archive came to.
#[derive(Debug)]
pub struct Checked {
    /// Decoded, with their bytes.
    pub blocks: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

/// Checks all that an open archive holds. Each block is shown to `visit`, by several threads,
/// or None if it does not decode.
pub fn check(
    archive: &Archive,
    threads: usize,
    progress: &dyn Progress,
    visit: impl Fn(ArrayId, u32, Option<&[u8]>) -> Result<()> + Sync,
) -> Result<Checked> {
    let (bad, blocks, bytes) = (Mutex::new(Vec::new()), AtomicU64::new(0), AtomicU64::new(0));
    let arrays: Vec<ArrayId> = (0..archive.index().arrays.len() as u32).map(ArrayId).collect();
    progress.begin(archive.index().arrays.iter().map(ArrayInfo::byte_len).fold(0, u64::saturating_add));
    archive.decode_all(&arrays, threads, |i, block, decoded| {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let array = arrays[i];
        visit(array, block, decoded.as_ref().ok().copied())?;
        progress.advance(archive.array(array).bytes_of_block(block));
        match decoded {
            Ok(decoded) => {
                blocks.fetch_add(1, Relaxed);
                bytes.fetch_add(decoded.len() as u64, Relaxed);
            }
            Err(error) if keeps_from_looking(&error) => return Err(error),
            Err(error) => {
                bad.lock().unwrap_or_else(PoisonError::into_inner).push(BadBlock { array, block, error });
            }
        }
        Ok(())
    })?;
    let mut findings = findings::of_blocks(archive, bad.into_inner().unwrap_or_else(PoisonError::into_inner));
    for error in archive.check_unread() {
        if keeps_from_looking(&error) {
            return Err(error);
        }
        findings.push(Finding::of_archive(&error));
    }
    Ok(Checked { blocks: blocks.into_inner(), bytes: bytes.into_inner(), findings })
}

/// Whether a store did not give the bytes, which says nothing about them. A disk that does not, which has an
/// error number, has lost them.
fn keeps_from_looking(error: &Error) -> bool {
    matches!(error, Error::Io { cause, .. } if cause.raw_os_error().is_none())
}
