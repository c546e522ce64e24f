//! The committed corpora: for each target the inputs that a fuzzer found to do something
//! that no other does, the smaller ones of them, in one compressed file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the corpus of a target is.
pub fn path(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(format!("{target}.zst"))
}

/// The inputs of a target.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let packed = zstd::stream::decode_all(fs::File::open(path(target))?)?;
    let mut inputs = Vec::new();
    let mut rest = packed.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (input, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = after;
    }
    Ok(inputs)
}

/// Writes the corpus of a target: the smallest of these inputs, up to so many bytes.
pub fn write(target: &str, mut inputs: Vec<Vec<u8>>, most: usize) -> io::Result<usize> {
    inputs.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    inputs.dedup();
    let mut left = most;
    inputs.retain(|input| {
        let fits = input.len() <= left;
        left -= if fits { input.len() } else { 0 };
        fits
    });
    let mut packed = Vec::new();
    for input in &inputs {
        packed.extend((input.len() as u32).to_le_bytes());
        packed.extend_from_slice(input);
    }
    fs::write(path(target), zstd::bulk::compress(&packed, 19)?)?;
    Ok(inputs.len())
}
