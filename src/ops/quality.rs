//! What quantisation did to a tensor.

use crate::codec::float;
use crate::dtype::Dtype;
use crate::format::snr_db;

/// Sums that become SNR and sparsity, over the elements that are finite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    /// Sum of squares.
    pub signal: f64,
    /// Sum of squared errors.
    pub noise: f64,
    /// Elements that are zero once decoded.
    pub zeros: u64,
}

/// Sums kept side by side, so that the compiler can use vectors, and in an order that
/// does not depend on the machine.
const LANES: usize = 16;

impl Quality {
    pub fn add(&mut self, other: &Quality) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.zeros += other.zeros;
    }

    /// Signal-to-noise ratio in dB; None without noise.
    pub fn snr_db(&self) -> Option<f64> {
        snr_db(self.signal, self.noise)
    }

    /// Compares a block's elements with what it decodes to.
    pub fn measure(dtype: Dtype, source: &[u8], decoded: &[u8]) -> Quality {
        match dtype {
            Dtype::BF16 => {
                measure(source, decoded, |b: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))
            }
            Dtype::F32 => measure(source, decoded, f32::from_le_bytes),
            _ if dtype.bits() == 16 => {
                measure(source, decoded, |b: [u8; 2]| float::from_bits(dtype, u32::from(u16::from_le_bytes(b))))
            }
            _ => measure(source, decoded, |b: [u8; 1]| float::from_bits(dtype, u32::from(b[0]))),
        }
    }
}

/// Elements of a block that are finite in the source or once decoded, but not both.
pub fn broken(dtype: Dtype, source: &[u8], decoded: &[u8]) -> u64 {
    match dtype {
        Dtype::F32 => count_broken(source, decoded, |b| u32::from_le_bytes(b) & 0x7F80_0000 < 0x7F80_0000),
        Dtype::BF16 => count_broken(source, decoded, |b| u16::from_le_bytes(b) & 0x7F80 < 0x7F80),
        Dtype::F16 => count_broken(source, decoded, |b| u16::from_le_bytes(b) & 0x7C00 < 0x7C00),
        _ => count_broken(source, decoded, |[b]| float::from_bits(dtype, u32::from(b)).is_finite()),
    }
}

fn count_broken<const WIDTH: usize>(source: &[u8], decoded: &[u8], finite: impl Fn([u8; WIDTH]) -> bool) -> u64 {
    let pairs = source.as_chunks().0.iter().zip(decoded.as_chunks().0);
    pairs.map(|(&source, &decoded)| u64::from(finite(source) != finite(decoded))).sum()
}

fn measure<const WIDTH: usize>(source: &[u8], decoded: &[u8], value: impl Fn([u8; WIDTH]) -> f32) -> Quality {
    let (mut signal, mut noise, mut zeros) = ([0f64; LANES], [0f64; LANES], [0u32; LANES]);
    let mut add = |i: usize, source: [u8; WIDTH], decoded: [u8; WIDTH]| {
        let (v, d) = (value(source), value(decoded));
        let finite = v.is_finite();
        let (v, d) = (f64::from(if finite { v } else { 0.0 }), f64::from(if finite { d } else { 0.0 }));
        signal[i] += v * v;
        noise[i] += (v - d) * (v - d);
        zeros[i] += u32::from(finite & (d == 0.0));
    };
    let (sources, decodeds) = (source.as_chunks::<WIDTH>().0, decoded.as_chunks::<WIDTH>().0);
    let (sources, rest) = sources.as_chunks::<LANES>();
    let (decodeds, decoded_rest) = decodeds.as_chunks::<LANES>();
    for (source, decoded) in sources.iter().zip(decodeds) {
        for i in 0..LANES {
            add(i, source[i], decoded[i]);
        }
    }
    for (i, (source, decoded)) in rest.iter().zip(decoded_rest).enumerate() {
        add(i, *source, *decoded);
    }
    Quality { signal: signal.iter().sum(), noise: noise.iter().sum(), zeros: zeros.iter().map(|&z| u64::from(z)).sum() }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn an_infinity_for_a_number_is_broken() {
        let bytes = |v: [f32; 3]| v.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect::<Vec<u8>>();
        let source = bytes([1.0, f32::INFINITY, f32::NAN]);
        assert_eq!(broken(Dtype::BF16, &source, &bytes([2.0, f32::NEG_INFINITY, f32::INFINITY])), 0);
        assert_eq!(broken(Dtype::BF16, &source, &bytes([f32::NAN, 3.0, f32::NAN])), 2);
    }

    #[test]
    fn every_finite_element_counts_once() {
        let source: Vec<f32> = (0..37).map(|i| i as f32 - 10.0).chain([f32::NAN, f32::INFINITY]).collect();
        let decoded: Vec<f32> = (0..39).map(|i| if i % 3 == 0 { 0.0 } else { i as f32 - 9.0 }).collect();
        let finite = source.iter().zip(&decoded).take(37);
        let signal: f64 = finite.clone().map(|(s, _)| f64::from(s * s)).sum();
        let noise: f64 = finite.map(|(s, d)| f64::from((s - d) * (s - d))).sum();
        // Every third of 37, from the first on.
        let expected = Quality { signal, noise, zeros: 13 };
        let f32s = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let bf16s = |v: &[f32]| v.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect::<Vec<u8>>();
        let f16s = |v: &[f32]| v.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(Quality::measure(Dtype::F32, &f32s(&source), &f32s(&decoded)), expected);
        assert_eq!(Quality::measure(Dtype::BF16, &bf16s(&source), &bf16s(&decoded)), expected);
        assert_eq!(Quality::measure(Dtype::F16, &f16s(&source), &f16s(&decoded)), expected);
    }
}
