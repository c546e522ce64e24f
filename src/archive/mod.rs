//! A `.upg` file as a whole: opened and read, or written.

mod decoded;
mod ranges;
mod reader;
mod writer;

pub use ranges::Piece;
pub use reader::{Archive, ArrayId, FileId};
pub use writer::{ArchiveWriter, sync_directory_of};
