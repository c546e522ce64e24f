//! Reads the files of an archive that is bytes in memory: any `ReadAt` will do for a source.
//!
//!     cargo run --release --example from_memory -- FILE
//!
//! The same works without std (`tests/bare`).

use upg::archive::Archive;
use upg::error::{Error, Result};
use upg::source::Memory;

fn main() -> Result<()> {
    let file = std::env::args().nth(1).ok_or_else(|| Error::Invalid("usage: from_memory FILE".into()))?;
    let bytes = std::fs::read(&file).map_err(|error| Error::io(&file, error))?;
    let archive = Archive::from_source(Box::new(Memory::new(file, bytes)))?;
    for model in archive.models() {
        for (id, file) in archive.files(model) {
            // Into a buffer of the caller's, however small.
            let mut start = [0; 8];
            let length = start.len().min(file.size as usize);
            archive.read_at(id, 0, &mut start[..length])?;
            println!("{:?}/{:?}: {} bytes, beginning with {:?}", model.name, file.path, file.size, &start[..length]);
        }
    }
    Ok(())
}
