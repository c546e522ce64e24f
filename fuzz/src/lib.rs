//! What the fuzz targets make of their input, and how seeds are written in its form.
//!
//! Every module has a `run` that takes any bytes and panics only if upg is wrong, so
//! that a finding can be looked at without the fuzzer.

pub mod block;
pub mod index;
mod input;
pub mod search;
