//! A small source of any kind, converted with any options: what convert accepts, open
//! accepts, and everything decodes; what is exact is equal, and what is not stays finite.
//!
//! The input describes tensors and their values ([`crate::values`]), or is a safetensors
//! file of [`crate::shard`]; beside it lie files of any names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::Glob;
use upg::archive::{Archive, ArrayId};
use upg::codec::float;
use upg::codec::manifold::Grid;
use upg::format::{Extent, ExtentKind};
use upg::ops::convert::{Columns, GridChoice, Keep, LEAST_MEMORY, Options, Target, convert};

use crate::input::Input;
use crate::{shard, values};

const SHARD: &str = "model.safetensors";

const RAW_SHARD: u8 = 1;
const ONE_FILE: u8 = 2;
const TO_DIRECTORY: u8 = 4;
const FLAT: u8 = 8;
const LOSSY_FP8: u8 = 16;
const KEEP: u8 = 32;
const SUBDIRECTORY: u8 = 64;
const TWO_THREADS: u8 = 128;

/// An input with these options and this description of a source, without other files.
pub fn seed(flags: u8, how: [u8; 3], source: &[u8]) -> Vec<u8> {
    [&[flags][..], &how, &[0], source].concat()
}

/// An input that has this safetensors file, as [`shard::file`] takes it, for a source.
pub fn seed_of_shard(how: [u8; 3], source: &[u8]) -> Vec<u8> {
    seed(RAW_SHARD, how, source)
}

/// A name that a file can have, of the input.
fn name(input: &mut Input<'_>) -> Option<Vec<u8>> {
    let length = usize::from(input.u8());
    let name = input.take(length).to_vec();
    let impossible = name.is_empty() || name == b"." || name == b".." || name.len() > 255;
    (!impossible && !name.contains(&b'/') && !name.contains(&0)).then_some(name)
}

fn options(flags: u8, how: [u8; 3], source: &Path, output: &Path) -> Options {
    let part = f64::from(how[1]) / 255.0;
    let keep = Glob::new("*.[ab]*").expect("a pattern");
    Options {
        target: match how[0] % 4 {
            0 => Target::Lossless,
            1 => Target::Ratio(1.0 + 12.0 * part),
            _ => Target::Bits(1.0 + 11.0 * part),
        },
        grid: [GridChoice::Auto, GridChoice::Only(Grid::Prime), GridChoice::Only(Grid::Uniform), GridChoice::Auto]
            [usize::from(how[0] / 4 % 4)],
        log2_states: [0, 2, 3, 3, 4, 4, 5, 6][usize::from(how[2] % 8)],
        flat: flags & FLAT != 0,
        columns: [Columns::Auto, Columns::Gain, Columns::None, Columns::Gain][usize::from(how[2] / 8 % 4)],
        lossy_fp8: flags & LOSSY_FP8 != 0,
        keep: Keep::new(if flags & KEEP != 0 { vec![keep] } else { Vec::new() }).expect("a pattern"),
        threads: 1 + usize::from(flags & TWO_THREADS != 0),
        memory: LEAST_MEMORY,
        ..Options::new(source, output)
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.u8();
    let how: [u8; 3] = input.array();
    let place = tempfile::Builder::new().prefix("upg-fuzz-").tempdir_in("/dev/shm").expect("a directory");
    let source = place.path().join("source");
    let results = place.path().join("results");
    fs::create_dir(&results).expect("a directory");
    fs::create_dir_all(source.join("sub")).expect("a directory");
    let others = usize::from(input.u8() % 4);
    for _ in 0..others {
        let within = if input.u8() % 2 == 1 { source.join("sub") } else { source.clone() };
        let name = name(&mut input);
        let length = usize::from(input.u8());
        let content = input.take(length);
        // There may be a directory of the name.
        let _ = name.map(|name| fs::write(within.join(OsStr::from_bytes(&name)), content));
    }
    let path = if flags & SUBDIRECTORY != 0 { format!("sub/{SHARD}") } else { SHARD.to_owned() };
    let described = flags & RAW_SHARD == 0;
    let bytes = if described { values::file(&mut input) } else { shard::file(input.0) };
    fs::write(source.join(&path), &bytes).expect("a file");

    let from = if flags & ONE_FILE != 0 { source.join(&path) } else { source.clone() };
    let to = results.join(if flags & TO_DIRECTORY != 0 { "out" } else { "out.upg" });
    let options = options(flags, how, &from, &to);
    if let Err(error) = convert(&options, &()) {
        let alone = others == 0 || flags & ONE_FILE != 0;
        let must = described && alone && options.target == Target::Lossless && options.keep.is_empty();
        assert!(!must, "refused: {error}");
        assert_eq!(fs::read_dir(&results).expect("a directory").count(), 0, "left behind after {error}");
        return;
    }
    let name = if flags & ONE_FILE != 0 { "model.upg" } else { "source.upg" };
    let archive = Archive::open(&if to.is_dir() { to.join(name) } else { to }).expect("what was just written");
    let root = if flags & ONE_FILE != 0 { from.parent().expect("a directory") } else { &source };
    let mut shards = 0;
    for (id, file) in archive.files(&archive.models()[0]) {
        let original = fs::read(root.join(&file.path)).expect("a file of the source");
        let mut decoded = vec![0xA5; file.size as usize];
        archive.read_at(id, 0, &mut decoded).expect("everything decodes");
        assert_eq!(original.len(), decoded.len(), "{:?}", file.path);
        for extent in archive.extents(file) {
            let range = extent.offset as usize..(extent.offset + extent.length) as usize;
            let lossy = extent.array.is_some_and(|i| archive.array(ArrayId(i)).codec.prime_sparse().is_some());
            if lossy {
                assert!(extent.kind == ExtentKind::Tensor && options.target != Target::Lossless);
                same_but_for_noise(extent, &original[range.clone()], &decoded[range]);
            } else {
                assert!(original[range.clone()] == decoded[range], "{extent:?}");
            }
        }
        shards += usize::from(file.path.ends_with(".safetensors"));
    }
    assert!(shards > 0);
}

/// What was finite is finite, and what was not is as it was.
fn same_but_for_noise(extent: &Extent, original: &[u8], decoded: &[u8]) {
    let dtype = extent.dtype.expect("a tensor");
    let width = dtype.width().expect("whole bytes");
    let value = |element: &[u8]| {
        let mut bits = [0; 4];
        bits[..width].copy_from_slice(element);
        float::from_bits(dtype, u32::from_le_bytes(bits))
    };
    for (original, decoded) in original.chunks_exact(width).zip(decoded.chunks_exact(width)) {
        let (before, after) = (value(original), value(decoded));
        if before.is_finite() {
            assert!(after.is_finite(), "{before} became {after} in {extent:?}");
        } else {
            assert_eq!(original, decoded, "{extent:?}");
        }
    }
}
