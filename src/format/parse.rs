//! From the sections of an index to the structures that it is made of: every number is checked here.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;

use super::extent::{ExtentKind, RawExtent};
use super::forever_constant::{
    ARRAY_LEN, BLOCK_LEN, EXTENT_LEN, FILE_LEN, HASH_OF_NOTHING, HEADER_LEN, MAX_DIMENSIONS, MAX_STORED_BYTES,
    MODEL_LEN, NONE,
};
use super::index::{Extent, FileEntry, Model};
use super::path::{check_component, check_path, clash};
use super::records::{ArrayInfo, BlockMode, BlockRecord, u32_at, u64_at};
use super::sections::{SectionId, Sections};
use crate::dtype::Dtype;
use crate::error::{Error, Result};

pub struct Parser<'a> {
    file: &'a str,
    base: u64,
    bytes: &'a [u8],
    sections: &'a Sections,
    /// Bytes of HEAP that references may still name: all of them together no more
    /// than there are, or a small file would become a large index.
    heap_left: Cell<usize>,
}

impl<'a> Parser<'a> {
    /// `base`: where the index begins in the file.
    pub fn new(file: &'a str, base: u64, bytes: &'a [u8], sections: &'a Sections) -> Parser<'a> {
        let heap_left = Cell::new(sections.range(SectionId::Heap).len());
        Parser { file, base, bytes, sections, heap_left }
    }

    fn corrupt(&self, item: impl Into<String>, at: usize, what: impl Into<String>) -> Error {
        Error::corrupt(self.file, item, self.base + at as u64, what)
    }

    /// The records of a section with their places in the index.
    fn records<const LEN: usize>(&self, id: SectionId) -> Result<impl Iterator<Item = (usize, &[u8; LEN])>> {
        let range = self.sections.range(id);
        let (records, rest) = self.bytes[range.clone()].as_chunks::<LEN>();
        if !rest.is_empty() || records.len() > i32::MAX as usize {
            return Err(self.corrupt(format!("section {id:?}"), range.start, "not a number of whole records"));
        }
        Ok(records.iter().enumerate().map(move |(i, record)| (range.start + i * LEN, record)))
    }

    fn heap(&self, item: &str, at: usize, (offset, length): (u32, u32)) -> Result<&[u8]> {
        let heap = &self.bytes[self.sections.range(SectionId::Heap)];
        let bytes = heap.get(offset as usize..).and_then(|rest| rest.get(..length as usize));
        let bytes = bytes
            .filter(|_| length > 0 || offset == 0)
            .ok_or_else(|| self.corrupt(item, at, "reference outside the heap"))?;
        let left = self.heap_left.get().checked_sub(bytes.len());
        self.heap_left.set(left.ok_or_else(|| self.corrupt(item, at, "references to more than the heap holds"))?);
        Ok(bytes)
    }

    fn text(&self, item: &str, at: usize, reference: (u32, u32)) -> Result<String> {
        let bytes = self.heap(item, at, reference)?;
        let text = core::str::from_utf8(bytes).map_err(|_| self.corrupt(item, at, "text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    pub fn arrays(&self) -> Result<Vec<ArrayInfo>> {
        let mut arrays: Vec<ArrayInfo> = Vec::new();
        for (i, (at, record)) in self.records(SectionId::Arrays)?.enumerate() {
            let corrupt = |what: &str| self.corrupt(format!("array {i}"), at, what);
            let array = ArrayInfo::parse(record).map_err(|defect| corrupt(defect.0))?;
            if let Some(base) = array.base {
                // One before it, which is itself no difference: decoding takes two steps at most.
                let base = arrays.get(base as usize).ok_or_else(|| corrupt("difference from no array before it"))?;
                if base.base.is_some() {
                    return Err(corrupt("difference from a difference"));
                }
                let of = |array: &ArrayInfo| (array.elements, array.block_elems, array.dtype.bits());
                if of(base) != of(&array) {
                    return Err(corrupt("difference from an array of another form"));
                }
            }
            arrays.push(array);
        }
        Ok(arrays)
    }

    /// Every record is well-formed, inside the file, and fits the array that uses it.
    pub fn check_blocks(&self, arrays: &[ArrayInfo]) -> Result<()> {
        let mut blocks = Vec::new();
        for (i, (at, bytes)) in self.records::<BLOCK_LEN>(SectionId::Blocks)?.enumerate() {
            let item = || format!("block {i}");
            let block = BlockRecord::parse(bytes).map_err(|defect| self.corrupt(item(), at, defect.0))?;
            let end = block.offset.checked_add(u64::from(block.length));
            if block.offset < HEADER_LEN || end.is_none_or(|end| end > self.base) {
                return Err(self.corrupt(item(), at, "stored bytes outside the file's body"));
            }
            if block.mode == BlockMode::Zeros
                && (block.offset, block.length, block.checksum) != (HEADER_LEN, 0, HASH_OF_NOTHING)
            {
                return Err(self.corrupt(item(), at, "a block of zeros has stored bytes"));
            }
            if u64::from(block.length) > MAX_STORED_BYTES {
                return Err(self.corrupt(item(), at, "more stored bytes than a block can have"));
            }
            blocks.push(block.mode);
        }
        let records = blocks.len() as u64;
        let start = self.sections.range(SectionId::Arrays).start;
        for (i, array) in arrays.iter().enumerate() {
            let last = u64::from(array.first_block) + u64::from(array.block_count());
            let side = array.side_block.map_or(0, |record| u64::from(record) + 1);
            if side > 0 && side <= records && blocks[side as usize - 1] != BlockMode::Coded {
                let what = "a side block that is not stored as such";
                return Err(self.corrupt(format!("array {i}"), start + i * ARRAY_LEN, what));
            }
            if last > records || side > records {
                return Err(self.corrupt(format!("array {i}"), start + i * ARRAY_LEN, "blocks that do not exist"));
            }
        }
        Ok(())
    }

    pub fn extents(&self, arrays: &[ArrayInfo]) -> Result<Vec<Extent>> {
        self.records::<EXTENT_LEN>(SectionId::Extents)?
            .enumerate()
            .map(|(i, (at, record))| self.extent(&format!("extent {i}"), at, record, arrays))
            .collect()
    }

    fn extent(&self, item: &str, at: usize, record: &[u8; EXTENT_LEN], arrays: &[ArrayInfo]) -> Result<Extent> {
        let corrupt = |what: &str| self.corrupt(item, at, what);
        let raw = RawExtent::parse(record).map_err(|defect| corrupt(defect.0))?;
        let kind = ExtentKind::from_code(raw.kind).ok_or_else(|| corrupt("unknown kind of extent"))?;
        let array = Some(raw.array).filter(|&array| array != NONE);
        let length = match array {
            None => 0,
            Some(i) => arrays.get(i as usize).ok_or_else(|| corrupt("array that does not exist"))?.byte_len(),
        };
        if length != raw.length {
            return Err(corrupt("length differs from that of the array"));
        }
        let mut extent = Extent {
            offset: raw.offset,
            length,
            kind,
            name: self.text(item, at, raw.name)?,
            dtype: None,
            shape: Vec::new(),
            array,
        };
        let shape = self.heap(item, at, raw.shape)?;
        if kind == ExtentKind::Tensor {
            let dtype = Dtype::from_code(raw.dtype).ok_or_else(|| corrupt("unknown element type"))?;
            if !shape.len().is_multiple_of(8) || shape.len() > 8 * MAX_DIMENSIONS {
                return Err(corrupt("shape of a wrong length"));
            }
            extent.shape = shape.chunks_exact(8).map(|dim| u64_at(dim, 0)).collect();
            extent.dtype = Some(dtype);
            if extent.shape.contains(&0) != (length == 0) {
                return Err(corrupt("shape does not fit the length"));
            }
            let bits = extent
                .shape
                .iter()
                .filter(|_| length > 0)
                .try_fold(u64::from(dtype.bits()), |n, &dim| n.checked_mul(dim));
            if length > 0 && bits.is_none_or(|bits| !bits.is_multiple_of(8) || bits / 8 != length) {
                return Err(corrupt("shape does not fit the length"));
            }
        } else if raw.dtype != 0 || !shape.is_empty() || !extent.name.is_empty() {
            return Err(corrupt("name, shape or element type without a tensor"));
        }
        let lossy = array.is_some_and(|i| arrays[i as usize].codec.prime_sparse().is_some());
        if lossy && extent.dtype != array.map(|i| arrays[i as usize].dtype) {
            return Err(corrupt("a lossily stored array that is not a tensor of its element type"));
        }
        if kind == ExtentKind::Header && raw.offset != 0 {
            return Err(corrupt("a safetensors header that is not at the start"));
        }
        Ok(extent)
    }

    pub fn files(&self, extents: &[Extent]) -> Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        let mut next = 0;
        for (i, (at, record)) in self.records::<FILE_LEN>(SectionId::Files)?.enumerate() {
            let item = format!("file {i}");
            let path = self.text(&item, at, (u32_at(record, 0), u32_at(record, 4)))?;
            check_path(&path).map_err(|what| self.corrupt(&item, at, what))?;
            let size = u64_at(record, 8);
            let range = self.follows(&item, at, &mut next, record, 16, extents.len())?;
            let mut end = 0u64;
            for extent in &extents[range.clone()] {
                if extent.offset != end {
                    return Err(self.corrupt(&item, at, "extents do not follow each other"));
                }
                end = end.checked_add(extent.length).ok_or_else(|| self.corrupt(&item, at, "file too large"))?;
            }
            if end != size || size > i64::MAX as u64 {
                return Err(self.corrupt(&item, at, "extents do not add up to the file's size"));
            }
            files.push(FileEntry { path, size, extents: range });
        }
        self.covered(SectionId::Extents, next, extents.len(), EXTENT_LEN)?;
        Ok(files)
    }

    pub fn models(&self, files: &[FileEntry]) -> Result<Vec<Model>> {
        let mut models: Vec<Model> = Vec::new();
        let mut next = 0;
        for (i, (at, record)) in self.records::<MODEL_LEN>(SectionId::Models)?.enumerate() {
            let item = format!("model {i}");
            let name = self.text(&item, at, (u32_at(record, 0), u32_at(record, 4)))?;
            check_component(&name).map_err(|what| self.corrupt(&item, at, what))?;
            let metadata = self.text(&item, at, (u32_at(record, 8), u32_at(record, 12)))?;
            let range = self.follows(&item, at, &mut next, record, 16, files.len())?;
            self.check_paths(&item, at, &files[range.clone()])?;
            models.push(Model { name, metadata, files: range });
        }
        self.covered(SectionId::Files, next, files.len(), FILE_LEN)?;
        let start = self.sections.range(SectionId::Models).start;
        if models.is_empty() {
            return Err(self.corrupt("section Models", start, "no model"));
        }
        if let Some(clash) = clash(models.iter().map(|model| model.name.as_str())) {
            return Err(self.corrupt("section Models", start, clash.to_string()));
        }
        Ok(models)
    }

    /// The record range at `at_first` must begin where the last one ended.
    fn follows(
        &self,
        item: &str,
        at: usize,
        next: &mut usize,
        record: &[u8],
        at_first: usize,
        len: usize,
    ) -> Result<Range<usize>> {
        let (first, count) = (u32_at(record, at_first) as usize, u32_at(record, at_first + 4) as usize);
        if first != *next || count > len - first {
            return Err(self.corrupt(item, at, "range does not follow the one before, or leaves its section"));
        }
        *next = first + count;
        Ok(first..*next)
    }

    fn covered(&self, id: SectionId, next: usize, len: usize, record: usize) -> Result<()> {
        if next != len {
            let at = self.sections.range(id).start + next * record;
            return Err(self.corrupt(format!("section {id:?}"), at, format!("record {next} belongs to nothing")));
        }
        Ok(())
    }

    /// The names in a directory differ, and not only in the case of ASCII letters.
    fn check_paths(&self, item: &str, at: usize, files: &[FileEntry]) -> Result<()> {
        let paths = files.iter().map(|file| file.path.as_str());
        clash(paths).map_or(Ok(()), |clash| Err(self.corrupt(item, at, clash.to_string())))
    }
}
