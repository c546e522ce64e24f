//! A block of any parameters, side block and payload: every kernel must refuse it or
//! every kernel must make the same bytes of it.
//!
//! Hardly any payload that was not encoded is accepted, as the words must come out even;
//! so half of the inputs describe what is encoded, then decoded as it is and damaged.

use upg::codec::decode_block_on;
use upg::codec::encode::{Symbols, encode_block_on, trellis_entries};
use upg::codec::entropy::encode::EncodeTable;
use upg::codec::entropy::frequencies::{Frequencies, TOTAL};
use upg::codec::isa::Isa;
use upg::codec::layout::BlockShape;
use upg::codec::manifold::Grid;
use upg::codec::params::{ENTRIES, ESCAPE, PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::codec::raw::Raw;
use upg::codec::side::{Side, SideContent, contexts};
use upg::dtype::{Dtype, Split};

use crate::input::{Input, Random};

/// More elements would find nothing that fewer do not, and later. The golden files' blocks
/// have up to so many.
const MOST_ELEMENTS: usize = 1 << 16;
const MOST_ENCODED: usize = 1 << 12;

const ENCODED: u8 = 1;
const PRIME_SPARSE: u8 = 2;
const PRIME_GRID: u8 = 4;
const ROW_STEPS: u8 = 8;
const ROW_CLASSES: u8 = 16;
const COLUMN_STEPS: u8 = 32;
const CENTROIDS: u8 = 64;
const USUAL_SPLIT: u8 = 128;

/// The head of an input as the parameters that it stands for, some of them out of range.
fn head(input: &mut Input<'_>) -> Option<(u8, SymbolParams, BlockShape)> {
    let flags = input.u8();
    let dtype = Dtype::from_code(input.u8())?;
    let lanes = 32 * usize::from(input.u8());
    let raw_bits = input.u8();
    let classes = input.u8();
    let split = Split { shift: input.u8(), bits: input.u8() };
    let (log2_states, h0, h1) = (input.u8(), input.u16(), input.u16());
    let step = input.f32();
    let row_len = usize::from(input.u16()) + 1;
    let most = if flags & ENCODED != 0 { MOST_ENCODED } else { MOST_ELEMENTS };
    let elements = input.u32() as usize % most + 1;
    let flag = |bit| flags & bit != 0;
    let mut params = SymbolParams {
        dtype,
        lanes,
        raw_bits,
        classes,
        row_classes: flag(ROW_CLASSES),
        map: SymbolMap::Lossless(split),
    };
    if flag(PRIME_SPARSE) {
        params.map = SymbolMap::PrimeSparse(PrimeSparse {
            step,
            grid: if flag(PRIME_GRID) { Grid::Prime } else { Grid::Uniform },
            trellis: (log2_states > 0).then_some(Trellis { log2_states, h0, h1 }),
            row_steps: flag(ROW_STEPS),
            column_steps: flag(COLUMN_STEPS),
            centroids: flag(CENTROIDS),
        });
    } else if flag(USUAL_SPLIT)
        && let Some(&split) = dtype.splits().get(usize::from(split.bits % 3))
    {
        // Most numbers do not fit each other: these do.
        params.map = SymbolMap::Lossless(split);
        params.raw_bits = dtype.bits() as u8 - split.bits - (raw_bits % 4).min(split.shift);
    }
    Some((flags, params, BlockShape { elements, row_len, lanes }))
}

/// The head that [`head`] reads as these parameters.
fn write_head(flags: u8, params: &SymbolParams, shape: &BlockShape) -> Vec<u8> {
    let mut flags = flags;
    let mut flag = |bit, set: bool| flags |= if set { bit } else { 0 };
    flag(ROW_CLASSES, params.row_classes);
    let (mut split, mut trellis, mut step) =
        (Split { shift: 0, bits: 0 }, Trellis { log2_states: 0, h0: 0, h1: 0 }, 0.0);
    match params.map {
        SymbolMap::Lossless(s) => split = s,
        SymbolMap::PrimeSparse(p) => {
            flag(PRIME_SPARSE, true);
            flag(PRIME_GRID, p.grid == Grid::Prime);
            flag(ROW_STEPS, p.row_steps);
            flag(COLUMN_STEPS, p.column_steps);
            flag(CENTROIDS, p.centroids);
            trellis = p.trellis.unwrap_or(trellis);
            step = p.step;
        }
    }
    let mut out = vec![flags, params.dtype.code(), (params.lanes / 32) as u8, params.raw_bits, params.classes];
    out.extend([split.shift, split.bits, trellis.log2_states]);
    out.extend([trellis.h0, trellis.h1].into_iter().flat_map(u16::to_le_bytes));
    out.extend(step.to_le_bytes());
    out.extend((shape.row_len as u16).wrapping_sub(1).to_le_bytes());
    out.extend((shape.elements as u32 - 1).to_le_bytes());
    out
}

/// An input that is this block; None if it is too large.
pub fn seed(params: &SymbolParams, row_len: usize, elements: usize, side: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let shape = BlockShape { elements, row_len, lanes: params.lanes };
    let fits = elements <= MOST_ELEMENTS && row_len <= 1 << 16;
    fits.then(|| [&write_head(0, params, &shape), side, payload].concat())
}

/// An input that describes a block of these parameters to be encoded.
pub fn seed_to_encode(params: &SymbolParams, row_len: usize, elements: usize, bytes: &[u8]) -> Vec<u8> {
    let shape = BlockShape { elements, row_len, lanes: params.lanes };
    [&write_head(ENCODED, params, &shape), bytes].concat()
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some((flags, params, shape)) = head(&mut input) else { return };
    let Ok(params) = params.validate() else { return };
    if flags & ENCODED != 0 {
        encoded(&mut input, &params, &shape);
        return;
    }
    // Of its own allocation, so that the sanitizer knows where it ends.
    let side_len = Side::stored_len(&params, shape.row_len);
    let side: Box<[u8]> = input.take(side_len).into();
    if let Ok(side) = Side::parse(&params, shape.row_len, &side) {
        decode(&params, &side, &shape, input.0);
    }
}

/// Whether all kernels accept this payload, which is the same answer from all.
fn decode(params: &SymbolParams, side: &Side, shape: &BlockShape, payload: &[u8]) -> bool {
    let width = params.dtype.width().expect("validated");
    let payload: Box<[u8]> = payload.into();
    let mut first: Option<Option<Box<[u8]>>> = None;
    for isa in Isa::available() {
        let mut out = vec![0xA5; shape.elements * width].into_boxed_slice();
        let done = decode_block_on(isa, params, side, shape.row_len, &payload, &mut out).is_ok();
        let served = done.then_some(out);
        match &first {
            None => first = Some(served),
            Some(first) => assert!(*first == served, "{}: {params:?} {shape:?}", isa.name()),
        }
    }
    first.flatten().is_some()
}

/// 64 frequencies of the right sums, the way the input wants them: like those of real
/// tables, or with the ends of the range in them. An encoder takes no frequency of 1.
fn frequencies(input: &mut Input<'_>, contexts: usize) -> Frequencies {
    let how = input.u8();
    if how.is_multiple_of(4) {
        return Frequencies::from_counts(&[1; ENTRIES], contexts);
    }
    if how % 4 == 1 {
        let counts = input.array::<ENTRIES>().map(|b| (1u64 << (b % 40)) - u64::from(b >= 128));
        return Frequencies::from_counts(&counts, contexts);
    }
    let mut wanted: [u16; ENTRIES] = std::array::from_fn(|_| input.u16());
    for context in wanted.chunks_exact_mut(ENTRIES / contexts) {
        let mut left = TOTAL;
        for f in context.iter_mut() {
            let most = left.min(TOTAL - 2);
            *f = u32::from(*f).min(most) as u16;
            // Neither a 1 here nor one that is left for the end.
            if *f == 1 || left - u32::from(*f) == 1 {
                *f = if u32::from(*f) == most { *f - 2 } else { *f + 1 };
            }
            left -= u32::from(*f);
        }
        let smallest = context.iter_mut().min().expect("entries");
        *smallest = (u32::from(*smallest) + left).min(TOTAL - 2) as u16;
    }
    let valid = !wanted.contains(&1) && Frequencies(wanted).validate(contexts).is_ok();
    if valid { Frequencies(wanted) } else { Frequencies::from_counts(&wanted.map(u64::from), contexts) }
}

fn encoded(input: &mut Input<'_>, params: &SymbolParams, shape: &BlockShape) {
    let contexts = contexts(params);
    let width = params.dtype.width().expect("validated");
    let sparse = params.prime_sparse();
    let frequencies: Vec<_> = (0..params.classes).map(|_| frequencies(input, contexts)).collect();
    let field_values = match params.map {
        SymbolMap::Lossless(split) => {
            let mask = ((1u32 << split.bits) - 1) as u16;
            let any: [u16; ENTRIES] = std::array::from_fn(|_| input.u16() & mask);
            Some(std::array::from_fn(|i| if i == 0 { 0 } else { any[i] }))
        }
        SymbolMap::PrimeSparse(_) => None,
    };
    let centroids = sparse.is_some_and(|p| p.centroids).then(|| {
        let any: [f32; ENTRIES] = std::array::from_fn(|_| input.f32());
        std::array::from_fn(|i| if i % (ENTRIES / contexts) == 0 || !any[i].is_finite() { 0.0 } else { any[i] })
    });
    let column_steps = input.bytes(if sparse.is_some_and(|p| p.column_steps) { shape.row_len } else { 0 });
    let side = SideContent {
        frequencies: &frequencies,
        field_values: field_values.as_ref(),
        centroids: centroids.as_ref(),
        column_steps: &column_steps,
    };
    let side = Side::parse(params, shape.row_len, &side.to_bytes()).expect("a side block as it should be");

    let row_steps = input.bytes(if params.row_steps() { shape.rows() } else { 0 });
    let mut row_classes = input.bytes(if params.row_classes { shape.rows() } else { 0 });
    row_classes.iter_mut().for_each(|class| *class %= params.classes);

    // Where and how the payload is damaged, later.
    let damage: [(u32, u8, u8); 3] = std::array::from_fn(|_| (input.u32(), input.u8(), input.u8()));
    let mut random = Random(u64::from(input.u32()));
    let mut escape_positions: Vec<u32> = (0..input.u8() % 32).map(|_| input.u32() % shape.elements as u32).collect();
    escape_positions.sort_unstable();
    escape_positions.dedup();
    let escape_values = input.bytes(width * escape_positions.len());

    // Each symbol is one that its class can code in both contexts, if there is one.
    let alphabet = ENTRIES / contexts;
    let usable: Vec<Vec<u8>> = frequencies
        .iter()
        .map(|f| {
            let can = |s: &usize| (0..contexts).all(|context| f.0[context * alphabet + s] > 0);
            (0..alphabet).filter(can).map(|s| s as u8).collect()
        })
        .collect();
    let given = input.0;
    let symbols: Vec<u8> = (0..shape.elements)
        .map(|i| {
            let class = row_classes.get(i / shape.row_len).map_or(0, |&class| usize::from(class));
            let wanted = given.get(i).map_or_else(|| random.next() as usize >> 7, |&b| usize::from(b));
            let usable = &usable[class];
            if usable.is_empty() { 1 } else { usable[wanted % usable.len()] }
        })
        .collect();
    let mask = 1u64.checked_shl(u32::from(params.raw_bits)).map_or(u64::MAX, |bit| bit - 1);
    let raw: Vec<u64> =
        symbols.iter().map(|&s| if s == ESCAPE { 0 } else { (random.next() ^ random.next() << 32) & mask }).collect();
    let entries: Box<[u8]> = trellis_entries(params, shape, &symbols, Raw::U64(&raw)).into();
    let block = Symbols {
        symbols: &entries,
        escape_positions: &escape_positions,
        escape_values: &escape_values,
        row_steps: &row_steps,
        row_classes: &row_classes,
    };
    let tables: Vec<_> = frequencies.iter().map(|f| EncodeTable::new(f, contexts)).collect();
    let encode = |isa| encode_block_on(isa, params, shape, &tables, &block, Raw::U64(&raw)).ok();
    let payload = encode(Isa::Portable);
    for isa in Isa::available() {
        assert!(encode(isa) == payload, "{} encodes something else: {params:?} {shape:?}", isa.name());
    }
    let Some(mut payload) = payload else { return };
    assert!(decode(params, &side, shape, &payload), "refused: {params:?} {shape:?}");
    for (at, how, value) in damage {
        if payload.is_empty() {
            return;
        }
        let at = at as usize % payload.len();
        match how % 8 {
            0 => payload.truncate(at),
            1 => payload.extend(std::iter::repeat_n(value, 1 + usize::from(how / 8))),
            2 => drop(payload.remove(at)),
            3 => payload.insert(at, value),
            4 => payload[at] = value,
            5 => payload[at] ^= 1 << (value % 8),
            // The words are at the end, which is where loads may leave the payload.
            6 => payload.truncate(payload.len().saturating_sub(2 * usize::from(value))),
            _ => payload.extend(std::iter::repeat_n(0, 2 * usize::from(value))),
        }
        decode(params, &side, shape, &payload);
    }
}
