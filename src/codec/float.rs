//! Between f32 and the bits of the element types that prime-sparse can hold.

use crate::dtype::Dtype;
use half::{bf16, f16};

/// The bits of `value` in the element type (BF16, F16, else F32), in the low
/// bytes; rounded to nearest, ties to even.
#[inline]
pub fn to_bits(dtype: Dtype, value: f32) -> u32 {
    match dtype {
        Dtype::BF16 => u32::from(bf16::from_f32(value).to_bits()),
        Dtype::F16 => u32::from(f16::from_f32(value).to_bits()),
        _ => value.to_bits(),
    }
}

/// The value of an element (BF16, F16, else F32) from its bits, exactly.
#[inline]
pub fn from_bits(dtype: Dtype, bits: u32) -> f32 {
    match dtype {
        Dtype::BF16 => bf16::from_bits(bits as u16).to_f32(),
        Dtype::F16 => f16::from_bits(bits as u16).to_f32(),
        _ => f32::from_bits(bits),
    }
}

/// The largest finite value of the element type.
pub fn largest(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => bf16::MAX.to_f32(),
        Dtype::F16 => f16::MAX.to_f32(),
        _ => f32::MAX,
    }
}
