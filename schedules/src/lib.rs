//! The cache and what decodes ahead of readers, under a checker of schedules.
//!
//! The modules are upg's own, file by file. Only `sync` is another: shuttle's locks, threads and
//! atomic numbers hand over to one another at each step in an order that the checker chooses, all
//! on one thread of the system. So whatever two threads can do to each other happens soon, and
//! happens again when wanted; what never ends is noticed at once.
//!
//! Shuttle samples schedules where loom would go through all of them: a cache with four threads has
//! too many. Where there are few, all are gone through here, too. What a processor may reorder is
//! not looked at: atomic numbers are counts and hints here, and what they stand beside is locked.

#[path = "../../src/blocks.rs"]
pub mod blocks;
#[path = "../../src/cache/mod.rs"]
pub mod cache;
pub mod check;
#[path = "../../src/readahead/mod.rs"]
pub mod readahead;

use upg::{archive, buffer, error, format};

/// In place of upg's.
mod sync {
    pub use shuttle::sync::*;
    pub use shuttle::thread;
    /// Nobody waits for it.
    pub use std::sync::OnceLock;
}
