//! A program with nothing under it, neither std nor libc: the decoding core of upg reads the files of
//! `tests/golden`, which it carries, and refuses those of `tests/bad`. `tests/suite/bare.rs` builds and
//! runs it.

#![no_std]
#![no_main]

extern crate alloc;

mod system;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use sha2::{Digest, Sha256};
use system::Output;
use upg::archive::{Archive, ArrayId};
use upg::error::Result;
use upg::format::{ExtentKind, Index};
use upg::source::Memory;

/// Where the program begins, in place of the `main` that there is with std.
pub extern "C" fn main() -> ! {
    let done = golden().and_then(|()| bad()).and_then(|()| one_bit()).and_then(|()| every_bit());
    if let Err(what) = done {
        let _ = writeln!(Output(2), "{what}");
        system::exit(1);
    }
    system::exit(0)
}

include!(concat!(env!("OUT_DIR"), "/files.rs"));

fn say(what: &str) -> Result<(), String> {
    writeln!(Output(1), "{what}").map_err(|_| "cannot write".to_string())
}

fn open(name: &str, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Archive> {
    Archive::from_source(alloc::boxed::Box::new(Memory::new(name, bytes)))
}

/// Every golden file has the bytes that its hashes are of. Says the hash of its tensors.
fn golden() -> Result<(), String> {
    for &((name, bytes), expected) in GOLDEN {
        let archive = open(name, bytes).map_err(|e| e.to_string())?;
        say(&format!("{name}: {}", tensors(&archive).map_err(|e| e.to_string())?))?;
        let hashes = files(&archive).map_err(|e| e.to_string())?;
        if hashes != expected {
            return Err(format!("{name}: other bytes:\n{hashes}"));
        }
    }
    Ok(())
}

/// The hash of all tensors, each read by itself.
fn tensors(archive: &Archive) -> Result<String> {
    let mut hash = Sha256::new();
    for model in archive.models() {
        for (id, file) in archive.files(model) {
            for tensor in archive.extents(file).iter().filter(|extent| extent.kind == ExtentKind::Tensor) {
                let mut bytes = vec![0; tensor.length as usize];
                archive.read_at(id, tensor.offset, &mut bytes)?;
                hash.update(&bytes);
            }
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// A line for each file: hash, two blanks, path.
fn files(archive: &Archive) -> Result<String> {
    let mut lines = String::new();
    for model in archive.models() {
        let directory = if archive.models().len() > 1 { format!("{}/", model.name) } else { String::new() };
        for (id, file) in archive.files(model) {
            let mut bytes = vec![0; file.size as usize];
            archive.read_at(id, 0, &mut bytes)?;
            lines += &format!("{:x}  {directory}{}\n", Sha256::digest(&bytes), file.path);
        }
    }
    Ok(lines)
}

/// Every hostile file is refused with the error that it gives with std. Two zstd decoders need not
/// give the same reason.
fn bad() -> Result<(), String> {
    for &(name, bytes) in BAD {
        let Err(error) = open(name, bytes).and_then(|archive| files(&archive)) else {
            return Err(format!("{name}: accepted"));
        };
        let error = error.to_string();
        let mut lines = ERRORS.lines();
        let reason = if name.starts_with("zstd-") { ": corrupt: " } else { "\n" };
        let without = |line: &str| line.split(reason).next().map(String::from);
        if !lines.any(|line| line.starts_with(name) && without(line) == without(&error)) {
            return Err(format!("another error: {error}"));
        }
    }
    say(&format!("{} hostile files", BAD.len()))
}

/// The first tensor of a file, and a stored byte of its first block.
fn first_tensor(index: &Index) -> Option<(&str, u64, usize)> {
    let extent = index.extents.iter().find(|extent| extent.kind == ExtentKind::Tensor)?;
    let record = index.block(index.arrays.get(extent.array? as usize)?.first_block);
    Some((&extent.name, record.offset, record.offset as usize + record.length as usize / 2))
}

/// One bit is another: the error names file, tensor and offset, and what is in other blocks can be read.
fn one_bit() -> Result<(), String> {
    let ((_, golden), _) = GOLDEN.iter().find(|((name, _), _)| *name == "model-3.2.upg").ok_or("no model-3.2.upg")?;
    let intact = open("intact", *golden).map_err(|e| e.to_string())?;
    let (tensor, offset, byte) = first_tensor(intact.index()).ok_or("no tensor")?;
    let mut damaged = golden.to_vec();
    damaged[byte] ^= 0x10;
    let damaged = open("damaged", damaged).map_err(|e| e.to_string())?;
    let error = tensors(&damaged).err().ok_or("a damaged tensor was decoded")?.to_string();
    let path = &damaged.index().files[0].path;
    let place = format!("damaged: tensor {tensor:?} of {path:?}, block 0 at byte {offset}");
    if error != format!("{place}: corrupt: checksum mismatch") {
        return Err(format!("another error: {error}"));
    }
    say(&error)?;
    let last = ArrayId(damaged.index().arrays.len() as u32 - 1);
    let mut bytes = vec![0; damaged.array(last).bytes_of_block(0) as usize];
    damaged.decode_block(last, 0, &mut bytes).map_err(|e| e.to_string())
}

/// No bit of a small file may be another.
fn every_bit() -> Result<(), String> {
    let smallest = GOLDEN.iter().map(|(file, _)| file).min_by_key(|(_, bytes)| bytes.len());
    let (name, bytes) = smallest.ok_or("no golden file")?;
    for bit in 0..8 * bytes.len() {
        let mut damaged: Vec<u8> = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if open(name, damaged).and_then(|archive| files(&archive)).is_ok() {
            return Err(format!("{name}: bit {} of byte {} is not noticed", bit % 8, bit / 8));
        }
    }
    say(&format!("{} bits", 8 * bytes.len()))
}
