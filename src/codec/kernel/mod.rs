//! Decoding a block: the boundary behind which vector code goes.
//!
//! A kernel gets parts whose lengths and ranges were checked and fills the
//! output; every kernel yields the bits of the portable one. A kernel for another
//! instruction set gets a file beside these and an arm in [`Isa`].

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod avx512;
mod general;
mod map;
mod portable;
mod raw_bits;
mod steps;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod vector;

use crate::codec::isa::Isa;
use crate::codec::layout::BlockShape;
use crate::codec::params::SymbolParams;
use crate::codec::payload::Payload;
use crate::codec::side::Side;
use crate::error::Defect;

/// What every kernel says of a block whose lanes and words do not come out even.
const UNEVEN: Defect = Defect("lanes or words do not end where they should");

/// All that a kernel needs.
pub struct Job<'a> {
    pub params: &'a SymbolParams,
    pub side: &'a Side,
    pub shape: BlockShape,
    pub payload: Payload<'a>,
}

/// Decodes all elements but the escapes; `out` holds the block exactly.
pub fn decode(isa: Isa, job: &Job<'_>, out: &mut [u8]) -> Result<(), Defect> {
    match isa {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Isa::Avx512 if vector::form(job).is_some() => avx512::decode(job, out),
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        Isa::Avx2 if vector::form(job).is_some() => avx2::decode(job, out),
        _ => portable::decode(job, out),
    }
}
