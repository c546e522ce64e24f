//! What threads share, and threads themselves, for those modules whose schedules are checked:
//! in `schedules/`, a checker's take the place of the standard library's.

pub use std::sync::*;
pub use std::thread;
