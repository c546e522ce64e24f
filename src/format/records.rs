//! The fixed-size records of arrays and blocks: between bytes and types.

use super::forever_constant::{ARRAY_LEN, BLOCK_LEN, MAX_BLOCK_BYTES, NONE};
use crate::codec::manifold::Grid;
use crate::codec::params::{LANE_UNIT, PrimeSparse, SymbolMap, SymbolParams, Trellis};
use crate::dtype::{Dtype, Split};
use crate::error::Defect;

/// How the stored bytes of a block relate to its decoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockMode {
    /// Coded by the array's codec.
    Coded,
    /// They are the decoded bytes.
    Stored,
    /// There are none; all decoded bytes are zero.
    Zeros,
}

/// Where the stored bytes of a block lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRecord {
    pub offset: u64,
    pub length: u32,
    pub mode: BlockMode,
    /// XXH3-64 of the stored bytes.
    pub checksum: u64,
}

/// How an array's blocks are coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Codec {
    Stored,
    Zstd,
    /// Lossless or prime-sparse.
    Symbols(SymbolParams),
}

/// A sequence of elements, coded as one (`docs/format.md`, 4.6).
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayInfo {
    pub elements: u64,
    /// Elements per row.
    pub row_len: u64,
    /// Elements per block; the last block may be shorter.
    pub block_elems: u32,
    /// Record of the first block; the others follow.
    pub first_block: u32,
    pub dtype: Dtype,
    pub codec: Codec,
    /// Record of the side block, for codecs with symbols.
    pub side_block: Option<u32>,
    /// An array before this one, of elements as wide, as many, and as many per block. What this
    /// one's blocks decode to is the difference (exclusive or) from it; lossless only.
    pub base: Option<u32>,
    /// Elements that decode to exactly zero, as counted by the encoder.
    pub zeros: u64,
    /// Sum of squares of the source's elements (prime-sparse).
    pub signal: f64,
    /// Sum of squares of the errors (prime-sparse).
    pub noise: f64,
}

const FLAG_ROW_STEPS: u8 = 1;
const FLAG_ROW_CLASSES: u8 = 2;
const FLAG_COLUMN_STEPS: u8 = 4;
const FLAG_CENTROIDS: u8 = 8;

impl Codec {
    /// The name that reports use.
    pub fn name(&self) -> &'static str {
        match self {
            Codec::Stored => "stored",
            Codec::Zstd => "zstd",
            Codec::Symbols(SymbolParams { map: SymbolMap::Lossless(_), .. }) => "lossless",
            Codec::Symbols(_) => "prime-sparse",
        }
    }

    pub fn symbols(&self) -> Option<&SymbolParams> {
        match self {
            Codec::Symbols(params) => Some(params),
            _ => None,
        }
    }

    pub fn prime_sparse(&self) -> Option<&PrimeSparse> {
        self.symbols().and_then(SymbolParams::prime_sparse)
    }
}

impl ArrayInfo {
    /// Bytes per element.
    pub fn width(&self) -> u64 {
        self.dtype.width_in_array() as u64
    }

    pub fn byte_len(&self) -> u64 {
        self.elements * self.width()
    }

    pub fn block_count(&self) -> u32 {
        self.elements.div_ceil(u64::from(self.block_elems)) as u32
    }

    /// Decoded bytes of every block but the last.
    pub fn block_bytes(&self) -> u64 {
        u64::from(self.block_elems) * self.width()
    }

    /// Decoded bytes of block `i`.
    pub fn bytes_of_block(&self, i: u32) -> u64 {
        self.block_bytes().min(self.byte_len() - u64::from(i) * self.block_bytes())
    }

    /// Signal-to-noise ratio in dB as recorded by the encoder; None if exact.
    #[cfg(feature = "std")]
    pub fn snr_db(&self) -> Option<f64> {
        self.codec.prime_sparse().and_then(|_| snr_db(self.signal, self.noise))
    }

    pub fn to_bytes(&self) -> [u8; ARRAY_LEN] {
        let mut out = [0; ARRAY_LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.elements.to_le_bytes());
        put(8, &self.row_len.to_le_bytes());
        put(16, &self.block_elems.to_le_bytes());
        put(20, &self.block_count().to_le_bytes());
        put(24, &self.first_block.to_le_bytes());
        put(32, &[self.dtype.code()]);
        put(48, &self.zeros.to_le_bytes());
        put(56, &self.signal.to_le_bytes());
        put(64, &self.noise.to_le_bytes());
        put(72, &self.side_block.unwrap_or(NONE).to_le_bytes());
        put(76, &self.base.map_or(0, |base| base + 1).to_le_bytes());
        match &self.codec {
            Codec::Stored => put(33, &[0]),
            Codec::Zstd => put(33, &[1]),
            Codec::Symbols(params) => {
                put(34, &[(params.lanes / LANE_UNIT) as u8, params.raw_bits]);
                put(40, &[params.classes]);
                let mut flags = if params.row_classes { FLAG_ROW_CLASSES } else { 0 };
                match &params.map {
                    SymbolMap::Lossless(split) => {
                        put(33, &[2]);
                        put(36, &[split.shift, split.bits]);
                    }
                    SymbolMap::PrimeSparse(p) => {
                        put(28, &p.step.to_le_bytes());
                        put(33, &[3]);
                        put(38, &[p.grid as u8]);
                        flags |= if p.row_steps { FLAG_ROW_STEPS } else { 0 };
                        flags |= if p.column_steps { FLAG_COLUMN_STEPS } else { 0 };
                        flags |= if p.centroids { FLAG_CENTROIDS } else { 0 };
                        if let Some(t) = p.trellis {
                            put(41, &[t.log2_states]);
                            put(42, &t.h0.to_le_bytes());
                            put(44, &t.h1.to_le_bytes());
                        }
                    }
                }
                put(39, &[flags]);
            }
        }
        out
    }

    /// Parses and checks an array by itself; that its blocks exist is checked by
    /// the index.
    pub fn parse(bytes: &[u8; ARRAY_LEN]) -> Result<ArrayInfo, Defect> {
        let dtype = Dtype::from_code(bytes[32]).ok_or(Defect("unknown element type"))?;
        let codec = parse_codec(bytes, dtype)?;
        let side_block = Some(u32_at(bytes, 72)).filter(|&record| record != NONE);
        let array = ArrayInfo {
            elements: u64_at(bytes, 0),
            row_len: u64_at(bytes, 8),
            block_elems: u32_at(bytes, 16),
            first_block: u32_at(bytes, 24),
            dtype,
            codec,
            side_block,
            base: u32_at(bytes, 76).checked_sub(1),
            zeros: u64_at(bytes, 48),
            signal: f64::from_bits(u64_at(bytes, 56)),
            noise: f64::from_bits(u64_at(bytes, 64)),
        };
        let width = dtype.width().ok_or(Defect("elements of an array must be whole bytes"))? as u64;
        if array.elements == 0 || array.row_len == 0 || array.block_elems == 0 {
            return Err(Defect("array without elements"));
        }
        if array.elements.checked_mul(width).is_none_or(|bytes| bytes > i64::MAX as u64) {
            return Err(Defect("array too large"));
        }
        if u64::from(array.block_elems) * width > MAX_BLOCK_BYTES {
            return Err(Defect("blocks of more than 16 MiB"));
        }
        let blocks = array.elements.div_ceil(u64::from(array.block_elems));
        if blocks != u64::from(u32_at(bytes, 20)) {
            return Err(Defect("number of blocks does not fit the number of elements"));
        }
        let has_symbols = array.codec.symbols().is_some();
        if has_symbols != side_block.is_some() {
            return Err(Defect("side block missing, or not needed"));
        }
        if has_symbols && !u64::from(array.block_elems).is_multiple_of(array.row_len) {
            return Err(Defect("blocks do not hold whole rows"));
        }
        if !has_symbols && array.row_len != 1 {
            return Err(Defect("row length without rows"));
        }
        let is_lossless = matches!(array.codec, Codec::Symbols(SymbolParams { map: SymbolMap::Lossless(_), .. }));
        if array.base.is_some() && !is_lossless {
            return Err(Defect("a difference that is not coded losslessly"));
        }
        // Every reserved byte is zero, and every field that the codec does not use.
        if array.to_bytes() != *bytes {
            return Err(Defect("reserved bytes are not zero"));
        }
        Ok(array)
    }
}

/// Signal-to-noise ratio in dB from sums of squares; None without noise.
#[cfg(feature = "std")]
pub fn snr_db(signal: f64, noise: f64) -> Option<f64> {
    (noise > 0.0).then(|| 10.0 * (signal / noise).log10())
}

fn parse_codec(bytes: &[u8; ARRAY_LEN], dtype: Dtype) -> Result<Codec, Defect> {
    let (flags, raw_bits) = (bytes[39], bytes[35]);
    let map = match bytes[33] {
        0 => return Ok(Codec::Stored),
        1 => return Ok(Codec::Zstd),
        2 => SymbolMap::Lossless(Split { shift: bytes[36], bits: bytes[37] }),
        3 => SymbolMap::PrimeSparse(PrimeSparse {
            step: f32::from_bits(u32_at(bytes, 28)),
            grid: match bytes[38] {
                0 => Grid::Uniform,
                1 => Grid::Prime,
                _ => return Err(Defect("unknown grid")),
            },
            trellis: (bytes[41] > 0).then(|| Trellis {
                log2_states: bytes[41],
                h0: u16_at(bytes, 42),
                h1: u16_at(bytes, 44),
            }),
            row_steps: flags & FLAG_ROW_STEPS != 0,
            column_steps: flags & FLAG_COLUMN_STEPS != 0,
            centroids: flags & FLAG_CENTROIDS != 0,
        }),
        _ => return Err(Defect("unknown codec; a newer upg may read it")),
    };
    let params = SymbolParams {
        dtype,
        lanes: usize::from(bytes[34]) * LANE_UNIT,
        raw_bits,
        classes: bytes[40],
        row_classes: flags & FLAG_ROW_CLASSES != 0,
        map,
    };
    Ok(Codec::Symbols(params.validate()?))
}

impl BlockRecord {
    pub fn to_bytes(self) -> [u8; BLOCK_LEN] {
        let mut out = [0; BLOCK_LEN];
        out[..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12] = self.mode as u8;
        out[16..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    pub fn parse(bytes: &[u8; BLOCK_LEN]) -> Result<BlockRecord, Defect> {
        let mode = match bytes[12] {
            0 => BlockMode::Coded,
            1 => BlockMode::Stored,
            2 => BlockMode::Zeros,
            _ => return Err(Defect("unknown block mode")),
        };
        if bytes[13..16] != [0; 3] {
            return Err(Defect("reserved bytes are not zero"));
        }
        let (offset, length) = (u64_at(bytes, 0), u32_at(bytes, 8));
        Ok(BlockRecord { offset, length, mode, checksum: u64_at(bytes, 16) })
    }
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
