//! Arrays and their blocks on the way from one archive to another, each once.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::difference;
use crate::archive::{Archive, ArchiveWriter};
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, BlockMode, BlockRecord};
use crate::ops::progress::Progress;

/// What was there already, and what became a difference.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shared {
    pub arrays_seen: u64,
    pub arrays: u64,
    pub blocks: u64,
    pub bytes: u64,
    pub differences: u64,
}

/// An array of one of the archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub archive: usize,
    pub array: u32,
}

/// Copies arrays of some archives into another. Takes about 50 bytes of memory per block.
pub struct Copier<'a> {
    archives: &'a [Archive],
    progress: &'a dyn Progress,
    /// The new number of each array that was copied, by archive.
    copied: Vec<Vec<Option<u32>>>,
    /// Whether something in the same archive is a difference from an array.
    is_base: Vec<Vec<bool>>,
    /// Stored bytes that were written, by their checksum.
    written: HashMap<u64, Written>,
    /// New arrays, by a hash of all that makes one.
    arrays: HashMap<u64, u32>,
    /// Arrays that became differences, by a hash of all that makes one: where each came from, and
    /// its new number.
    differences: HashMap<u64, (Place, u32)>,
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
        let is_base = archives.iter().map(|archive| {
            let arrays = &archive.index().arrays;
            let mut is_base = vec![false; arrays.len()];
            arrays.iter().filter_map(|array| array.base).for_each(|base| is_base[base as usize] = true);
            is_base
        });
        Copier {
            archives,
            progress,
            is_base: is_base.collect(),
            copied,
            written: HashMap::new(),
            arrays: HashMap::new(),
            differences: HashMap::new(),
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

    pub fn info(&self, place: Place) -> &'a ArrayInfo {
        &self.archives[place.archive].index().arrays[place.array as usize]
    }

    pub fn check_cancelled(&self) -> Result<()> {
        if self.progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// The number in the new archive of an array, copied if it is not there.
    pub fn array(&mut self, writer: &mut ArchiveWriter, place: Place) -> Result<u32> {
        if let Some(copied) = self.copied[place.archive][place.array as usize] {
            return Ok(copied);
        }
        let from = self.info(place);
        let base = from.base.map(|array| self.array(writer, Place { array, ..place })).transpose()?;
        let array = &ArrayInfo { base, ..from.clone() };
        let before = self.shared;
        let blocks = array.first_block..array.first_block + array.block_count();
        let blocks = blocks.map(|record| self.block(writer, place.archive, record)).collect::<Result<Vec<_>>>()?;
        let side = array.side_block.map(|record| self.block(writer, place.archive, record)).transpose()?;
        self.shared.arrays_seen += 1;
        let key = key(array, blocks.iter().chain(&side));
        let new = match self.arrays.get(&key) {
            Some(&same) if is_same(writer, same, array, &blocks, side.as_ref()) => {
                // Its blocks count as one.
                self.shared = Shared { blocks: before.blocks, arrays: before.arrays + 1, ..self.shared };
                same
            }
            _ => {
                let first = blocks.iter().map(|&block| writer.add_record(block)).collect::<Vec<_>>();
                let side_block = side.map(|side| writer.add_record(side));
                let first_block = first.first().copied().unwrap_or(0);
                let new = writer.add_array(&ArrayInfo { first_block, side_block, ..array.clone() });
                self.arrays.insert(key, new);
                new
            }
        };
        self.copied[place.archive][place.array as usize] = Some(new);
        Ok(new)
    }

    /// The same for an array that may become a difference from another, which is there.
    pub fn array_beside(&mut self, writer: &mut ArchiveWriter, place: Place, base: Place) -> Result<u32> {
        // What others are differences from cannot be one itself.
        let settled = self.is_base[place.archive][place.array as usize]
            || self.copied[place.archive][place.array as usize].is_some();
        if settled || self.holds_same(place, base)? {
            return self.array(writer, place);
        }
        let key = key(self.info(place), self.records(place).iter());
        let new = match self.differences.get(&key).copied() {
            Some((same, new)) if self.holds_same(place, same)? => {
                self.shared.arrays += 1;
                new
            }
            _ => {
                let number = self.array(writer, base)?;
                let Some(new) = difference::write(self, writer, place, base, number)? else {
                    return self.array(writer, place);
                };
                self.shared.differences += 1;
                self.differences.insert(key, (place, new));
                new
            }
        };
        self.shared.arrays_seen += 1;
        self.progress.advance(self.archives[place.archive].index().stored_bytes(place.array));
        self.copied[place.archive][place.array as usize] = Some(new);
        Ok(new)
    }

    /// The records of an array's blocks and of its side block, as if all lay in one place.
    fn records(&self, place: Place) -> Vec<BlockRecord> {
        let (array, index) = (self.info(place), self.archives[place.archive].index());
        let blocks = array.first_block..array.first_block + array.block_count();
        blocks.chain(array.side_block).map(|i| BlockRecord { offset: 0, ..index.block(i) }).collect()
    }

    /// Whether two arrays are the same and are stored as the same bytes.
    fn holds_same(&self, a: Place, b: Place) -> Result<bool> {
        let info = |place| unplaced(self.info(place)).to_bytes();
        // Differences may be the same where what they differ from is not.
        let differs = self.info(a).base.is_some() || self.info(b).base.is_some();
        if differs || info(a) != info(b) || self.records(a) != self.records(b) {
            return Ok(false);
        }
        // Checksums say that they may be the same, and no more.
        let numbers = |place: Place| {
            let array = self.info(place);
            (array.first_block..array.first_block + array.block_count()).chain(array.side_block)
        };
        let (mut bytes, mut other) = (Vec::new(), Vec::new());
        for (i, j) in numbers(a).zip(numbers(b)) {
            self.archives[a.archive].read_stored(i, &mut bytes)?;
            self.archives[b.archive].read_stored(j, &mut other)?;
            if bytes != other {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The record of a block in the new archive, whose stored bytes are written if none are the same.
    fn block(&mut self, writer: &mut ArchiveWriter, i: usize, record: u32) -> Result<BlockRecord> {
        self.check_cancelled()?;
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
fn key<'r>(array: &ArrayInfo, records: impl Iterator<Item = &'r BlockRecord>) -> u64 {
    let mut all = unplaced(array).to_bytes().to_vec();
    records.for_each(|record| all.extend(record.to_bytes()));
    xxh3_64(&all)
}

fn unplaced(array: &ArrayInfo) -> ArrayInfo {
    ArrayInfo { first_block: 0, side_block: array.side_block.map(|_| 0), ..array.clone() }
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
