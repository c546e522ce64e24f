use proptest::prelude::*;

use super::*;
use crate::codec::decode_block_on;
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::histogram::Histogram;
use crate::codec::isa::Isa;
use crate::codec::params::{SymbolMap, SymbolParams};
use crate::codec::side::{Side, SideContent};
use crate::dtype::{Dtype, Split};

/// A type, a field anywhere in it, and bits left out at its lower end.
fn params() -> impl Strategy<Value = SymbolParams> {
    let dtype = prop::sample::select(vec![Dtype::F8_E4M3, Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::F64]);
    (dtype, any::<[u8; 3]>()).prop_map(|(dtype, [bits, shift, zero_bits])| {
        let whole = dtype.bits() as u8;
        let bits = 1 + bits % whole.min(16);
        let shift = shift % (whole - bits + 1);
        let zero_bits = if zero_bits % 2 == 0 { 0 } else { zero_bits / 2 % (shift + 1) };
        let map = SymbolMap::Lossless(Split { shift, bits });
        SymbolParams { dtype, lanes: 64, raw_bits: whole - bits - zero_bits, classes: 1, row_classes: false, map }
    })
}

/// Normally distributed numbers, as good as a sum of twelve is.
fn weights(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| 0.02 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect()
}

fn bits_per_weight<const WIDTH: usize>(dtype: Dtype, to_bytes: impl Fn(f32) -> [u8; WIDTH]) -> f64 {
    let weights = weights(100_000);
    let bytes: Vec<u8> = weights.iter().flat_map(|&w| to_bytes(w)).collect();
    let mut histogram = Histogram::new(dtype);
    histogram.add(&bytes);
    choose(dtype, &histogram).expect("a choice").bits(dtype) / weights.len() as f64
}

#[test]
fn what_came_from_a_narrower_type_takes_no_more_than_it_did() {
    let bf16 = |w: f32| half::bf16::from_f32(w);
    let exact = bits_per_weight(Dtype::BF16, |w| bf16(w).to_le_bytes());
    assert!((10.4..10.7).contains(&exact), "{exact}");
    let wide = bits_per_weight(Dtype::F32, |w| bf16(w).to_f32().to_le_bytes());
    assert!(wide < exact + 0.01, "F32: {wide} against {exact}");
    let wide = bits_per_weight(Dtype::F64, |w| bf16(w).to_f64().to_le_bytes());
    assert!(wide < exact + 0.01, "F64: {wide} against {exact}");
    // Those below the normal numbers have fewer zeros than the others.
    let half = bits_per_weight(Dtype::F16, |w| half::f16::from_f32(bf16(w).to_f32()).to_le_bytes());
    assert!(half < exact + 0.2, "F16: {half} against {exact}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn blocks_come_back_bit_by_bit(
        params in params(),
        (elements, row_len) in (1..4000usize, 1..900usize),
        seed in any::<u64>(),
    ) {
        let params = params.validate().expect("valid parameters");
        let SymbolMap::Lossless(split) = params.map else { unreachable!() };
        let width = params.dtype.width().expect("whole bytes");
        let mut state = seed | 1;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 20 ^ state << 44
        };
        // Fields that are mostly small, low bits that are mostly zero.
        let values: Vec<u64> = (0..elements)
            .map(|_| {
                let mask = (1u64 << split.bits) - 1;
                let value = random() & !(mask << split.shift) | ((random() % 80) & mask) << split.shift;
                if random() % 50 == 0 { value } else { value >> params.zero_bits() << params.zero_bits() }
            })
            .collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..width].to_vec()).collect();
        let mut fields = vec![0; 1 << split.bits];
        values.iter().for_each(|v| fields[(v >> split.shift) as usize & ((1 << split.bits) - 1)] += 1);
        let mut code = FieldCode::new(&fields);
        code.counts[usize::from(ESCAPE)] += 1;
        let frequencies = [Frequencies::from_counts(&code.counts, 1)];
        let side = SideContent { frequencies: &frequencies, field_values: Some(&code.values), ..Default::default() };
        let side = Side::parse(&params, row_len, &side.to_bytes()).expect("a side block");
        let table = EncodeTable::new(&frequencies[0], 1);
        let stored = encode(&params, row_len, &code, &table, &bytes).expect("every symbol has a frequency");
        for isa in Isa::available() {
            let mut out = vec![0xA5; bytes.len()];
            prop_assert_eq!(decode_block_on(isa, &params, &side, row_len, &stored, &mut out), Ok(()));
            prop_assert!(out == bytes, "{}", isa.name());
        }
    }
}
