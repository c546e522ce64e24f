//! Hostile parameters of codecs, side blocks and payloads.

use std::fs;

use upg::archive::ArchiveWriter;
use upg::codec::manifold::Grid;
use upg::codec::params::{PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::dtype::{Dtype, Split};
use upg::format::{ArrayInfo, BlockMode, Codec, Extent, ExtentKind};

use super::parts::{ABSENT, ARRAYS, BLOCKS, EXTENTS, Parts};
use crate::matrix::{Matrix, write_matrix};

type Case = (&'static str, Vec<u8>);

pub fn cases() -> Vec<Case> {
    [lossless(), sparse(), sides(), payloads(), frames()].concat()
}

/// Enough for each lane to need a word or more.
const ROWS: usize = 12;
const COLUMNS: usize = 20;

/// A file of one small matrix: block 0 is its payload, block 1 its side block.
fn matrix(params: SymbolParams) -> Parts {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("valid.upg");
    write_matrix(&path, &params, Matrix { rows: ROWS, columns: COLUMNS, block_rows: ROWS });
    Parts::of(&fs::read(path).expect("a file"))
}

fn lossless_params() -> SymbolParams {
    let map = SymbolMap::Lossless(Split { shift: 7, bits: 8 });
    SymbolParams { dtype: Dtype::BF16, lanes: 32, raw_bits: 8, classes: 1, row_classes: false, map }
}

/// With steps and classes of rows, in the order in which the payload has them.
fn sparse_params() -> SymbolParams {
    let map = SymbolMap::PrimeSparse(PrimeSparse {
        step: 0.01,
        grid: Grid::Uniform,
        trellis: Some(Trellis { log2_states: 2, h0: 0o5, h1: 0o2 }),
        row_steps: true,
        column_steps: true,
        centroids: true,
    });
    SymbolParams { dtype: Dtype::BF16, lanes: 32, raw_bits: 0, classes: 2, row_classes: true, map }
}

fn changed(params: SymbolParams, change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = matrix(params);
    change(&mut parts);
    parts.seal()
}

fn lossless() -> Vec<Case> {
    let set = |at: usize, bytes: &[u8]| changed(lossless_params(), |parts| parts.set(ARRAYS, 0, at, bytes));
    vec![
        ("lossless-no-lanes", set(34, &[0])),
        ("lossless-9-lanes", set(34, &[9])),
        ("lossless-raw-bits", set(35, &[9])),
        ("lossless-split-outside", set(36, &[9])),
        ("lossless-split-of-0-bits", set(37, &[0])),
        ("lossless-split-too-wide", set(37, &[17])),
        ("lossless-grid", set(38, &[1])),
        ("lossless-row-steps", set(39, &[1])),
        ("lossless-no-classes", set(40, &[0])),
        ("lossless-17-classes", set(40, &[17])),
        ("lossless-trellis", set(41, &[2])),
        ("lossless-parts-of-rows", set(8, &[21])),
        ("lossless-no-side-block", set(72, &ABSENT)),
        ("lossless-side-block-missing", set(72, &[2])),
        (
            "lossless-side-block-of-zeros",
            changed(lossless_params(), |parts| {
                let zeros = [&16u64.to_le_bytes()[..], &[0, 0, 0, 0, 2, 0, 0, 0]].concat();
                parts.set(BLOCKS, 1, 0, &zeros);
                parts.set(BLOCKS, 1, 16, &0x2D06_8005_38D3_94C2u64.to_le_bytes());
            }),
        ),
    ]
}

fn sparse() -> Vec<Case> {
    let set = |at: usize, bytes: &[u8]| changed(sparse_params(), |parts| parts.set(ARRAYS, 0, at, bytes));
    vec![
        ("sparse-step-0", set(28, &0f32.to_le_bytes())),
        ("sparse-step-negative", set(28, &(-0.5f32).to_le_bytes())),
        ("sparse-step-infinite", set(28, &f32::INFINITY.to_le_bytes())),
        ("sparse-dtype", set(32, &[Dtype::I16.code()])),
        ("sparse-raw-bits-and-centroids", set(35, &[1])),
        ("sparse-split", set(36, &[1])),
        ("sparse-grid", set(38, &[2])),
        ("sparse-flags", set(39, &[0x1F])),
        ("sparse-trellis-512-states", set(41, &[9])),
        ("sparse-trellis-polynomial", set(42, &[8])),
        ("sparse-polynomial-without-trellis", set(41, &[0])),
        (
            "sparse-prime-raw-bits",
            changed(sparse_params(), |parts| {
                parts.set(ARRAYS, 0, 35, &[5, 0, 0, 1, 7]);
            }),
        ),
        ("sparse-raw-bits", changed(sparse_params(), |parts| parts.set(ARRAYS, 0, 35, &[13, 0, 0, 0, 7]))),
        (
            "sparse-not-a-tensor",
            changed(sparse_params(), |parts| {
                // Bytes without name, shape and element type.
                parts.set(EXTENTS, 0, 16, &[0; 16]);
                parts.set(EXTENTS, 0, 36, &[0, 0]);
            }),
        ),
        (
            "sparse-tensor-of-another-type",
            changed(sparse_params(), |parts| {
                parts.set(EXTENTS, 0, 37, &[Dtype::F16.code()]);
            }),
        ),
    ]
}

fn sides() -> Vec<Case> {
    let side = |params: SymbolParams, change: fn(&mut Vec<u8>)| {
        changed(params, |parts| {
            let mut side = parts.stored(1);
            change(&mut side);
            parts.store(1, &side);
        })
    };
    vec![
        ("side-empty", side(sparse_params(), Vec::clear)),
        ("side-short", side(sparse_params(), |side| side.truncate(side.len() - 1))),
        ("side-long", side(sparse_params(), |side| side.push(0))),
        ("side-frequencies", side(sparse_params(), |side| side[2] ^= 1)),
        ("side-frequencies-of-second-class", side(sparse_params(), |side| side[128 + 64] ^= 1)),
        ("side-centroid-not-a-number", side(sparse_params(), |side| side[256 + 4..256 + 8].fill(0xFF))),
        ("side-centroid-of-escape", side(sparse_params(), |side| side[256] = 1)),
        ("side-field-value", side(lossless_params(), |side| side[128 + 3] = 1)),
        ("side-field-value-of-escape", side(lossless_params(), |side| side[128] = 1)),
    ]
}

fn payloads() -> Vec<Case> {
    const STEPS: usize = 4;
    const CLASSES: usize = STEPS + ROWS;
    const STATES: usize = CLASSES + ROWS;
    let payload = |change: &dyn Fn(&mut Vec<u8>)| {
        changed(sparse_params(), |parts| {
            let mut payload = parts.stored(0);
            assert_eq!(payload[..4], [0; 4], "a payload without escapes");
            assert!(payload.len() > STATES + 128, "a payload with words");
            change(&mut payload);
            parts.store(0, &payload);
        })
    };
    // Two escapes, at these places.
    let escapes = |a: u32, b: u32| {
        payload(&move |payload| {
            payload[0] = 2;
            let listed = [&a.to_le_bytes()[..], &b.to_le_bytes(), &[0; 4]].concat();
            payload.splice(STATES..STATES, listed);
        })
    };
    vec![
        ("payload-empty", payload(&Vec::clear)),
        ("payload-cut-in-count", payload(&|payload| payload.truncate(3))),
        ("payload-cut-in-steps", payload(&|payload| payload.truncate(STEPS + 1))),
        ("payload-cut-in-states", payload(&|payload| payload.truncate(STATES + 100))),
        ("payload-half-a-word", payload(&|payload| payload.push(0))),
        ("payload-word-missing", payload(&|payload| payload.truncate(payload.len() - 2))),
        ("payload-no-words", payload(&|payload| payload.truncate(STATES + 128))),
        ("payload-word-more", payload(&|payload| payload.extend([0, 0]))),
        ("payload-other-word", payload(&|payload| *payload.last_mut().expect("words") ^= 0x40)),
        ("payload-class", payload(&|payload| payload[CLASSES + 1] = 2)),
        ("payload-state-0", payload(&|payload| payload[STATES..STATES + 2].fill(0))),
        ("payload-state-of-idle-lane", payload(&|payload| payload[STATES + 2 * 31] = 2)),
        ("payload-escapes-more-than-elements", payload(&|payload| payload[0] = 241)),
        ("payload-escapes-2-to-the-32", payload(&|payload| payload[..4].fill(0xFF))),
        ("payload-escapes-missing", payload(&|payload| payload[0] = 240)),
        ("payload-escapes-descend", escapes(7, 6)),
        ("payload-escape-twice", escapes(7, 7)),
        ("payload-escape-outside", escapes(7, 240)),
        (
            "payload-stored-short",
            changed(sparse_params(), |parts| {
                parts.store(0, &[1; 2 * ROWS * COLUMNS - 1]);
                parts.set(BLOCKS, 0, 12, &[1]);
            }),
        ),
    ]
}

/// One block of 30 bytes under codec 1.
fn frame(stored: &[u8]) -> Vec<u8> {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("valid.upg");
    let mut writer = ArchiveWriter::create(&path).expect("a writer");
    let first_block = writer.add_block(BlockMode::Coded, stored).expect("a block");
    let array = writer.add_array(&ArrayInfo {
        elements: 30,
        row_len: 1,
        block_elems: 30,
        first_block,
        dtype: Dtype::U8,
        codec: Codec::Zstd,
        side_block: None,
        base: None,
        zeros: 0,
        signal: 0.0,
        noise: 0.0,
    });
    let (kind, name, shape) = (ExtentKind::Bytes, String::new(), vec![]);
    writer.add_file("f", &[Extent { offset: 0, length: 30, kind, name, dtype: None, shape, array: Some(array) }]);
    writer.add_model("m", "", 0);
    writer.finish().expect("a file");
    fs::read(path).expect("a file")
}

fn frames() -> Vec<Case> {
    // Written out, so that no other version of zstd makes others: a raw block of n bytes
    // in a single segment of known size.
    let raw = |says: u8, n: u8| {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x20, says, 1 | n << 3, n >> 5, 0];
        frame.extend((0..n).map(|i| b'a' + i % 26));
        frame
    };
    // One byte, repeated: a block type that makes much of little.
    let repeated = |says: u32, n: u32| {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xA0];
        frame.extend(says.to_le_bytes());
        frame.extend(&(3 | n << 3).to_le_bytes()[..3]);
        frame.push(b'x');
        frame
    };
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 0, 0][..], &raw(30, 30)].concat();
    let dictionary = [&[0x28, 0xB5, 0x2F, 0xFD, 0x21, 7, 30][..], &raw(30, 30)[6..]].concat();
    vec![
        ("zstd-empty", frame(b"")),
        ("zstd-no-frame", frame(&[0; 30])),
        ("zstd-frame-short", frame(&raw(29, 29))),
        ("zstd-frame-long", frame(&raw(31, 31))),
        ("zstd-frame-cut", frame(&raw(30, 30)[..38])),
        ("zstd-frame-lies", frame(&raw(30, 29))),
        ("zstd-two-frames", frame(&[raw(15, 15), raw(15, 15)].concat())),
        ("zstd-bytes-behind", frame(&[raw(30, 30), vec![0]].concat())),
        ("zstd-skippable-frame", frame(&skippable)),
        ("zstd-dictionary", frame(&dictionary)),
        ("zstd-bomb", frame(&repeated(100_000, 100_000))),
    ]
}
