//! What comes from the future is refused by name; what is not ours, plainly.

use std::fs;
use std::path::Path;

use upg::archive::Archive;
use upg::ops::convert::Target;
use xxhash_rust::xxh3::xxh3_64;

use crate::hostile::{index_of, reseal_trailer};
use crate::support::{options, safetensors, try_run, unpack, write};

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).expect("a golden file")
}

fn open(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), bytes).expect("bytes");
    let error = Archive::open(file.path()).err().expect("refused").to_string();
    assert!(error.starts_with(&file.path().display().to_string()), "{error}");
    error
}

/// Changes the trailer and gives it a right checksum again.
fn with_trailer(mut bytes: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let at = bytes.len() - 64;
    change(&mut bytes[at..]);
    reseal_trailer(bytes)
}

#[test]
fn a_newer_version_is_named() {
    let newer = with_trailer(golden("rows.upg"), |trailer| trailer[40] = 2);
    assert!(open(&newer).contains("format version 2"), "{}", open(&newer));
    let mut header = golden("rows.upg");
    header[8] = 9;
    assert!(open(&header).contains("format version 9"));
}

#[test]
fn an_unknown_feature_is_named() {
    let original = golden("rows.upg");
    let end = original.len() - 64;
    let index_offset = index_of(&original).start;
    // The first section, FEATURES, is empty: put a name at the end of the index
    // and point the section at it.
    let mut index = original[index_offset..end].to_vec();
    let at = index.len() as u64;
    index.extend_from_slice(b"\x0cxor-to-base!");
    index[16..24].copy_from_slice(&at.to_le_bytes());
    index[24..32].copy_from_slice(&13u64.to_le_bytes());
    let mut bytes = original[..index_offset].to_vec();
    bytes.extend_from_slice(&index);
    bytes.extend_from_slice(&original[end..]);
    let size = bytes.len() as u64;
    let bytes = with_trailer(bytes, |trailer| {
        trailer[8..16].copy_from_slice(&(index.len() as u64).to_le_bytes());
        trailer[16..24].copy_from_slice(&xxh3_64(&index).to_le_bytes());
        trailer[24..32].copy_from_slice(&(1u64 << 5).to_le_bytes());
        trailer[32..40].copy_from_slice(&size.to_le_bytes());
    });
    let error = open(&bytes);
    assert!(error.contains("xor-to-base!") && error.contains("bit 5"), "{error}");
}

#[test]
fn other_files_are_not_ours() {
    assert!(open(b"").contains("too few"));
    assert!(open(&[0; 200]).contains("not a UPG file"));
    let mut longer = golden("rows.upg");
    longer.push(0);
    assert!(open(&longer).contains("closing magic"));
}

/// Whatever convert accepts, open accepts: so it is convert that must refuse names.
#[test]
fn names_that_differ_in_case_only_are_not_converted() {
    for (a, b) in [
        ("Config.json", "config.json"),
        ("sub/x", "Sub/y"),
        ("deep/er/x", "deep/Er/y"),
        ("README", "readme/x"),
        ("model.safetensors", "Model.safetensors"),
    ] {
        let place = tempfile::tempdir().expect("a directory");
        let source = place.path().join("source");
        write(&source, "model.safetensors", &safetensors(&[]));
        write(&source, a, &safetensors(&[]));
        write(&source, b, &safetensors(&[]));
        let output = place.path().join("out.upg");
        let error = try_run(&options(&source, &output, Target::Lossless)).expect_err(a).to_string();
        assert!(error.contains(&format!("{a:?}")) && error.contains(&format!("{b:?}")), "{error}");
        assert!(error.starts_with(&source.display().to_string()) && error.ends_with("remove one of them"), "{error}");
        assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 1, "{error}");
    }
}

#[test]
fn names_that_are_only_alike_are_converted() {
    let place = tempfile::tempdir().expect("a directory");
    let source = place.path().join("source");
    let paths = ["a/x", "a.x", "a-x", "a x", "ab/X", "b/x", "model.safetensors", "\u{e4}", "\u{c4}"];
    paths.iter().for_each(|path| write(&source, path, &safetensors(&[])));
    let output = place.path().join("out.upg");
    try_run(&options(&source, &output, Target::Lossless)).expect("converted");
    let mut found: Vec<_> = unpack(&Archive::open(&output).expect("opens")).into_iter().map(|file| file.0).collect();
    found.sort();
    let mut paths = paths.to_vec();
    paths.sort();
    assert_eq!(found, paths);
}
