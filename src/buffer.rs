//! Buffers as large as a file says.

use alloc::vec::Vec;

use crate::error::{Error, Result};

/// Gives a buffer this length, and no more memory than that takes. What it then holds is not said.
pub fn fit(buffer: &mut Vec<u8>, length: usize) -> Result<()> {
    buffer.try_reserve_exact(length.saturating_sub(buffer.len())).map_err(Error::no_memory)?;
    buffer.resize(length, 0);
    Ok(())
}

/// A new one.
pub fn of(length: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    fit(&mut buffer, length)?;
    Ok(buffer)
}
