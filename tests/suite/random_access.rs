//! Reading any range gives the bytes that reading everything gives.

use std::path::PathBuf;

use proptest::prelude::*;
use upg::archive::{Archive, FileId};
use upg::ops::convert::Target;

use crate::support::{Random, options, run, safetensors, unpack, write};

/// A model with blocks of several sizes, under three codecs, in two files.
fn archive(directory: &std::path::Path, target: Target) -> (PathBuf, Vec<u8>) {
    let mut random = Random(9);
    let source = directory.join("model");
    let tensors = [
        ("a".to_owned(), "BF16", vec![900, 1001], random.weights("BF16", 900 * 1001)),
        ("b".to_owned(), "F32", vec![7], random.weights("F32", 7)),
        ("c".to_owned(), "F16", vec![333, 999], random.weights("F16", 333 * 999)),
        ("d".to_owned(), "U8", vec![1_500_001], random.bytes(1_500_001)),
    ];
    write(&source, "config.json", b"{}");
    let shard = safetensors(&tensors);
    write(&source, "model.safetensors", &shard);
    let path = directory.join("model.upg");
    run(&options(&source, &path, target));
    (path, shard)
}

#[test]
fn any_range_is_the_same_as_the_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    for target in [Target::Bits(3.2), Target::Lossless] {
        let (path, shard) = archive(directory.path(), target);
        let archive = Archive::open(&path).expect("opens");
        let files = unpack(&archive);
        let (id, whole) = (FileId(1), &files[1].1);
        assert_eq!(files[1].0, "model.safetensors");
        if target == Target::Lossless {
            assert_eq!(whole, &shard);
        }
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
        let size = whole.len();
        let ranges = (0..=size).prop_flat_map(|start| (Just(start), 0..=(size - start).min(3 << 20)));
        let done = runner.run(&ranges, |(start, length)| {
            let mut bytes = vec![0; length];
            archive.read_at(id, start as u64, &mut bytes).expect("reads");
            prop_assert!(bytes == whole[start..start + length]);
            Ok(())
        });
        done.expect("every range");
        let mut beyond = [0; 2];
        assert!(archive.read_at(id, size as u64 - 1, &mut beyond).is_err());
        assert!(archive.read_at(id, u64::MAX, &mut beyond).is_err());
        std::fs::remove_file(&path).expect("removes");
    }
}
