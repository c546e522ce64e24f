//! Any ranges of any file: what is read at random, from the archive or through the cache,
//! is what decoding everything in order gives.
//!
//! The input is that of [`crate::index`] behind the ranges. Blocks that do not decode are
//! welcome: a range that needs one is an error, and all others are served.

use upg::archive::{Archive, ArrayId, FileId};
use upg::source::Memory;
use upg::vfs::Vfs;

use crate::index;
use crate::input::{Input, Random};

/// Decoded bytes of all files, at most: a small one may claim to be huge.
const MOST: u64 = 4 << 20;
const MOST_READS: usize = 40;
/// Bytes before the file.
const HEAD: usize = 8;

/// An input that is this one of [`crate::index`], read as `head` says.
pub fn seed(head: u64, file: &[u8]) -> Vec<u8> {
    [&head.to_le_bytes()[..], file].concat()
}

/// Where a block begins and ends in its file, and its bytes if it decodes.
type Decoded = (u64, u64, Option<Vec<u8>>);

/// A presented file, decoded block by block.
fn whole(archive: &Archive, file: FileId) -> Vec<Decoded> {
    let mut blocks = Vec::new();
    for extent in archive.extents(archive.file(file)) {
        let Some(id) = extent.array.map(ArrayId) else { continue };
        let (array, mut at) = (archive.array(id), extent.offset);
        for block in 0..array.block_count() {
            let mut bytes = vec![0xA5; array.bytes_of_block(block) as usize];
            let end = at + bytes.len() as u64;
            blocks.push((at, end, archive.decode_block(id, block, &mut bytes).is_ok().then_some(bytes)));
            at = end;
        }
        assert_eq!(at, extent.offset + extent.length);
    }
    blocks
}

/// What a range holds; None if one of its blocks does not decode.
fn expected(blocks: &[Decoded], start: u64, end: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let first = blocks.partition_point(|&(_, block_end, _)| block_end <= start);
    for (at, block_end, bytes) in &blocks[first..] {
        if start == end || *at >= end {
            break;
        }
        let (from, to) = (start.max(*at), end.min(*block_end));
        out.extend_from_slice(&bytes.as_ref()?[(from - at) as usize..(to - at) as usize]);
    }
    Some(out)
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut random = Random(u64::from(input.u32()));
    // From less than a block to all there is.
    let capacity = 1u64 << (8 + input.u8() % 16);
    let reads = usize::from(input.u8()) % (MOST_READS + 1);
    // Threads that decode ahead are started for some: they take longer than all else.
    let decoders = usize::from(input.u16() % 16 == 15);
    assert_eq!(data.len().saturating_sub(input.0.len()), HEAD.min(data.len()));
    let Some(file) = index::file(input.0) else { return };
    let Ok(archive) = Archive::from_source(Box::new(Memory::new("memory", file))) else { return };
    let total = archive.index().files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    let blocks = archive.index().arrays.iter().map(|array| u64::from(array.block_count())).fold(0, u64::saturating_add);
    if total > MOST || blocks > 1 << 16 {
        return;
    }
    let vfs = Vfs::new(archive, capacity, decoders).expect("threads");
    let archive = vfs.archive();
    let files = archive.index().files.len();
    let wholes: Vec<_> = (0..files.min(64)).map(|i| whole(archive, FileId(i as u32))).collect();
    let mut next = 0;
    for _ in 0..if wholes.is_empty() { 0 } else { reads } {
        let id = FileId((random.next() >> 33) as u32 % wholes.len() as u32);
        let size = archive.file(id).size;
        // Anywhere, on from the last one, or at the end of the file and beyond.
        let offset = match random.next() >> 40 & 7 {
            0..=2 => (random.next() >> 20) % (size + 2),
            3..=5 => next,
            6 => size.saturating_sub(random.next() >> 33 & 0xFFF),
            _ => u64::MAX - (random.next() >> 33 & 0xFF),
        };
        let length = (random.next() >> 20) & ((1 << (random.next() >> 33 & 15)) - 1) as u64;
        next = offset.saturating_add(length);

        let inside = offset.checked_add(length).is_some_and(|end| end <= size);
        let mut out = vec![0xA5; length as usize];
        let read = archive.read_at(id, offset, &mut out);
        let whole = &wholes[id.0 as usize];
        let wanted = if inside { expected(whole, offset, offset + length) } else { None };
        assert_eq!(read.is_ok(), wanted.is_some(), "{offset} + {length} of {size}");
        assert!(wanted.is_none_or(|wanted| wanted == out), "{offset} + {length} of {size}");

        // The mount cuts at the end of the file.
        let start = offset.min(size);
        let wanted = expected(whole, start, start.saturating_add(length).min(size));
        let read = vfs.read(id, offset, length, length.is_multiple_of(2), |parts| parts.concat());
        assert!(read.ok() == wanted, "{offset} + {length} of {size} through the cache");
    }
}
