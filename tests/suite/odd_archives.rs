//! Archives that no conversion makes, merged and unpacked.

use std::path::Path;

use upg::archive::ArchiveWriter;
use upg::error::Error;
use upg::format::{ArrayInfo, BlockMode, Extent, ExtentKind};
use upg::ops::merge::{self, Input};
use upg::ops::unpack::{self, Selection, unpack};

fn zeros(elements: u64, first_block: u32) -> ArrayInfo {
    ArrayInfo::of_bytes(elements, 1, first_block)
}

fn write(path: &Path, fill: impl FnOnce(&mut ArchiveWriter)) {
    let mut writer = ArchiveWriter::create(path).expect("a writer");
    fill(&mut writer);
    writer.add_model("m", "", 0);
    writer.finish().expect("a file");
}

/// They would be taken for what they are called after, and removed.
#[test]
fn files_with_names_of_unfinished_files_are_not_unpacked() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("m.upg");
    for name in [".upg-unpack.json", ".upg-abc123.partial", "a/.upg-abc123.partial", ".upg-abc123.partial/b"] {
        write(&file, |writer| writer.add_file(name, &[]));
        let output = place.path().join("out");
        let options =
            unpack::Options { file: file.clone(), output, selection: Selection::default(), threads: 1, force: true };
        let error = unpack(&options, &()).expect_err("a name of ours").to_string();
        assert!(error.contains(name) && error.contains("--file"), "{error}");
        assert!(!options.output.exists());
    }
}

/// In a copy each has records of its own: a small file could become a huge one.
#[test]
fn arrays_that_share_their_blocks_many_times_over_are_not_merged() {
    let place = tempfile::tempdir().expect("a directory");
    let (file, output) = (place.path().join("m.upg"), place.path().join("merged.upg"));
    let merged = |arrays: u32| {
        write(&file, |writer| {
            for _ in 0..1000 {
                writer.add_block(BlockMode::Zeros, &[]).expect("a block");
            }
            let extents: Vec<Extent> = (0..arrays)
                .map(|i| {
                    let array = writer.add_array(&ArrayInfo { zeros: u64::from(i), ..zeros(1000, 0) });
                    let (kind, name, offset) = (ExtentKind::Bytes, String::new(), 1000 * u64::from(i));
                    Extent { offset, length: 1000, kind, name, dtype: None, shape: vec![], array: Some(array) }
                })
                .collect();
            writer.add_file("f", &extents);
        });
        let inputs = vec![Input { file: file.clone(), name: None }];
        merge::merge(&merge::Options { inputs, output: output.clone(), delta: None, force: true }, &())
    };
    assert!(matches!(merged(100), Err(Error::Unsupported { .. })) && !output.exists());
    assert_eq!(merged(3).expect("a few may").arrays, 3);
}
