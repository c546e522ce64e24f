//! How fast blocks decode, beside copying the same bytes.
//!
//!     cargo bench --bench decode [-- WORD...]
//!
//! Only lines that have all the words are measured, such as `avx512`, `trellis` or
//! `1-thread`. Every setting takes turns with memcpy, a few blocks each, over more
//! blocks than fit the caches; medians, and the ratio to memcpy in the same run. Shared
//! machines are noisy: the ratio is the figure to quote.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use upg::codec::decode_block_on;
use upg::codec::encode::{Symbols, encode_block, trellis_entries};
use upg::codec::entropy::encode::EncodeTable;
use upg::codec::entropy::frequencies::Frequencies;
use upg::codec::isa::Isa;
use upg::codec::layout::BlockShape;
use upg::codec::manifold::Grid;
use upg::codec::params::{ESCAPE, PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::codec::raw::Raw;
use upg::codec::side::{Side, SideContent, contexts};
use upg::dtype::Dtype;

/// Output of all blocks together: beyond any cache.
const TOTAL: usize = 256 << 20;
/// Output of a block, about.
const BLOCK: usize = 1 << 20;
/// Blocks that a thread decodes, and then copies, in a turn.
const TURN: usize = 8;
/// A kernel that is slow is not measured for longer than this, but for ten turns.
const SECONDS: f64 = 1.0;

struct Setting {
    name: &'static str,
    params: SymbolParams,
    row_len: usize,
    elements: usize,
}

impl Setting {
    /// The block is about 1 MiB: whole rows.
    fn new(name: &'static str, dtype: Dtype, row_len: usize, map: SymbolMap, raw_bits: u8, classes: u8) -> Setting {
        let params = SymbolParams { dtype, lanes: 128, raw_bits, classes, row_classes: classes > 1, map };
        let params = params.validate().unwrap_or_else(|e| panic!("{name}: {}", e.0));
        let rows = BLOCK / (dtype.width().unwrap_or(1) * row_len);
        Setting { name, params, row_len, elements: rows * row_len }
    }

    fn bytes(&self) -> usize {
        self.elements * self.params.dtype.width().unwrap_or(1)
    }
}

fn settings() -> Vec<Setting> {
    use Dtype::{BF16, F8_E4M3, F16, F32};
    let plain = PrimeSparse {
        step: 0.01,
        grid: Grid::Uniform,
        trellis: None,
        row_steps: false,
        column_steps: false,
        centroids: false,
    };
    let trellis = PrimeSparse { trellis: Some(Trellis { log2_states: 3, h0: 0o13, h1: 0o4 }), ..plain };
    let more_states = PrimeSparse { trellis: Some(Trellis { log2_states: 6, h0: 0o103, h1: 0o24 }), ..plain };
    let sparse = |name, dtype, row_len, params, raw_bits, classes| {
        Setting::new(name, dtype, row_len, SymbolMap::PrimeSparse(params), raw_bits, classes)
    };
    let lossless = |name, dtype: Dtype| {
        let split = dtype.split().unwrap_or_else(|| unreachable!("{} splits", dtype.name()));
        let raw_bits = dtype.bits() as u8 - split.bits;
        Setting::new(name, dtype, 2048, SymbolMap::Lossless(split), raw_bits, 1)
    };
    vec![
        sparse("scalar, plain order", BF16, 128, plain, 0, 1),
        sparse("scalar", BF16, 2048, plain, 0, 1),
        sparse("scalar, row steps", BF16, 5120, PrimeSparse { row_steps: true, ..plain }, 0, 1),
        sparse("trellis, plain order", BF16, 128, trellis, 0, 1),
        sparse("trellis", BF16, 2048, trellis, 0, 1),
        sparse("trellis, matrix", BF16, 5120, trellis, 0, 1),
        sparse("trellis, 64 states", BF16, 2048, more_states, 0, 1),
        sparse("trellis, row steps", BF16, 5120, PrimeSparse { row_steps: true, ..trellis }, 0, 1),
        sparse("trellis, 4 classes", BF16, 5120, trellis, 0, 4),
        sparse("trellis, row steps, 4 classes", BF16, 5120, PrimeSparse { row_steps: true, ..trellis }, 0, 4),
        sparse("trellis, column steps", BF16, 5120, PrimeSparse { column_steps: true, ..trellis }, 0, 1),
        sparse("trellis, 2 raw bits", BF16, 5120, trellis, 2, 1),
        sparse("trellis, 4 raw bits", BF16, 5120, trellis, 4, 1),
        sparse("trellis, 4 raw bits, row steps", BF16, 5120, PrimeSparse { row_steps: true, ..trellis }, 4, 1),
        sparse("trellis F32", F32, 2048, trellis, 0, 1),
        sparse("trellis F32, 4 raw bits", F32, 2048, trellis, 4, 1),
        lossless("lossless BF16", BF16),
        lossless("lossless F16", F16),
        lossless("lossless F32", F32),
        lossless("lossless F8", F8_E4M3),
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
    let lossless = params.prime_sparse().is_none();
    let spread = if lossless { 1.5 } else { 2.2 };
    let counts = std::array::from_fn(|entry| {
        let distance = (entry % alphabet) as f64 - alphabet as f64 / 2.0;
        (1e9 * (-0.5 * (distance / spread).powi(2)).exp()) as u64
    });
    let frequencies = vec![Frequencies::from_counts(&counts, contexts); usize::from(params.classes)];
    let field_values = std::array::from_fn(|symbol| symbol as u16);
    let column_steps = params.prime_sparse().is_some_and(|p| p.column_steps);
    let side = SideContent {
        frequencies: &frequencies,
        field_values: lossless.then_some(&field_values),
        centroids: None,
        column_steps: &vec![126; if column_steps { setting.row_len } else { 0 }],
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
    let blocks = TOTAL / setting.bytes();
    let payloads: Vec<_> = (0..blocks)
        .map(|_| {
            let symbols: Vec<u8> =
                (0..setting.elements).map(|_| quantiles[(random() * quantiles.len() as f64) as usize]).collect();
            let raw: Vec<u16> = match params.raw_bits {
                0 => Vec::new(),
                bits => symbols
                    .iter()
                    .map(
                        |&symbol| {
                            if symbol == ESCAPE { 0 } else { (random() * f64::from(1u32 << bits.min(16))) as u16 }
                        },
                    )
                    .collect(),
            };
            let raw = if params.raw_bits == 0 { Raw::None } else { Raw::U16(&raw) };
            let block = Symbols {
                symbols: &trellis_entries(params, &shape, &symbols, raw),
                row_steps: &(0..shape.rows())
                    .filter(|_| params.row_steps())
                    .map(|r| 120 + (r % 16) as u8)
                    .collect::<Vec<_>>(),
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

/// Seconds per turn of all threads: decoding and copying.
fn measure(setting: &Setting, prepared: &Prepared, isa: Isa, threads: usize, source: &[u8]) -> (f64, f64) {
    let barrier = Barrier::new(threads);
    let bytes = setting.bytes();
    let turns = prepared.payloads.len() / (TURN * threads);
    let begin = Instant::now();
    // Every thread has its own blocks; a turn lasts until the last one is done.
    let run = |thread: usize| {
        let mut out = vec![0u8; bytes];
        let mut seconds = Vec::new();
        for turn in 0..3 * turns {
            let first = (turn % turns * threads + thread) * TURN;
            barrier.wait();
            let start = Instant::now();
            for payload in &prepared.payloads[first..first + TURN] {
                let done = decode_block_on(isa, &setting.params, &prepared.side, setting.row_len, payload, &mut out);
                assert_eq!(done, Ok(()));
            }
            let decode = start.elapsed().as_secs_f64();
            barrier.wait();
            let start = Instant::now();
            for source in source[first * bytes..(first + TURN) * bytes].chunks_exact(bytes) {
                black_box(&mut out).copy_from_slice(black_box(source));
            }
            seconds.push((decode, start.elapsed().as_secs_f64()));
            if threads == 1 && turn >= 9 && begin.elapsed().as_secs_f64() > SECONDS {
                break;
            }
        }
        seconds
    };
    let of_threads: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mut all = vec![run(0)];
        all.extend(others.into_iter().map(|other| other.join().expect("a measuring thread")));
        all
    });
    let slowest = |of: fn(&(f64, f64)) -> f64| {
        let turns = 0..of_threads[0].len();
        median(turns.map(|turn| of_threads.iter().map(|thread| of(&thread[turn])).fold(0.0, f64::max)).collect())
    };
    (slowest(|turn| turn.0), slowest(|turn| turn.1))
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!("{:<9} {:<9} {:<30} {:>6} {:>6} {:>7} {:>6}", "ISA", "", "setting", "bits", "GB/s", "memcpy", "ratio");
    for setting in settings() {
        let lines: Vec<_> = Isa::available()
            .into_iter()
            .flat_map(|isa| [1, 2].map(|threads| (isa, threads)))
            .map(|(isa, threads)| (isa, threads, format!("{:<9} {threads}-thread  {:<30}", isa.name(), setting.name)))
            .filter(|(_, _, line)| words.iter().all(|word| line.contains(word.as_str())))
            .collect();
        if lines.is_empty() {
            continue;
        }
        let prepared = prepare(&setting);
        let source = vec![1u8; setting.bytes() * prepared.payloads.len()];
        for (isa, threads, line) in lines {
            let (decode, copy) = measure(&setting, &prepared, isa, threads, &source);
            let rate = |seconds: f64| (threads * TURN * setting.bytes()) as f64 / seconds / 1e9;
            let (bits, ratio) = (prepared.bits, copy / decode);
            println!("{line} {bits:>6.3} {:>6.2} {:>7.2} {ratio:>6.3}", rate(decode), rate(copy));
        }
    }
}
