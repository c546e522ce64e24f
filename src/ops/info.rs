//! `upg info`: what a `.upg` file says about itself.

use serde::Serialize;

use crate::archive::Archive;
use crate::format::{ArrayInfo, Extent, ExtentKind, FileEntry};
use crate::ops::convert::{Part, PartNote};

/// Sizes in bytes. SNR and sparsity are as the encoder recorded them.
#[derive(Debug, Serialize)]
pub struct Info {
    pub file: String,
    pub file_bytes: u64,
    pub index_bytes: u64,
    pub blocks: u64,
    pub weights: u64,
    pub bits_per_weight: f64,
    /// Presented safetensors files over the `.upg` file.
    pub ratio_source: f64,
    pub ratio_fp32: f64,
    pub models: Vec<ModelInfo>,
}

#[derive(Debug, Serialize)]
pub struct ModelInfo {
    pub name: String,
    /// If it is not all of a model.
    pub part: Option<Part>,
    pub metadata: serde_json::Value,
    pub files: Vec<FileInfo>,
}

#[derive(Debug, Serialize)]
pub struct FileInfo {
    pub path: String,
    pub size: u64,
    pub stored_bytes: u64,
    pub tensors: Vec<TensorInfo>,
}

#[derive(Debug, Serialize)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub codec: &'static str,
    pub grid: Option<&'static str>,
    pub weights: u64,
    pub size: u64,
    /// Blocks and side block, without the index.
    pub stored_bytes: u64,
    pub bits_per_weight: f64,
    pub sparsity: f64,
    pub snr_db: Option<f64>,
}

pub fn info(archive: &Archive) -> Info {
    let models: Vec<ModelInfo> = archive
        .models()
        .iter()
        .map(|model| ModelInfo {
            name: model.name.clone(),
            part: PartNote::of(model).map(|note| note.part),
            metadata: serde_json::from_str(&model.metadata).unwrap_or(serde_json::Value::Null),
            files: archive.files(model).map(|(_, file)| file_info(archive, file)).collect(),
        })
        .collect();
    let files = || models.iter().flat_map(|model| &model.files);
    let tensors = || files().flat_map(|file| &file.tensors);
    let weights = tensors().map(|tensor| tensor.weights).fold(0, u64::saturating_add);
    let shards = files().filter(|file| file.path.ends_with(".safetensors")).map(|file| file.size).sum::<u64>();
    let size = archive.size() as f64;
    Info {
        file: archive.name().to_owned(),
        file_bytes: archive.size(),
        index_bytes: archive.index().byte_len(),
        blocks: archive.index().block_count() as u64,
        weights,
        bits_per_weight: 8.0 * size / weights.max(1) as f64,
        ratio_source: shards as f64 / size,
        ratio_fp32: 4.0 * weights as f64 / size,
        models,
    }
}

fn file_info(archive: &Archive, file: &FileEntry) -> FileInfo {
    let tensors = archive.extents(file).iter().filter(|extent| extent.kind == ExtentKind::Tensor);
    FileInfo {
        path: file.path.clone(),
        size: file.size,
        stored_bytes: archive.index().stored_bytes_of_file(file),
        tensors: tensors.map(|extent| tensor_info(archive, extent)).collect(),
    }
}

fn tensor_info(archive: &Archive, extent: &Extent) -> TensorInfo {
    let array = extent.array.map(|i| &archive.index().arrays[i as usize]);
    let stored = extent.array.map_or(0, |i| archive.index().stored_bytes(i));
    let weights = extent.elements();
    let lossy = array.filter(|array| array.codec.prime_sparse().is_some());
    TensorInfo {
        name: extent.name.clone(),
        dtype: extent.dtype.map_or("", |dtype| dtype.name()),
        shape: extent.shape.clone(),
        codec: array.map_or("stored", |array| array.codec.name()),
        grid: lossy.and_then(|array| array.codec.prime_sparse()).map(|p| p.grid.name()),
        weights,
        size: extent.length,
        stored_bytes: stored,
        bits_per_weight: 8.0 * stored as f64 / weights.max(1) as f64,
        sparsity: array.map_or(0.0, |array| array.zeros as f64 / array.elements as f64),
        snr_db: array.and_then(ArrayInfo::snr_db),
    }
}
