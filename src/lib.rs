//! upg keeps language models small on disk and shows them as ordinary
//! safetensors files.
//!
//! A `.upg` file holds whole models: every safetensors file with its original
//! header, and every small file beside them. Tensors are stored by one of two
//! codecs, *prime-sparse* (lossy, 3.2 bits per weight by default) or *lossless*
//! (about two thirds of BF16), in blocks that decode independently:
//!
//! ```text
//! +--------+---------+---------+-----+---------+-------+---------+
//! | header | block 0 | block 1 | ... | block n | index | trailer |
//! +--------+---------+---------+-----+---------+-------+---------+
//!  model > file > extent > array > blocks          ^        |
//!                                                  +--------+
//! ```
//!
//! The programs are `upg` and `upg-mount`. As a library ([`archive`] to read and write files,
//! [`ops::convert`] to make them; `examples/` has whole programs):
//!
//! ```no_run
//! use upg::archive::Archive;
//!
//! let archive = Archive::open("phi-4.upg".as_ref())?;
//! for model in archive.models() {
//!     for (id, file) in archive.files(model) {
//!         let mut start = vec![0; file.size.min(1000) as usize];
//!         archive.read_at(id, 0, &mut start)?;
//!     }
//! }
//! # Ok::<(), upg::error::Error>(())
//! ```
//!
//! Without the feature `std`, which is on by default, the library needs `core` and `alloc` and
//! nothing else: no files, no threads. What is left is the decoding core, [`archive`], [`codec`],
//! [`format`](mod@format), [`source`], [`dtype`] and [`error`]: bytes in, tensors out.
//!
//! ```
//! use upg::archive::Archive;
//! use upg::error::Error;
//! use upg::source::Memory;
//!
//! fn tensor(model: &'static [u8], name: &str) -> Result<Vec<u8>, Error> {
//!     let archive = Archive::from_source(Box::new(Memory::new("model.upg", model)))?;
//!     let mut tensors = archive.models().iter().filter_map(|model| archive.tensor(model, name));
//!     let tensor = tensors.next().ok_or_else(|| Error::Invalid(format!("no tensor {name:?}")))?;
//!     let mut bytes = vec![0; tensor.byte_len() as usize];
//!     tensor.read(&mut bytes)?;
//!     Ok(bytes)
//! }
//!
//! let golden = include_bytes!("../tests/golden/model-3.2.upg");
//! assert_eq!(tensor(golden, "lm_head.weight")?.len(), 300 * 256 * 2);
//! # Ok::<(), Error>(())
//! ```
//!
//! There, vector code is used as far as the program is compiled for it (`-C target-feature`), and an
//! archive keeps nothing between reads.
//!
//! `docs/format.md` defines the file, `docs/architecture.md` maps the code.

#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod archive;
#[cfg(feature = "std")]
pub mod blocks;
pub mod buffer;
#[cfg(feature = "std")]
pub mod cache;
#[cfg(feature = "std")]
pub mod cli;
pub mod codec;
pub mod dtype;
pub mod error;
#[cfg(feature = "std")]
mod escape;
pub mod format;
#[cfg(feature = "std")]
pub mod hub;
#[cfg(feature = "std")]
pub mod mount;
#[cfg(feature = "std")]
pub mod object;
#[cfg(feature = "std")]
pub mod ops;
#[cfg(feature = "std")]
pub mod partial;
#[cfg(feature = "std")]
pub mod readahead;
#[cfg(feature = "std")]
pub mod shard;
pub mod source;
#[cfg(feature = "std")]
mod sync;
#[cfg(feature = "std")]
pub mod vfs;

/// Its Rust compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
