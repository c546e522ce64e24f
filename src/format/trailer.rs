//! The two fixed ends of a file: header and trailer.

use alloc::format;

use xxhash_rust::xxh3::xxh3_64;

use super::forever_constant::{END_MAGIC, HEADER_LEN, MAGIC, TRAILER_LEN, VERSION};
use super::records::{u32_at, u64_at};
use crate::error::{Error, Result};

/// Where the index lies, as the last 64 bytes of the file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    pub index_offset: u64,
    pub index_length: u64,
    pub index_checksum: u64,
    pub features: u64,
}

pub fn header() -> [u8; HEADER_LEN as usize] {
    let mut bytes = [0; HEADER_LEN as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Checks the first 16 bytes of a file.
pub fn check_header(file: &str, bytes: &[u8; HEADER_LEN as usize]) -> Result<()> {
    if bytes[..8] != MAGIC {
        return Err(Error::corrupt(file, "file header", 0, "this is not a UPG file"));
    }
    check_version(file, u32_at(bytes, 8))?;
    if u32_at(bytes, 12) != 0 {
        return Err(Error::corrupt(file, "file header", 12, "reserved bytes are not zero"));
    }
    Ok(())
}

fn check_version(file: &str, version: u32) -> Result<()> {
    if version != VERSION {
        let what = format!("format version {version} (this upg reads version {VERSION}); a newer upg may read it");
        return Err(Error::unsupported(file, what));
    }
    Ok(())
}

impl Trailer {
    pub fn to_bytes(self) -> [u8; TRAILER_LEN as usize] {
        let mut bytes = [0; TRAILER_LEN as usize];
        let size = self.index_offset + self.index_length + TRAILER_LEN;
        for (i, word) in
            [self.index_offset, self.index_length, self.index_checksum, self.features, size].into_iter().enumerate()
        {
            bytes[8 * i..8 * i + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes[40..44].copy_from_slice(&VERSION.to_le_bytes());
        let checksum = xxh3_64(&bytes[..48]);
        bytes[48..56].copy_from_slice(&checksum.to_le_bytes());
        bytes[56..].copy_from_slice(&END_MAGIC);
        bytes
    }

    /// Parses the last 64 bytes of a file of `size` bytes.
    pub fn parse(file: &str, bytes: &[u8; TRAILER_LEN as usize], size: u64) -> Result<Trailer> {
        let at = size.saturating_sub(TRAILER_LEN);
        let corrupt = |what: &str| Error::corrupt(file, "trailer", at, what);
        if bytes[56..] != END_MAGIC {
            let what = "the closing magic is missing: the file was cut short, or is still being written";
            return Err(Error::truncated(file, "trailer", at, what));
        }
        if xxh3_64(&bytes[..48]) != u64_at(bytes, 48) {
            return Err(corrupt("checksum mismatch"));
        }
        check_version(file, u32_at(bytes, 40))?;
        let trailer = Trailer {
            index_offset: u64_at(bytes, 0),
            index_length: u64_at(bytes, 8),
            index_checksum: u64_at(bytes, 16),
            features: u64_at(bytes, 24),
        };
        if u64_at(bytes, 32) != size {
            let what = format!("the file has {size} bytes and should have {}", u64_at(bytes, 32));
            return Err(Error::truncated(file, "trailer", at, what));
        }
        let end = trailer.index_offset.checked_add(trailer.index_length).and_then(|n| n.checked_add(TRAILER_LEN));
        if trailer.index_offset < HEADER_LEN || end != Some(size) {
            return Err(corrupt("the index does not lie between header and trailer"));
        }
        if u32_at(bytes, 44) != 0 {
            return Err(corrupt("reserved bytes are not zero"));
        }
        Ok(trailer)
    }
}
