//! Pushing decoded bytes into the page cache, ahead of a reader.
//!
//! Who maps a file asks for at most 128 KiB at a time, unless root has raised the
//! kernel's read-ahead, and waits for each answer. What is pushed before it comes is
//! simply there. Nobody hears of a reader that finds everything, so the last page of
//! each push is left out: it is asked for, and by that the reader is known to have
//! come so far.

use std::io;
use std::ops::Range;

use super::lock;
use super::stream::{KERNEL_WINDOW, PAGE, Reader};
use crate::archive::FileId;
use crate::blocks::Blocks;
use crate::cache::BlockKey;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Mutex};

/// Requests up to this size show that the kernel's read-ahead is what holds a reader back.
pub const SMALL_READ: u64 = 128 << 10;

/// Where pages go: the page cache of a mount.
pub trait PageCache: Send + Sync {
    /// Whether pages may be stored now.
    fn is_open(&self) -> bool;
    /// Puts whole pages of a file into the cache; may wait until a request for one of
    /// them is answered.
    fn store(&self, file: FileId, offset: u64, pages: &[u8]) -> io::Result<()>;
}

/// A part of a file that is put into the page cache before its reader comes.
#[derive(Debug)]
pub struct Push {
    /// Whole pages.
    pub range: Range<u64>,
    /// What of it was stored: two parts of each block at most.
    stored: Mutex<Vec<Range<u64>>>,
    stopped: AtomicBool,
}

impl Push {
    pub fn new(range: Range<u64>) -> Push {
        Push { range, stored: Mutex::default(), stopped: AtomicBool::new(false) }
    }

    /// Bytes that were put into the page cache.
    pub fn stored(&self) -> u64 {
        lock(&self.stored).iter().map(|range| range.end - range.start).sum()
    }

    /// Whether this byte was put there. Whoever asks for it has not found it: the kernel
    /// does not store a page before a request for it is answered.
    pub fn has_stored(&self, at: u64) -> bool {
        lock(&self.stored).iter().any(|range| range.contains(&at))
    }

    pub fn note_stored(&self, range: Range<u64>) {
        lock(&self.stored).push(range);
    }

    /// Nothing more is to be stored; what was.
    pub fn stop(&self) -> u64 {
        self.stopped.store(true, Relaxed);
        self.stored()
    }
}

/// The part of a push that one block holds.
pub struct PushPiece {
    pub push: Arc<Push>,
    pub reader: Arc<Reader>,
    pub file: FileId,
    /// Its bytes in the file.
    pub at: Range<u64>,
    /// Where they begin in the block.
    pub skip: usize,
}

impl PushPiece {
    /// Stores the pages whose last byte lies in this piece; the first of them may begin in
    /// the block before. Adds the bytes that were stored to `total`.
    pub fn store(&self, pages: &dyn PageCache, blocks: &Blocks, key: BlockKey, total: &AtomicU64) -> io::Result<()> {
        let first_whole = self.at.start.next_multiple_of(PAGE);
        let end = (self.at.end / PAGE * PAGE).min(self.push.range.end);
        // Of a block that the reader has come to already, what the kernel is not yet
        // reading for it.
        let next = self.reader.next.load(Relaxed);
        let from = if next <= first_whole { first_whole } else { (next + KERNEL_WINDOW).next_multiple_of(PAGE) };
        if end > from && self.can_store(pages, from) {
            let block = blocks.get(key).map_err(io::Error::other)?;
            let skip = self.skip + (from - self.at.start) as usize;
            self.store_pages(pages, from, &block[skip..][..(end - from) as usize], total)?;
            blocks.cache().served(key, &block, end - from);
        }
        let shared = self.at.start / PAGE * PAGE;
        if shared < first_whole && shared + PAGE <= end && self.can_store(pages, shared) {
            let mut page = Vec::new();
            blocks.copy(self.file, shared..shared + PAGE, &mut page).map_err(io::Error::other)?;
            self.store_pages(pages, shared, &page, total)?;
        }
        Ok(())
    }

    /// Whether the reader is still to come by.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted_from(self.at.end)
    }

    fn is_wanted_from(&self, offset: u64) -> bool {
        let stopped = self.push.stopped.load(Relaxed) || !self.reader.wanted.load(Relaxed);
        !stopped && self.reader.next.load(Relaxed) <= offset
    }

    fn can_store(&self, pages: &dyn PageCache, offset: u64) -> bool {
        self.is_wanted_from(offset) && pages.is_open()
    }

    fn store_pages(&self, pages: &dyn PageCache, offset: u64, bytes: &[u8], total: &AtomicU64) -> io::Result<()> {
        pages.store(self.file, offset, bytes)?;
        let length = bytes.len() as u64;
        // Before the stream may learn of it: what was hit is never more than what was pushed.
        total.fetch_add(length, Relaxed);
        self.push.note_stored(offset..offset + length);
        Ok(())
    }
}
