//! Writing an index.

use alloc::vec::Vec;

use super::extent::RawExtent;
use super::forever_constant::{ARRAY_LEN, BLOCK_LEN, EXTENT_LEN, NONE};
use super::index::{Extent, FileEntry, Model};
use super::records::{ArrayInfo, BlockRecord, Codec};
use super::sections::Sections;
use crate::dtype::Dtype;
use crate::error::Defect;

impl ArrayInfo {
    /// Bytes without structure, stored as they are, so many in a block.
    pub fn of_bytes(bytes: u64, in_block: u32, first_block: u32) -> ArrayInfo {
        ArrayInfo {
            elements: bytes,
            row_len: 1,
            block_elems: in_block,
            first_block,
            dtype: Dtype::U8,
            codec: Codec::Stored,
            side_block: None,
            base: None,
            zeros: 0,
            signal: 0.0,
            noise: 0.0,
        }
    }
}

/// Collects the records of an index. Records refer to each other by the numbers
/// that the `add_` functions return.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    models: Vec<u8>,
    files: Vec<u8>,
    extents: Vec<u8>,
    arrays: Vec<u8>,
    blocks: Vec<u8>,
    heap: Vec<u8>,
    counts: [u32; 3],
}

impl IndexBuilder {
    pub fn add_block(&mut self, record: BlockRecord) -> u32 {
        self.blocks.extend_from_slice(&record.to_bytes());
        post_increment(&mut self.counts[0])
    }

    pub fn add_array(&mut self, array: &ArrayInfo) -> u32 {
        self.arrays.extend_from_slice(&array.to_bytes());
        post_increment(&mut self.counts[1])
    }

    /// The record of a block that was added.
    pub fn block(&self, i: u32) -> Option<BlockRecord> {
        let (records, _) = self.blocks.as_chunks();
        BlockRecord::parse(records.get(i as usize)?).ok()
    }

    /// An array that was added.
    pub fn array(&self, i: u32) -> Option<ArrayInfo> {
        let (records, _) = self.arrays.as_chunks();
        ArrayInfo::parse(records.get(i as usize)?).ok()
    }

    pub fn add_extent(&mut self, extent: &Extent) -> u32 {
        let shape: Vec<u8> = extent.shape.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let raw = RawExtent {
            offset: extent.offset,
            length: extent.length,
            name: self.reference(extent.name.as_bytes()),
            shape: self.reference(&shape),
            array: extent.array.unwrap_or(NONE),
            kind: extent.kind as u8,
            dtype: extent.dtype.map_or(0, Dtype::code),
        };
        self.extents.extend_from_slice(&raw.to_bytes());
        post_increment(&mut self.counts[2])
    }

    pub fn add_file(&mut self, file: &FileEntry) {
        let path = self.reference(file.path.as_bytes());
        for word in [path.0, path.1] {
            self.files.extend_from_slice(&word.to_le_bytes());
        }
        self.files.extend_from_slice(&file.size.to_le_bytes());
        for word in [file.extents.start, file.extents.len()] {
            self.files.extend_from_slice(&(word as u32).to_le_bytes());
        }
    }

    pub fn add_model(&mut self, model: &Model) {
        let name = self.reference(model.name.as_bytes());
        let metadata = self.reference(model.metadata.as_bytes());
        let files = (model.files.start as u32, model.files.len() as u32);
        for word in [name.0, name.1, metadata.0, metadata.1, files.0, files.1] {
            self.models.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// The whole index, without feature bits. Fails if it is too large for its references: then some
    /// that were given out are wrong.
    pub fn finish(self) -> Result<Vec<u8>, Defect> {
        let records = [self.blocks.len() / BLOCK_LEN, self.arrays.len() / ARRAY_LEN, self.extents.len() / EXTENT_LEN];
        if records.into_iter().any(|count| count > i32::MAX as usize) || self.heap.len() > u32::MAX as usize {
            return Err(Defect("too many blocks, tensors or names for one file"));
        }
        Ok(Sections::write([&[], &self.models, &self.files, &self.extents, &self.arrays, &self.blocks, &self.heap]))
    }

    fn reference(&mut self, bytes: &[u8]) -> (u32, u32) {
        if bytes.is_empty() {
            return (0, 0);
        }
        let offset = self.heap.len() as u32;
        self.heap.extend_from_slice(bytes);
        (offset, bytes.len() as u32)
    }
}

/// Counts on from 0 if there are too many; `finish` says so.
fn post_increment(count: &mut u32) -> u32 {
    let before = *count;
    *count = count.wrapping_add(1);
    before
}
