use super::*;
use crate::codec::params::ENTRIES;
use proptest::prelude::*;

/// Costs of a discrete Laplacian, more or less.
fn costs() -> [f64; ENTRIES] {
    std::array::from_fn(|entry| 1.5 + 0.7 * (f64::from(entry as i32 % 32) - 16.0).abs())
}

fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut x = seed;
    std::iter::repeat_with(move || {
        let mut sum = 0.0;
        for _ in 0..4 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sum += (x >> 40) as f32 / (1 << 24) as f32 - 0.5;
        }
        sum * 1.7
    })
}

/// Walks the trellis forwards as a decoder does.
fn levels(search: &Search<'_>, choice: &Choice) -> Vec<i32> {
    let trellis = search.metrics.trellis;
    let mut states = vec![0u16; search.shape.lanes];
    let mut levels = vec![0; search.shape.elements];
    for step in search.shape.steps() {
        for (lane, state) in states[..step.active].iter_mut().enumerate() {
            let i = step.first + lane;
            let entry = choice.entries[i];
            assert_eq!(u16::from(entry / 32), *state & 1, "the quantiser is the state's");
            let symbol = i32::from(entry % 32);
            assert!(symbol > 0, "symbol 0 is never needed");
            let raw = choice.raw.get(i).copied().unwrap_or(0);
            let k = ((symbol - 16) << search.metrics.raw_bits) + i32::from(raw);
            levels[i] = crate::codec::manifold::trellis_level(usize::from(*state & 1), k);
            *state = trellis.next(*state, (k & 1) as u16);
        }
    }
    levels
}

fn isas() -> Vec<Isa> {
    Isa::available()
}

#[test]
fn a_path_is_one_that_a_decoder_can_follow_and_close_to_the_values() {
    let shape = BlockShape { elements: 64 * 100, row_len: 64, lanes: 64 };
    let values: Vec<f32> = noise(1).take(shape.elements).collect();
    for (raw_bits, step, db) in [(0, 0.25, 17.0), (1, 0.065, 28.0), (4, 0.008, 46.0)] {
        for log2_states in 2..=8 {
            let trellis = ungerboeck(log2_states).expect("a code");
            let metrics = Metrics::new(trellis, step, raw_bits, 0.3, &[costs()], None);
            let search = Search {
                shape,
                source: Source::F32(&values),
                metrics: &metrics,
                row_scales: &[],
                column_scales: &[],
                row_classes: &[],
            };
            let mut choice = Choice::default();
            search.run(Isa::Portable, &mut Scratch::default(), &mut choice);
            let decoded: Vec<f32> = levels(&search, &choice).iter().map(|&l| l as f32 * step).collect();
            let signal: f32 = values.iter().map(|v| v * v).sum();
            let noise: f32 = values.iter().zip(&decoded).map(|(v, d)| (v - d) * (v - d)).sum();
            let snr = 10.0 * (signal / noise).log10();
            assert!(snr > db, "{raw_bits} raw bits, {log2_states}: {snr} dB");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_instruction_set_finds_the_same_path(
        seed in any::<u64>(),
        log2_states in 2..=8u8,
        raw_bits in 0..=MOST_RAW_BITS,
        lanes in (1..=4usize).prop_map(|n| 32 * n),
        rows in 1..30usize,
        row_len in 1..300usize,
        cut in 0..300usize,
        lambda in 0.0..1.0f64,
        step in prop_oneof![Just(0.3f32), Just(0.03), Just(0.0002)],
        flags in 0..16usize,
    ) {
        let elements = (rows * row_len).saturating_sub(cut % row_len).max(1);
        let shape = BlockShape { elements, row_len, lanes };
        let mut values: Vec<f32> = noise(seed).take(elements).collect();
        values[seed as usize % elements] = [f32::NAN, f32::INFINITY, -1e30, -0.0][seed as usize % 4];
        values[seed as usize / 7 % elements] = 1e-40;
        let trellis = ungerboeck(log2_states).expect("a code");
        let at: [f64; ENTRIES] = std::array::from_fn(|e| {
            let k = e as i32 % 32 - 16;
            f64::from(crate::codec::manifold::trellis_level(e / 32, k)) * 1.02 + 0.1 * f64::from(k.signum())
        });
        let at = (flags & 1 != 0 && raw_bits == 0).then_some(&at);
        let metrics = Metrics::new(trellis, step, raw_bits, lambda, &[costs(), [4.0; ENTRIES]], at);
        let bf16: Vec<u8> = values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
        let row_scales: Vec<f32> = (0..shape.rows()).map(|r| 0.5 + r as f32 / 20.0).collect();
        let column_scales: Vec<f32> = (0..row_len).map(|c| 1.5 - c as f32 / 300.0).collect();
        let row_classes: Vec<u8> = (0..shape.rows()).map(|r| (r % 2) as u8).collect();
        let search = Search {
            shape,
            source: if flags & 1 == 0 { Source::Bf16(&bf16) } else { Source::F32(&values) },
            metrics: &metrics,
            row_scales: if flags & 2 == 0 { &[] } else { &row_scales },
            column_scales: if flags & 4 == 0 { &[] } else { &column_scales },
            row_classes: if flags & 8 == 0 { &[] } else { &row_classes },
        };
        let mut expected = Choice::default();
        search.run(Isa::Portable, &mut Scratch::default(), &mut expected);
        levels(&search, &expected);
        for isa in isas() {
            let (mut scratch, mut choice) = (Scratch::default(), Choice::default());
            search.run(isa, &mut scratch, &mut choice);
            prop_assert_eq!(&choice, &expected, "{}", isa.name());
            search.run(isa, &mut scratch, &mut choice);
            prop_assert_eq!(&choice, &expected, "again");
        }
    }
}
