#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use upg_fuzz::index;

fuzz_target!(|data: &[u8]| index::run(data));

// Most bytes of a file are blocks, but most of what can go wrong with it is in the index:
// three of four changes are made there, to a number of a record.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let within = index::index_within(&data[..size]).filter(|index| index.len() >= 8 && seed % 4 != 0);
    let Some(index) = within else { return fuzzer_mutate(data, size, max_size) };
    let mut random = u64::from(seed);
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for _ in 0..1 + next() % 3 {
        // Numbers are of 1, 2, 4 or 8 bytes and stand at multiples of their size.
        let width = 1 << (next() % 4);
        let at = index.start + next() % (index.len() / width) * width;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| data[(at + i).min(size - 1)]));
        let (old, from_elsewhere) = (number(at), number(index.start + next() % index.len()));
        let new = match next() % 8 {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => 0,
            3 => u64::MAX,
            4 => 1 << (next() % 64),
            5 => (1u64 << (next() % 64)).wrapping_sub(1),
            6 => next() as u64,
            // A number from elsewhere in the index.
            _ => from_elsewhere,
        };
        data[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
    }
    size
});
