//! Pushing decoded bytes into the page cache, ahead of a reader.
//!
//! Who maps a file asks for at most 128 KiB at a time, unless root has raised the
//! kernel's read-ahead, and waits for each answer. What is pushed before it comes is
//! simply there. Nobody hears of a reader that finds everything, so the last page of
//! each push is left out: it is asked for, and by that the reader is known to have
//! come so far.

use std::io;
use std::ops::Range;

use super::counters::Counters;
use super::lock;
use super::stream::{KERNEL_WINDOW, PAGE, Reader, Settled};
use crate::archive::FileId;
use crate::blocks::Blocks;
use crate::cache::BlockKey;
use crate::sync::atomic::Ordering::Relaxed;
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
    stored: Mutex<Stored>,
}

#[derive(Debug, Default)]
struct Stored {
    /// Two parts of each block at most.
    parts: Vec<Range<u64>>,
    /// Nothing more is to be stored.
    stopped: bool,
}

impl Push {
    pub fn new(range: Range<u64>) -> Push {
        Push { range, stored: Mutex::default() }
    }

    /// Whether this byte was put there. Whoever asks for it has not found it: the kernel
    /// does not store a page before a request for it is answered.
    pub fn has_stored(&self, at: u64) -> bool {
        lock(&self.stored).parts.iter().any(|part| part.contains(&at))
    }

    /// Takes note of a part that was put into the page cache; false if it came too late to be
    /// among those that [`Push::stop`] counts.
    pub fn note_stored(&self, part: Range<u64>) -> bool {
        let mut stored = lock(&self.stored);
        stored.parts.push(part);
        !stored.stopped
    }

    /// Nothing more is to be stored; the bytes that were.
    pub fn stop(&self) -> u64 {
        let mut stored = lock(&self.stored);
        stored.stopped = true;
        stored.parts.iter().map(|part| part.end - part.start).sum()
    }

    fn is_stopped(&self) -> bool {
        lock(&self.stored).stopped
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
    /// the block before. Counts the bytes that were stored.
    pub fn store(&self, pages: &dyn PageCache, blocks: &Blocks, key: BlockKey, pushed: &Counters) -> io::Result<()> {
        let first_whole = self.at.start.next_multiple_of(PAGE);
        let end = (self.at.end / PAGE * PAGE).min(self.push.range.end);
        // Of a block that the reader has come to already, what the kernel is not yet
        // reading for it.
        let next = self.reader.next.load(Relaxed);
        let from = if next <= first_whole { first_whole } else { (next + KERNEL_WINDOW).next_multiple_of(PAGE) };
        if end > from && self.can_store(pages, from) {
            let block = blocks.get(key).map_err(io::Error::other)?;
            let skip = self.skip + (from - self.at.start) as usize;
            self.store_pages(pages, from, &block[skip..][..(end - from) as usize], pushed)?;
            blocks.cache().served(key, &block, end - from);
        }
        let shared = self.at.start / PAGE * PAGE;
        if shared < first_whole && shared + PAGE <= end && self.can_store(pages, shared) {
            let mut page = Vec::new();
            blocks.copy(self.file, shared..shared + PAGE, &mut page).map_err(io::Error::other)?;
            self.store_pages(pages, shared, &page, pushed)?;
        }
        Ok(())
    }

    /// Whether the reader is still to come by.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted_from(self.at.end)
    }

    fn is_wanted_from(&self, offset: u64) -> bool {
        let stopped = !self.reader.wanted.load(Relaxed) || self.push.is_stopped();
        !stopped && self.reader.next.load(Relaxed) <= offset
    }

    fn can_store(&self, pages: &dyn PageCache, offset: u64) -> bool {
        self.is_wanted_from(offset) && pages.is_open()
    }

    fn store_pages(&self, pages: &dyn PageCache, offset: u64, bytes: &[u8], pushed: &Counters) -> io::Result<()> {
        pages.store(self.file, offset, bytes)?;
        let length = bytes.len() as u64;
        pushed.stored(length);
        if !self.push.note_stored(offset..offset + length) {
            pushed.settled(Settled { hit: 0, wasted: length });
        }
        Ok(())
    }
}
