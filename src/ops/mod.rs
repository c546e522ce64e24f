//! What the program `upg` does.

pub mod bench;
pub mod convert;
pub mod info;
mod quality;
pub mod verify;
