//! Entropy coding of symbols: range asymmetric numeral systems (Duda, arXiv
//! 1311.2540) over 64 table entries, with 16-bit frequencies and an alias table
//! in place of a search (`docs/format.md`, 7.5).

pub mod alias;
#[cfg(feature = "std")]
pub mod encode;
pub mod frequencies;

/// Where every lane begins (encoding) and must end (decoding).
pub const INITIAL_STATE: u32 = 1 << 16;
