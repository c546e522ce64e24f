//! Hostile ends, section directories and records of the index.

use std::fs;

use upg::archive::ArchiveWriter;
use upg::dtype::Dtype;
use upg::format::{ArrayInfo, BlockMode, Extent, ExtentKind};

use super::parts::{ABSENT, ARRAYS, BLOCKS, EXTENTS, FILES, HEAP, MODELS, Parts, index_of, reseal, reseal_trailer};
use crate::forms::{SMALL, write_difference};
use crate::matrix::{Matrix, tensor_extent};
use crate::support::safetensors;

type Case = (&'static str, Vec<u8>);

/// A valid file: model `m` with `a/b.txt`, `c.safetensors` and `d`, model `n` with `x`.
/// Blocks and arrays: 0 text, 1 safetensors header, 2 tensor, 3 zeros.
fn valid() -> Vec<u8> {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("valid.upg");
    let mut writer = ArchiveWriter::create(&path).expect("a writer");
    let shard = safetensors(&[("w".into(), "U8", vec![2, 3], vec![1, 2, 3, 4, 5, 6])]);
    let (header, tensor) = shard.split_at(shard.len() - 6);
    let mut add = |mode, bytes: &[u8], length: u64| {
        let first_block = writer.add_block(mode, bytes).expect("a block");
        writer.add_array(&ArrayInfo::of_bytes(length, length as u32, first_block))
    };
    let text = add(BlockMode::Coded, b"text", 4);
    let start = add(BlockMode::Coded, header, header.len() as u64);
    let matrix = add(BlockMode::Stored, tensor, 6);
    let zeros = add(BlockMode::Zeros, &[], 16);
    let extent = |kind, offset, length, array| Extent {
        offset,
        length,
        kind,
        name: String::new(),
        dtype: None,
        shape: vec![],
        array: Some(array),
    };
    let at = header.len() as u64;
    let text = extent(ExtentKind::Bytes, 0, 4, text);
    writer.add_file("a/b.txt", std::slice::from_ref(&text));
    let tensor = tensor_extent(at, 6, Dtype::U8, vec![2, 3], matrix);
    writer.add_file("c.safetensors", &[extent(ExtentKind::Header, 0, at, start), tensor]);
    writer.add_file("d", &[text.clone(), extent(ExtentKind::Bytes, 4, 16, zeros)]);
    writer.add_model("m", "{}", 0);
    let second = writer.next_file();
    writer.add_file("x", &[text]);
    writer.add_model("n", "", second);
    writer.finish().expect("a file");
    fs::read(path).expect("a file")
}

pub fn cases() -> Vec<Case> {
    [ends(), directories(), names(), ranges(), extents(), arrays(), differences(), blocks()].concat()
}

/// The valid file with some of its parts changed.
fn changed(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::of(&valid());
    change(&mut parts);
    parts.seal()
}

/// The valid file with bytes of a record changed.
fn set(section: usize, i: usize, at: usize, bytes: &[u8]) -> Vec<u8> {
    changed(|parts| parts.set(section, i, at, bytes))
}

/// With bytes of the file changed, counted from its end if negative.
fn patched(at: isize, bytes: &[u8]) -> Vec<u8> {
    let mut file = valid();
    let at = if at < 0 { file.len() - at.unsigned_abs() } else { at.unsigned_abs() };
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn ends() -> Vec<Case> {
    let trailer = |at: isize, bytes: &[u8]| reseal_trailer(patched(at - 64, bytes));
    let size = valid().len() as u64;
    vec![
        ("header-magic", patched(0, b"PK")),
        ("header-version", patched(8, &[2])),
        ("header-reserved", patched(12, &[1])),
        ("trailer-magic", patched(-1, b"\r")),
        ("trailer-checksum", patched(-64, &[0x55])),
        ("trailer-version", trailer(40, &[0xFF; 4])),
        ("trailer-size", trailer(32, &(size - 1).to_le_bytes())),
        ("trailer-reserved", trailer(44, &[1])),
        ("trailer-index-in-header", trailer(0, &[8, 0])),
        ("trailer-index-overflows", trailer(8, &[0xFF; 8])),
        ("trailer-index-short", trailer(8, &[8, 0])),
        ("index-checksum", reseal_trailer(patched(-48, &[0x55]))),
        ("too-short", valid()[..79].to_vec()),
        ("cut", valid()[..size as usize - 1].to_vec()),
        ("longer", [valid(), vec![0]].concat()),
        (
            "feature-unknown",
            changed(|parts| {
                parts.features = 1 << 40;
                parts.sections[0] = b"\x04warp".to_vec();
            }),
        ),
        ("feature-unnamed", changed(|parts| parts.features = 1 << 63)),
        ("feature-not-set", changed(|parts| parts.sections[0] = b"\x04warp".to_vec())),
    ]
}

fn directories() -> Vec<Case> {
    // Entries of 24 bytes from byte 8 of the index on: id, offset, length.
    let index = |at: usize, bytes: &[u8]| {
        let mut file = valid();
        let at = index_of(&file).start + at;
        file[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(file)
    };
    vec![
        ("directory-count", index(0, &[0xFF; 4])),
        ("directory-empty", index(0, &[0])),
        ("directory-reserved", index(4, &[1])),
        ("directory-entry-reserved", index(12, &[1])),
        ("directory-order", index(8, &[3])),
        ("directory-twice", index(32, &[1])),
        ("directory-missing", index(152, &[8])),
        ("directory-outside", index(64, &[0xFF; 8])),
        ("directory-length", index(72, &[0xFF; 8])),
        ("directory-in-itself", index(40, &[8])),
        ("directory-overlap", index(40, &[177])),
        ("directory-half-a-record", changed(|parts| parts.sections[FILES].truncate(95))),
    ]
}

fn names() -> Vec<Case> {
    let path = |bytes: &[u8]| changed(|parts| parts.refer(FILES, 0, 0, bytes));
    let model = |bytes: &[u8]| changed(|parts| parts.refer(MODELS, 1, 0, bytes));
    vec![
        ("path-empty", path(b"")),
        ("path-dot", path(b"./b")),
        ("path-dot-dot", path(b"a/../../b")),
        ("path-absolute", path(b"/etc/passwd")),
        ("path-ends-in-slash", path(b"a/")),
        ("path-backslash", path(b"..\\b")),
        ("path-nul", path(b"b\0.txt")),
        ("path-newline", path(b"b\n.txt")),
        ("path-control", path("b\u{9B}31m".as_bytes())),
        ("path-not-utf-8", path(b"b\xC0\xAF")),
        ("path-long-name", path(&[b'b'; 256])),
        ("path-long", path(&[b"dddddddd/".repeat(455), b"e".to_vec()].concat())),
        ("path-twice", path(b"d")),
        ("path-case", path(b"D")),
        ("path-below-a-file", path(b"d/b.txt")),
        ("path-case-below-a-file", path(b"D/b.txt")),
        ("path-case-of-a-directory", changed(|parts| parts.refer(FILES, 2, 0, b"A/d"))),
        ("model-empty", model(b"")),
        ("model-dot-dot", model(b"..")),
        ("model-slash", model(b"m/n")),
        ("model-twice", model(b"m")),
        ("model-case", model(b"M")),
        ("model-metadata-not-utf-8", changed(|parts| parts.refer(MODELS, 1, 8, b"\xFF"))),
        ("ref-outside", set(FILES, 0, 0, &[0xFF; 4])),
        ("ref-longer-than-heap", set(FILES, 0, 4, &[0xFF; 4])),
        ("ref-of-nothing", set(FILES, 0, 0, &[1, 0, 0, 0, 0, 0, 0, 0])),
        (
            "refs-more-than-heap",
            changed(|parts| {
                // Two name all of it.
                let all = parts.sections[HEAP].len() as u32;
                for i in 0..2 {
                    parts.set(MODELS, i, 8, &[0; 4]);
                    parts.set(MODELS, i, 12, &all.to_le_bytes());
                }
            }),
        ),
    ]
}

fn ranges() -> Vec<Case> {
    vec![
        ("no-model", changed(|parts| parts.sections[1..4].iter_mut().for_each(Vec::clear))),
        ("model-files-gap", set(MODELS, 1, 16, &[2])),
        ("model-files-outside", set(MODELS, 1, 20, &[0xFF; 4])),
        ("files-of-no-model", set(MODELS, 1, 20, &[0])),
        ("file-extents-again", set(FILES, 2, 16, &[0])),
        ("file-extents-outside", set(FILES, 3, 20, &[0xFF; 4])),
        (
            "extents-of-no-file",
            changed(|parts| {
                let extent = parts.record(EXTENTS, 0).to_vec();
                parts.sections[EXTENTS].extend(extent);
            }),
        ),
        ("file-size", set(FILES, 0, 8, &[5])),
        ("file-size-huge", set(FILES, 0, 8, &[0xFF; 8])),
    ]
}

fn extents() -> Vec<Case> {
    let tensor = |at: usize, bytes: &[u8]| set(EXTENTS, 2, at, bytes);
    let shape = |dims: &[u64]| {
        let bytes: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        changed(|parts| parts.refer(EXTENTS, 2, 24, &bytes))
    };
    vec![
        ("extent-gap", set(EXTENTS, 4, 0, &[5])),
        ("extent-overlap", set(EXTENTS, 4, 0, &[3])),
        ("extent-overflow", set(EXTENTS, 4, 0, &[0xFF; 8])),
        ("extent-length", tensor(8, &[7])),
        ("extent-array-missing", tensor(32, &[4])),
        ("extent-without-array", tensor(32, &ABSENT)),
        ("extent-kind", tensor(36, &[3])),
        ("extent-dtype", tensor(37, &[22])),
        ("extent-reserved", tensor(38, &[1])),
        ("extent-name-without-tensor", changed(|parts| parts.refer(EXTENTS, 0, 16, b"w"))),
        ("extent-name-not-utf-8", changed(|parts| parts.refer(EXTENTS, 2, 16, b"\xED\xA0\x80"))),
        ("extent-header-later", set(EXTENTS, 4, 36, &[1])),
        ("shape-half-a-dimension", changed(|parts| parts.refer(EXTENTS, 2, 24, &[0; 12]))),
        ("shape-33-dimensions", shape(&[1; 33])),
        ("shape-overflows", shape(&[1 << 32, 1 << 32, 6])),
        ("shape-zero-and-overflow", shape(&[1 << 32, 1 << 32, 0])),
        ("shape-other-size", shape(&[2, 2])),
        (
            "shape-of-bits",
            changed(|parts| {
                // 9 elements of 4 bits are no number of bytes.
                parts.refer(EXTENTS, 2, 24, &9u64.to_le_bytes());
                parts.set(EXTENTS, 2, 37, &[Dtype::F4.code()]);
            }),
        ),
    ]
}

fn arrays() -> Vec<Case> {
    let array = |at: usize, bytes: &[u8]| set(ARRAYS, 0, at, bytes);
    vec![
        ("array-no-elements", array(0, &[0])),
        ("array-too-large", array(0, &[0xFF; 8])),
        ("array-more-elements", array(0, &[5])),
        ("array-row-length-0", array(8, &[0])),
        ("array-row-length", array(8, &[2])),
        ("array-block-of-nothing", array(16, &[0])),
        ("array-block-too-large", array(16, &[1, 0, 0, 1])),
        ("array-block-count", array(20, &[0xFF; 4])),
        ("array-block-missing", array(24, &[4])),
        ("array-block-overflows", array(24, &[0xFF; 4])),
        ("array-step-unused", array(28, &[1])),
        ("array-dtype", array(32, &[22])),
        ("array-dtype-of-bits", array(32, &[Dtype::F4.code()])),
        ("array-codec", array(33, &[4])),
        ("array-lanes-unused", array(34, &[1])),
        ("array-reserved", array(46, &[1])),
        ("array-side-unused", array(72, &[0; 4])),
    ]
}

/// A difference is from an array before it that is none itself, and has its form.
fn differences() -> Vec<Case> {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("difference.upg");
    write_difference(&path, &[SMALL, Matrix { rows: 2, ..SMALL }]);
    let file = fs::read(&path).expect("a file");
    let base = |array: usize, number: u32| {
        let mut parts = Parts::of(&file);
        parts.set(ARRAYS, array, 76, &number.to_le_bytes());
        parts.seal()
    };
    vec![
        ("difference-not-lossless", set(ARRAYS, 1, 76, &[1])),
        ("difference-from-itself", base(1, 2)),
        ("difference-from-a-later-array", base(0, 3)),
        ("difference-from-nothing", base(1, u32::MAX)),
        ("difference-from-a-difference", base(2, 2)),
        ("difference-of-another-form", base(3, 1)),
    ]
}

fn blocks() -> Vec<Case> {
    let block = |i: usize, at: usize, bytes: &[u8]| set(BLOCKS, i, at, bytes);
    let end = index_of(&valid()).start as u64;
    vec![
        ("block-in-header", block(0, 0, &[15])),
        ("block-in-index", block(0, 0, &(end - 3).to_le_bytes())),
        ("block-offset-overflows", block(0, 0, &[0xFF; 8])),
        ("block-length", block(0, 8, &[0xFF; 4])),
        ("block-mode", block(0, 12, &[3])),
        ("block-reserved", block(0, 13, &[1])),
        ("zeros-with-bytes", block(3, 8, &[1])),
        ("zeros-with-offset", block(3, 0, &[17])),
        ("zeros-with-checksum", block(3, 16, &[0])),
        ("stored-block-short", block(2, 8, &[5])),
        ("coded-block-long", block(0, 8, &[5])),
        ("block-checksum", {
            let mut parts = Parts::of(&valid());
            parts.body[0] ^= 1;
            parts.seal_without_blocks()
        }),
    ]
}
