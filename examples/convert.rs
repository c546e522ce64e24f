//! Converts a model, as `upg convert` does, and reads it back.
//!
//!     cargo run --release --example convert -- MODEL_DIR OUT.upg

use std::path::Path;

use upg::archive::Archive;
use upg::error::{Error, Result};
use upg::ops::convert::{Options, Target, convert};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, output] = &arguments[..] else {
        return Err(Error::Invalid("usage: convert MODEL_DIR OUT.upg".into()));
    };
    let options = Options { target: Target::Bits(4.0), ..Options::new(source, output) };
    // In place of `()` goes what shows progress, or asks to stop.
    let report = convert(&options, &())?;
    println!("{} weights at {:.3} bits each", report.weights, report.bits_per_weight);

    let archive = Archive::open(Path::new(output))?;
    for tensor in archive.tensors(&archive.models()[0]) {
        let mut bytes = vec![0; tensor.byte_len() as usize];
        tensor.read(&mut bytes)?;
    }
    Ok(())
}
