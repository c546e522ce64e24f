//! The index, parsed and checked.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::extent::ExtentKind;
use super::forever_constant::BLOCK_LEN;
use super::parse::Parser;
use super::records::{ArrayInfo, BlockRecord};
use super::sections::{SectionId, Sections, check_features};
use super::trailer::Trailer;
use crate::dtype::Dtype;
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub name: String,
    /// JSON, or empty.
    pub metadata: String,
    /// Its files.
    pub files: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the model.
    pub path: String,
    pub size: u64,
    pub extents: Range<usize>,
}

/// A contiguous byte range of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
    pub kind: ExtentKind,
    /// Tensor name, else empty.
    pub name: String,
    /// Of a tensor.
    pub dtype: Option<Dtype>,
    pub shape: Vec<u64>,
    /// None if the length is 0.
    pub array: Option<u32>,
}

/// Everything that a file says about itself, valid as a whole.
#[derive(Debug)]
pub struct Index {
    pub models: Vec<Model>,
    pub files: Vec<FileEntry>,
    pub extents: Vec<Extent>,
    pub arrays: Vec<ArrayInfo>,
    bytes: Vec<u8>,
    blocks: Range<usize>,
    /// Of each array.
    stored_bytes: Vec<u64>,
}

impl Extent {
    /// Elements of a tensor.
    pub fn elements(&self) -> u64 {
        // The product was checked, but in an order in which a 0 may come late.
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }
}

impl Index {
    /// Parses an index whose checksum has been verified.
    pub fn parse(file: &str, trailer: &Trailer, bytes: Vec<u8>) -> Result<Index> {
        let sections = Sections::parse(file, trailer.index_offset, &bytes)?;
        let features = sections.range(SectionId::Features);
        let at = trailer.index_offset + features.start as u64;
        check_features(file, trailer.features, &bytes[features], at)?;
        let parser = Parser::new(file, trailer.index_offset, &bytes, &sections);
        let arrays = parser.arrays()?;
        parser.check_blocks(&arrays)?;
        let extents = parser.extents(&arrays)?;
        let files = parser.files(&extents)?;
        let models = parser.models(&files)?;
        let blocks = sections.range(SectionId::Blocks);
        let mut index = Index { models, files, extents, arrays, bytes, blocks, stored_bytes: Vec::new() };
        index.stored_bytes = index.sum_stored();
        Ok(index)
    }

    pub fn block_count(&self) -> usize {
        self.blocks.len() / BLOCK_LEN
    }

    /// Block record `i`, which must exist, as all that arrays name do.
    pub fn block(&self, i: u32) -> BlockRecord {
        let at = self.blocks.start + i as usize * BLOCK_LEN;
        let bytes = self.bytes[at..at + BLOCK_LEN].try_into().map(BlockRecord::parse);
        match bytes {
            Ok(Ok(record)) => record,
            _ => unreachable!("block records were checked when the index was parsed"),
        }
    }

    /// Bytes of the index itself.
    pub fn byte_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Stored bytes of an array: blocks and side block.
    pub fn stored_bytes(&self, array: u32) -> u64 {
        self.stored_bytes[array as usize]
    }

    /// Of each array. Arrays may share blocks, so each is looked at once and not once per array.
    fn sum_stored(&self) -> Vec<u64> {
        let mut before = vec![0];
        before.extend((0..self.block_count() as u32).scan(0, |sum, i| {
            *sum += u64::from(self.block(i).length);
            Some(*sum)
        }));
        let stored = |array: &ArrayInfo| {
            let (first, count) = (array.first_block as usize, array.block_count() as usize);
            let side = array.side_block.map_or(0, |i| u64::from(self.block(i).length));
            before[first + count] - before[first] + side
        };
        self.arrays.iter().map(stored).collect()
    }

    /// Stored bytes of a file's extents.
    pub fn stored_bytes_of_file(&self, file: &FileEntry) -> u64 {
        let arrays = self.extents[file.extents.clone()].iter().filter_map(|extent| extent.array);
        arrays.map(|array| self.stored_bytes(array)).fold(0, u64::saturating_add)
    }
}
