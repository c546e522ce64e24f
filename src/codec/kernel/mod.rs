//! Decoding a block: the boundary behind which vector code goes.
//!
//! A kernel gets parts whose lengths and ranges were checked and fills the
//! output; every kernel yields the same bits. There is one, the portable one;
//! kernels for AVX-512, AVX2 and NEON get a file each beside it and an arm in
//! [`decode`].

mod map;
mod portable;

use crate::codec::layout::BlockShape;
use crate::codec::params::SymbolParams;
use crate::codec::payload::Payload;
use crate::codec::side::Side;
use crate::error::Defect;

/// All that a kernel needs.
pub struct Job<'a> {
    pub params: &'a SymbolParams,
    pub side: &'a Side,
    pub shape: BlockShape,
    pub payload: Payload<'a>,
}

/// Decodes all elements but the escapes; `out` holds the block exactly.
pub fn decode(job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    portable::decode(job, out)
}
