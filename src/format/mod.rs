//! The wire structures of a `.upg` file: parse and write, nothing else.
//!
//! Parsing yields an [`Index`] in which every offset, length, count, name and
//! parameter has been checked against `docs/format.md`; nothing behind this
//! module sees an unchecked number.

mod extent;
mod forever_constant;
mod index;
mod parse;
mod path;
mod records;
mod sections;
mod trailer;
mod write;

pub use extent::ExtentKind;
pub use forever_constant::{
    ARRAY_LEN, BLOCK_LEN, EXTENT_LEN, HEADER_LEN, MAX_BLOCK_BYTES, MAX_DIMENSIONS, NONE, TRAILER_LEN, VERSION,
};
pub use index::{Extent, FileEntry, Index, Model};
pub use path::{Clash, check_component, check_path, clash};
#[cfg(feature = "std")]
pub use records::snr_db;
pub use records::{ArrayInfo, BlockMode, BlockRecord, Codec};
pub use trailer::{Trailer, check_header, header};
pub use write::IndexBuilder;
