//! What the program `upg` does.

pub mod bench;
pub mod catalog;
pub mod choose;
pub mod convert;
mod existing;
pub mod info;
pub mod merge;
mod names;
pub mod progress;
mod quality;
pub mod unpack;
pub mod verify;
