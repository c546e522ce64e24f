//! A `.upg` file as a whole: opened and read, or written.

mod decoded;
mod partial;
mod ranges;
mod reader;
mod writer;

pub use partial::{Existing, Partial, cannot_write, directory_of};
pub use ranges::Piece;
pub use reader::{Archive, ArrayId, FileId};
pub use writer::ArchiveWriter;
