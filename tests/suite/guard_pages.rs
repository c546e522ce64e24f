//! Kernels and encoders read and write nothing beyond their slices: these end where
//! memory that may not be touched begins.

use std::ops::{Deref, DerefMut};

use upg::codec::decode_block_on;
use upg::codec::encode::{Symbols, encode_block_on, trellis_entries};
use upg::codec::entropy::encode::EncodeTable;
use upg::codec::entropy::frequencies::Frequencies;
use upg::codec::isa::Isa;
use upg::codec::layout::BlockShape;
use upg::codec::manifold::Grid;
use upg::codec::params::{ESCAPE, PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::codec::raw::Raw;
use upg::codec::side::{Side, SideContent, contexts};
use upg::dtype::Dtype;

use crate::support::Random;

const PAGE: usize = 4096;

/// Bytes whose end is followed by a page without any access rights.
struct Guarded {
    base: *mut u8,
    mapped: usize,
    len: usize,
}

impl Guarded {
    fn new(bytes: &[u8]) -> Guarded {
        let pages = bytes.len().div_ceil(PAGE) * PAGE;
        let mapped = pages + PAGE;
        // SAFETY: a fresh anonymous mapping; its last page loses all rights.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(base, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(base.byte_add(pages), PAGE, libc::PROT_NONE), 0);
            base.cast::<u8>()
        };
        let mut guarded = Guarded { base, mapped, len: bytes.len() };
        guarded.copy_from_slice(bytes);
        guarded
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: the bytes end where the last page begins.
        unsafe { self.base.add(self.mapped - PAGE - self.len) }
    }
}

impl Deref for Guarded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` on are mapped and initialised.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows it any more.
        unsafe { libc::munmap(self.base.cast(), self.mapped) };
    }
}

fn maps() -> Vec<(Dtype, u8, SymbolMap)> {
    let plain = PrimeSparse {
        step: 0.01,
        grid: Grid::Uniform,
        trellis: None,
        row_steps: false,
        column_steps: false,
        centroids: false,
    };
    let trellis = Some(Trellis { log2_states: 3, h0: 0o13, h1: 0o4 });
    let lossless = |dtype: Dtype| {
        let split = dtype.split().expect("a type that splits");
        (dtype, dtype.bits() as u8 - split.bits, SymbolMap::Lossless(split))
    };
    let column_steps = true;
    vec![
        (Dtype::BF16, 0, SymbolMap::PrimeSparse(plain)),
        (Dtype::F16, 0, SymbolMap::PrimeSparse(PrimeSparse { trellis, row_steps: true, ..plain })),
        (Dtype::F32, 2, SymbolMap::PrimeSparse(PrimeSparse { trellis, column_steps: true, ..plain })),
        (Dtype::F32, 0, SymbolMap::PrimeSparse(plain)),
        (Dtype::BF16, 3, SymbolMap::PrimeSparse(PrimeSparse { trellis, ..plain })),
        (Dtype::F16, 10, SymbolMap::PrimeSparse(PrimeSparse { row_steps: true, ..plain })),
        (Dtype::BF16, 12, SymbolMap::PrimeSparse(plain)),
        (Dtype::BF16, 0, SymbolMap::PrimeSparse(PrimeSparse { trellis, column_steps, ..plain })),
        (Dtype::F16, 0, SymbolMap::PrimeSparse(PrimeSparse { column_steps, ..plain })),
        lossless(Dtype::BF16),
        lossless(Dtype::F16),
        lossless(Dtype::F32),
        lossless(Dtype::F64),
        lossless(Dtype::F8_E4M3),
    ]
}

#[test]
fn nothing_is_touched_beyond_the_slices() {
    let mut random = Random(11);
    for (dtype, raw_bits, map) in maps() {
        for lanes in [32, 64, 96, 128, 256] {
            for (row_len, elements) in [
                (lanes, 3 * lanes),
                (lanes, 5 * lanes - 7),
                (lanes + 9, 4 * lanes),
                (3 * lanes, 8 * lanes - 1),
                (3, 10),
            ] {
                let params = SymbolParams { dtype, lanes, raw_bits, classes: 1, row_classes: false, map };
                let params = params.validate().expect("valid parameters");
                let shape = BlockShape { elements, row_len, lanes };
                let contexts = contexts(&params);
                let frequencies = [Frequencies::from_counts(&[1; 64], contexts)];
                let field_values = std::array::from_fn(|i| i as u16);
                let side = SideContent {
                    frequencies: &frequencies,
                    field_values: params.prime_sparse().is_none().then_some(&field_values),
                    centroids: None,
                    column_steps: &vec![
                        128;
                        if params.prime_sparse().is_some_and(|p| p.column_steps) { row_len } else { 0 }
                    ],
                };
                let side = Side::parse(&params, row_len, &side.to_bytes()).expect("a side block");
                let alphabet = 64 / contexts as u64;
                let symbols: Vec<u8> = (0..elements).map(|_| (random.next() % alphabet) as u8).collect();
                let raw: Vec<u64> = symbols
                    .iter()
                    .map(|&s| if s == ESCAPE { 0 } else { random.next() & ((1 << raw_bits) - 1) })
                    .collect();
                let block = Symbols {
                    symbols: &Guarded::new(&trellis_entries(&params, &shape, &symbols, Raw::U64(&raw))),
                    row_steps: &vec![130; if params.row_steps() { shape.rows() } else { 0 }],
                    ..Default::default()
                };
                let table = [EncodeTable::new(&frequencies[0], contexts)];
                let encode = |isa| {
                    encode_block_on(isa, &params, &shape, &table, &block, Raw::U64(&raw))
                        .expect("every symbol has a frequency")
                };
                let payload = encode(Isa::Portable);
                assert!(Isa::available().into_iter().all(|isa| encode(isa) == payload), "{lanes} lanes");
                let payload = Guarded::new(&payload);
                let mut outputs = Vec::new();
                for isa in Isa::available() {
                    let mut out = Guarded::new(&vec![0xA5; elements * dtype.width().expect("whole bytes")]);
                    let done = decode_block_on(isa, &params, &side, row_len, &payload, &mut out);
                    assert_eq!(done, Ok(()), "{} with {lanes} lanes", isa.name());
                    outputs.push(out.to_vec());
                }
                assert!(outputs.iter().all(|out| *out == outputs[0]));
            }
        }
    }
}
