//! What the program `upg` does.

pub mod convert;
pub mod info;
