//! What the fuzz targets make of their input, and how seeds are written in its form.
//!
//! Every module has a `run` that takes any bytes and panics only if upg is wrong, so
//! that a finding can be looked at without the fuzzer.

pub mod block;
pub mod convert;
pub mod corpora;
pub mod index;
mod input;
pub mod read;
pub mod search;
pub mod shard;
pub mod values;

/// A target's name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 6] = [
    ("block", block::run),
    ("convert", convert::run),
    ("index", index::run),
    ("read", read::run),
    ("search", search::run),
    ("shard", shard::run),
];
