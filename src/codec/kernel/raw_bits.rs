//! The raw bits of a step, as numbers.

use core::ops::{BitAnd, BitOr, Not};

use crate::codec::layout::BlockShape;

/// An unsigned number with room for the raw bits of an element.
pub(super) trait RawValue:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self> + From<u8>
{
    const ZERO: Self;
    fn from_low_bits(bits: u64) -> Self;
    /// Shifted left, by any number of bits.
    fn shifted(self, by: u32) -> Self;
    fn low_bits(self) -> u16;
    /// So many bytes from the lower end.
    fn low_bytes<const N: usize>(self) -> [u8; N];
}

macro_rules! raw_value {
    ($number:ty) => {
        impl RawValue for $number {
            const ZERO: Self = 0;

            #[inline(always)]
            fn from_low_bits(bits: u64) -> Self {
                bits as $number
            }

            #[inline(always)]
            fn shifted(self, by: u32) -> Self {
                self.unbounded_shl(by)
            }

            #[inline(always)]
            fn low_bits(self) -> u16 {
                self as u16
            }

            #[inline(always)]
            fn low_bytes<const N: usize>(self) -> [u8; N] {
                let bytes = u64::from(self).to_le_bytes();
                core::array::from_fn(|i| bytes[i])
            }
        }
    };
}

raw_value!(u16);
raw_value!(u32);
raw_value!(u64);

/// Reads one step's raw values and returns what follows them.
pub(super) fn read_raw_bits<'a, R: RawValue>(raw_bits: u8, bytes: &'a [u8], raw: &mut [R]) -> &'a [u8] {
    let active = raw.len();
    let (here, rest) = bytes.split_at(BlockShape::raw_bytes_of_step(active, raw_bits));
    let (planes, bits) = here.split_at(usize::from(raw_bits / 8) * active);
    let mut whole = planes.chunks_exact(active).enumerate();
    match whole.next() {
        Some((_, plane)) => raw.iter_mut().zip(plane).for_each(|(raw, &byte)| *raw = R::from(byte)),
        None => raw.fill(R::ZERO),
    }
    for (j, plane) in whole {
        for (raw, &byte) in raw.iter_mut().zip(plane) {
            *raw = *raw | R::from(byte).shifted(8 * j as u32);
        }
    }
    if !bits.is_empty() {
        let above = u32::from(raw_bits & !7);
        for (i, raw) in raw.chunks_mut(8).enumerate() {
            let bytes = eight_lanes(bits, active.div_ceil(8), i).to_le_bytes();
            for (raw, byte) in raw.iter_mut().zip(bytes) {
                *raw = *raw | R::from(byte).shifted(above);
            }
        }
    }
    rest
}

/// A byte for each of 8 lanes: bit j of a byte comes from plane j, of which byte `i` has
/// the bits of these lanes.
#[inline(always)]
fn eight_lanes(planes: &[u8], plane_len: usize, i: usize) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut lanes = 0;
    for (j, plane) in planes.chunks_exact(plane_len).enumerate() {
        // Byte k keeps bit k; adding 127 carries whatever is there to bit 7.
        let bits = (u64::from(plane[i]) * EACH) & 0x8040_2010_0804_0201;
        lanes |= (((bits + 0x7F * EACH) >> 7) & EACH) << j;
    }
    lanes
}
