use super::*;
use crate::codec::histogram::Histogram;
use crate::dtype::Dtype;
use half::bf16;

/// Standard normal values by the Box-Muller method from a linear congruential
/// generator: the same on every machine.
fn gaussian(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..n)
        .map(|_| ((-2.0 * uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * uniform()).cos()) as f32 * 0.02)
        .map(|v| bf16::from_f32(v).to_f32())
        .collect()
}

fn histogram(values: &[f32]) -> ValueSums {
    let mut histogram = Histogram::new(Dtype::BF16);
    let bytes: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    histogram.add(&bytes);
    histogram.values()
}

fn snr(values: &ValueSums, quantiser: &Quantiser) -> f64 {
    10.0 * (values.total().squares / quantiser.outcome.noise).log10()
}

#[test]
fn gaussian_reaches_what_entropy_coded_scalar_quantisation_can() {
    let values = gaussian(1 << 20);
    let sums = histogram(&values);
    // Measured elsewhere: 8.10, 10.51, 13.52, 17.73, 22.55 dB with exact values.
    // The prime grid's cost against it: 0.00, 0.04, 0.08, 0.09, 0.22 dB.
    for (bits, least, prime_cost) in
        [(1.6, 8.0, 0.02), (2.0, 10.45, 0.06), (2.5, 13.45, 0.1), (3.2, 17.68, 0.11), (4.0, 22.5, 0.24)]
    {
        let budget = bits * values.len() as f64;
        let uniform = Quantiser::search(&sums, Grid::Uniform, budget, Dtype::BF16).expect("a quantiser");
        assert!(uniform.outcome.bits <= budget && uniform.outcome.bits > 0.999 * budget, "{bits} bits");
        assert!(snr(&sums, &uniform) >= least, "{bits} bits: {} dB", snr(&sums, &uniform));
        let prime = Quantiser::search(&sums, Grid::Prime, budget, Dtype::BF16).expect("a quantiser");
        assert!(
            snr(&sums, &prime) >= snr(&sums, &uniform) - prime_cost,
            "{bits} bits, prime: {} dB",
            snr(&sums, &prime)
        );
    }
}

#[test]
fn high_rates_need_raw_bits() {
    let values = gaussian(1 << 20);
    let sums = histogram(&values);
    for (bits, least) in [(5.0, 28.5), (6.0, 34.5), (8.0, 46.5)] {
        let budget = bits * values.len() as f64;
        let quantiser = Quantiser::search(&sums, Grid::Uniform, budget, Dtype::BF16).expect("a quantiser");
        assert!(snr(&sums, &quantiser) >= least, "{bits} bits: {} dB", snr(&sums, &quantiser));
        assert!(quantiser.raw_bits > 0 || bits < 6.0);
    }
}

#[test]
fn the_outcome_is_what_happens() {
    let mut values = gaussian(100_000);
    values.extend([1.5, -2.0, f32::INFINITY, f32::NAN]);
    let sums = histogram(&values);
    for (grid, bits) in [(Grid::Prime, 3.2), (Grid::Uniform, 2.0), (Grid::Uniform, 6.5)] {
        let q = Quantiser::search(&sums, grid, bits * values.len() as f64, Dtype::BF16).expect("a quantiser");
        let levels = q.levels();
        let mut counts = [0; ENTRIES];
        let mut noise = 0.0;
        for &v in &values {
            let (symbol, raw) = q.symbol(v);
            counts[usize::from(symbol)] += 1;
            let Some(k) = q.index(v) else { continue };
            assert_eq!(k, ((i32::from(symbol) - CENTRE) << q.raw_bits) + raw as i32);
            noise += (f64::from(v) - f64::from(Quantiser::value(&levels, q.step, k))).powi(2);
        }
        assert_eq!(counts, q.outcome.counts);
        assert!((noise / q.outcome.noise - 1.0).abs() < 1e-6);
        assert!(counts[0] >= 4, "outliers and what is not a number are escapes");
    }
}

#[test]
fn rate_distortion_makes_more_zeros_than_rounding() {
    let values = gaussian(1 << 18);
    let sums = histogram(&values);
    let q = Quantiser::search(&sums, Grid::Uniform, 1.6 * values.len() as f64, Dtype::BF16).expect("a quantiser");
    let rounded = values.iter().filter(|v| v.abs() < q.step / 2.0).count() as u64;
    assert_eq!(q.raw_bits, 0, "else a symbol is more than zero");
    let zeros = q.outcome.counts[CENTRE as usize];
    assert!(zeros > rounded + rounded / 50, "{zeros} against {rounded}");
}

#[test]
fn nothing_to_quantise_is_none() {
    assert!(Quantiser::search(&histogram(&[0.0; 100]), Grid::Uniform, 320.0, Dtype::BF16).is_none());
    assert!(Quantiser::search(&histogram(&[f32::NAN; 100]), Grid::Uniform, 320.0, Dtype::BF16).is_none());
}

#[test]
fn one_wild_weight_does_not_decide_the_step() {
    let mut values = gaussian(100_000);
    let calm = Quantiser::search(&histogram(&values), Grid::Uniform, 4.0 * 1e5, Dtype::BF16).expect("a quantiser");
    values[7] = 1e30;
    let wild = Quantiser::search(&histogram(&values), Grid::Uniform, 4.0 * 1e5, Dtype::BF16).expect("a quantiser");
    assert!((wild.outcome.noise / calm.outcome.noise - 1.0).abs() < 0.01);
    assert_eq!(wild.index(1e30), None);
}

#[test]
fn one_value_is_a_quantiser_or_none_but_no_panic() {
    for value in [0.03125, -1.5, 1e-38, 3e38] {
        for grid in [Grid::Uniform, Grid::Prime] {
            Quantiser::search(&histogram(&[value; 5000]), grid, 3.2 * 5000.0, Dtype::BF16);
        }
    }
}

#[test]
fn no_finite_weight_decodes_to_infinity() {
    for value in [3.39e38f32, -3.39e38] {
        let mut values = vec![0.0f32; 5000];
        values[..2000].fill(bf16::from_f32(value).to_f32());
        for bits in [1.0, 3.2, 6.0] {
            let Some(q) = Quantiser::search(&histogram(&values), Grid::Uniform, bits * 5000.0, Dtype::BF16) else {
                continue;
            };
            let index = q.index(values[0]);
            let decoded = index.map_or(values[0], |k| Quantiser::value(&q.levels(), q.step, k));
            assert!(bf16::from_f32(decoded).is_finite());
        }
    }
    let q = Quantiser::search(&histogram(&gaussian(5000)), Grid::Uniform, 16000.0, Dtype::BF16).expect("a quantiser");
    assert_eq!((q.index(f32::INFINITY), q.index(f32::NEG_INFINITY), q.index(f32::NAN)), (None, None, None));
}

#[test]
fn eight_bits_are_quantised_and_never_overflow() {
    for dtype in [Dtype::F8_E4M3, Dtype::F8_E5M2] {
        let largest = float::largest(dtype);
        // The outermost weights are at the end of the range.
        let codes: Vec<u8> = gaussian(100_000)
            .iter()
            .map(|v| float::to_bits(dtype, (v * 10.0 * largest).clamp(-largest, largest)) as u8)
            .collect();
        let mut histogram = Histogram::new(dtype);
        histogram.add(&codes);
        let sums = histogram.values();
        assert_eq!(sums.others, 0);
        for (bits, least) in [(2.0, 10.0), (3.2, 17.0), (4.5, 23.0)] {
            let q = Quantiser::search(&sums, Grid::Uniform, bits * codes.len() as f64, dtype).expect("a quantiser");
            assert!(snr(&sums, &q) >= least, "{} {bits} bits: {} dB", dtype.name(), snr(&sums, &q));
            let levels = q.levels();
            for code in codes.iter().map(|&code| u32::from(code)) {
                let Some(index) = q.index(float::from_bits(dtype, code)) else { continue };
                let decoded = float::to_bits(dtype, Quantiser::value(&levels, q.step, index));
                assert!(float::from_bits(dtype, decoded).is_finite());
            }
        }
    }
}
