//! Ranges of presented files, and the blocks that hold them.

use alloc::format;
use core::ops::Range;

use super::reader::{Archive, ArrayId, FileId};
use crate::error::{Error, Result};

/// A part of one block that is a part of a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub array: ArrayId,
    pub block: u32,
    /// First byte of the block that is wanted.
    pub skip: usize,
    /// Where it stands in the file.
    pub at: u64,
    pub length: usize,
}

impl Archive {
    /// Where the extent ends that holds this byte of a file; the byte exists.
    pub fn section_end(&self, id: FileId, at: u64) -> u64 {
        let extents = self.extents(self.file(id));
        let i = extents.partition_point(|extent| extent.offset + extent.length <= at);
        extents.get(i).map_or(at + 1, |extent| extent.offset + extent.length)
    }

    /// Has the stored bytes of a range of a file, which lies within it, read ahead if the
    /// source can do that: those of the blocks that are `wanted`.
    pub fn will_need(&self, id: FileId, range: Range<u64>, wanted: impl Fn(ArrayId, u32) -> bool) {
        let mut differences = false;
        self.will_need_records(id, range.clone(), |piece| {
            let array = self.array(piece.array);
            differences |= array.base.is_some();
            wanted(piece.array, piece.block).then_some(array.first_block + piece.block)
        });
        if differences {
            self.will_need_records(id, range, |piece| {
                let base = self.array(ArrayId(self.array(piece.array).base?));
                wanted(piece.array, piece.block).then_some(base.first_block + piece.block)
            });
        }
    }

    /// The same for the block records that are chosen for the pieces of a range.
    fn will_need_records(&self, id: FileId, range: Range<u64>, mut record: impl FnMut(Piece) -> Option<u32>) {
        let mut stored: Option<Range<u64>> = None;
        let pieces = self.pieces(id, range.start, range.end - range.start, |piece| {
            let Some(record) = record(piece) else { return Ok(()) };
            let record = self.index.block(record);
            let block = record.offset..record.offset + u64::from(record.length);
            match &mut stored {
                // The writer puts neighbours side by side.
                Some(stored) if stored.end == block.start => stored.end = block.end,
                _ => {
                    let before = stored.replace(block);
                    before.into_iter().for_each(|range| self.source.will_need(range));
                }
            }
            Ok(())
        });
        if pieces.is_ok() {
            stored.into_iter().for_each(|range| self.source.will_need(range));
        }
    }

    /// Cuts a range of a file into the parts of blocks that make it up, in order.
    pub fn pieces(
        &self,
        id: FileId,
        offset: u64,
        length: u64,
        mut each: impl FnMut(Piece) -> Result<()>,
    ) -> Result<()> {
        let file = self.file(id);
        let end = offset.checked_add(length).filter(|&end| end <= file.size);
        let end = end.ok_or_else(|| Error::Invalid(format!("{:?}: read beyond the end", file.path)))?;
        let extents = self.extents(file);
        let mut next = extents.partition_point(|extent| extent.offset + extent.length <= offset);
        let mut at = offset;
        while at < end {
            let extent = &extents[next];
            let Some(array) = extent.array.map(ArrayId) else {
                next += 1;
                continue;
            };
            let info = self.array(array);
            let within = at - extent.offset;
            let block = (within / info.block_bytes()) as u32;
            let skip = within % info.block_bytes();
            let length = (info.bytes_of_block(block) - skip).min(end - at);
            each(Piece { array, block, skip: skip as usize, at, length: length as usize })?;
            at += length;
            if at == extent.offset + extent.length {
                next += 1;
            }
        }
        Ok(())
    }
}
