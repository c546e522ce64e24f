//! Damage is noticed, or changes nothing that is served; nothing panics.

use std::path::{Path, PathBuf};

use upg::archive::Archive;
use upg::error::{Error, Result};
use upg::source::ReadAt;
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{Random, try_unpack, unpack};

/// Bytes in memory as a source.
struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn name(&self) -> &Path {
        Path::new("memory")
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let range = self.0.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        let range = range.ok_or_else(|| Error::truncated(self.name(), "memory", offset, "short"))?;
        buffer.copy_from_slice(range);
        Ok(())
    }
}

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
    Archive::from_source(Box::new(Memory(bytes)))
}

#[test]
fn flipped_bits_are_noticed() {
    for (path, bytes) in golden_files() {
        let whole = unpack(&open(bytes.clone()).expect("opens"));
        // Every bit of both ends and the index, and a sample of the blocks.
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

/// An attacker can make checksums right: then validation must hold alone.
#[test]
fn a_hostile_index_never_panics() {
    let mut random = Random(77);
    for (_, bytes) in golden_files() {
        let end = bytes.len() - 64;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
        let index = word(end)..word(end) + word(end + 8);
        for _ in 0..400 {
            let mut hostile = bytes.clone();
            for _ in 0..1 + random.next() % 3 {
                let at = index.start + random.next() as usize % index.len();
                hostile[at] = [0, 1, 0x7F, 0xFF, random.next() as u8][random.next() as usize % 5];
            }
            let checksum = xxh3_64(&hostile[index.clone()]);
            hostile[end + 16..end + 24].copy_from_slice(&checksum.to_le_bytes());
            let checksum = xxh3_64(&hostile[end..end + 48]);
            hostile[end + 48..end + 56].copy_from_slice(&checksum.to_le_bytes());
            if let Ok(archive) = open(hostile) {
                // A file may now claim to be huge; decode what is of a sane size.
                let size: u64 = archive.index().files.iter().map(|file| file.size).sum();
                if size < 64 << 20 {
                    let _ = try_unpack(&archive);
                }
            }
        }
    }
}
