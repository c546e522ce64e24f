//! Writes a .upg file with an index of any size and little else, for measuring what the
//! size of an index costs (`scripts/bench_startup.py`):
//!
//!     cargo run --release --example many_blocks -- OUT.upg TENSORS BLOCKS
//!
//! A file as any other: BF16 tensors in safetensors files, blocks of 256 KiB, each with a
//! record and stored bytes of its own. Only that the elements of a block are all alike, so
//! that a block takes some thirty bytes.

use std::path::Path;

use upg::archive::ArchiveWriter;
use upg::dtype::Dtype;
use upg::error::{Error, Result};
use upg::format::{ArrayInfo, BlockMode, Codec, Extent, ExtentKind};

const BLOCK_BYTES: u64 = 256 << 10;
const COLUMNS: u64 = 4096;
const TENSORS_PER_FILE: u64 = 50;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|arg| arg.parse::<u64>().ok()).filter(|&n| n > 0);
    let (Some(out), Some(tensors), Some(blocks)) = (args.first(), number(1), number(2)) else {
        return Err(Error::Invalid("usage: many_blocks OUT.upg TENSORS BLOCKS".into()));
    };
    if blocks < tensors {
        return Err(Error::Invalid("a tensor has at least one block".into()));
    }
    write(Path::new(out), tensors, blocks)
}

fn write(out: &Path, tensors: u64, blocks: u64) -> Result<()> {
    let frames = frames().map_err(|e| Error::io(out, e))?;
    let mut writer = ArchiveWriter::create(out)?;
    for (number, first) in (0..tensors).step_by(TENSORS_PER_FILE as usize).enumerate() {
        let of_file: Vec<(String, u64)> = (first..tensors.min(first + TENSORS_PER_FILE))
            .map(|i| (format!("model.layers.{i}.weight"), (i + 1) * blocks / tensors - i * blocks / tensors))
            .collect();
        let mut extents = vec![header(&mut writer, &of_file)?];
        for (name, count) in of_file {
            let before = extents.last().map_or(0, |extent| extent.offset + extent.length);
            extents.push(tensor(&mut writer, name, count, before, &frames)?);
        }
        writer.add_file(&format!("model-{number:05}.safetensors"), &extents);
    }
    writer.add_model("many-blocks", "", 0);
    writer.finish().map(|_| ())
}

/// What the blocks hold: 256 blocks that differ.
fn frames() -> std::io::Result<Vec<Vec<u8>>> {
    (0..=255).map(|byte| zstd::bulk::compress(&vec![byte; BLOCK_BYTES as usize], 1)).collect()
}

fn shape(blocks: u64) -> Vec<u64> {
    vec![blocks * BLOCK_BYTES / 2 / COLUMNS, COLUMNS]
}

fn header(writer: &mut ArchiveWriter, tensors: &[(String, u64)]) -> Result<Extent> {
    let mut end = 0;
    let entries = tensors.iter().map(|(name, blocks)| {
        let start = end;
        end += blocks * BLOCK_BYTES;
        let described = serde_json::json!({"dtype": "BF16", "shape": shape(*blocks), "data_offsets": [start, end]});
        (name.clone(), described)
    });
    let mut text = serde_json::Value::Object(entries.collect()).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    let first_block = writer.add_block(BlockMode::Stored, &bytes)?;
    let length = bytes.len() as u64;
    let array = writer.add_array(&array(Dtype::U8, length, length as u32, first_block, Codec::Stored));
    let (name, shape) = (String::new(), Vec::new());
    Ok(Extent { offset: 0, length, kind: ExtentKind::Header, name, dtype: None, shape, array: Some(array) })
}

fn tensor(writer: &mut ArchiveWriter, name: String, count: u64, offset: u64, frames: &[Vec<u8>]) -> Result<Extent> {
    let mut first_block = None;
    for i in 0..count {
        let block = writer.add_block(BlockMode::Coded, &frames[i as usize % frames.len()])?;
        first_block.get_or_insert(block);
    }
    let length = count * BLOCK_BYTES;
    let block_elems = (BLOCK_BYTES / 2) as u32;
    let array = writer.add_array(&array(Dtype::BF16, length / 2, block_elems, first_block.unwrap_or(0), Codec::Zstd));
    let (dtype, shape) = (Some(Dtype::BF16), shape(count));
    Ok(Extent { offset, length, kind: ExtentKind::Tensor, name, dtype, shape, array: Some(array) })
}

fn array(dtype: Dtype, elements: u64, block_elems: u32, first_block: u32, codec: Codec) -> ArrayInfo {
    ArrayInfo {
        elements,
        row_len: 1,
        block_elems,
        first_block,
        dtype,
        codec,
        side_block: None,
        base: None,
        zeros: 0,
        signal: 0.0,
        noise: 0.0,
    }
}
