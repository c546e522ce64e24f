//! A `.upg` file as a whole: opened and read, or written.

mod decoded;
mod ranges;
mod reader;
mod unread;
mod writer;

pub use ranges::Piece;
pub use reader::{Archive, ArrayId, FileId, SIDE_BLOCK};
pub use writer::{ArchiveWriter, sync_directory_of};
