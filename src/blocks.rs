//! The blocks of an archive, decoded by whoever asks first and kept for a while.

use std::ops::Range;

use crate::archive::{Archive, FileId};
use crate::cache::{Block, BlockCache, BlockKey};
use crate::error::{Error, Result};
use crate::format::ArrayInfo;
use crate::sync::Arc;

pub struct Blocks {
    archive: Archive,
    cache: BlockCache,
}

impl Blocks {
    /// Keeps up to `capacity` bytes of decoded blocks.
    pub fn new(archive: Archive, capacity: u64) -> Blocks {
        let all = archive.index().arrays.iter().map(ArrayInfo::byte_len).fold(0, u64::saturating_add);
        Blocks { archive, cache: BlockCache::new(capacity, all) }
    }

    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    pub fn cache(&self) -> &BlockCache {
        &self.cache
    }

    pub fn get(&self, key: BlockKey) -> Result<Arc<Block>> {
        self.cache.get(key, self.length(key), |out| self.archive.decode_block(key.0, key.1, out))
    }

    /// Decodes a block that somebody will ask for, if there is room for it.
    pub fn fetch_ahead(&self, key: BlockKey) -> Result<()> {
        self.cache.fetch_ahead(key, self.length(key), |out| self.archive.decode_block(key.0, key.1, out))
    }

    /// Appends a range of a file, which lies within it, holding one block at a time. What is
    /// appended counts as served.
    pub fn copy(&self, file: FileId, range: Range<u64>, to: &mut Vec<u8>) -> Result<()> {
        let length = range.end - range.start;
        to.try_reserve_exact(length as usize).map_err(Error::no_memory)?;
        self.archive.pieces(file, range.start, length, |piece| {
            let key = (piece.array, piece.block);
            let block = self.get(key)?;
            to.extend_from_slice(&block[piece.skip..][..piece.length]);
            self.cache.served(key, &block, piece.length as u64);
            Ok(())
        })
    }

    fn length(&self, key: BlockKey) -> usize {
        self.archive.array(key.0).bytes_of_block(key.1) as usize
    }
}
