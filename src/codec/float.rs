//! Between f32 and the bits of the element types that prime-sparse can hold.

use alloc::vec::Vec;

use crate::dtype::Dtype;
use half::{bf16, f16};

/// The bits of `value` in the element type (BF16, F16, F8_E5M2, F8_E4M3, else F32), in
/// the low bytes; rounded to nearest, ties to even. What is too large is infinity, or
/// not a number in F8_E4M3, which has no infinity.
#[inline]
pub fn to_bits(dtype: Dtype, value: f32) -> u32 {
    match dtype {
        Dtype::BF16 => u32::from(bf16::from_f32(value).to_bits()),
        Dtype::F16 => u32::from(f16::from_f32(value).to_bits()),
        Dtype::F8_E5M2 => Eight { mantissa: 2, bias: 15, overflow: 0x7C }.round(value),
        Dtype::F8_E4M3 => Eight { mantissa: 3, bias: 7, overflow: 0x7F }.round(value),
        _ => value.to_bits(),
    }
}

/// The value of an element (BF16, F16, F8_E5M2, F8_E4M3, else F32) from its bits,
/// exactly.
#[inline]
pub fn from_bits(dtype: Dtype, bits: u32) -> f32 {
    match dtype {
        Dtype::BF16 => bf16::from_bits(bits as u16).to_f32(),
        Dtype::F16 => f16::from_bits(bits as u16).to_f32(),
        // F16 without its lower mantissa bits.
        Dtype::F8_E5M2 => f16::from_bits((bits as u16) << 8).to_f32(),
        Dtype::F8_E4M3 => from_e4m3(bits as u8),
        _ => f32::from_bits(bits),
    }
}

/// The largest finite value of the element type.
pub fn largest(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => bf16::MAX.to_f32(),
        Dtype::F16 => f16::MAX.to_f32(),
        Dtype::F8_E5M2 => 57344.0,
        Dtype::F8_E4M3 => 448.0,
        _ => f32::MAX,
    }
}

/// A floating-point type of eight bits: a sign, an exponent and `mantissa` bits.
struct Eight {
    mantissa: u32,
    bias: u32,
    /// What follows the largest finite magnitude.
    overflow: u32,
}

const NOT_A_NUMBER: u32 = 0x7F;
const TWO_TO_THE_23: f32 = 8_388_608.0;

impl Eight {
    #[inline(always)]
    fn round(&self, value: f32) -> u32 {
        let sign = value.to_bits() >> 24 & 0x80;
        let magnitude = value.to_bits() & 0x7FFF_FFFF;
        let least_normal = (128 - self.bias) << 23;
        let rounded = if value.is_nan() {
            NOT_A_NUMBER
        } else if magnitude < least_normal {
            // Below, all steps are equal; this product is exact. The sum rounds it: beyond 2^23
            // there are no fractions.
            let steps = value.abs() * f32::from_bits((127 + self.bias - 1 + self.mantissa) << 23);
            (steps + TWO_TO_THE_23).to_bits() - TWO_TO_THE_23.to_bits()
        } else {
            let shift = 23 - self.mantissa;
            let odd = magnitude >> shift & 1;
            let rounded = (magnitude + (1 << (shift - 1)) - 1 + odd) >> shift;
            (rounded - ((127 - self.bias) << self.mantissa)).min(self.overflow)
        };
        sign | rounded
    }
}

#[inline]
fn from_e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(bits >> 3 & 15), u32::from(bits & 7));
    let magnitude = if bits & 0x7F == 0x7F {
        f32::NAN
    } else if exponent == 0 {
        mantissa as f32 / 512.0
    } else {
        f32::from_bits((exponent + 120) << 23 | mantissa << 20)
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Appends the values of whole elements of a type of 8, 16 or 32 bits.
pub fn extend_values(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    // A loop per type: one that chose the type for every element would not vectorise.
    match dtype {
        Dtype::BF16 => extend(bytes, values, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Dtype::F16 => extend(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
        _ if dtype.bits() == 8 => extend(bytes, values, |[b]| from_bits(dtype, u32::from(b))),
        _ => extend(bytes, values, f32::from_le_bytes),
    }
}

fn extend<const WIDTH: usize>(bytes: &[u8], values: &mut Vec<f32>, value: impl Fn([u8; WIDTH]) -> f32) {
    values.extend(bytes.as_chunks().0.iter().map(|&element| value(element)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mantissa bits, bias, and the first code that is no finite number.
    const EIGHTS: [(Dtype, i32, i32, u32); 2] = [(Dtype::F8_E5M2, 2, 15, 0x7C), (Dtype::F8_E4M3, 3, 7, 0x7F)];

    /// The value of a code by the definition of the formats, in f64; beyond the finite
    /// ones, what it would be if they went on.
    fn defined(code: u32, mantissa: i32, bias: i32) -> f64 {
        let (exponent, fraction) = ((code >> mantissa) as i32, f64::from(code & ((1 << mantissa) - 1)));
        if exponent == 0 {
            fraction * 2f64.powi(1 - bias - mantissa)
        } else {
            (1.0 + fraction * 2f64.powi(-mantissa)) * 2f64.powi(exponent - bias)
        }
    }

    #[test]
    fn eight_bits_mean_what_their_definition_says() {
        for (dtype, mantissa, bias, end) in EIGHTS {
            for code in 0..0x80 {
                let (plus, minus) = (from_bits(dtype, code), from_bits(dtype, code | 0x80));
                if code < end {
                    assert_eq!(f64::from(plus), defined(code, mantissa, bias), "{} {code:x}", dtype.name());
                    assert_eq!(minus.to_bits(), (-plus).to_bits());
                    assert_eq!(to_bits(dtype, plus), code);
                    assert_eq!(to_bits(dtype, minus), code | 0x80);
                } else {
                    assert!(!plus.is_finite() && !minus.is_finite());
                    assert_eq!(plus.is_nan(), dtype == Dtype::F8_E4M3 || code > 0x7C);
                }
            }
            assert_eq!(largest(dtype), from_bits(dtype, end - 1));
        }
    }

    #[test]
    fn eight_bits_are_the_nearest_and_the_even_of_two() {
        for (dtype, mantissa, bias, end) in EIGHTS {
            let check = |value: f32| {
                let code = to_bits(dtype, value);
                assert_eq!(code >> 7, value.to_bits() >> 31);
                // A linear search; the one after the last finite stands for all above.
                let magnitude = f64::from(value.abs()).min(defined(end, mantissa, bias));
                let distance = |code: u32| (defined(code, mantissa, bias) - magnitude).abs();
                let nearest = (0..=end)
                    .min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a % 2).cmp(&(b % 2))))
                    .expect("some code");
                assert_eq!(code & 0x7F, nearest, "{} {value:e}", dtype.name());
            };
            // Around every number and every tie, and all over the place.
            for code in 0..=end {
                let (here, next) = (defined(code, mantissa, bias), defined(code + 1, mantissa, bias));
                for value in [here as f32, ((here + next) / 2.0) as f32] {
                    for value in [value, value.next_up(), value.next_down()] {
                        check(value);
                        check(-value);
                    }
                }
            }
            (0..1 << 31).step_by(1 << 12).map(f32::from_bits).filter(|v| v.is_finite()).for_each(check);
            assert_eq!(to_bits(dtype, f32::INFINITY), end);
            assert_eq!(to_bits(dtype, f32::NEG_INFINITY), end | 0x80);
            assert_eq!(to_bits(dtype, f32::NAN) & 0x7F, 0x7F);
        }
    }
}
