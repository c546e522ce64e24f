//! Writes seeds for all targets into directories below the one that is named first: from
//! the golden files in the one named second, the hostile ones in the one named third, and
//! the committed corpora.

use std::fs;
use std::path::Path;

use upg::archive::Archive;
use upg::codec::manifold::Grid;
use upg::codec::params::{PrimeSparse, SymbolMap, SymbolParams};
use upg::codec::trellis::{MOST_RAW_BITS, ungerboeck};
use upg::dtype::Dtype;
use upg::format::BlockMode;
use upg_fuzz::values::{Described, describe};
use upg_fuzz::{TARGETS, block, convert, corpora, index, read, search, shard};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [corpus, golden, bad] = &arguments[..] else { panic!("usage: seeds CORPUS GOLDEN BAD") };
    let corpus = Path::new(corpus);
    let write = |target: &str, name: String, seed: Vec<u8>| {
        fs::create_dir_all(corpus.join(target)).expect("a directory");
        fs::write(corpus.join(target).join(name), seed).expect("a seed");
    };
    for entry in fs::read_dir(golden).expect("the golden files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "upg") {
            continue;
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("a golden file");
        for (i, seed) in index::seeds(&bytes).expect("an index").into_iter().enumerate() {
            write("read", format!("{name}-{i}"), read::seed(0x0000_2810_0000_0001 + ((i as u64) << 48), &seed));
            write("index", format!("{name}-{i}"), seed);
        }
        let archive = Archive::open(&path).expect("a valid file");
        let stored = |i: u32| {
            let record = archive.index().block(i);
            let stored = &bytes[record.offset as usize..][..record.length as usize];
            (record.mode == BlockMode::Coded).then_some(stored)
        };
        for (file, path) in archive.files(&archive.models()[0]).filter(|(_, file)| file.size > 8) {
            let mut bytes = vec![0; path.size as usize];
            archive.read_at(file, 0, &mut bytes).expect("a golden file decodes");
            let seeds = if path.path.ends_with(".safetensors") { shard::seeds(&bytes) } else { None };
            for (i, seed) in seeds.into_iter().flatten().enumerate().filter(|(_, seed)| seed.len() < 30_000) {
                write("convert", format!("{name}-{i}"), convert::seed_of_shard([0; 3], &seed));
                write("shard", format!("{name}-{i}"), seed);
            }
        }
        for (i, array) in archive.index().arrays.iter().enumerate() {
            let (Some(params), Some(side)) = (array.codec.symbols(), array.side_block.and_then(stored)) else {
                continue;
            };
            for b in 0..array.block_count() {
                let Some(payload) = stored(array.first_block + b) else { continue };
                let elements = array.bytes_of_block(b) / array.width();
                let seed = block::seed(params, array.row_len as usize, elements as usize, side, payload);
                seed.into_iter().for_each(|seed| write("block", format!("{name}-{i}-{b}"), seed));
            }
        }
    }
    for entry in fs::read_dir(bad).expect("the hostile files") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("a hostile file");
        if name.ends_with(".upg") {
            let seeds = index::seeds(&bytes).into_iter().flatten().enumerate();
            seeds.for_each(|(i, seed)| write("index", format!("{name}-{i}"), seed));
        } else if name.ends_with(".safetensors") {
            let seeds = shard::seeds(&bytes).into_iter().flatten().enumerate();
            seeds.for_each(|(i, seed)| write("shard", format!("{name}-{i}"), seed));
        }
    }
    blocks_to_encode(&write);
    sources(&write);
    for (target, _) in TARGETS {
        for (i, input) in corpora::read(target).into_iter().flatten().enumerate() {
            write(target, format!("committed-{i}"), input);
        }
    }
    for (i, log2_states) in (2..=8).enumerate() {
        for raw_bits in 0..=MOST_RAW_BITS {
            let flags = ((7 * i as u8 + raw_bits) % 16) | 64;
            let weights: Vec<f32> = (0..300).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * 0.05).collect();
            let seed = search::seed(flags, log2_states, raw_bits, 32 << (i % 4), 100, 0.01, &weights);
            write("search", format!("{log2_states}-{raw_bits}"), seed);
        }
    }
}

/// Matrices of every element type, beside a norm and a bias, for every kind of options.
fn sources(write: &impl Fn(&str, String, Vec<u8>)) {
    for (i, dtype) in Dtype::all().enumerate() {
        for how in 0..8u8 {
            let (n, i) = (how, i as u8);
            let described = |name, rows, columns, how| Described { name, dtype, rows, columns, how, scale: 121 };
            let matrix = described(3 + i % 6, 90, 77 + u16::from(i), how | (16 * (i % 2)) | 64);
            let source = describe(&[described(2, 1, 77 + u16::from(i), 0), matrix, described(4, 1, 100, 3)]);
            let options = [4 * (i % 3) + n % 4, 20 + 25 * n, n + 8 * (i % 4)];
            write("convert", format!("{}-{how}", dtype.name()), convert::seed((16 + 8 * i) & !1, options, &source));
        }
    }
}

/// Blocks of every form that has a loop of its own.
fn blocks_to_encode(write: &impl Fn(&str, String, Vec<u8>)) {
    let mut number = 0;
    let mut add = |dtype, raw_bits, map| {
        for lanes in [32, 64, 96, 128, 256] {
            for classes in [1, 3] {
                let params = SymbolParams { dtype, lanes, raw_bits, classes, row_classes: classes > 1, map };
                let Ok(params) = params.validate() else { continue };
                number += 1;
                let bytes: Vec<u8> = (0..200u32).map(|i| (i * i + number) as u8).collect();
                let row_len = lanes + [0, 9, lanes][number as usize % 3];
                let seed = block::seed_to_encode(&params, row_len, 7 * lanes + number as usize % 50, &bytes);
                write("block", format!("encoded-{number}"), seed);
            }
        }
    };
    for dtype in Dtype::all() {
        for &split in dtype.splits() {
            for zero_bits in 0..=split.shift.min(2) {
                add(dtype, dtype.bits() as u8 - split.bits - zero_bits, SymbolMap::Lossless(split));
            }
        }
        for (raw_bits, flags) in
            [(0, 0), (0, 1), (0, 2), (0, 3), (0, 5), (0, 8), (0, 9), (0, 15), (3, 1), (8, 2), (9, 0), (10, 3), (12, 0)]
        {
            add(
                dtype,
                raw_bits,
                SymbolMap::PrimeSparse(PrimeSparse {
                    step: 0.01,
                    grid: if flags & 4 != 0 { Grid::Prime } else { Grid::Uniform },
                    trellis: if flags & 1 != 0 { ungerboeck(3) } else { None },
                    row_steps: flags & 2 != 0,
                    column_steps: flags & 2 != 0 && raw_bits < 9,
                    centroids: flags & 8 != 0,
                }),
            );
        }
    }
}
