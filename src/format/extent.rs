//! The fixed-size records of extents: between bytes and types.

use super::forever_constant::EXTENT_LEN;
use super::records::{u32_at, u64_at};
use crate::error::Defect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    Bytes,
    /// The 8-byte length and the JSON header of a safetensors file.
    Header,
    Tensor,
}

impl ExtentKind {
    pub fn from_code(code: u8) -> Option<ExtentKind> {
        [ExtentKind::Bytes, ExtentKind::Header, ExtentKind::Tensor].get(usize::from(code)).copied()
    }
}

/// An extent as its 40 bytes have it; refs are (offset, length) in HEAP.
#[derive(Debug, Clone, Copy)]
pub struct RawExtent {
    pub offset: u64,
    pub length: u64,
    pub name: (u32, u32),
    pub shape: (u32, u32),
    pub array: u32,
    pub kind: u8,
    pub dtype: u8,
}

impl RawExtent {
    pub fn to_bytes(self) -> [u8; EXTENT_LEN] {
        let mut out = [0; EXTENT_LEN];
        out[..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.length.to_le_bytes());
        for (i, word) in [self.name.0, self.name.1, self.shape.0, self.shape.1, self.array].into_iter().enumerate() {
            out[16 + 4 * i..20 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        out[36] = self.kind;
        out[37] = self.dtype;
        out
    }

    pub fn parse(bytes: &[u8; EXTENT_LEN]) -> Result<RawExtent, Defect> {
        if bytes[38..] != [0; 2] {
            return Err(Defect("reserved bytes are not zero"));
        }
        Ok(RawExtent {
            offset: u64_at(bytes, 0),
            length: u64_at(bytes, 8),
            name: (u32_at(bytes, 16), u32_at(bytes, 20)),
            shape: (u32_at(bytes, 24), u32_at(bytes, 28)),
            array: u32_at(bytes, 32),
            kind: bytes[36],
            dtype: bytes[37],
        })
    }
}
