use proptest::prelude::*;

use super::*;
use crate::codec::decode_block_on;
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::entropy::frequencies::Frequencies;
use crate::codec::kernel::Isa;
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
