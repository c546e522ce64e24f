//! Tensors that no model should have, and some do: each converts, is never larger
//! than its source, and no finite weight becomes infinite.

use upg::ops::convert::Target;

use crate::convert::convert_one;
use crate::support::{Random, Tensor};

fn bytes(dtype: &str, values: impl Iterator<Item = f32>) -> Vec<u8> {
    values
        .flat_map(|v| match dtype {
            "BF16" => half::bf16::from_f32(v).to_le_bytes().to_vec(),
            "F16" => half::f16::from_f32(v).to_le_bytes().to_vec(),
            _ => v.to_le_bytes().to_vec(),
        })
        .collect()
}

fn values(dtype: &str, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        "BF16" => bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect(),
        "F16" => bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
    }
}

type Kind = (&'static str, fn(&mut Random) -> f32);

const KINDS: &[Kind] = &[
    ("constant", |_| 0.05),
    ("two values", |r| if r.next() % 2 == 0 { 0.0 } else { 0.05 }),
    ("signs", |r| if r.next() % 2 == 0 { -0.05 } else { 0.05 }),
    ("ternary", |r| (r.next() % 3) as f32 * 0.05 - 0.05),
    ("mask", |r| if r.next() % 2 == 0 { 0.0 } else { f32::MIN }),
    ("sixteen values", |r| (r.next() % 16) as f32 * 0.0371 - 0.3),
    ("off centre", |r| 1.0 + 0.001 * r.gaussian()),
    ("wide", |r| (r.next() % 131_008) as f32 - 65_504.0),
    ("huge", |r| 1e38 * r.gaussian()),
    ("subnormal", |r| 1e-41 * r.gaussian()),
    ("minus zero", |_| -0.0),
    ("heavy tail", |r| 0.02 * r.gaussian() / (r.gaussian().abs() + 1e-6)),
    ("nothing but nan", |_| f32::NAN),
];

#[test]
fn odd_tensors_neither_fail_nor_grow_nor_overflow() {
    let n = 200 * 100;
    for dtype in ["BF16", "F16", "F32"] {
        for (name, draw) in KINDS {
            let mut random = Random(21);
            let source = bytes(dtype, (0..n).map(|_| draw(&mut random)));
            for bits in [1.0, 2.5, 3.2, 6.0] {
                let tensors: [Tensor; 1] = [("w".into(), dtype, vec![200, 100], source.clone())];
                let (report, files) = convert_one(&tensors, Target::Bits(bits));
                let tensor = &report.tensors[0];
                let what = format!("{dtype} {name} at {bits} bits");
                assert!(tensor.stored_bytes < tensor.source_bytes + 300, "{what}: {}", tensor.bits_per_weight);
                let served = &files[0].1[files[0].1.len() - source.len()..];
                let pairs = values(dtype, &source).into_iter().zip(values(dtype, served));
                for (before, after) in pairs {
                    assert_eq!(before.is_finite(), after.is_finite(), "{what}: {before} became {after}");
                }
                if let Some(snr) = tensor.snr_db {
                    assert!(snr >= 0.0, "{what}: {snr} dB");
                }
            }
        }
    }
}

#[test]
fn a_wild_weight_costs_the_others_nothing() {
    for dtype in ["BF16", "F32"] {
        let snr = |outlier: f32| {
            let mut random = Random(5);
            let mut source: Vec<f32> = (0..1 << 17).map(|_| 0.02 * random.gaussian()).collect();
            source[77] = outlier;
            let source = bytes(dtype, source.into_iter());
            let tensors: [Tensor; 1] = [("w".into(), dtype, vec![512, 256], source.clone())];
            let (_, files) = convert_one(&tensors, Target::Bits(4.0));
            let served = values(dtype, &files[0].1[files[0].1.len() - source.len()..]);
            let source = values(dtype, &source);
            let rest = source.iter().zip(&served).enumerate().filter(|(i, _)| *i != 77);
            let (signal, noise) = rest.fold((0.0, 0.0), |(s, n), (_, (a, b))| {
                (s + f64::from(*a).powi(2), n + (f64::from(*a) - f64::from(*b)).powi(2))
            });
            10.0 * (signal / noise).log10()
        };
        let calm = snr(0.02);
        for outlier in [1e5, -1e10, 1e30] {
            assert!(snr(outlier) > calm - 0.1, "{dtype} with {outlier}: {} against {calm} dB", snr(outlier));
        }
    }
}
