pub mod archive;
pub mod codec;
pub mod dtype;
pub mod error;
pub mod format;
pub mod ops;
pub mod shard;
pub mod source;
