//! A `.upg` file as a whole: opened and read, or written.

mod decoded;
mod parallel;
mod partial;
mod ranges;
mod reader;
mod unread;
mod writer;

pub use partial::{Existing, Partial, cannot_write, directory_of};
pub use ranges::Piece;
pub use reader::{Archive, ArrayId, FileId, SIDE_BLOCK};
pub use writer::ArchiveWriter;
