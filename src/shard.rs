//! The headers of safetensors files: what lies where.
//!
//! 8 bytes of length, so many bytes of JSON, then the tensors without gaps, to
//! the end of the file. The crate `safetensors` checks the JSON and the offsets.

use safetensors::tensor::Metadata;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::format::MAX_DIMENSIONS;
use crate::source::ReadAt;

/// Longest header that safetensors allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// What the header of a shard says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Bytes before the first tensor: the length and the JSON.
    pub header_len: u64,
    /// In the order of their data.
    pub tensors: Vec<ShardTensor>,
}

impl ShardTensor {
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl Shard {
    pub fn read(source: &dyn ReadAt) -> Result<Shard> {
        let file = source.name();
        let corrupt = |what: String| Error::corrupt(file, "safetensors header", 0, what);
        if source.size() < 8 {
            let what = format!("{} bytes are too few for a safetensors file", source.size());
            return Err(Error::truncated(file, "safetensors header", 0, what));
        }
        let mut length = [0; 8];
        source.read_exact_at(&mut length, 0)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(corrupt(format!("a header of {length} bytes; at most {MAX_HEADER} are allowed")));
        }
        if length > source.size() - 8 {
            let what = format!("a header of {length} bytes in a file of {}", source.size());
            return Err(Error::truncated(file, "safetensors header", 8, what));
        }
        let mut json = vec![0; length as usize];
        source.read_exact_at(&mut json, 8)?;
        let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| corrupt(e.to_string()))?;
        let expected = 8 + length + metadata.data_len() as u64;
        if expected > source.size() {
            let what = format!("the file has {} bytes and its header speaks of {expected}", source.size());
            return Err(Error::truncated(file, "tensor data", source.size(), what));
        }
        if expected < source.size() {
            return Err(corrupt(format!("{} bytes behind the last tensor", source.size() - expected)));
        }
        let mut tensors = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let dtype = Dtype::from_name(&info.dtype.to_string())
                .ok_or_else(|| Error::unsupported(file, format!("element type {} of {name:?}", info.dtype)))?;
            if info.shape.len() > MAX_DIMENSIONS {
                return Err(Error::unsupported(file, format!("{name:?} has more than {MAX_DIMENSIONS} dimensions")));
            }
            let (start, end) = info.data_offsets;
            tensors.push(ShardTensor {
                dtype,
                shape: info.shape.iter().map(|&dim| dim as u64).collect(),
                offset: 8 + length + start as u64,
                length: (end - start) as u64,
                name,
            });
        }
        Ok(Shard { header_len: 8 + length, tensors })
    }
}
