//! Bytes that must never change: files that exist depend on them.

pub const MAGIC: [u8; 8] = *b"\x89UPG\r\n\x1a\n";
pub const END_MAGIC: [u8; 8] = *b"UPG-END\n";
pub const VERSION: u32 = 1;
pub const HEADER_LEN: u64 = 16;
pub const TRAILER_LEN: u64 = 64;

/// Absent record number.
pub const NONE: u32 = u32::MAX;

/// Most decoded bytes in a block.
pub const MAX_BLOCK_BYTES: u64 = 16 << 20;
/// Most stored bytes of a block.
pub const MAX_STORED_BYTES: u64 = MAX_BLOCK_BYTES + (64 << 10);
/// XXH3-64 of nothing: the checksum of a block of zeros.
pub const HASH_OF_NOTHING: u64 = 0x2D06_8005_38D3_94C2;
pub const MAX_DIMENSIONS: usize = 32;

pub const MODEL_LEN: usize = 24;
pub const FILE_LEN: usize = 24;
pub const EXTENT_LEN: usize = 40;
pub const ARRAY_LEN: usize = 80;
pub const BLOCK_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    /// Do not change this test: a file written today must be read tomorrow.
    #[test]
    fn never_change() {
        assert_eq!(MAGIC, [0x89, 0x55, 0x50, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]);
        assert_eq!(END_MAGIC, [0x55, 0x50, 0x47, 0x2D, 0x45, 0x4E, 0x44, 0x0A]);
        assert_eq!((VERSION, HEADER_LEN, TRAILER_LEN, NONE), (1, 16, 64, 0xFFFF_FFFF));
        assert_eq!((MODEL_LEN, FILE_LEN, EXTENT_LEN, ARRAY_LEN, BLOCK_LEN), (24, 24, 40, 80, 24));
    }
}
