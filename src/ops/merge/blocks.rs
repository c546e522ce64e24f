//! Arrays and their blocks on the way from one archive to another, each once.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::archive::{Archive, ArchiveWriter};
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, BlockMode, BlockRecord};
use crate::ops::convert::Progress;

/// What was there already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shared {
    pub arrays_seen: u64,
    pub arrays: u64,
    pub blocks: u64,
    pub bytes: u64,
}

/// Copies arrays of some archives into another. Takes about 50 bytes of memory per block.
pub struct Copier<'a> {
    archives: &'a [Archive],
    progress: &'a dyn Progress,
    /// The new number of each array that was copied, by archive.
    copied: Vec<Vec<Option<u32>>>,
    /// Stored bytes that were written, by their checksum.
    written: HashMap<u64, Written>,
    /// New arrays, by a hash of all that makes one.
    arrays: HashMap<u64, u32>,
    shared: Shared,
    /// Stored bytes of a block, and of one that may be the same.
    bytes: Vec<u8>,
    other: Vec<u8>,
}

/// Where stored bytes came from and went to.
struct Written {
    archive: u32,
    record: u32,
    offset: u64,
}

impl<'a> Copier<'a> {
    pub fn new(archives: &'a [Archive], progress: &'a dyn Progress) -> Copier<'a> {
        let copied = archives.iter().map(|archive| vec![None; archive.index().arrays.len()]).collect();
        Copier {
            archives,
            progress,
            copied,
            written: HashMap::new(),
            arrays: HashMap::new(),
            shared: Shared::default(),
            bytes: Vec::new(),
            other: Vec::new(),
        }
    }

    pub fn archive(&self, i: usize) -> &'a Archive {
        &self.archives[i]
    }

    pub fn shared(&self) -> Shared {
        self.shared
    }

    /// The number in the new archive of an array of archive `i`, copied if it is not there.
    pub fn array(&mut self, writer: &mut ArchiveWriter, i: usize, number: u32) -> Result<u32> {
        if let Some(copied) = self.copied[i][number as usize] {
            return Ok(copied);
        }
        let array = &self.archives[i].index().arrays[number as usize];
        let before = self.shared;
        let blocks = array.first_block..array.first_block + array.block_count();
        let blocks = blocks.map(|record| self.block(writer, i, record)).collect::<Result<Vec<_>>>()?;
        let side = array.side_block.map(|record| self.block(writer, i, record)).transpose()?;
        self.shared.arrays_seen += 1;
        let key = key(array, &blocks, side.as_ref());
        let new = match self.arrays.get(&key) {
            Some(&same) if is_same(writer, same, array, &blocks, side.as_ref()) => {
                // Its blocks count as one.
                self.shared = Shared { blocks: before.blocks, arrays: before.arrays + 1, ..self.shared };
                same
            }
            _ => {
                let first = blocks.iter().map(|&block| writer.add_record(block)).collect::<Vec<_>>();
                let side_block = side.map(|side| writer.add_record(side));
                let array = ArrayInfo { first_block: first.first().copied().unwrap_or(0), side_block, ..*array };
                *self.arrays.entry(key).or_insert(0) = writer.add_array(&array);
                self.arrays[&key]
            }
        };
        self.copied[i][number as usize] = Some(new);
        Ok(new)
    }

    /// The record of a block in the new archive, whose stored bytes are written if none are the same.
    fn block(&mut self, writer: &mut ArchiveWriter, i: usize, record: u32) -> Result<BlockRecord> {
        if self.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let block = self.archives[i].index().block(record);
        if block.mode == BlockMode::Zeros {
            return Ok(block);
        }
        self.archives[i].read_stored(record, &mut self.bytes)?;
        self.progress.advance(u64::from(block.length));
        if let Some(found) = self.written.get(&block.checksum) {
            // A checksum says that they may be the same, and no more.
            self.archives[found.archive as usize].read_stored(found.record, &mut self.other)?;
            if self.bytes == self.other {
                self.shared.blocks += 1;
                self.shared.bytes += u64::from(block.length);
                return Ok(BlockRecord { offset: found.offset, ..block });
            }
        }
        let offset = writer.add_stored(&self.bytes)?;
        let written = Written { archive: i as u32, record, offset };
        self.written.entry(block.checksum).or_insert(written);
        Ok(BlockRecord { offset, ..block })
    }
}

/// Of everything that an array is.
fn key(array: &ArrayInfo, blocks: &[BlockRecord], side: Option<&BlockRecord>) -> u64 {
    let mut all = unplaced(array).to_bytes().to_vec();
    blocks.iter().chain(side).for_each(|block| all.extend(block.to_bytes()));
    xxh3_64(&all)
}

fn unplaced(array: &ArrayInfo) -> ArrayInfo {
    ArrayInfo { first_block: 0, side_block: array.side_block.map(|_| 0), ..*array }
}

/// Whether array `number` of the new archive is this one.
fn is_same(
    writer: &ArchiveWriter,
    number: u32,
    array: &ArrayInfo,
    blocks: &[BlockRecord],
    side: Option<&BlockRecord>,
) -> bool {
    let Some(there) = writer.array(number) else { return false };
    let record = |i: u32| writer.record(i);
    unplaced(&there).to_bytes() == unplaced(array).to_bytes()
        && (there.first_block..).zip(blocks).all(|(i, block)| record(i) == Some(*block))
        && there.side_block.and_then(record).as_ref() == side
}
