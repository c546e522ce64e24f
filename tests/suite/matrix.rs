//! Matrices of random symbols under any parameters, written as the format has them: the
//! converter uses few of the parameters, and makes no file that is small.

use std::path::Path;

use upg::archive::ArchiveWriter;
use upg::codec::encode::{Symbols, encode_block, trellis_entries};
use upg::codec::entropy::encode::EncodeTable;
use upg::codec::entropy::frequencies::Frequencies;
use upg::codec::layout::BlockShape;
use upg::codec::params::{ESCAPE, SymbolMap, SymbolParams};
use upg::codec::raw::Raw;
use upg::codec::side::{SideContent, contexts};
use upg::dtype::Dtype;
use upg::format::{ArrayInfo, BlockMode, Codec, Extent, ExtentKind};

use crate::support::Random;

#[derive(Clone, Copy)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub block_rows: usize,
}

/// A file of one model with one file, which is a matrix.
pub fn write_matrix(path: &Path, params: &SymbolParams, matrix: Matrix) {
    let mut writer = ArchiveWriter::create(path).expect("a writer");
    let Matrix { rows, columns, .. } = matrix;
    let (array, length) = add_matrix(&mut writer, params, matrix, None);
    let extent = tensor_extent(0, length, params.dtype, vec![rows as u64, columns as u64], array);
    writer.add_file("tensor.bin", &[extent]);
    writer.add_model("hooks", "", 0);
    writer.finish().expect("a file");
}

pub fn tensor_extent(offset: u64, length: u64, dtype: Dtype, shape: Vec<u64>, array: u32) -> Extent {
    Extent { offset, length, kind: ExtentKind::Tensor, name: "w".into(), dtype: Some(dtype), shape, array: Some(array) }
}

/// Adds the blocks and the array of a matrix, or of its difference from another; returns its number
/// and its bytes.
pub fn add_matrix(writer: &mut ArchiveWriter, params: &SymbolParams, matrix: Matrix, base: Option<u32>) -> (u32, u64) {
    let Matrix { rows, columns, block_rows } = matrix;
    let mut random = Random(3 + u64::from(base.is_some()));
    let params = params.validate().expect("valid parameters");
    let sparse = params.prime_sparse();
    let width = params.dtype.width().expect("whole bytes");
    let contexts = contexts(&params);
    let alphabet = 64 / contexts as i32;
    let frequencies: Vec<_> = (0..params.classes)
        .map(|class| {
            let counts = std::array::from_fn(|entry| {
                let distance = (entry as i32 % alphabet - alphabet / 2).abs();
                1 + 5000 / (1 + distance as u64 + u64::from(class)).pow(2)
            });
            Frequencies::from_counts(&counts, contexts)
        })
        .collect();
    let tables: Vec<_> = frequencies.iter().map(|f| EncodeTable::new(f, contexts)).collect();
    let centroids: [f32; 64] =
        std::array::from_fn(|e| if e as i32 % alphabet == 0 { 0.0 } else { (e as f32 - 30.3) * 0.017 });
    let field_values: [u16; 64] = std::array::from_fn(|i| i as u16);
    let column_steps: Vec<u8> = (0..columns).map(|_| 120 + (random.next() % 16) as u8).collect();

    let mut first_block = None;
    for start in (0..rows).step_by(block_rows) {
        let rows = block_rows.min(rows - start);
        let shape = BlockShape { elements: rows * columns, row_len: columns, lanes: params.lanes };
        let symbols: Vec<u8> = (0..shape.elements)
            .map(|_| {
                let spread = alphabet as f32 / 8.0;
                (alphabet / 2 + (random.gaussian() * spread) as i32).clamp(0, alphabet - 1) as u8
            })
            .collect();
        let mut raw: Vec<u64> = symbols.iter().map(|_| random.next() % (1 << params.raw_bits)).collect();
        let escapes: Vec<u32> = (0..shape.elements as u32).filter(|&i| symbols[i as usize] == ESCAPE).collect();
        escapes.iter().for_each(|&i| raw[i as usize] = 0);
        let block = Symbols {
            symbols: &trellis_entries(&params, &shape, &symbols, Raw::U64(&raw)),
            escape_positions: &escapes,
            escape_values: &random.bytes(width * escapes.len()),
            row_steps: &(0..rows).map(|_| 120 + (random.next() % 16) as u8).collect::<Vec<_>>()
                [..if params.row_steps() { rows } else { 0 }],
            row_classes: &(0..rows).map(|_| (random.next() % u64::from(params.classes)) as u8).collect::<Vec<_>>()
                [..if params.row_classes { rows } else { 0 }],
        };
        let stored =
            encode_block(&params, &shape, &tables, &block, Raw::U64(&raw)).expect("every symbol has a frequency");
        let record = writer.add_block(BlockMode::Coded, &stored).expect("a block");
        first_block.get_or_insert(record);
    }
    let side = SideContent {
        frequencies: &frequencies,
        field_values: matches!(params.map, SymbolMap::Lossless(_)).then_some(&field_values),
        centroids: sparse.is_some_and(|p| p.centroids).then_some(&centroids),
        column_steps: if sparse.is_some_and(|p| p.column_steps) { &column_steps } else { &[] },
    };
    let side_block = writer.add_block(BlockMode::Coded, &side.to_bytes()).expect("a side block");
    let array = writer.add_array(&ArrayInfo {
        elements: (rows * columns) as u64,
        row_len: columns as u64,
        block_elems: (block_rows * columns) as u32,
        first_block: first_block.expect("a block"),
        dtype: params.dtype,
        codec: Codec::Symbols(params),
        side_block: Some(side_block),
        base,
        zeros: 0,
        signal: 0.0,
        noise: 0.0,
    });
    (array, (rows * columns * width) as u64)
}
