//! The quantiser's search over any bits as weights: every instruction set chooses the
//! same path, a decoder can follow it, and what was finite stays finite.

use half::bf16;
use upg::codec::decode_block_on;
use upg::codec::encode::{Symbols, encode_block_on};
use upg::codec::entropy::encode::EncodeTable;
use upg::codec::entropy::frequencies::Frequencies;
use upg::codec::float::{from_bits, largest, to_bits};
use upg::codec::isa::Isa;
use upg::codec::layout::BlockShape;
use upg::codec::manifold::{Grid, Levels, TRELLIS_CENTRE, step_factor, trellis_level};
use upg::codec::params::{ENTRIES, ESCAPE, PrimeSparse, SymbolMap, SymbolParams};
use upg::codec::raw::Raw;
use upg::codec::side::{Side, SideContent};
use upg::codec::trellis::{Choice, MOST_RAW_BITS, Metrics, Scratch, Search, Source, UNIT, ungerboeck};
use upg::dtype::Dtype;

use crate::input::{Input, Random};

const MOST_ELEMENTS: usize = 1 << 12;

const ROW_SCALES: u8 = 1;
const COLUMN_SCALES: u8 = 2;
const ROW_CLASSES: u8 = 4;
/// The levels lie where the prime grid has them.
const PRIMES: u8 = 8;
/// They lie anywhere.
const ANYWHERE: u8 = 16;
/// Scales are any bits, and not those of step bytes.
const ANY_SCALES: u8 = 32;
/// Values behind the end of the input are noise, and not zero.
const NOISE: u8 = 64;

const DTYPES: [Dtype; 5] = [Dtype::BF16, Dtype::F32, Dtype::F16, Dtype::F8_E5M2, Dtype::F8_E4M3];

/// An input of these weights, BF16.
pub fn seed(
    flags: u8,
    log2_states: u8,
    raw_bits: u8,
    lanes: usize,
    row_len: u16,
    step: f32,
    weights: &[f32],
) -> Vec<u8> {
    let mut out = vec![flags, log2_states - 2, raw_bits, (lanes / 32 - 1) as u8, 0, 1, 60];
    out.extend((row_len - 1).to_le_bytes());
    out.extend((weights.len() as u16 - 1).to_le_bytes());
    out.extend(step.to_bits().to_le_bytes());
    out.extend([5; ENTRIES]);
    out.extend(weights.iter().flat_map(|&w| bf16::from_f32(w).to_le_bytes()));
    out
}

/// Scales as the input has them: bytes that a file can hold, and one over what they
/// stand for, or any numbers.
fn scales(input: &mut Input<'_>, wanted: bool, any: bool, len: usize) -> (Vec<u8>, Vec<f32>) {
    match (wanted, any) {
        (false, _) => (Vec::new(), Vec::new()),
        (true, true) => (Vec::new(), (0..len).map(|_| input.f32()).collect()),
        (true, false) => {
            let bytes = input.bytes(len);
            let scales = bytes.iter().map(|&b| 1.0 / step_factor(b)).collect();
            (bytes, scales)
        }
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.u8();
    let flag = |bit| flags & bit != 0;
    let log2_states = 2 + input.u8() % 7;
    let mut raw_bits = input.u8() % (MOST_RAW_BITS + 1);
    let lanes = 32 * (1 + usize::from(input.u8() % 8));
    let dtype = DTYPES[usize::from(input.u8()) % DTYPES.len()];
    let classes = 1 + usize::from(input.u8() % 4);
    let lambda = f64::from(input.u8()) / 128.0;
    let row_len = 1 + usize::from(input.u16() % 1024);
    let elements = 1 + usize::from(input.u16()) % MOST_ELEMENTS;
    let step = input.f32().abs();
    if !step.is_finite() || step == 0.0 {
        return;
    }
    if flag(PRIMES | ANYWHERE) {
        raw_bits = 0;
    }
    let trellis = ungerboeck(log2_states).expect("a code");
    let shape = BlockShape { elements, row_len, lanes };
    let rows = shape.rows();

    // Dearer than any table entry, free, and impossible are among them.
    let cost = |b: u8| if b == 255 { f64::INFINITY } else { f64::from(b) / 8.0 };
    let mut costs = vec![input.array::<ENTRIES>().map(cost); classes];
    for costs in &mut costs[1..] {
        costs.rotate_left(usize::from(input.u8()) % ENTRIES);
    }
    let grid = if flag(PRIMES) { Grid::Prime } else { Grid::Uniform };
    let levels = Levels::new(grid, 32 << raw_bits);
    let mut values: [f64; ENTRIES] = std::array::from_fn(|entry| {
        let level = trellis_level(entry / 32, entry as i32 % 32 - TRELLIS_CENTRE);
        f64::from(levels.number(level) / grid.spacing())
    });
    if flag(ANYWHERE) {
        values = std::array::from_fn(|_| f64::from(input.u16() as i16) / 512.0);
    }
    let values = flag(PRIMES | ANYWHERE).then_some(&values);
    let metrics = Metrics::new(trellis, step * grid.spacing(), raw_bits, lambda, &costs, values);

    let (row_steps, row_scales) = scales(&mut input, flag(ROW_SCALES), flag(ANY_SCALES), rows);
    let (column_steps, column_scales) = scales(&mut input, flag(COLUMN_SCALES), flag(ANY_SCALES), row_len);
    let mut row_classes = input.bytes(if flag(ROW_CLASSES) { rows } else { 0 });
    row_classes.iter_mut().for_each(|class| *class %= classes as u8);
    let width = dtype.width().expect("whole bytes");
    let mut bytes = input.take(elements * width).to_vec();
    bytes.truncate(bytes.len() / width * width);
    let mut random = Random(u64::from(flags) << 32 | elements as u64);
    while bytes.len() < elements * width {
        let noise = (0..4).map(|_| (random.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum::<f32>();
        let weight = if flag(NOISE) { to_bits(dtype, noise * 8.0 * step) } else { 0 };
        bytes.extend_from_slice(&weight.to_le_bytes()[..width]);
    }
    // Of their own allocations, so that the sanitizer knows where they end.
    let bytes: Box<[u8]> = bytes.into();
    let weights: Box<[f32]> = bytes
        .chunks_exact(width)
        .map(|b| from_bits(dtype, b.iter().rev().fold(0, |bits, &byte| bits << 8 | u32::from(byte))))
        .collect();
    let (row_scales, column_scales) = (row_scales.into_boxed_slice(), column_scales.into_boxed_slice());
    let source = if dtype == Dtype::BF16 { Source::Bf16(&bytes) } else { Source::F32(&weights) };
    let search = Search {
        shape,
        source,
        metrics: &metrics,
        row_scales: &row_scales,
        column_scales: &column_scales,
        row_classes: &row_classes,
    };

    let mut choice = Choice::default();
    search.run(Isa::Portable, &mut Scratch::default(), &mut choice);
    for isa in Isa::available() {
        let (mut scratch, mut other) = (Scratch::default(), Choice::default());
        for _ in 0..2 {
            // The second time with memory that was used.
            search.run(isa, &mut scratch, &mut other);
            assert!(other == choice, "{} chooses something else, {shape:?}", isa.name());
        }
    }
    follow(&search, &choice);
    if flag(ANY_SCALES) && (flag(ROW_SCALES) || flag(COLUMN_SCALES)) {
        return;
    }

    let params = SymbolParams {
        dtype,
        lanes,
        raw_bits,
        classes: classes as u8,
        row_classes: flag(ROW_CLASSES),
        map: SymbolMap::PrimeSparse(PrimeSparse {
            step,
            grid,
            trellis: Some(trellis),
            row_steps: flag(ROW_SCALES),
            column_steps: flag(COLUMN_SCALES),
            centroids: false,
        }),
    };
    let params = params.validate().expect("valid parameters");
    let decoded = round_trip(&params, &search, &choice, &bytes, &row_steps, &column_steps);
    if flag(ANYWHERE) {
        return;
    }
    let mut escapes = choice.escapes.iter().peekable();
    for (i, (source, decoded)) in weights.iter().zip(&decoded).enumerate() {
        if escapes.next_if(|&&at| at as usize == i).is_some() {
            assert_eq!(source.to_bits(), decoded.to_bits(), "element {i} is exact");
            continue;
        }
        assert!(source.is_finite(), "element {i} is {source} and no escape");
        let factor = |steps: &[u8], at: usize| steps.get(at).map_or(1.0, |&b| f64::from(step_factor(b)));
        let (by_row, by_column) = (factor(&row_steps, i / row_len), factor(&column_steps, i % row_len));
        let factor = by_row * by_column;
        let unit = f64::from(step) * f64::from(grid.spacing());
        // A plan takes no grid that reaches farther than its type, with row or column
        // steps or without; then nothing on the way to an element is infinite either.
        let reach = f64::from((32u32 << raw_bits) + 2) * unit;
        if reach * by_row.max(1.0) * by_column.max(1.0) > f64::from(largest(dtype)) {
            continue;
        }
        assert!(decoded.is_finite(), "element {i} was {source}, is {decoded}");
        // No candidate is farther than two levels of its subset, but for what is beyond
        // the last level; then there is the rounding to the type.
        let normal = f64::from(f32::MIN_POSITIVE) * 4096.0;
        if dtype != Dtype::BF16 && dtype != Dtype::F32
            || unit < normal
            || unit * factor < normal
            || !metrics.scale.is_finite()
        {
            continue;
        }
        let beyond = f64::from(metrics.limit - metrics.top) / f64::from(UNIT);
        let distance = (f64::from(*source) - f64::from(*decoded)).abs() / (unit * factor);
        let rounding = f64::from(decoded.abs()) / (unit * factor) / 128.0;
        assert!(distance <= 5.0 + beyond + rounding, "element {i} was {source}, is {decoded}: {distance} levels");
    }
}

/// Walks the trellises as a decoder does.
fn follow(search: &Search<'_>, choice: &Choice) {
    let mut states = vec![0u16; search.shape.lanes];
    let trellis = search.metrics.trellis;
    assert_eq!(choice.entries.len(), search.shape.elements);
    assert!(choice.escapes.is_sorted_by(|a, b| a < b));
    for step in search.shape.steps() {
        for (lane, state) in states[..step.active].iter_mut().enumerate() {
            let i = step.first + lane;
            let (entry, raw) = (choice.entries[i], choice.raw.get(i).copied().unwrap_or(0));
            assert_eq!(u16::from(entry / 32), *state & 1, "the quantiser is the state's");
            assert!(entry < 64 && entry % 32 != ESCAPE && raw >> search.metrics.raw_bits == 0);
            let odd = if search.metrics.raw_bits > 0 { raw } else { u16::from(entry) } & 1;
            *state = trellis.next(*state, odd);
        }
    }
}

/// What a decoder makes of the choice, the same on every instruction set.
fn round_trip(
    params: &SymbolParams,
    search: &Search<'_>,
    choice: &Choice,
    bytes: &[u8],
    row_steps: &[u8],
    column_steps: &[u8],
) -> Vec<f32> {
    let BlockShape { elements, row_len, .. } = search.shape;
    let width = bytes.len() / elements;
    let mut counts = vec![[0u64; ENTRIES]; usize::from(params.classes)];
    for (row, entries) in choice.entries.chunks(row_len).enumerate() {
        let class = search.row_classes.get(row).map_or(0, |&class| usize::from(class));
        entries.iter().for_each(|&entry| counts[class][usize::from(entry)] += 1);
    }
    let frequencies: Vec<_> = counts.iter().map(|counts| Frequencies::from_counts(counts, 2)).collect();
    let tables: Vec<_> = frequencies.iter().map(|f| EncodeTable::new(f, 2)).collect();
    let side = SideContent { frequencies: &frequencies, column_steps, ..Default::default() };
    let side = Side::parse(params, row_len, &side.to_bytes()).expect("a side block");
    let escaped: Vec<u8> =
        choice.escapes.iter().flat_map(|&at| &bytes[at as usize * width..][..width]).copied().collect();
    let block = Symbols {
        symbols: &choice.entries,
        escape_positions: &choice.escapes,
        escape_values: &escaped,
        row_steps,
        row_classes: search.row_classes,
    };
    let raw = if params.raw_bits > 0 { Raw::U16(&choice.raw) } else { Raw::None };
    let encode = |isa| encode_block_on(isa, params, &search.shape, &tables, &block, raw).expect("all occurs");
    let payload = encode(Isa::Portable).into_boxed_slice();
    let decode = |isa| {
        let mut out = vec![0xA5; bytes.len()].into_boxed_slice();
        decode_block_on(isa, params, &side, row_len, &payload, &mut out).expect("as it was encoded");
        out
    };
    let decoded = decode(Isa::Portable);
    for isa in Isa::available() {
        assert!(*encode(isa) == *payload, "{} encodes something else", isa.name());
        assert!(decode(isa) == decoded, "{} decodes something else", isa.name());
    }
    let bits = decoded.chunks_exact(width).map(|b| b.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte)));
    bits.map(|bits| from_bits(params.dtype, bits)).collect()
}
