use super::*;
use crate::codec::entropy::frequencies::TOTAL;
use crate::codec::params::ENTRIES;
use proptest::prelude::*;

/// Counts of all shapes: flat, steep, with gaps, and nearly certain.
fn counts() -> impl Strategy<Value = [u64; ENTRIES]> {
    let count = prop_oneof![4 => 1..1000u64, 1 => Just(1), 1 => 1..1u64 << 40, 1 => Just(0)];
    prop::collection::vec(count, ENTRIES).prop_map(|counts| counts.try_into().expect("64 counts"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_encoder_yields_the_same_bytes(
        counts in prop::collection::vec(counts(), 1..4),
        contexts in 1..=2usize,
        lanes in prop::sample::select(vec![32usize, 64, 96, 128, 256]),
        (elements, row_len) in (1..6000usize, 1..800usize),
        classes in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let frequencies: Vec<_> = counts.iter().map(|c| Frequencies::from_counts(c, contexts)).collect();
        let tables: Vec<_> = frequencies.iter().map(|f| EncodeTable::new(f, contexts)).collect();
        let shape = BlockShape { elements, row_len, lanes };
        let mut state = seed | 1;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let row_classes: Vec<u8> =
            (0..shape.rows()).filter(|_| classes).map(|_| (random() % tables.len()) as u8).collect();
        // Entries drawn by their frequencies, and rare ones in between.
        let entries: Vec<u8> = (0..elements)
            .map(|i| {
                let f = &frequencies[row_classes.get(i / row_len).map_or(0, |&class| usize::from(class))];
                let len = ENTRIES / contexts;
                let base = random() % contexts * len;
                let mut slot = random() as u32 % TOTAL;
                if random() % 8 == 0 {
                    let possible: Vec<u8> = (0..ENTRIES as u8).filter(|&e| f.0[usize::from(e)] > 0).collect();
                    return possible[random() % possible.len()];
                }
                let entry = (base..base + len).find(|&e| {
                    let here = u32::from(f.0[e]);
                    let found = slot < here;
                    slot = slot.wrapping_sub(here);
                    found
                });
                entry.expect("the frequencies sum to 65536") as u8
            })
            .collect();
        let job = Job { tables: &tables, shape, entries: &entries, row_classes: &row_classes };
        let bytes = |isa| {
            let mut out = Vec::new();
            encode(isa, &job, &mut out).map(|()| out)
        };
        let portable = bytes(Isa::Portable);
        prop_assert!(portable.is_ok());
        for isa in Isa::available() {
            prop_assert!(bytes(isa) == portable, "{}", isa.name());
        }
    }
}

#[test]
fn no_encoder_codes_what_cannot_occur() {
    let mut counts = [1; ENTRIES];
    counts[40] = 0;
    let tables = [EncodeTable::new(&Frequencies::from_counts(&counts, 1), 1)];
    let mut entries = [5; 200];
    let shape = BlockShape { elements: entries.len(), row_len: 70, lanes: 64 };
    entries[137] = 40;
    for isa in Isa::available() {
        let job = Job { tables: &tables, shape, entries: &entries, row_classes: &[] };
        assert!(encode(isa, &job, &mut Vec::new()).is_err(), "{}", isa.name());
    }
}
