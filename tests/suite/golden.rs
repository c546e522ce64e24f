//! A file that was written once is read for ever: the files in `tests/golden`
//! decode to the hashes beside them. `UPG_BLESS=1` writes those that are
//! missing, and never touches one that is there.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use upg::archive::{Archive, ArchiveWriter};
use upg::codec::manifold::Grid;
use upg::codec::params::{PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::dtype::Dtype;
use upg::format::{ArrayInfo, BlockMode, Codec, Extent, ExtentKind};
use upg::ops::convert::{Columns, GridChoice, Target};
use upg::ops::merge::{self, Input};

use crate::matrix::{Matrix, write_matrix};
use crate::support::{Random, Tensor, options, run, safetensors, unpack, write};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The lines of `NAME.sha256`: hash, two blanks, path.
fn hashes(archive: &Archive) -> String {
    let line = |(path, bytes): (String, Vec<u8>)| format!("{:x}  {path}\n", Sha256::digest(&bytes));
    unpack(archive).into_iter().map(line).collect()
}

#[test]
fn golden_files_decode_to_the_same_bytes_for_ever() {
    let directory = directory();
    if std::env::var_os("UPG_BLESS").is_some() {
        bless(&directory);
    }
    let mut found = 0;
    for entry in fs::read_dir(&directory).expect("tests/golden") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "upg") {
            let expected = fs::read_to_string(path.with_extension("sha256")).expect("hashes beside the file");
            let archive = Archive::open(&path).expect("a golden file opens");
            assert_eq!(hashes(&archive), expected, "{}", path.display());
            found += 1;
        }
    }
    assert!(found >= 12, "only {found} golden files");
}

fn bless(directory: &Path) {
    let make = |name: &str, write: &dyn Fn(&Path)| {
        let path = directory.join(format!("{name}.upg"));
        if !path.exists() {
            write(&path);
            let archive = Archive::open(&path).expect("what was just written opens");
            fs::write(path.with_extension("sha256"), hashes(&archive)).expect("hashes");
        }
    };
    make("every-dtype-lossless", &|path| {
        let source = tempfile::tempdir().expect("a directory");
        write(source.path(), "golden/model.safetensors", &safetensors(&every_dtype()));
        write(source.path(), "golden/nested/deep/config.json", b"{\"a\": 1}\n");
        write(source.path(), "golden/empty.txt", b"");
        run(&options(&source.path().join("golden"), path, Target::Lossless));
    });
    make("lossless-zero-bits", &|path| {
        let source = tempfile::tempdir().expect("a directory");
        write(source.path(), "golden/model.safetensors", &safetensors(&widened()));
        run(&options(&source.path().join("golden"), path, Target::Lossless));
    });
    for (name, bits, grid) in [
        ("bits-1.6-prime", 1.6, Grid::Prime),
        ("bits-3.2-prime", 3.2, Grid::Prime),
        ("bits-3.2-uniform", 3.2, Grid::Uniform),
        ("bits-7-uniform", 7.0, Grid::Uniform),
    ] {
        make(name, &|path| {
            let source = tempfile::tempdir().expect("a directory");
            write(source.path(), "golden/model.safetensors", &safetensors(&matrices()));
            let mut options = options(&source.path().join("golden"), path, Target::Bits(bits));
            (options.grid, options.log2_states) = (GridChoice::Only(grid), 0);
            run(&options);
        });
    }
    for (name, bits, log2_states) in
        [("model-1.6", 1.6, 3), ("model-3.2", 3.2, 3), ("model-3.2-256-states", 3.2, 8), ("model-5", 5.0, 3)]
    {
        make(name, &|path| {
            let source = tempfile::tempdir().expect("a directory");
            write(source.path(), "golden/model.safetensors", &safetensors(&small_model()));
            let mut options = options(&source.path().join("golden"), path, Target::Bits(bits));
            (options.log2_states, options.columns) = (log2_states, Columns::Gain);
            run(&options);
        });
    }
    for (name, hooks) in hooks() {
        make(name, &|path| write_hooks(path, &hooks));
    }
    make("several-models", &write_several_models);
    make("differences", &write_differences);
}

/// A model with everything that the converter treats in its own way: embedding and head
/// with rows of different size, a norm with gains, rows that fall into classes.
fn small_model() -> Vec<Tensor> {
    let mut random = Random(9);
    let mut scaled = |name: &str, rows: usize, columns: usize| -> Tensor {
        let rows_of = |row: usize| 2f32.powi(row as i32 % 5 - 2);
        let values = (0..rows * columns).map(|i| rows_of(i / columns) * random.gaussian() * 0.02);
        let bytes = values.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect();
        (name.into(), "BF16", vec![rows, columns], bytes)
    };
    let mut tensors = vec![
        scaled("lm_head.weight", 300, 256),
        scaled("model.embed_tokens.weight", 300, 256),
        scaled("model.layers.0.mlp.down_proj.weight", 256, 512),
        scaled("model.layers.0.mlp.gate_up_proj.weight", 1024, 256),
    ];
    let gains = (0..256).flat_map(|i| half::bf16::from_f32(0.2 + i as f32 / 100.0).to_le_bytes()).collect();
    tensors.push(("model.layers.0.post_attention_layernorm.weight".into(), "BF16", vec![256], gains));
    tensors
}

fn every_dtype() -> Vec<Tensor> {
    let mut random = Random(1);
    let mut tensors: Vec<Tensor> = Vec::new();
    for dtype in Dtype::all() {
        let shape = vec![3, 8];
        let bytes = random.bytes(24 * dtype.bits() as usize / 8);
        tensors.push((format!("small.{}", dtype.name()), dtype.name(), shape, bytes));
    }
    for dtype in ["BF16", "F16", "F32", "F64"] {
        let bytes = random.weights(dtype, 50 * 61);
        tensors.push((format!("weights.{dtype}"), dtype, vec![50, 61], bytes));
    }
    let fp8 = (0..5000).map(|_| (random.gaussian() * 20.0) as i8 as u8).collect();
    tensors.push(("weights.F8_E4M3".into(), "F8_E4M3", vec![50, 100], fp8));
    tensors.push(("counters".into(), "I64", vec![500], (0..500u64).flat_map(|i| i.to_le_bytes()).collect()));
    tensors.push(("zeros".into(), "F32", vec![64, 64], vec![0; 4 * 64 * 64]));
    tensors.push(("scalar".into(), "F32", vec![], 1.5f32.to_le_bytes().to_vec()));
    tensors.push(("empty".into(), "BF16", vec![0, 7], vec![]));
    tensors
}

/// Weights of types that have more precision than they had.
fn widened() -> Vec<Tensor> {
    let mut random = Random(4);
    let weights: Vec<half::bf16> = (0..70 * 60).map(|_| half::bf16::from_f32(0.01 * random.gaussian())).collect();
    let tensor = |dtype: &'static str, to_bytes: &dyn Fn(half::bf16) -> Vec<u8>| -> Tensor {
        (format!("from.BF16.{dtype}"), dtype, vec![70, 60], weights.iter().flat_map(|&w| to_bytes(w)).collect())
    };
    vec![
        tensor("F16", &|w| half::f16::from_f32(w.to_f32()).to_le_bytes().to_vec()),
        tensor("F32", &|w| w.to_f32().to_le_bytes().to_vec()),
        tensor("F64", &|w| w.to_f64().to_le_bytes().to_vec()),
    ]
}

fn matrices() -> Vec<Tensor> {
    let mut random = Random(2);
    let mut tensors = Vec::new();
    for dtype in ["BF16", "F16", "F32"] {
        let mut bytes = random.weights(dtype, 129 * 101);
        // Outliers, infinity and not-a-number are listed exactly.
        let width = bytes.len() / (129 * 101);
        let special = [3.0, -7.5, f32::INFINITY, f32::NAN];
        for (i, value) in special.into_iter().enumerate() {
            let element = match dtype {
                "BF16" => half::bf16::from_f32(value).to_le_bytes().to_vec(),
                "F16" => half::f16::from_f32(value).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            };
            let at = width * (100 + 1000 * i);
            bytes[at..at + width].copy_from_slice(&element);
        }
        tensors.push((format!("layer.{dtype}.weight"), dtype, vec![129, 101], bytes));
    }
    tensors.push(("norm.weight".into(), "BF16", vec![300], random.weights("BF16", 300)));
    tensors
}

/// Settings that the converter does not use yet, and the format has.
struct Hooks {
    dtype: Dtype,
    params: PrimeSparse,
    lanes: usize,
    raw_bits: u8,
    classes: u8,
}

const PLAIN: PrimeSparse = PrimeSparse {
    step: 0.0123,
    grid: Grid::Uniform,
    trellis: None,
    row_steps: false,
    column_steps: false,
    centroids: false,
};
const EIGHT_STATES: Option<Trellis> = Some(Trellis { log2_states: 3, h0: 0o13, h1: 0o4 });
const SIXTY_FOUR_STATES: Option<Trellis> = Some(Trellis { log2_states: 6, h0: 0o103, h1: 0o24 });

fn hooks() -> Vec<(&'static str, Hooks)> {
    let bf16 = |params| Hooks { dtype: Dtype::BF16, params, lanes: 64, raw_bits: 0, classes: 1 };
    vec![
        ("trellis-8", bf16(PrimeSparse { trellis: EIGHT_STATES, ..PLAIN })),
        (
            "trellis-64-prime-raw-2",
            Hooks { raw_bits: 2, ..bf16(PrimeSparse { trellis: SIXTY_FOUR_STATES, grid: Grid::Prime, ..PLAIN }) },
        ),
        ("rows", Hooks { classes: 3, lanes: 128, ..bf16(PrimeSparse { row_steps: true, ..PLAIN }) }),
        ("columns", Hooks { dtype: Dtype::F16, ..bf16(PrimeSparse { column_steps: true, ..PLAIN }) }),
        ("centroids", bf16(PrimeSparse { centroids: true, trellis: EIGHT_STATES, ..PLAIN })),
        // Steps at which numbers below the normal ones occur, and none is too large.
        ("e4m3", Hooks { dtype: Dtype::F8_E4M3, ..bf16(PrimeSparse { trellis: EIGHT_STATES, ..PLAIN }) }),
        (
            "e5m2-rows-columns-raw-3",
            Hooks {
                dtype: Dtype::F8_E5M2,
                raw_bits: 3,
                ..bf16(PrimeSparse { step: 3e-4, row_steps: true, column_steps: true, ..PLAIN })
            },
        ),
        (
            "everything",
            Hooks {
                dtype: Dtype::F32,
                lanes: 256,
                raw_bits: 3,
                classes: 2,
                params: PrimeSparse {
                    trellis: EIGHT_STATES,
                    row_steps: true,
                    column_steps: true,
                    grid: Grid::Prime,
                    ..PLAIN
                },
            },
        ),
    ]
}

/// One matrix of 90 rows and 333 columns in blocks of 40 rows, of random symbols.
fn write_hooks(path: &Path, hooks: &Hooks) {
    let params = SymbolParams {
        dtype: hooks.dtype,
        lanes: hooks.lanes,
        raw_bits: hooks.raw_bits,
        classes: hooks.classes,
        row_classes: hooks.classes > 1,
        map: SymbolMap::PrimeSparse(hooks.params),
    };
    write_matrix(path, &params, Matrix { rows: 90, columns: 333, block_rows: 40 });
}

/// A model, and what a little training would make of it, as differences: tensors of every width,
/// one that is as it was, and one that is quite another.
fn write_differences(path: &Path) {
    let source = tempfile::tempdir().expect("a directory");
    let mut random = Random(21);
    let tensor = |name: &str, dtype, bytes: &[u8]| -> Tensor {
        let width = bytes.len() / 6000;
        assert_eq!(bytes.len(), 6000 * width);
        (name.into(), dtype, vec![60, 100], bytes.to_vec())
    };
    let (mut base, mut tuned) = (Vec::new(), Vec::new());
    for dtype in ["BF16", "F16", "F32", "F64"] {
        let before = random.weights(dtype, 6000);
        let width = before.len() / 6000;
        let mut after = before.clone();
        // The lowest byte that matters changes by a few units now and then.
        let low = if width > 2 { width - 3 } else { 0 };
        for element in after.chunks_mut(width).step_by(3) {
            element[low] = element[low].wrapping_add((random.next() % 5) as u8);
        }
        base.push(tensor(dtype, dtype, &before));
        tuned.push(tensor(dtype, dtype, &after));
    }
    let same = random.weights("BF16", 6000);
    base.push(tensor("same", "BF16", &same));
    tuned.push(tensor("same", "BF16", &same));
    base.push(tensor("other", "BF16", &random.weights("BF16", 6000)));
    tuned.push(tensor("other", "BF16", &random.weights("BF16", 6000)));
    let inputs = [("base", base), ("tuned", tuned)].map(|(name, tensors)| {
        write(source.path(), &format!("{name}/model.safetensors"), &safetensors(&tensors));
        let file = source.path().join(format!("{name}.upg"));
        run(&options(&source.path().join(name), &file, Target::Lossless));
        Input { file, name: None }
    });
    let output = path.to_path_buf();
    let options = merge::Options { inputs: inputs.into(), output, delta: Some("base".into()), force: false };
    let report = merge::merge(&options, &()).expect("merges");
    // The header is the same, too.
    assert_eq!((report.differences, report.shared_arrays), (4, 2));
}

/// Two models that share an array and stored bytes, with blocks of every mode.
fn write_several_models(path: &Path) {
    let mut writer = ArchiveWriter::create(path).expect("a writer");
    let text = b"the same text in both models ".repeat(40);
    let compressed = zstd::bulk::compress(&text, 3).expect("zstd");
    let first = writer.add_block(BlockMode::Coded, &compressed).expect("a block");
    writer.add_block(BlockMode::Stored, &text).expect("a block");
    writer.add_block(BlockMode::Zeros, &[]).expect("a block");
    let length = 2 * text.len() as u64 + 77;
    let array = writer.add_array(&ArrayInfo {
        elements: length,
        row_len: 1,
        block_elems: text.len() as u32,
        first_block: first,
        dtype: Dtype::U8,
        codec: Codec::Zstd,
        side_block: None,
        base: None,
        zeros: 0,
        signal: 0.0,
        noise: 0.0,
    });
    let bytes = |offset| Extent {
        offset,
        length,
        kind: ExtentKind::Bytes,
        name: String::new(),
        dtype: None,
        shape: vec![],
        array: Some(array),
    };
    let empty = Extent { length: 0, array: None, ..bytes(length) };
    writer.add_file("config.json", &[bytes(0)]);
    writer.add_file("sub/twice.txt", &[bytes(0), empty, bytes(length)]);
    writer.add_model("base", "{\"generator\": \"a test\"}", 0);
    let second = writer.next_file();
    writer.add_file("config.json", &[bytes(0)]);
    writer.add_file("nothing", &[]);
    writer.add_model("größe", "", second);
    writer.finish().expect("a file");
}
