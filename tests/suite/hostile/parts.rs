//! A `.upg` file taken apart, changed, and put together again with checksums that fit: an
//! attacker computes them, too.

use upg::format::{BlockMode, NONE, Trailer, header};
use xxhash_rust::xxh3::xxh3_64;

pub const MODELS: usize = 1;
pub const FILES: usize = 2;
pub const EXTENTS: usize = 3;
pub const ARRAYS: usize = 4;
pub const BLOCKS: usize = 5;
pub const HEAP: usize = 6;

/// Bytes of a record of each section.
pub const RECORD: [usize; 7] = [1, 24, 24, 40, 80, 24, 1];

/// File header, and section directory of an index of seven sections.
const HEADER: usize = 16;
const DIRECTORY: usize = 8 + 7 * 24;

/// A file without its directory and its checksums.
#[derive(Clone)]
pub struct Parts {
    /// The stored blocks, from byte 16 of the file on.
    pub body: Vec<u8>,
    /// Features, models, files, extents, arrays, blocks, heap.
    pub sections: [Vec<u8>; 7],
    pub features: u64,
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Where the index of a file lies.
pub fn index_of(file: &[u8]) -> std::ops::Range<usize> {
    let end = file.len() - 64;
    let start = u64_at(file, end) as usize;
    start..start + u64_at(file, end + 8) as usize
}

impl Parts {
    pub fn of(file: &[u8]) -> Parts {
        let index = &file[index_of(file)];
        let section = |i: usize| {
            let (at, length) = (u64_at(index, 16 + 24 * i), u64_at(index, 24 + 24 * i));
            index[at as usize..][..length as usize].to_vec()
        };
        let body = file[HEADER..index_of(file).start].to_vec();
        Parts { body, sections: std::array::from_fn(section), features: 0 }
    }

    /// Record `i` of a section.
    pub fn record(&mut self, section: usize, i: usize) -> &mut [u8] {
        let length = RECORD[section];
        &mut self.sections[section][length * i..][..length]
    }

    /// Overwrites bytes of a record.
    pub fn set(&mut self, section: usize, i: usize, at: usize, bytes: &[u8]) {
        self.record(section, i)[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Appends to the heap and makes the reference in a record name it.
    pub fn refer(&mut self, section: usize, i: usize, at: usize, bytes: &[u8]) {
        let offset = if bytes.is_empty() { 0 } else { self.sections[HEAP].len() as u32 };
        self.sections[HEAP].extend_from_slice(bytes);
        self.set(section, i, at, &offset.to_le_bytes());
        self.set(section, i, at + 4, &(bytes.len() as u32).to_le_bytes());
    }

    /// The stored bytes of a block.
    pub fn stored(&mut self, block: usize) -> Vec<u8> {
        let record = self.record(BLOCKS, block);
        let (at, length) = (u64_at(record, 0) as usize - HEADER, u32_at(record, 8) as usize);
        self.body[at..at + length].to_vec()
    }

    /// Gives a block other stored bytes, behind all others.
    pub fn store(&mut self, block: usize, bytes: &[u8]) {
        let at = (HEADER + self.body.len()) as u64;
        self.body.extend_from_slice(bytes);
        self.set(BLOCKS, block, 0, &at.to_le_bytes());
        self.set(BLOCKS, block, 8, &(bytes.len() as u32).to_le_bytes());
    }

    /// The file, with checksums of blocks that fit.
    pub fn seal(mut self) -> Vec<u8> {
        for record in self.sections[BLOCKS].chunks_exact_mut(RECORD[BLOCKS]) {
            let at = (u64_at(record, 0) as usize).checked_sub(HEADER);
            let stored = at.and_then(|at| self.body.get(at..)?.get(..u32_at(record, 8) as usize));
            if let Some(stored) = stored.filter(|_| record[12] != BlockMode::Zeros as u8) {
                record[16..24].copy_from_slice(&xxh3_64(stored).to_le_bytes());
            }
        }
        self.seal_without_blocks()
    }

    /// The file, with the checksums that its block records have.
    pub fn seal_without_blocks(self) -> Vec<u8> {
        let mut index = 7u64.to_le_bytes().to_vec();
        let mut at = DIRECTORY as u64;
        for (i, section) in self.sections.iter().enumerate() {
            for word in [i as u64 + 1, at, section.len() as u64] {
                index.extend(word.to_le_bytes());
            }
            at += section.len() as u64;
        }
        self.sections.iter().for_each(|section| index.extend_from_slice(section));
        let trailer = Trailer {
            index_offset: (HEADER + self.body.len()) as u64,
            index_length: index.len() as u64,
            index_checksum: xxh3_64(&index),
            features: self.features,
        };
        [&header()[..], &self.body, &index, &trailer.to_bytes()].concat()
    }
}

/// Makes the checksums of index and trailer fit again; the trailer tells where the index is.
pub fn reseal(mut file: Vec<u8>) -> Vec<u8> {
    let (end, index) = (file.len() - 64, index_of(&file));
    let checksum = xxh3_64(&file[index]);
    file[end + 16..end + 24].copy_from_slice(&checksum.to_le_bytes());
    reseal_trailer(file)
}

/// Makes the checksum of the trailer fit again.
pub fn reseal_trailer(mut file: Vec<u8>) -> Vec<u8> {
    let end = file.len() - 64;
    let checksum = xxh3_64(&file[end..end + 48]);
    file[end + 48..end + 56].copy_from_slice(&checksum.to_le_bytes());
    file
}

/// The record number that stands for none.
pub const ABSENT: [u8; 4] = NONE.to_le_bytes();
