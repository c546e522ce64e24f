//! How fast the encoder finds its paths, beside copying the same source.

mod timing;

use std::hint::black_box;

use upg::codec::isa::Isa;
use upg::codec::layout::BlockShape;
use upg::codec::params::{ENTRIES, Trellis};
use upg::codec::trellis::{Choice, Metrics, Scratch, Search, Source, ungerboeck};

use timing::time;

const SHAPE: BlockShape = BlockShape { elements: 1 << 19, row_len: 4096, lanes: 128 };
/// A setting is repeated for about so long, and at least [`LEAST`] times.
const SECONDS: f64 = 0.15;
const LEAST: usize = 5;

/// Numbers from about a normal distribution of deviation 1.
fn normal(count: usize) -> Vec<f32> {
    let mut x = 1u64;
    let mut uniform = move || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum()).collect()
}

fn metrics(trellis: Trellis, raw_bits: u8) -> Metrics {
    let bits = std::array::from_fn(|entry: usize| 1.5 + 0.7 * (entry as f64 % 32.0 - 16.0).abs());
    let step = 0.25 / f32::from(1u16 << raw_bits);
    // Centroids a little nearer to zero than the levels.
    let values: [f64; ENTRIES] = std::array::from_fn(|entry| {
        let level = upg::codec::manifold::trellis_level(entry / 32, entry as i32 % 32 - 16);
        0.98 * f64::from(level)
    });
    Metrics::new(trellis, step, raw_bits, 0.3, &[bits], (raw_bits == 0).then_some(&values))
}

fn main() {
    // Arguments choose lines: each must occur in one.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let values = normal(SHAPE.elements);
    let bf16: Vec<u8> = values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
    let f32_bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let sources = [("BF16", Source::Bf16(&bf16), &bf16), ("F32", Source::F32(&values), &f32_bytes)];
    println!("{:30} {:>10} {:>10} {:>12} {:>12}", "", "ns/weight", "ns/weight", "Mweights/s", "ns/weight");
    println!(
        "{:<9} {:>6} {:>6} {:>6} {:>10} {:>10} {:>12} {:>12}",
        "ISA", "states", "raw", "type", "least", "median", "median", "memcpy"
    );
    for isa in Isa::available() {
        for log2_states in [3, 5, 8] {
            for raw_bits in [0, 2] {
                for (name, source, bytes) in &sources {
                    let label = format!("{:<9} {:>6} {raw_bits:>6} {name:>6}", isa.name(), 1 << log2_states);
                    if !wanted.iter().all(|w| label.split_whitespace().any(|word| word == w)) {
                        continue;
                    }
                    let metrics = metrics(ungerboeck(log2_states).expect("a code"), raw_bits);
                    let search = Search {
                        shape: SHAPE,
                        source: *source,
                        metrics: &metrics,
                        row_scales: &[],
                        column_scales: &[],
                        row_classes: &[],
                    };
                    let (mut scratch, mut choice) = (Scratch::default(), Choice::default());
                    search.run(isa, &mut scratch, &mut choice);
                    let searching = time(LEAST, SECONDS, || search.run(isa, &mut scratch, black_box(&mut choice)));
                    let mut copy = vec![0; bytes.len()];
                    let copying = time(LEAST, SECONDS, || black_box(&mut copy).copy_from_slice(black_box(bytes)));
                    let [least, median] = searching.map(|seconds| seconds * 1e9 / SHAPE.elements as f64);
                    let copying = copying[1] * 1e9 / SHAPE.elements as f64;
                    println!("{label} {least:>10.3} {median:>10.3} {:>12.1} {copying:>12.3}", 1e3 / median);
                }
            }
        }
    }
}
