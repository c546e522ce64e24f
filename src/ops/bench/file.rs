//! How fast the blocks of a file decode; what they took and err by stands in its index.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::blocks::Blocks;
use super::{Speed, Speeds};
use crate::archive::{Archive, ArrayId};
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, ExtentKind};
use crate::ops::info::{Info, info};

/// Arrays of one form that make up less of the file's tensors than that are left out.
const LEAST_SHARE: f64 = 0.001;

#[derive(Debug, Serialize)]
pub struct FileBench {
    /// As `upg info` shows it: rate and SNR of each tensor.
    pub info: Info,
    pub groups: Vec<Group>,
}

/// Arrays that are decoded by the same code.
#[derive(Debug, Serialize)]
pub struct Group {
    pub form: String,
    pub arrays: usize,
    /// Of all of them, decoded.
    pub bytes: u64,
    pub speeds: Vec<Speed>,
}

pub fn run(path: &Path, speeds: &Speeds<'_>) -> Result<FileBench> {
    let archive = Archive::open(path)?;
    let mut forms: BTreeMap<String, Vec<ArrayId>> = BTreeMap::new();
    let mut all_bytes = 0;
    for extent in archive.index().extents.iter().filter(|extent| extent.kind == ExtentKind::Tensor) {
        let Some(id) = extent.array.map(ArrayId) else { continue };
        all_bytes += extent.length;
        let Some(form) = form(archive.array(id)) else { continue };
        let ids = forms.entry(form).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let bytes_of = |ids: &[ArrayId]| ids.iter().map(|&id| archive.array(id).byte_len()).sum::<u64>();
    forms.retain(|_, ids| bytes_of(ids) as f64 >= LEAST_SHARE * all_bytes as f64);
    if forms.is_empty() {
        let what = format!("{}: no tensors that prime-sparse or lossless coded", archive.name());
        return Err(Error::Invalid(what));
    }
    speeds.progress.begin(forms.len() as u64 * speeds.count());
    let mut groups = Vec::new();
    for (form, ids) in forms {
        let bytes = bytes_of(&ids);
        let mut blocks = Blocks::default();
        for &id in ids.iter().filter(|_| speeds.seconds > 0.0) {
            if speeds.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            // Every array in proportion, its blocks evenly spread.
            let count = archive.array(id).block_count();
            let share = (speeds.data_bytes as f64 / bytes as f64).min(1.0);
            let taken = ((f64::from(count) * share).ceil() as u32).clamp(1, count);
            let picked = (0..taken).map(|i| (u64::from(i) * u64::from(count) / u64::from(taken)) as u32);
            blocks.add(&archive, id, picked)?;
        }
        blocks.repeat(speeds.data_bytes);
        groups.push(Group { form, arrays: ids.len(), bytes, speeds: blocks.measure(speeds)? });
    }
    Ok(FileBench { info: info(&archive), groups })
}

/// What decides which loop decodes an array; None of other codecs.
fn form(array: &ArrayInfo) -> Option<String> {
    let params = array.codec.symbols()?;
    let mut form = format!("{} {}", array.codec.name(), array.dtype.name());
    let mut add = |what: String| {
        form += ", ";
        form += &what;
    };
    if let Some(sparse) = params.prime_sparse() {
        if let Some(trellis) = sparse.trellis {
            add(format!("{} states", 1u32 << trellis.log2_states));
        }
        if params.raw_bits > 0 {
            add(format!("{} raw bits", params.raw_bits));
        }
        let flags = [
            (sparse.row_steps, "row steps"),
            (params.row_classes, "row classes"),
            (sparse.column_steps, "column steps"),
            (sparse.centroids, "centroids"),
        ];
        flags.iter().filter(|(set, _)| *set).for_each(|(_, name)| add((*name).to_owned()));
    } else if params.zero_bits() > 0 {
        add(format!("{} zero bits", params.zero_bits()));
    }
    Some(form)
}
