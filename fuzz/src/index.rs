//! A whole file from memory: opening it and decoding what it claims to hold gives bytes
//! or an error, within bounds of memory and time.
//!
//! A checksum would stop nearly every change of a fuzzer, and an attacker computes it: so
//! the input is index and blocks, and the checksums are made to fit.

use upg::archive::{Archive, ArrayId};
use upg::format::{Trailer, header};
use upg::source::Memory;
use xxhash_rust::xxh3::xxh3_64;

use crate::input::Input;

/// The input is a file as it is.
const AS_IS: u8 = 1;
/// The input is a file but for the checksums of trailer and index.
const FILE: u8 = 2;
/// The checksums of blocks are made to fit, too.
const FIT_BLOCKS: u8 = 4;

/// Decoded bytes after which a file was looked at enough: a small one may claim to be huge.
const ENOUGH: u64 = 24 << 20;
const TRAILER: usize = 64;

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// Where the index of a file lies, if its trailer says something possible.
fn index_of(file: &[u8]) -> Option<std::ops::Range<usize>> {
    let end = file.len().checked_sub(TRAILER)?;
    let (at, length) = (word(file, end)? as usize, word(file, end + 8)? as usize);
    let range = at..at.checked_add(length)?;
    (range.end <= end).then_some(range)
}

/// Two inputs that are this file: in parts, with blocks that fit, and as it is.
pub fn seeds(file: &[u8]) -> Option<[Vec<u8>; 2]> {
    let index = index_of(file)?;
    let mut parts = vec![FIT_BLOCKS];
    parts.extend((index.len() as u32).to_le_bytes());
    parts.extend_from_slice(&file[index.clone()]);
    parts.extend_from_slice(file.get(16..index.start)?);
    Some([parts, [&[FILE], file].concat()])
}

/// The part of an input that is the index, for changes aimed at it.
pub fn index_within(data: &[u8]) -> Option<std::ops::Range<usize>> {
    if data.first()? & (AS_IS | FILE) != 0 {
        let index = index_of(&data[1..])?;
        return Some(index.start + 1..index.end + 1);
    }
    let len = u32::from_le_bytes(*data.get(1..)?.first_chunk()?) as usize;
    (len <= data.len() - 5).then_some(5..5 + len)
}

/// The file that an input stands for.
pub fn file(data: &[u8]) -> Option<Vec<u8>> {
    let mut input = Input(data);
    let flags = input.u8();
    if flags & AS_IS != 0 {
        return Some(input.0.to_vec());
    }
    let mut file;
    if flags & FILE != 0 {
        file = input.0.to_vec();
        let end = file.len().checked_sub(TRAILER)?;
        let checksum = xxh3_64(&file[index_of(&file)?]);
        file[end + 16..end + 24].copy_from_slice(&checksum.to_le_bytes());
        let checksum = xxh3_64(&file[end..end + 48]);
        file[end + 48..end + 56].copy_from_slice(&checksum.to_le_bytes());
        return Some(file);
    }
    let index_length = input.u32() as usize;
    let mut index = input.take(index_length).to_vec();
    file = [&header()[..], input.0].concat();
    if flags & FIT_BLOCKS != 0 {
        fit_blocks(&mut index, &file);
    }
    let trailer = Trailer {
        index_offset: file.len() as u64,
        index_length: index.len() as u64,
        index_checksum: xxh3_64(&index),
        features: 0,
    };
    file.extend_from_slice(&index);
    file.extend(trailer.to_bytes());
    Some(file)
}

/// Writes the checksum of the bytes that each block record names into it.
fn fit_blocks(index: &mut [u8], file: &[u8]) {
    const BLOCKS: usize = 5;
    let entry = 8 + 24 * BLOCKS;
    let (Some(at), Some(length)) = (word(index, entry + 8), word(index, entry + 16)) else { return };
    let Some(records) = usize::try_from(at).ok().and_then(|at| index.get_mut(at..)) else { return };
    let length = records.len().min(length as usize);
    // Records may all name the same megabytes: not more than the file twice.
    let mut budget = 2 * file.len() + 4096;
    for record in records[..length].chunks_exact_mut(24) {
        let from = word(record, 0).unwrap_or(0) as usize;
        let length = word(record, 8).unwrap_or(0) as u32 as usize;
        let Some(stored) = file.get(from..).and_then(|rest| rest.get(..length)) else { continue };
        if length > budget {
            return;
        }
        budget -= length;
        record[16..24].copy_from_slice(&xxh3_64(stored).to_le_bytes());
    }
}

pub fn run(data: &[u8]) {
    let Some(file) = file(data) else { return };
    let Ok(archive) = Archive::from_source(Box::new(Memory::new("memory", file))) else { return };
    let mut decoded = 0;
    for (i, array) in archive.index().arrays.iter().enumerate() {
        // The ends are where blocks differ in length.
        let count = array.block_count();
        for block in (0..count.min(8)).chain(count.saturating_sub(2).max(8)..count) {
            let bytes = array.bytes_of_block(block);
            decoded += bytes;
            if decoded > ENOUGH {
                break;
            }
            let mut out = vec![0xA5; bytes as usize];
            let _ = archive.decode_block(ArrayId(i as u32), block, &mut out);
        }
    }
    let mut decoded = 0;
    for model in archive.models() {
        for (id, file) in archive.files(model) {
            decoded += file.size.min(1000) + archive_block(&archive, file.extents.clone());
            if decoded > ENOUGH {
                return;
            }
            // Both ends of the file, and a range that is not there.
            let mut out = vec![0; file.size.min(1000) as usize];
            let _ = archive.read_at(id, 0, &mut out);
            let _ = archive.read_at(id, file.size - out.len() as u64, &mut out);
            assert!(archive.read_at(id, file.size, &mut [0]).is_err());
        }
    }
}

/// Bytes that reading from these extents may decode at most, about.
fn archive_block(archive: &Archive, extents: std::ops::Range<usize>) -> u64 {
    let arrays = archive.index().extents[extents].iter().filter_map(|extent| extent.array);
    arrays.map(|array| archive.array(ArrayId(array)).block_bytes()).max().unwrap_or(0)
}
