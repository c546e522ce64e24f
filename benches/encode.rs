//! Encoding speed on one core: `cargo bench --bench encode`.
//!
//! The entropy coder, and whole blocks with all that goes around it, beside a copy of
//! the elements. Of the entropy coder every version that the machine can run does.

mod timing;

use std::hint::black_box;

use upg::codec::encode::{Symbols, encode_block_on};
use upg::codec::entropy::encode::EncodeTable;
use upg::codec::entropy::frequencies::Frequencies;
use upg::codec::histogram::Histogram;
use upg::codec::isa::Isa;
use upg::codec::layout::BlockShape;
use upg::codec::lossless;
use upg::codec::manifold::Grid;
use upg::codec::params::{PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::codec::raw::Raw;
use upg::dtype::Dtype;

use timing::time;

const ELEMENTS: usize = 1 << 19;
const PASSES: usize = 60;

fn random() -> impl FnMut() -> f64 {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

fn report(isa: &str, setting: &str, elements: usize, bits: f64, [best, median]: [f64; 2]) {
    let ns = |seconds: f64| 1e9 * seconds / elements as f64;
    println!("{isa:<10} {setting:<34} {bits:>7.3} {:>10.3} {:>9.3} {:>9.0}", ns(median), ns(best), 1e3 / ns(median));
}

fn main() {
    println!("{:<10} {:<34} {:>7} {:>10} {:>9} {:>9}", "ISA", "setting", "bits", "median ns", "best ns", "M/s");
    let elements = vec![1u16; ELEMENTS];
    let mut copy = vec![0u16; ELEMENTS];
    let copied = time(PASSES, 0.0, || black_box(&mut copy).copy_from_slice(black_box(&elements)));
    report("", "memcpy, 16 bits per element", ELEMENTS, 16.0, copied);
    prime_sparse();
    lossless_blocks();
}

/// Gaussian weights. The best encoder runs, as the converter calls it.
fn lossless_blocks() {
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::F8_E4M3] {
        let width = dtype.width_in_array();
        let mut random = random();
        let bytes: Vec<u8> = (0..ELEMENTS)
            .flat_map(|_| {
                let weight = 0.02 * (-2.0 * random().ln()).sqrt() * (std::f64::consts::TAU * random()).cos();
                let bits = match dtype {
                    Dtype::BF16 => u32::from(half::bf16::from_f64(weight).to_bits()),
                    Dtype::F16 => u32::from(half::f16::from_f64(weight).to_bits()),
                    Dtype::F32 => (weight as f32).to_bits(),
                    // The upper half of an F16 is an E5M2, which will do.
                    _ => u32::from(half::f16::from_f64(weight).to_bits() >> 8),
                };
                bits.to_le_bytes().into_iter().take(width)
            })
            .collect();
        let mut histogram = Histogram::new(dtype);
        let counted = time(PASSES, 0.0, || histogram.add(black_box(&bytes)));
        report("", &format!("histogram of {}", dtype.name()), ELEMENTS, 8.0 * width as f64, counted);
        let equal = bytes[..width].repeat(ELEMENTS);
        let counted = time(PASSES, 0.0, || Histogram::new(dtype).add(black_box(&equal)));
        report("", "the same, all elements equal", ELEMENTS, 8.0 * width as f64, counted);
        let choice = lossless::choose(dtype, &histogram).unwrap_or_else(|| panic!("no split"));
        let code = &choice.code;
        let table = EncodeTable::new(&Frequencies::from_counts(&code.counts, 1), 1);
        let raw_bits = choice.raw_bits(dtype);
        let map = SymbolMap::Lossless(choice.split);
        let params = SymbolParams { dtype, lanes: 128, raw_bits, classes: 1, row_classes: false, map };
        let encode = || lossless::encode(&params, 2048, code, &table, &bytes).unwrap_or_else(|e| panic!("{}", e.0));
        let bits = 8.0 * encode().len() as f64 / ELEMENTS as f64;
        let timed = time(PASSES, 0.0, || drop(black_box(encode())));
        report(Isa::chosen().name(), &format!("lossless {}", dtype.name()), ELEMENTS, bits, timed);
    }
}

/// Gaussian indices of about 3.2 bits; with a trellis, the quantisers at random.
fn prime_sparse() {
    let plain = PrimeSparse {
        step: 1.0,
        grid: Grid::Uniform,
        trellis: None,
        row_steps: false,
        column_steps: false,
        centroids: false,
    };
    let trellis = Some(Trellis { log2_states: 3, h0: 0o13, h1: 0o4 });
    let settings = [
        ("one context, 128 lanes", None, 128, 1, 0),
        ("trellis, 128 lanes", trellis, 128, 1, 0),
        ("trellis, 64 lanes", trellis, 64, 1, 0),
        ("trellis, 128 lanes, 4 classes", trellis, 128, 4, 0),
        ("trellis, 128 lanes, 3 raw bits", trellis, 128, 1, 3),
        ("trellis, 128 lanes, 10 raw bits", trellis, 128, 1, 10),
    ];
    for (name, trellis, lanes, classes, raw_bits) in settings {
        let map = SymbolMap::PrimeSparse(PrimeSparse { trellis, ..plain });
        let params = SymbolParams { dtype: Dtype::BF16, lanes, raw_bits, classes, row_classes: classes > 1, map };
        let shape = BlockShape { elements: ELEMENTS, row_len: 16 * lanes, lanes };
        let contexts = if trellis.is_some() { 2 } else { 1 };
        let alphabet = 64 / contexts;
        let mut random = random();
        let mut counts = [1u64; 64];
        let entries: Vec<u8> = (0..ELEMENTS)
            .map(|_| {
                let gaussian = (-2.0 * random().ln()).sqrt() * (std::f64::consts::TAU * random()).cos();
                let symbol = (alphabet as f64 / 2.0 + gaussian * 2.2).round().clamp(1.0, alphabet as f64 - 1.0);
                let entry = symbol as usize + if random() < 0.5 { 0 } else { 64 - alphabet };
                counts[entry] += 1;
                entry as u8
            })
            .collect();
        let raw: Vec<u16> = (0..ELEMENTS).map(|_| (random() * f64::from(1 << raw_bits)) as u16).collect();
        let frequencies = Frequencies::from_counts(&counts, contexts);
        let tables: Vec<_> = (0..classes).map(|_| EncodeTable::new(&frequencies, contexts)).collect();
        let row_classes: Vec<u8> = (0..shape.rows()).filter(|_| classes > 1).map(|row| row as u8 % classes).collect();
        let block = Symbols { symbols: &entries, row_classes: &row_classes, ..Default::default() };
        let raw = if raw_bits == 0 { Raw::None } else { Raw::U16(&raw) };
        for isa in Isa::available() {
            let encode =
                || encode_block_on(isa, &params, &shape, &tables, &block, raw).unwrap_or_else(|e| panic!("{}", e.0));
            let bits = 8.0 * encode().len() as f64 / ELEMENTS as f64;
            report(isa.name(), name, ELEMENTS, bits, time(PASSES, 0.0, || drop(black_box(encode()))));
        }
    }
}
