//! Reads a tensor of a .upg file, on all cores and without a mount.
//!
//!     cargo run --release --example read_tensor -- FILE TENSOR
//!
//! Without TENSOR, lists what there is.

use std::path::Path;

use upg::archive::Archive;
use upg::error::{Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(file) = arguments.first() else { return Err(Error::Invalid("usage: read_tensor FILE [TENSOR]".into())) };
    let archive = Archive::open(Path::new(file))?;
    let model = &archive.models()[0];
    let Some(name) = arguments.get(1) else {
        for tensor in archive.tensors(model) {
            println!("{:?} {} {:?}", tensor.name(), tensor.dtype().name(), tensor.shape());
        }
        return Ok(());
    };
    let tensor = archive.tensor(model, name).ok_or_else(|| Error::Invalid(format!("{file}: no tensor {name:?}")))?;

    // All of it, each block decoded to its place.
    let mut all = vec![0; tensor.byte_len() as usize];
    tensor.read_parallel(&mut all)?;
    // A part of it: no more than the blocks that the part lies in are read and decoded.
    let mut last = [0; 2];
    tensor.read_at(tensor.byte_len() - 2, &mut last)?;
    assert_eq!(last, all[all.len() - 2..]);

    let sum = all.iter().fold(0u64, |sum, &byte| sum + u64::from(byte));
    println!("{name:?}: {} {:?}, {} bytes, which add up to {sum}", tensor.dtype().name(), tensor.shape(), all.len());
    Ok(())
}
