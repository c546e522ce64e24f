//! The headers of safetensors files: what lies where.
//!
//! 8 bytes of length, so many bytes of JSON, then the tensors without gaps, to
//! the end of the file. What is accepted here, the crate `safetensors` accepts and
//! understands alike (`fuzz/src/shard.rs`); it does not say which tensor is wrong, and
//! takes many times the header's size to find out.

mod header;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::source::ReadAt;
use header::Entry;

/// Longest header that safetensors allows, in bytes.
pub const MAX_HEADER: u64 = 100_000_000;

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
        if source.size() < 8 {
            let what = format!("{} bytes are too few for a safetensors file", source.size());
            return Err(Error::truncated(file, "safetensors header", 0, what));
        }
        let mut length = [0; 8];
        source.read_exact_at(&mut length, 0)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            let what = format!("a header of {length} bytes; at most {MAX_HEADER} are allowed");
            return Err(Error::corrupt(file, "safetensors header", 0, what));
        }
        if length > source.size() - 8 {
            let what = format!("a header of {length} bytes in a file of {}", source.size());
            return Err(Error::truncated(file, "safetensors header", 8, what));
        }
        let mut json = vec![0; length as usize];
        source.read_exact_at(&mut json, 8)?;
        let entries = header::parse(&json)
            .map_err(|(at, what)| Error::corrupt(file, "safetensors header", 8 + at as u64, what))?;
        drop(json);
        tensors(source, 8 + length, entries).map(|tensors| Shard { header_len: 8 + length, tensors })
    }
}

/// The tensors in the order of their data, which they must cover.
fn tensors(source: &dyn ReadAt, header_len: u64, mut entries: Vec<Entry>) -> Result<Vec<ShardTensor>> {
    let (file, data_len) = (source.name(), source.size() - header_len);
    entries.sort_by_key(|entry| (entry.start, entry.end));
    let mut end = 0;
    for entry in &entries {
        let corrupt = |what: String| {
            // Where its data begins, if that is in the file.
            let at = header_len + entry.start.min(data_len);
            Err(Error::corrupt(file, format!("tensor {:?}", entry.name), at, what))
        };
        if entry.end < entry.start {
            return corrupt(format!("its data would end at {}, before its start at {}", entry.end, entry.start));
        }
        if entry.start != end {
            return corrupt(format!("its data starts at {}; that of the others ends at {end}", entry.start));
        }
        end = entry.end;
        let bits = entry.shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let bits = bits.and_then(|elements| elements.checked_mul(u64::from(entry.dtype.bits())));
        let Some(bits) = bits else {
            return corrupt(format!("shape {:?} is too large", entry.shape));
        };
        if !bits.is_multiple_of(8) {
            return corrupt(format!("shape {:?} of {} is no number of whole bytes", entry.shape, entry.dtype.name()));
        }
        if bits / 8 != end - entry.start {
            let (shape, name, has) = (&entry.shape, entry.dtype.name(), end - entry.start);
            return corrupt(format!("shape {shape:?} of {name} takes {} bytes, and has {has}", bits / 8));
        }
    }
    if end > data_len {
        let what = format!("the file has {data_len} bytes of data and its header describes {end}");
        return Err(Error::truncated(file, "tensor data", source.size(), what));
    }
    if end < data_len {
        let what = format!("{} bytes behind the last tensor", data_len - end);
        return Err(Error::corrupt(file, "tensor data", header_len + end, what));
    }
    let tensors = entries.into_iter().map(|entry| ShardTensor {
        name: entry.name,
        dtype: entry.dtype,
        shape: entry.shape,
        offset: header_len + entry.start,
        length: entry.end - entry.start,
    });
    Ok(tensors.collect())
}
