//! A small file of every form that arrays have: some hundred bytes each.

use std::fs;
use std::path::Path;

use upg::archive::ArchiveWriter;
use upg::codec::manifold::Grid;
use upg::codec::params::{PrimeSparse, SymbolMap, SymbolParams, Trellis};
use upg::dtype::{Dtype, Split};
use upg::format::{ArrayInfo, BlockMode, Codec, Extent, ExtentKind};

use crate::matrix::{Matrix, add_matrix, tensor_extent, write_matrix};

pub const SMALL: Matrix = Matrix { rows: 3, columns: 35, block_rows: 2 };

/// Each file with its name.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("small.upg");
    let made = |write: &dyn Fn(&Path)| {
        write(&path);
        fs::read(&path).expect("a file")
    };
    let mut files = vec![
        ("stored".into(), made(&|path| write_bytes(path, Codec::Stored))),
        ("zstd".into(), made(&|path| write_bytes(path, Codec::Zstd))),
    ];
    for (name, params) in forms() {
        let matrix = |path: &Path| write_matrix(path, &params, SMALL);
        files.push((name.into(), made(&matrix)));
    }
    files.push(("difference".into(), made(&|path| write_difference(path, &[]))));
    files
}

fn lossless(dtype: Dtype, shift: u8, bits: u8, raw_bits: u8) -> SymbolParams {
    SymbolParams {
        dtype,
        lanes: 32,
        raw_bits,
        classes: 1,
        row_classes: false,
        map: SymbolMap::Lossless(Split { shift, bits }),
    }
}

/// A matrix and the difference of another from it, both tensors.
pub fn write_difference(path: &Path, more: &[Matrix]) {
    let mut writer = ArchiveWriter::create(path).expect("a writer");
    let (exponents, upper) = (lossless(Dtype::BF16, 7, 8, 8), lossless(Dtype::BF16, 2, 14, 2));
    let (base, length) = add_matrix(&mut writer, &exponents, SMALL, None);
    let (difference, _) = add_matrix(&mut writer, &upper, SMALL, Some(base));
    // Of no file.
    for &matrix in more {
        add_matrix(&mut writer, &exponents, matrix, None);
    }
    for (path, array) in [("base", base), ("difference", difference)] {
        writer.add_file(path, &[tensor_extent(0, length, Dtype::BF16, vec![3, 35], array)]);
    }
    writer.add_model("m", "", 0);
    writer.finish().expect("a file");
}

fn forms() -> Vec<(&'static str, SymbolParams)> {
    let plain = PrimeSparse {
        step: 0.0123,
        grid: Grid::Uniform,
        trellis: None,
        row_steps: false,
        column_steps: false,
        centroids: false,
    };
    let trellis = Some(Trellis { log2_states: 3, h0: 0o13, h1: 0o4 });
    let sparse = |dtype, raw_bits, classes, params| SymbolParams {
        dtype,
        lanes: 32,
        raw_bits,
        classes,
        row_classes: classes > 1,
        map: SymbolMap::PrimeSparse(params),
    };
    let (bf16, all_steps) = (Dtype::BF16, PrimeSparse { row_steps: true, column_steps: true, ..plain });
    vec![
        ("lossless", lossless(bf16, 7, 8, 8)),
        ("lossless with zero bits", lossless(Dtype::F32, 23, 8, 8)),
        ("lossless bytes", lossless(Dtype::F8_E4M3, 0, 7, 1)),
        ("uniform", sparse(bf16, 0, 1, plain)),
        ("prime", sparse(bf16, 0, 1, PrimeSparse { grid: Grid::Prime, ..plain })),
        ("trellis", sparse(Dtype::F16, 0, 1, PrimeSparse { trellis, ..plain })),
        ("row steps", sparse(bf16, 0, 1, PrimeSparse { row_steps: true, trellis, ..plain })),
        ("row classes", sparse(bf16, 0, 2, PrimeSparse { trellis, ..plain })),
        ("column steps", sparse(Dtype::F16, 0, 1, PrimeSparse { column_steps: true, ..plain })),
        ("centroids", sparse(bf16, 0, 1, PrimeSparse { centroids: true, trellis, ..plain })),
        ("raw bits", sparse(bf16, 3, 1, PrimeSparse { trellis, ..plain })),
        ("many raw bits", sparse(Dtype::F32, 9, 1, plain)),
        ("8 bits", sparse(Dtype::F8_E5M2, 0, 1, PrimeSparse { step: 3e-4, trellis, ..plain })),
        ("everything", sparse(Dtype::F32, 3, 2, PrimeSparse { trellis, grid: Grid::Prime, ..all_steps })),
    ]
}

/// Bytes in two blocks, one of which is stored in any case, and one of zeros.
fn write_bytes(path: &Path, codec: Codec) {
    let mut writer = ArchiveWriter::create(path).expect("a writer");
    let text = b"as it was, as it is, as it was; ".repeat(2);
    let coded = if codec == Codec::Zstd { zstd::bulk::compress(&text, 3).expect("zstd") } else { text.clone() };
    let first_block = writer.add_block(BlockMode::Coded, &coded).expect("a block");
    writer.add_block(BlockMode::Stored, &text).expect("a block");
    writer.add_block(BlockMode::Zeros, &[]).expect("a block");
    let length = 2 * text.len() as u64 + 9;
    let array = writer.add_array(&ArrayInfo {
        elements: length,
        row_len: 1,
        block_elems: text.len() as u32,
        first_block,
        dtype: Dtype::U8,
        codec,
        side_block: None,
        base: None,
        zeros: 0,
        signal: 0.0,
        noise: 0.0,
    });
    let (kind, name, shape) = (ExtentKind::Bytes, String::new(), vec![]);
    writer.add_file("text", &[Extent { offset: 0, length, kind, name, dtype: None, shape, array: Some(array) }]);
    writer.add_model("m", "{}", 0);
    writer.finish().expect("a file");
}
