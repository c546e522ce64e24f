//! A `.upg` file as a whole: opened and read, or written.

#[cfg(feature = "std")]
mod concatenated;
#[cfg(feature = "std")]
mod decoded;
mod describe;
mod frame;
#[cfg_attr(not(feature = "std"), path = "keep_nothing.rs")]
mod kept;
#[cfg(feature = "std")]
mod parallel;
mod ranges;
mod reader;
#[cfg(feature = "std")]
mod stored;
mod tensors;
#[cfg(feature = "std")]
mod union;
#[cfg(feature = "std")]
mod writer;

pub use describe::SIDE_BLOCK;
pub use ranges::Piece;
pub use reader::{Archive, ArrayId, FileId};
pub use tensors::Tensor;
#[cfg(feature = "std")]
pub use union::Shown;
#[cfg(feature = "std")]
pub use writer::ArchiveWriter;
