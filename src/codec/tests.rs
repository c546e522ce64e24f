//! Round trips of whole blocks through every hook of the format.

use proptest::prelude::*;

use super::encode::{Symbols, encode_block, trellis_entries};
use super::entropy::encode::EncodeTable;
use super::entropy::frequencies::Frequencies;
use super::float::{from_bits, to_bits};
use super::layout::BlockShape;
use super::manifold::{Grid, Levels, step_factor, trellis_level};
use super::params::*;
use super::raw::Raw;
use super::side::{Side, SideContent, contexts};
use super::*;
use crate::dtype::{Dtype, Split};

/// A block of random symbols under random parameters, with what it decodes to
/// worked out from the document, element by element.
#[derive(Debug, Clone)]
struct Case {
    params: SymbolParams,
    row_len: usize,
    symbols: Vec<u8>,
    raw: Vec<u64>,
    escapes: Vec<(u32, Vec<u8>)>,
    row_steps: Vec<u8>,
    row_classes: Vec<u8>,
    column_steps: Vec<u8>,
    centroids: Option<[f32; ENTRIES]>,
    field_values: [u16; ENTRIES],
}

fn trellises() -> impl Strategy<Value = Option<Trellis>> {
    let codes = [(1, 3, 2), (2, 0o5, 0o2), (3, 0o13, 0o4), (4, 0o23, 0o4), (6, 0o103, 0o24), (8, 0o755, 0o124)];
    prop_oneof![
        Just(None),
        (0..codes.len()).prop_map(move |i| Some(Trellis { log2_states: codes[i].0, h0: codes[i].1, h1: codes[i].2 }))
    ]
}

fn prime_sparse() -> impl Strategy<Value = (PrimeSparse, u8)> {
    let raw_bits = prop_oneof![2 => Just(0), 3 => 0..=MAX_PRIME_SPARSE_RAW_BITS];
    // Steps that make subnormal numbers and infinity as well.
    let step = prop_oneof![4 => 1e-6f32..10.0, 1 => 1e-41f32..1e-36, 1 => 1e35f32..1e38];
    (any::<bool>(), trellises(), any::<[bool; 3]>(), raw_bits, step).prop_map(
        |(prime, trellis, flags, raw_bits, step)| {
            let grid = if prime && raw_bits <= MAX_PRIME_RAW_BITS { Grid::Prime } else { Grid::Uniform };
            let [row_steps, column_steps, centroids] = flags;
            let centroids = centroids && raw_bits == 0;
            (PrimeSparse { step, grid, trellis, row_steps, column_steps, centroids }, raw_bits)
        },
    )
}

fn params() -> impl Strategy<Value = SymbolParams> {
    let lossy = prop::sample::select(Dtype::all().filter(|d| d.lossy_when_asked()).collect::<Vec<_>>());
    let lossy = (lossy, prime_sparse()).prop_map(|(dtype, (p, raw))| (dtype, SymbolMap::PrimeSparse(p), raw));
    let exact = prop::sample::select(Dtype::all().filter(|d| d.split().is_some()).collect::<Vec<_>>());
    let exact = (exact, 0..4u8, 0..64u8).prop_map(|(dtype, kind, zero_bits)| {
        let split = dtype.split().unwrap_or(Split { shift: 0, bits: 1 });
        let zero_bits = if kind == 0 { zero_bits % (split.shift + 1) } else { 0 };
        (dtype, SymbolMap::Lossless(split), dtype.bits() as u8 - split.bits - zero_bits)
    });
    // Mostly numbers of lanes that have vector kernels.
    let lanes = prop_oneof![4 => prop::sample::select(vec![1, 2, 4, 8]), 1 => 1..=8usize];
    (prop_oneof![3 => lossy, 1 => exact], lanes, 1..=3u8, any::<bool>())
        .prop_map(|((dtype, map, raw_bits), lanes, classes, row_classes)| SymbolParams {
            dtype,
            lanes: lanes * LANE_UNIT,
            raw_bits,
            classes,
            row_classes,
            map,
        })
        .prop_map(|p| p.validate().expect("the strategy makes valid parameters"))
}

fn cases() -> impl Strategy<Value = Case> {
    (params(), prop_oneof![1..700usize, (1..6usize).prop_map(|n| 128 * n)], 1..6000usize, any::<u64>()).prop_map(
        |(params, row_len, elements, seed)| {
            let mut state = seed | 1;
            let mut next = move || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state >> 33
            };
            let rows = elements.div_ceil(row_len);
            let alphabet = (ENTRIES / contexts(&params)) as u64;
            let p = params.prime_sparse();
            let width = params.dtype.width().expect("whole bytes");
            let symbols: Vec<u8> = (0..elements).map(|_| (next() % alphabet).min(next() % alphabet) as u8).collect();
            // Mostly the escapes that the symbols say, and one that they do not.
            let mut escapes: Vec<_> = (0..elements as u32).filter(|&i| symbols[i as usize] == ESCAPE).collect();
            escapes.extend((next() % 2 == 0).then_some(next() as u32 % elements as u32));
            escapes.sort_unstable();
            escapes.dedup();
            Case {
                row_len,
                raw: (0..elements)
                    .map(|i| {
                        let raw = (next() << 33 ^ next() << 20 ^ next()) & ((1 << params.raw_bits) - 1);
                        if symbols[i] == ESCAPE { 0 } else { raw }
                    })
                    .collect(),
                escapes: escapes.into_iter().map(|i| (i, (0..width).map(|_| next() as u8).collect())).collect(),
                row_steps: (0..rows).filter(|_| params.row_steps()).map(|_| 96 + next() as u8 % 64).collect(),
                row_classes: (0..rows).filter(|_| params.row_classes).map(|_| next() as u8 % params.classes).collect(),
                column_steps: (0..row_len)
                    .filter(|_| p.is_some_and(|p| p.column_steps))
                    .map(|_| 96 + next() as u8 % 64)
                    .collect(),
                centroids: p.filter(|p| p.centroids).map(|_| {
                    std::array::from_fn(|i| if i % alphabet as usize == 0 { 0.0 } else { next() as f32 / 1e9 - 1.0 })
                }),
                field_values: match &params.map {
                    SymbolMap::Lossless(s) => {
                        std::array::from_fn(|i| if i == 0 { 0 } else { next() as u16 & ((1 << s.bits) - 1) })
                    }
                    _ => [0; ENTRIES],
                },
                params,
                symbols,
            }
        },
    )
}

impl Case {
    fn shape(&self) -> BlockShape {
        BlockShape { elements: self.symbols.len(), row_len: self.row_len, lanes: self.params.lanes }
    }

    fn frequencies(&self) -> Vec<Frequencies> {
        let flat = Frequencies::from_counts(&[1; ENTRIES], contexts(&self.params));
        let mut skew = [1u64; ENTRIES];
        skew.iter_mut().enumerate().for_each(|(i, c)| *c += 5000 / (1 + i as u64));
        let skew = Frequencies::from_counts(&skew, contexts(&self.params));
        [flat, skew].into_iter().cycle().take(usize::from(self.params.classes)).collect()
    }

    fn side(&self) -> Vec<u8> {
        let frequencies = self.frequencies();
        let lossless = self.params.prime_sparse().is_none();
        let content = SideContent {
            frequencies: &frequencies,
            field_values: lossless.then_some(&self.field_values),
            centroids: self.centroids.as_ref(),
            column_steps: &self.column_steps,
        };
        content.to_bytes()
    }

    fn encode(&self) -> Vec<u8> {
        let tables: Vec<_> = self.frequencies().iter().map(|f| EncodeTable::new(f, contexts(&self.params))).collect();
        let block = Symbols {
            symbols: &trellis_entries(&self.params, &self.shape(), &self.symbols, Raw::U64(&self.raw)),
            escape_positions: &self.escapes.iter().map(|e| e.0).collect::<Vec<_>>(),
            escape_values: &self.escapes.iter().flat_map(|e| e.1.clone()).collect::<Vec<_>>(),
            row_steps: &self.row_steps,
            row_classes: &self.row_classes,
        };
        encode_block(&self.params, &self.shape(), &tables, &block, Raw::U64(&self.raw))
            .expect("every symbol has a frequency")
    }

    fn expected(&self) -> Vec<u8> {
        let width = self.params.dtype.width().expect("whole bytes");
        let mut out = vec![0; width * self.symbols.len()];
        let levels = Levels::new(self.params.prime_sparse().map_or(Grid::Uniform, |p| p.grid), 1024);
        let mut states = vec![0u16; self.params.lanes];
        for step in self.shape().steps() {
            for (lane, state) in states[..step.active].iter_mut().enumerate() {
                let i = step.first + lane;
                let raw = self.raw[i];
                let bits = match &self.params.map {
                    SymbolMap::Lossless(split) => {
                        let zero_bits = self.params.dtype.bits() as u8 - split.bits - self.params.raw_bits;
                        let below = split.shift - zero_bits;
                        let high = u128::from(raw >> below) << (split.shift + split.bits);
                        let field = u64::from(self.field_values[usize::from(self.symbols[i])]);
                        (raw % (1 << below)) << zero_bits | (field << split.shift) | high as u64
                    }
                    SymbolMap::PrimeSparse(p) => {
                        u64::from(to_bits(self.params.dtype, self.value(p, &levels, i, raw, state)))
                    }
                };
                out[i * width..(i + 1) * width].copy_from_slice(&bits.to_le_bytes()[..width]);
            }
        }
        for (i, value) in &self.escapes {
            out[*i as usize * width..(*i as usize + 1) * width].copy_from_slice(value);
        }
        out
    }

    fn value(&self, p: &PrimeSparse, levels: &Levels, i: usize, raw: u64, state: &mut u16) -> f32 {
        let symbol = self.symbols[i];
        let centre = if p.trellis.is_some() { 16 } else { 32 };
        let index =
            if symbol == ESCAPE { 0 } else { ((i32::from(symbol) - centre) << self.params.raw_bits) + raw as i32 };
        let quantiser = usize::from(*state & 1);
        let level = if p.trellis.is_some() { trellis_level(quantiser, index) } else { index };
        if let Some(t) = p.trellis {
            *state = t.next(*state, (index & 1) as u16);
        }
        let mut value = match self.centroids {
            Some(centroids) => centroids[usize::from(symbol) + 32 * quantiser],
            None => levels.number(level) * p.step,
        };
        value *= self.row_steps.get(i / self.row_len).map_or(1.0, |&b| step_factor(b));
        value * self.column_steps.get(i % self.row_len).map_or(1.0, |&b| step_factor(b))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn blocks_decode_to_what_the_document_says(case in cases()) {
        let side = Side::parse(&case.params, case.row_len, &case.side()).expect("a valid side block");
        let payload = case.encode();
        let expected = case.expected();
        for (isa, shift) in Isa::available().into_iter().zip(1..) {
            // At odd addresses, and with something on both sides of the output.
            let mut source = vec![0; shift];
            source.extend_from_slice(&payload);
            let mut out = vec![0xA5; expected.len() + 2 * shift];
            let inside = shift..shift + expected.len();
            let done = decode_block_on(
                isa, &case.params, &side, case.row_len, &source[shift..], &mut out[inside.clone()],
            );
            prop_assert_eq!(done, Ok(()));
            prop_assert!(out[inside.clone()] == expected, "{}", isa.name());
            prop_assert!(out[..shift].iter().chain(&out[inside.end..]).all(|&byte| byte == 0xA5));
        }
    }

    #[test]
    fn damaged_blocks_never_panic(
        case in cases(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let side = Side::parse(&case.params, case.row_len, &case.side()).expect("a valid side block");
        let mut payload = case.encode();
        let mut out = vec![0; case.expected().len()];
        let cut = cut.index(payload.len());
        let mut decode = |isa, payload: &[u8]| {
            out.fill(0);
            let done = decode_block_on(isa, &case.params, &side, case.row_len, payload, &mut out);
            done.is_ok().then(|| out.clone())
        };
        for isa in Isa::available() {
            prop_assert_eq!(decode(isa, &payload[..cut]), None);
        }
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] ^= byte;
        }
        let portable = decode(Isa::Portable, &payload);
        for isa in Isa::available() {
            prop_assert!(decode(isa, &payload) == portable, "{}", isa.name());
        }
    }
}

#[test]
fn f16_and_bf16_round_to_nearest_even() {
    assert_eq!(to_bits(Dtype::BF16, f32::from_bits(0x3F80_8000)), 0x3F80);
    assert_eq!(to_bits(Dtype::BF16, f32::from_bits(0x3F81_8000)), 0x3F82);
    assert_eq!(to_bits(Dtype::F16, 1.0 + 2f32.powi(-11)), 0x3C00);
    assert_eq!(to_bits(Dtype::F16, 1.0 + 3.0 * 2f32.powi(-11)), 0x3C02);
    assert_eq!(to_bits(Dtype::F16, 2f32.powi(-24)), 1, "the smallest subnormal");
    assert_eq!(from_bits(Dtype::F16, 1), 2f32.powi(-24));
}
