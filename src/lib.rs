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
//! The programs are `upg` (convert, info) and `upg-mount`. As a library:
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
//! `docs/format.md` defines the file, `docs/architecture.md` maps the code.

#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod archive;
#[cfg(feature = "std")]
pub mod blocks;
#[cfg(feature = "std")]
pub mod cache;
#[cfg(feature = "std")]
pub mod cli;
pub mod codec;
pub mod dtype;
pub mod error;
pub mod format;
#[cfg(feature = "std")]
pub mod mount;
#[cfg(feature = "std")]
pub mod ops;
#[cfg(feature = "std")]
pub mod readahead;
#[cfg(feature = "std")]
pub mod shard;
pub mod source;
#[cfg(feature = "std")]
mod sync;
#[cfg(feature = "std")]
pub mod vfs;
