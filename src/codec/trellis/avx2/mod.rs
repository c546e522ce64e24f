//! The search with AVX2.

pub use super::portable::search;
