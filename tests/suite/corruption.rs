//! Damage is noticed, or changes nothing that is served; nothing panics.

use std::path::{Path, PathBuf};

use upg::archive::Archive;
use upg::error::Result;
use upg::ops::convert::Target;
use upg::source::Memory;

use crate::forms;
use crate::hostile::{Parts, index_of, reseal};
use crate::support::{Random, options, run, safetensors, try_unpack, unpack, write};

fn golden_files() -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("tests/golden")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "upg"))
        .map(|path| (path.clone(), std::fs::read(&path).expect("a golden file")))
        .collect();
    files.sort();
    files
}

fn open(bytes: Vec<u8>) -> Result<Archive> {
    Archive::from_source(Box::new(Memory::new("memory", bytes)))
}

/// Not one bit of a file is without a checksum, or a value that it must have.
#[test]
fn every_flipped_bit_of_every_codec_is_noticed() {
    let mut flips = 0;
    for (name, bytes) in forms::files() {
        unpack(&open(bytes.clone()).expect("opens"));
        assert!(bytes.len() < 3000, "{name}: {} bytes", bytes.len());
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let served = open(damaged).and_then(|archive| try_unpack(&archive));
            assert!(served.is_err(), "{name}: bit {} of byte {}", bit % 8, bit / 8);
        }
        flips += 8 * bytes.len();
    }
    println!("{flips} bits flipped");
    assert!(flips > 100_000);
}

#[test]
fn every_truncation_of_every_codec_is_noticed() {
    for (name, bytes) in forms::files() {
        for length in 0..bytes.len() {
            assert!(open(bytes[..length].to_vec()).is_err(), "{name} cut at {length}");
        }
    }
}

/// Where the checksums are made to fit, the decoder is alone: whatever bit is flipped, it
/// gives bytes or an error. That every kernel gives the same, `fuzz/src/block.rs` checks.
#[test]
fn every_flipped_bit_with_fitting_checksums_gives_bytes_or_an_error() {
    let (mut refused, mut served) = (0, 0);
    for (name, bytes) in forms::files() {
        let length = Parts::of(&bytes).body.len();
        let sizes: Vec<usize> = unpack(&open(bytes.clone()).expect("opens")).iter().map(|file| file.1.len()).collect();
        for bit in 0..8 * length {
            let mut parts = Parts::of(&bytes);
            parts.body[bit / 8] ^= 1 << (bit % 8);
            match open(parts.seal()).and_then(|archive| try_unpack(&archive)) {
                Ok(files) => {
                    served += 1;
                    assert!(files.iter().map(|file| file.1.len()).eq(sizes.iter().copied()), "{name}: bit {bit}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("at byte"), "{name}: bit {bit}: {error}");
                }
            }
        }
    }
    println!("{refused} refused, {served} served");
    assert!(refused > 10_000 && served > 1000);
}

#[test]
fn flipped_bits_are_noticed() {
    for (path, bytes) in golden_files() {
        let whole = unpack(&open(bytes.clone()).expect("opens"));
        // A bit of each byte of header and trailer, and of a sample of the blocks and the index.
        let ends = (0..16).chain(bytes.len() - 64..bytes.len());
        let sampled = (16..bytes.len() - 64).step_by(bytes.len() / 400 + 1);
        for at in ends.chain(sampled) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let served = open(damaged).and_then(|archive| try_unpack(&archive));
            assert!(served.is_err() || served.is_ok_and(|files| files == whole), "{} byte {at}", path.display());
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    for (path, bytes) in golden_files() {
        for length in (0..bytes.len()).step_by(bytes.len() / 300 + 1).chain(bytes.len() - 64..bytes.len()) {
            assert!(open(bytes[..length].to_vec()).is_err(), "{} cut at {length}", path.display());
        }
    }
}

/// Whatever a tensor is called, what is said of its side block names it.
#[test]
fn damage_in_a_side_block_names_the_tensor() {
    let place = tempfile::tempdir().expect("a directory");
    let (source, output) = (place.path().join("source"), place.path().join("out.upg"));
    let name = "block 0.block 07.weight";
    let tensor = (name.to_owned(), "BF16", vec![64, 64], Random(5).weights("BF16", 4096));
    write(&source, "model.safetensors", &safetensors(&[tensor]));
    run(&options(&source, &output, Target::Lossless));
    let mut bytes = std::fs::read(&output).expect("an archive");
    let archive = open(bytes.clone()).expect("opens");
    let side = archive.index().arrays.iter().find_map(|array| array.side_block).expect("a side block");
    bytes[archive.index().block(side).offset as usize] ^= 1;
    let error = open(bytes).and_then(|archive| try_unpack(&archive)).expect_err("damaged").to_string();
    assert!(error.contains(&format!("tensor {name:?} of \"model.safetensors\", side block at byte")), "{error}");
}

/// An attacker can make checksums right: then validation must hold alone.
#[test]
fn a_hostile_index_never_panics() {
    let mut random = Random(77);
    for (_, bytes) in golden_files() {
        let index = index_of(&bytes);
        for _ in 0..400 {
            let mut hostile = bytes.clone();
            for _ in 0..1 + random.next() % 3 {
                let at = index.start + random.next() as usize % index.len();
                hostile[at] = [0, 1, 0x7F, 0xFF, random.next() as u8][random.next() as usize % 5];
            }
            if let Ok(archive) = open(reseal(hostile)) {
                // A file may now claim to be huge; decode what is of a sane size.
                let size: u64 = archive.index().files.iter().map(|file| file.size).sum();
                if size < 64 << 20 {
                    let _ = try_unpack(&archive);
                }
            }
        }
    }
}
