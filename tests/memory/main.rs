//! Memory that hostile files can take: a small multiple of their own bytes. A program of
//! its own, as it has an allocator of its own.

mod counting;
mod reads;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use upg::archive::{Archive, ArchiveWriter, ArrayId};
use upg::codec::manifold::Grid;
use upg::codec::params::{PrimeSparse, SymbolMap, SymbolParams};
use upg::dtype::Dtype;
use upg::format::{ArrayInfo, BlockMode, Codec, Extent, ExtentKind};
use upg::source::Memory;
use upg::vfs::Vfs;
use xxhash_rust::xxh3::xxh3_64;

use counting::{Counting, most_allocated};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a program may take for anything.
const ANYTHING: usize = 64 << 10;
/// What an open file may take for each of its bytes: records of 24 to 80 bytes become
/// structures of about twice the size with a text or two, each an allocation.
const PER_BYTE: usize = 8;

/// The counters are those of the whole program.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn files(directory: &str, suffix: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == suffix))
        .map(|path| (path.clone(), fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    files
}

/// Opens a file and decodes its blocks, each by itself, within bounds; whether it opens.
fn open_and_decode(name: &Path, bytes: Vec<u8>) -> bool {
    let size = bytes.len();
    let (archive, most) = most_allocated(|| Archive::from_source(Box::new(Memory::new("memory", bytes))));
    assert!(most <= ANYTHING + PER_BYTE * size, "{}: {most} bytes to open {size}", name.display());
    let Ok(archive) = archive else { return false };
    for (i, array) in archive.index().arrays.iter().enumerate() {
        for block in 0..array.block_count().min(4) {
            // A caller knows what it asks for: the most is 16 MiB.
            let mut out = vec![0; array.bytes_of_block(block) as usize];
            let (_, most) = most_allocated(|| archive.decode_block(ArrayId(i as u32), block, &mut out));
            assert!(most <= 4 * ANYTHING + PER_BYTE * size, "{}: {most} bytes to decode", name.display());
        }
    }
    true
}

#[test]
fn hostile_files_take_little() {
    let _alone = alone();
    let files = files("bad", "upg");
    assert!(files.len() > 40);
    for (path, bytes) in files {
        open_and_decode(&path, bytes);
    }
}

/// Numbers of valid files replaced by others, with checksums that fit.
#[test]
fn resealed_mutations_take_little() {
    let _alone = alone();
    let mut random = 5u64;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    let (mut opened, mut all) = (0, 0);
    for (path, bytes) in files("golden", "upg").into_iter().filter(|(_, bytes)| bytes.len() < 40_000) {
        let end = bytes.len() - 64;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
        let index = word(end)..word(end) + word(end + 8);
        for _ in 0..200 {
            let mut hostile = bytes.clone();
            for _ in 0..1 + next() % 2 {
                let width = 1 << (next() % 4);
                let at = index.start + next() % (index.len() / width) * width;
                let new = [0, u64::MAX, 1 << (next() % 64), next() as u64][next() % 4];
                hostile[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
            }
            let checksum = xxh3_64(&hostile[index.clone()]);
            hostile[end + 16..end + 24].copy_from_slice(&checksum.to_le_bytes());
            let checksum = xxh3_64(&hostile[end..end + 48]);
            hostile[end + 48..end + 56].copy_from_slice(&checksum.to_le_bytes());
            opened += usize::from(open_and_decode(&path, hostile));
            all += 1;
        }
    }
    println!("{opened} of {all} opened");
    assert!(opened > 100 && opened < all - 100);
}

fn written(write: impl FnOnce(&mut ArchiveWriter)) -> Vec<u8> {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("written.upg");
    let mut writer = ArchiveWriter::create(&path).expect("a writer");
    write(&mut writer);
    writer.finish().expect("a file");
    fs::read(path).expect("a file")
}

fn extent(offset: u64, length: u64, array: Option<u32>) -> Extent {
    let (name, shape) = (String::new(), vec![]);
    Extent { offset, length, kind: ExtentKind::Bytes, name, dtype: None, shape, array }
}

/// Arrays of a few bytes each may all name one side block of 60 KB.
#[test]
fn a_side_block_of_many_arrays_is_kept_within_bounds() {
    let _alone = alone();
    let row_len = 60_000;
    let params = SymbolParams {
        dtype: Dtype::BF16,
        lanes: 32,
        raw_bits: 0,
        classes: 1,
        row_classes: false,
        map: SymbolMap::PrimeSparse(PrimeSparse {
            step: 1.0,
            grid: Grid::Uniform,
            trellis: None,
            row_steps: false,
            column_steps: true,
            centroids: false,
        }),
    };
    let bytes = written(|writer| {
        let block = writer.add_block(BlockMode::Coded, &[0; 4]).expect("a block");
        let tables = [1024u16.to_le_bytes(); 64].concat();
        let side = writer.add_block(BlockMode::Coded, &[tables, vec![128; row_len]].concat()).expect("a block");
        for _ in 0..1000 {
            writer.add_array(&ArrayInfo {
                elements: 1,
                row_len: row_len as u64,
                block_elems: row_len as u32,
                first_block: block,
                dtype: Dtype::BF16,
                codec: Codec::Symbols(params),
                side_block: Some(side),
                base: None,
                zeros: 0,
                signal: 0.0,
                noise: 0.0,
            });
        }
        writer.add_file("nothing", &[]);
        writer.add_model("m", "", 0);
    });
    let size = bytes.len();
    let archive = Archive::from_source(Box::new(Memory::new("memory", bytes))).expect("it is valid");
    let (_, most) = most_allocated(|| {
        for i in 0..1000 {
            let error = archive.decode_block(ArrayId(i), 0, &mut [0; 2]).expect_err("no payload").to_string();
            assert!(error.contains("shorter than its parts"), "{error}");
        }
    });
    assert!(most <= 4 * ANYTHING + PER_BYTE * size, "{most} bytes for {size}");
}

/// Every array may name every block: what is added up is added once.
#[test]
fn arrays_that_share_all_blocks_take_little() {
    let _alone = alone();
    const BLOCKS: u32 = 200_000;
    let bytes = written(|writer| {
        for _ in 0..BLOCKS {
            writer.add_block(BlockMode::Zeros, &[]).expect("a block");
        }
        for _ in 0..BLOCKS {
            writer.add_array(&ArrayInfo::of_bytes(u64::from(BLOCKS), 1, 0));
        }
        writer.add_file("nothing", &[]);
        writer.add_model("m", "", 0);
    });
    let size = bytes.len();
    let start = Instant::now();
    let (archive, most) = most_allocated(|| Archive::from_source(Box::new(Memory::new("memory", bytes))));
    assert_eq!(archive.expect("it is valid").index().stored_bytes(BLOCKS - 1), 0);
    assert!(most <= ANYTHING + PER_BYTE * size, "{most} bytes to open {size}");
    // Forty billion additions would take longer than a moment.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// As many records and names as a file of its size can have, the smallest that there are.
#[test]
fn an_index_of_small_records_takes_little() {
    let _alone = alone();
    for what in ["empty files", "empty extents", "models", "directories"] {
        let bytes = written(|writer| {
            let names = (0..20_000u32).map(|i| format!("{i:x}"));
            match what {
                "empty files" => names.for_each(|name| writer.add_file(&name, &[])),
                "empty extents" => writer.add_file("f", &vec![extent(0, 0, None); 20_000]),
                "models" => names.for_each(|name| writer.add_model(&name, "", 0)),
                _ => {
                    let deep = |i: usize| "a/".repeat(10) + &"b/".repeat(i) + "c";
                    (0..500).for_each(|i| writer.add_file(&deep(i), &[]));
                }
            }
            if what != "models" {
                writer.add_model("m", "", 0);
            }
        });
        assert!(open_and_decode(Path::new(what), bytes.clone()), "{what} are valid");
        let size = bytes.len();
        let archive = Archive::from_source(Box::new(Memory::new("memory", bytes))).expect("it opens");
        let (vfs, most) = most_allocated(|| Vfs::new(archive, 1 << 20, 0));
        assert!(vfs.is_ok());
        assert!(most <= ANYTHING + 2 * size, "{what}: {most} bytes to mount {size}");
    }
}
