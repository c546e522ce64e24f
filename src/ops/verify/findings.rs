//! What was found to be wrong, and where.

use std::ops::Range;

use serde::Serialize;

use crate::archive::{Archive, ArrayId, SIDE_BLOCK};
use crate::error::{Error, Place};
use crate::format::ExtentKind;

/// Something that is wrong with a `.upg` file, or that differs from its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the model; null if it concerns none, or the whole file.
    pub model: Option<String>,
    /// Path of the presented file.
    pub file: Option<String>,
    pub tensor: Option<String>,
    /// First and last block of the tensor, or of the file's other content.
    pub blocks: Option<(u32, u32)>,
    /// First byte and the one after the last, in the presented file.
    pub bytes: Option<(u64, u64)>,
    /// Where in the `.upg` file it begins.
    pub offset: Option<u64>,
    pub what: String,
}

impl Finding {
    /// About the `.upg` file as a whole.
    pub fn of_archive(error: &Error) -> Finding {
        let (what, offset) = what(error);
        Finding { model: None, file: None, tensor: None, blocks: None, bytes: None, offset, what }
    }

    /// About a file of a model.
    pub fn of_file(model: &str, file: &str, tensor: Option<&str>, what: impl Into<String>) -> Finding {
        Finding {
            model: Some(model.to_owned()),
            file: Some(file.to_owned()),
            tensor: tensor.map(str::to_owned),
            blocks: None,
            bytes: None,
            offset: None,
            what: what.into(),
        }
    }
}

/// What is wrong, without the file's name, and where in the file.
fn what(error: &Error) -> (String, Option<u64>) {
    match error {
        Error::Corrupt { place, what } => (format!("corrupt: {what}, in {}", place.item), Some(place.offset)),
        Error::Truncated { place, what } => (format!("truncated: {what}, in {}", place.item), Some(place.offset)),
        Error::NoMemory => ("out of memory".to_owned(), None),
        Error::Io { cause, .. } => (cause.to_string(), None),
        other => (other.to_string(), None),
    }
}

/// A block that did not decode.
pub struct BadBlock {
    pub array: ArrayId,
    pub block: u32,
    pub error: Error,
}

impl BadBlock {
    /// What is wrong and where, without the names, which a finding has in fields of its own.
    fn what(&self, archive: &Archive) -> (String, u64) {
        let of = |place: &Place| if place.item.ends_with(SIDE_BLOCK) { " in its side block" } else { "" };
        match &self.error {
            Error::Corrupt { place, what } => (format!("corrupt: {what}{}", of(place)), place.offset),
            Error::Truncated { place, what } => (format!("truncated: {what}{}", of(place)), place.offset),
            other => (what(other).0, archive.stored_at(self.array, self.block)),
        }
    }
}

/// Blocks that follow each other and have the same defect.
struct Run {
    array: ArrayId,
    blocks: Range<u32>,
    what: String,
    offset: u64,
    presented: bool,
}

/// The findings for bad blocks. A block that several tensors share is wrong in each of them.
pub fn of_blocks(archive: &Archive, bad: Vec<BadBlock>) -> Vec<Finding> {
    let mut runs = runs(archive, bad);
    let mut findings = Vec::new();
    if runs.is_empty() {
        return findings;
    }
    for model in archive.models() {
        for (_, file) in archive.files(model) {
            for extent in archive.extents(file) {
                let Some(array) = extent.array.map(ArrayId) else { continue };
                let tensor = (extent.kind == ExtentKind::Tensor).then_some(extent.name.as_str());
                let first = runs.partition_point(|run| run.array < array);
                for run in runs[first..].iter_mut().take_while(|run| run.array == array) {
                    run.presented = true;
                    let finding = Finding::of_file(&model.name, &file.path, tensor, run.what.as_str());
                    let block = archive.array(array).block_bytes();
                    let end = extent.length.min(u64::from(run.blocks.end) * block);
                    findings.push(Finding {
                        blocks: Some((run.blocks.start, run.blocks.end - 1)),
                        bytes: Some((extent.offset + u64::from(run.blocks.start) * block, extent.offset + end)),
                        offset: Some(run.offset),
                        ..finding
                    });
                }
            }
        }
    }
    for run in runs.into_iter().filter(|run| !run.presented) {
        findings.push(Finding {
            model: None,
            file: None,
            tensor: None,
            blocks: Some((run.blocks.start, run.blocks.end - 1)),
            bytes: None,
            offset: Some(run.offset),
            what: format!("{}, in array {}, which no file uses", run.what, run.array.0),
        });
    }
    findings
}

fn runs(archive: &Archive, mut bad: Vec<BadBlock>) -> Vec<Run> {
    bad.sort_by_key(|bad| (bad.array, bad.block));
    let mut runs: Vec<Run> = Vec::new();
    for bad in bad {
        let (what, offset) = bad.what(archive);
        match runs.last_mut() {
            Some(run) if run.array == bad.array && run.blocks.end == bad.block && run.what == what => {
                run.blocks.end += 1;
            }
            _ => {
                let blocks = bad.block..bad.block + 1;
                runs.push(Run { array: bad.array, blocks, what, offset, presented: false });
            }
        }
    }
    runs
}
