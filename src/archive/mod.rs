//! A `.upg` file as a whole: opened and read, or written.

mod decoded;
mod reader;
mod writer;

pub use reader::{Archive, ArrayId, FileId, Piece};
pub use writer::{ArchiveWriter, sync_directory_of};
