//! Writing the raw bits of a block (`docs/format.md`, 7.4).

use crate::codec::layout::BlockShape;

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
    out.reserve(shape.raw_bytes(raw_bits));
    let planes = raw_bits / 8;
    for step in shape.steps() {
        let values = &values[step.first..step.first + step.active];
        for plane in 0..planes {
            out.extend(values.iter().map(|value| value.byte(plane)));
        }
        for bit in 0..raw_bits % 8 {
            out.extend(values.chunks(8).map(|eight| {
                let bits = eight.iter().enumerate().map(|(lane, value)| (value.byte(planes) >> bit & 1) << lane);
                bits.sum::<u8>()
            }));
        }
    }
}
