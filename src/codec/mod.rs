//! The codecs: slices in, bytes out. No I/O, no threads, no panic on bad input.
//!
//! *Prime-sparse* has three stages: [`sparse`] quantises weights to an integer
//! grid (1) and decides by rate and distortion which become exact zeros (2),
//! [`manifold`] numbers the groups of similar values (3), and [`entropy`] codes
//! the numbers. *Lossless* codes the exponents with the same coder and keeps the
//! rest. `docs/format.md` is normative for both.

#[cfg(feature = "std")]
pub mod encode;
pub mod entropy;
pub mod float;
#[cfg(feature = "std")]
pub mod histogram;
pub mod isa;
pub mod kernel;
pub mod layout;
#[cfg(feature = "std")]
pub mod lossless;
pub mod manifold;
pub mod params;
mod payload;
#[cfg(feature = "std")]
pub mod raw;
pub mod side;
#[cfg(feature = "std")]
pub mod sparse;
#[cfg(feature = "std")]
pub mod trellis;

use crate::error::Defect;
use isa::Isa;
use layout::BlockShape;
use params::SymbolParams;
use side::Side;

/// Decodes the payload of one block into `out`, which the block fills exactly:
/// `elements * width` bytes, rows of `row_len` elements.
pub fn decode_block(
    params: &SymbolParams,
    side: &Side,
    row_len: usize,
    payload: &[u8],
    out: &mut [u8],
) -> Result<(), Defect> {
    decode_block_on(Isa::chosen(), params, side, row_len, payload, out)
}

/// [`decode_block`] with the kernel of this instruction set, which the machine must
/// have.
pub fn decode_block_on(
    isa: Isa,
    params: &SymbolParams,
    side: &Side,
    row_len: usize,
    payload: &[u8],
    out: &mut [u8],
) -> Result<(), Defect> {
    let width = params.dtype.width().ok_or(Defect("coded elements must be whole bytes"))?;
    if out.is_empty() || !out.len().is_multiple_of(width) || row_len == 0 {
        return Err(Defect("a block of no elements"));
    }
    let shape = BlockShape { elements: out.len() / width, row_len, lanes: params.lanes };
    let payload = payload::Payload::parse(params, &shape, payload)?;
    kernel::decode(isa, &kernel::Job { params, side, shape, payload }, out)?;
    payload.patch_escapes(width, out);
    Ok(())
}

#[cfg(all(test, feature = "std"))]
mod tests;
