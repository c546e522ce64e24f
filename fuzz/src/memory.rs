//! A file that is bytes in memory.

use std::path::Path;

use upg::error::{Error, Result};
use upg::source::ReadAt;

/// Of its own allocation, so that the sanitizer knows where it ends.
pub struct Memory(pub Box<[u8]>);

impl ReadAt for Memory {
    fn name(&self) -> &Path {
        Path::new("memory")
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let range = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)?.get(..buffer.len()));
        let range = range.ok_or_else(|| Error::truncated(self.name(), "memory", offset, "short"))?;
        buffer.copy_from_slice(range);
        Ok(())
    }
}
