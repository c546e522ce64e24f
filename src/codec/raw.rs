//! Writing the raw bits of a block (`docs/format.md`, 7.4).

use crate::codec::layout::BlockShape;
use crate::codec::params::MAX_LANES;

/// A raw value per element of a block, in element order, in integers of any size
/// that holds them. Those of escapes are 0.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'a> {
    /// The array has no raw bits.
    None,
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
}

impl Raw<'_> {
    /// The lowest bit of an element's raw value.
    pub fn parity(&self, element: usize) -> u8 {
        let low = match self {
            Raw::None => 0,
            Raw::U8(values) => values[element],
            Raw::U16(values) => values[element] as u8,
            Raw::U32(values) => values[element] as u8,
            Raw::U64(values) => values[element] as u8,
        };
        low & 1
    }

    /// Appends the raw bits of all steps. There is a value per element if
    /// `raw_bits` is not 0.
    pub fn write(&self, shape: &BlockShape, raw_bits: u8, out: &mut Vec<u8>) {
        if raw_bits == 0 {
            return;
        }
        match self {
            Raw::None => out.resize(out.len() + shape.raw_bytes(raw_bits), 0),
            Raw::U8(values) => write(values, shape, raw_bits, out),
            Raw::U16(values) => write(values, shape, raw_bits, out),
            Raw::U32(values) => write(values, shape, raw_bits, out),
            Raw::U64(values) => write(values, shape, raw_bits, out),
        }
    }
}

/// An unsigned integer that holds raw values.
trait Word: Copy {
    /// Bits 8 `plane` to 8 `plane` + 7.
    fn byte(self, plane: u8) -> u8;
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl Word for $word {
            #[inline(always)]
            fn byte(self, plane: u8) -> u8 {
                (u64::from(self) >> (8 * plane)) as u8
            }
        }
    )*};
}

words!(u8, u16, u32, u64);

fn write<W: Word>(values: &[W], shape: &BlockShape, raw_bits: u8, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + shape.raw_bytes(raw_bits), 0);
    let mut rest = &mut out[start..];
    let planes = raw_bits / 8;
    for step in shape.steps() {
        let values = &values[step.first..step.first + step.active];
        for plane in 0..planes {
            let bytes = rest.split_off_mut(..step.active).unwrap_or_default();
            bytes.iter_mut().zip(values).for_each(|(byte, value)| *byte = value.byte(plane));
        }
        if !raw_bits.is_multiple_of(8) {
            let len = usize::from(raw_bits % 8) * step.active.div_ceil(8);
            write_bits(values, planes, rest.split_off_mut(..len).unwrap_or_default());
        }
    }
}

/// Writes the lowest bits of byte `plane` of each value, as many as `out` has room
/// for, bit after bit.
fn write_bits<W: Word>(values: &[W], plane: u8, out: &mut [u8]) {
    // What lanes that take no part leave is zero.
    let mut bytes = [0; MAX_LANES];
    bytes.iter_mut().zip(values).for_each(|(byte, value)| *byte = value.byte(plane));
    let (eights, _) = bytes.as_chunks();
    for (bit, out) in out.chunks_exact_mut(values.len().div_ceil(8)).enumerate() {
        for (out, &eight) in out.iter_mut().zip(eights) {
            // The lowest bits of eight bytes, each moved to its place in the uppermost.
            let lowest = u64::from_le_bytes(eight) >> bit & 0x0101_0101_0101_0101;
            *out = (lowest.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
        }
    }
}
