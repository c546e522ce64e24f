//! How fast blocks decode, beside copying the same bytes.
//!
//!     cargo bench --bench decode
//!
//! Every setting takes turns with memcpy, block by block, over more blocks than
//! fit the caches; medians, and the ratio to memcpy in the same run. Shared
//! machines are noisy: the ratio is the figure to quote.

use std::hint::black_box;
use std::time::Instant;

use upg::codec::decode_block_on;
use upg::codec::encode::{Symbols, encode_block, trellis_entries};
use upg::codec::entropy::encode::EncodeTable;
use upg::codec::entropy::frequencies::Frequencies;
use upg::codec::kernel::Isa;
use upg::codec::layout::BlockShape;
use upg::codec::manifold::Grid;
use upg::codec::params::{ESCAPE, PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::codec::raw::Raw;
use upg::codec::side::{Side, SideContent, contexts};
use upg::dtype::Dtype;

/// Output of all blocks together: beyond any cache.
const TOTAL: usize = 256 << 20;
const PASSES: usize = 3;

struct Setting {
    name: &'static str,
    params: SymbolParams,
    row_len: usize,
    elements: usize,
}

fn settings() -> Vec<Setting> {
    let plain = PrimeSparse {
        step: 0.01,
        grid: Grid::Prime,
        trellis: None,
        row_steps: false,
        column_steps: false,
        centroids: false,
    };
    let trellis = Some(Trellis { log2_states: 3, h0: 0o13, h1: 0o4 });
    let bf16 = |map, raw_bits, classes| SymbolParams {
        dtype: Dtype::BF16,
        lanes: 128,
        raw_bits,
        classes,
        row_classes: classes > 1,
        map,
    };
    let lossy = |p| bf16(SymbolMap::PrimeSparse(p), 0, 1);
    let rows = PrimeSparse { row_steps: true, ..plain };
    let split = Dtype::BF16.split().unwrap_or_else(|| unreachable!("BF16 splits"));
    // 1 MiB: in the plain order, as the converter lays it, or as rows of a matrix.
    let plain_order = |name, params| Setting { name, params, row_len: 128, elements: 1 << 19 };
    let linear = |name, params| Setting { name, params, row_len: 2048, elements: 1 << 19 };
    let matrix = |name, params| Setting { name, params, row_len: 5120, elements: 102 * 5120 };
    vec![
        plain_order("prime-sparse, plain order", lossy(plain)),
        linear("prime-sparse", lossy(plain)),
        linear("prime-sparse, trellis", lossy(PrimeSparse { trellis, ..plain })),
        matrix("row steps", lossy(rows)),
        matrix("row steps, 4 classes", bf16(SymbolMap::PrimeSparse(rows), 0, 4)),
        matrix("row steps, 4 classes, trellis", bf16(SymbolMap::PrimeSparse(PrimeSparse { trellis, ..rows }), 0, 4)),
        linear("lossless BF16", bf16(SymbolMap::Lossless(split), 8, 1)),
    ]
}

struct Prepared {
    side: Side,
    payloads: Vec<Vec<u8>>,
    bits: f64,
}

/// Random symbols of about 3.2 bits (2.6 for lossless, as exponents have).
fn prepare(setting: &Setting) -> Prepared {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let params = &setting.params;
    let contexts = contexts(params);
    let alphabet = 64 / contexts;
    let spread = if params.prime_sparse().is_none() { 1.5 } else { 2.2 };
    let counts = std::array::from_fn(|entry| {
        let distance = (entry % alphabet) as f64 - alphabet as f64 / 2.0;
        (1e9 * (-0.5 * (distance / spread).powi(2)).exp()) as u64
    });
    let frequencies = vec![Frequencies::from_counts(&counts, contexts); usize::from(params.classes)];
    let field_values = std::array::from_fn(|symbol| symbol as u16);
    let side = SideContent {
        frequencies: &frequencies,
        field_values: params.prime_sparse().is_none().then_some(&field_values),
        centroids: None,
        column_steps: &[],
    };
    let side = Side::parse(params, setting.row_len, &side.to_bytes()).unwrap_or_else(|e| panic!("{}", e.0));
    let tables: Vec<_> = frequencies.iter().map(|f| EncodeTable::new(f, contexts)).collect();
    // A symbol per quantile of the distribution, drawn at random.
    let total: u64 = counts[..alphabet].iter().sum();
    let mut quantiles = Vec::new();
    for (symbol, &count) in counts[..alphabet].iter().enumerate() {
        quantiles.resize(quantiles.len() + (count * 65536 / total) as usize, symbol as u8);
    }
    let shape = BlockShape { elements: setting.elements, row_len: setting.row_len, lanes: params.lanes };
    let blocks = TOTAL / (2 * setting.elements);
    let payloads: Vec<_> = (0..blocks)
        .map(|_| {
            let symbols: Vec<u8> =
                (0..setting.elements).map(|_| quantiles[(random() * quantiles.len() as f64) as usize]).collect();
            let raw: Vec<u8> =
                symbols.iter().map(|&symbol| if symbol == ESCAPE { 0 } else { (random() * 256.0) as u8 }).collect();
            let raw = if params.raw_bits == 0 { Raw::None } else { Raw::U8(&raw) };
            let block = Symbols {
                symbols: &trellis_entries(params, &shape, &symbols, raw),
                row_steps: &vec![128; if params.row_steps() { shape.rows() } else { 0 }],
                row_classes: &(0..shape.rows())
                    .filter(|_| params.row_classes)
                    .map(|r| (r % 4) as u8)
                    .collect::<Vec<_>>(),
                ..Default::default()
            };
            encode_block(params, &shape, &tables, &block, raw).unwrap_or_else(|e| panic!("{}", e.0))
        })
        .collect();
    let bits = 8.0 * payloads.iter().map(Vec::len).sum::<usize>() as f64 / (blocks * setting.elements) as f64;
    Prepared { side, payloads, bits }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    println!("{:<10} {:<38} {:>6} {:>7} {:>9} {:>7}", "ISA", "setting", "bits", "GB/s", "memcpy", "ratio");
    for setting in settings() {
        let prepared = prepare(&setting);
        let bytes = 2 * setting.elements;
        let source = vec![1u8; bytes * prepared.payloads.len()];
        let mut out = vec![0u8; bytes];
        for isa in Isa::available() {
            let (mut decode, mut copy) = (Vec::new(), Vec::new());
            for _ in 0..PASSES {
                for (payload, source) in prepared.payloads.iter().zip(source.chunks_exact(bytes)) {
                    let start = Instant::now();
                    let done =
                        decode_block_on(isa, &setting.params, &prepared.side, setting.row_len, payload, &mut out);
                    decode.push(start.elapsed().as_secs_f64());
                    assert_eq!(done, Ok(()));
                    let start = Instant::now();
                    black_box(&mut out).copy_from_slice(black_box(source));
                    copy.push(start.elapsed().as_secs_f64());
                }
            }
            let (decode, copy) = (median(decode), median(copy));
            let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
            println!(
                "{:<10} {:<38} {:>6.3} {:>7.2} {:>9.2} {:>7.3}",
                isa.name(),
                setting.name,
                prepared.bits,
                rate(decode),
                rate(copy),
                copy / decode,
            );
        }
    }
}
