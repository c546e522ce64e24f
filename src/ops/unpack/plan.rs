//! Which files are to be written, and what goes into each.

use std::collections::HashMap;

use globset::GlobSet;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::journal;
use crate::archive::{Archive, ArrayId, FileId};
use crate::buffer;
use crate::error::{Error, Result};
use crate::format::{Extent, ExtentKind, FileEntry};
use crate::partial::is_temporary;
use crate::shard::MAX_HEADER;

/// What of an archive is wanted: everything if both are empty.
#[derive(Debug, Default)]
pub struct Selection {
    /// Paths as a mount shows them.
    pub files: GlobSet,
    /// Names of tensors. Of a shard then only these are written, as a smaller shard.
    pub tensors: GlobSet,
}

/// A file to be written.
#[derive(Debug)]
pub struct Output {
    /// Relative to the destination, as a mount shows it.
    pub path: String,
    pub size: u64,
    /// Begins the file; empty if that is the archive's, too.
    pub header: Vec<u8>,
    /// Each with the offset that it goes to.
    pub arrays: Vec<(u64, ArrayId)>,
}

pub fn outputs(archive: &Archive, selection: &Selection) -> Result<Vec<Output>> {
    let mut outputs = Vec::new();
    for model in archive.models() {
        for (id, file) in archive.files(model) {
            let path = archive.shown_path(id.0 as usize);
            if !selection.files.is_empty() && !selection.files.is_match(&path) {
                continue;
            }
            check_path(archive, &path)?;
            if selection.tensors.is_empty() {
                outputs.push(whole(archive, path, file));
            } else {
                outputs.extend(part(archive, path, id, &selection.tensors)?);
            }
        }
    }
    Ok(outputs)
}

/// Names that this program gives to what is unfinished.
fn check_path(archive: &Archive, path: &str) -> Result<()> {
    if path == journal::NAME || path.split('/').any(|part| is_temporary(part.as_ref())) {
        let what = format!("{path:?} has a name that only unfinished files have; leave it out with --file");
        return Err(Error::Invalid(format!("{}: {what}", archive.name())));
    }
    Ok(())
}

fn whole(archive: &Archive, path: String, file: &FileEntry) -> Output {
    let extents = archive.extents(file).iter();
    let arrays = extents.filter_map(|extent| Some((extent.offset, ArrayId(extent.array?)))).collect();
    Output { path, size: file.size, header: Vec::new(), arrays }
}

/// A shard with those of its tensors that match; None if none does.
fn part(archive: &Archive, path: String, id: FileId, tensors: &GlobSet) -> Result<Option<Output>> {
    let extents = archive.extents(archive.file(id)).iter();
    let wanted = extents.filter(|extent| extent.kind == ExtentKind::Tensor && tensors.is_match(&extent.name));
    let wanted: Vec<&Extent> = wanted.collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let header = header(archive, id, &wanted)?;
    let mut size = header.len() as u64;
    let mut arrays = Vec::new();
    for extent in wanted {
        arrays.extend(extent.array.map(|array| (size, ArrayId(array))));
        size += extent.length;
    }
    Ok(Some(Output { path, size, header, arrays }))
}

/// What is kept of a shard's own header.
#[derive(Default, Deserialize)]
struct OwnHeader {
    #[serde(rename = "__metadata__")]
    metadata: Option<HashMap<String, String>>,
}

/// The header of a shard with these tensors, in this order, and the metadata of another.
fn header(archive: &Archive, id: FileId, tensors: &[&Extent]) -> Result<Vec<u8>> {
    let invalid = |what: String| Error::Invalid(format!("{}: {what}", archive.name()));
    let mut end = 0;
    let mut infos = Vec::new();
    for extent in tensors {
        let dtype = extent.dtype.map_or("", |dtype| dtype.name());
        let dtype = serde_json::from_value(dtype.into()).map_err(|e| invalid(e.to_string()))?;
        let start = end;
        end += extent.length as usize;
        let shape = extent.shape.iter().map(|&dim| dim as usize).collect();
        infos.push((extent.name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) }));
    }
    let metadata = Metadata::new(own_metadata(archive, id)?, infos).map_err(|e| invalid(e.to_string()))?;
    let mut json = serde_json::to_vec(&metadata).map_err(|e| invalid(e.to_string()))?;
    // Tensors begin where loaders can map them.
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}

fn own_metadata(archive: &Archive, id: FileId) -> Result<Option<HashMap<String, String>>> {
    let first = archive.extents(archive.file(id)).first().filter(|extent| extent.kind == ExtentKind::Header);
    let Some(first) = first else { return Ok(None) };
    if first.length > MAX_HEADER + 8 {
        let what = format!("a safetensors header of {} bytes", first.length);
        return Err(Error::unsupported(archive.name(), what));
    }
    let mut bytes = buffer::of(first.length as usize)?;
    archive.read_at(id, 0, &mut bytes)?;
    // Whether this is what a header must be is for whoever reads the whole file.
    let own: OwnHeader = bytes.get(8..).and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    Ok(own.metadata)
}
