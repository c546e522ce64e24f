//! One reader that reads on: where it is, how far to be ahead of it, and how.

use std::collections::VecDeque;
use std::ops::Range;

use super::push::Push;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What the kernel rounds its reads to, both ends.
pub const PAGE: u64 = 4096;
/// The first window, once a second read has followed a first.
pub const FIRST_WINDOW: u64 = 1 << 20;
/// The largest: enough for every core to have a block to decode. More was no faster.
pub const LARGEST_WINDOW: u64 = 8 << 20;
/// How far the stored bytes are fetched ahead, as decoded bytes: disks and networks like
/// to have more under way.
const LARGEST_FETCH: u64 = 64 << 20;
/// Reads that must have followed each other before anything is pushed.
const READS_BEFORE_PUSH: i32 = 8;
/// The same after what was pushed was gone before its reader came.
const READS_AFTER_LOSS: i32 = 256;
/// The same after the reader had come before most of what was to be pushed; twice as many
/// each time that it does again.
const READS_AFTER_LATE: i32 = 128;
const MOST_READS_AFTER_LATE: i32 = 1 << 14;
/// What the kernel may be reading for itself in front of a reader: what is pushed begins
/// behind it.
pub const KERNEL_WINDOW: u64 = 256 << 10;

/// A read that has arrived, and what is known of it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub read: Range<u64>,
    /// Where the tensor ends that the read is for (not the one before it, of which a page
    /// of the kernel's may hold the last bytes).
    pub section_end: u64,
    pub file_size: u64,
    /// Largest window, for want of memory.
    pub most: u64,
    /// Whether a push may help: a small read for the page cache, and there is memory.
    pub may_push: bool,
}

/// What is to be decoded ahead.
#[derive(Debug, Clone)]
pub struct Ahead {
    pub range: Range<u64>,
    /// What is to be fetched, but not decoded yet; it goes on where the last one ended.
    pub fetch: Range<u64>,
    pub reader: Arc<Reader>,
    /// The part of `range` that is to be pushed into the page cache.
    pub push: Option<Arc<Push>>,
}

/// What those who work ahead must know of the reader.
#[derive(Debug)]
pub struct Reader {
    /// False once the stream is forgotten: then nobody will come for it.
    pub wanted: AtomicBool,
    /// Behind the farthest byte that was asked for.
    pub next: AtomicU64,
}

/// Bytes that were pushed, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// The reader went past them without asking.
    pub hit: u64,
    /// They left the page cache before that, or the reader never came.
    pub wasted: u64,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub reader: Arc<Reader>,
    /// Behind the farthest byte that was read.
    pub next: u64,
    /// End of the section of the last read.
    pub section_end: u64,
    /// Bytes to be ahead of the reader.
    window: u64,
    /// Up to where decoding was asked for.
    ahead: u64,
    /// Up to where fetching was.
    fetched: u64,
    /// Whether the reader went on from one section into the next.
    crosses: bool,
    /// Reads in a row that a push may have saved.
    small_reads: i32,
    /// How many must follow after the reader has overtaken a push.
    reads_after_late: i32,
    /// What was pushed or will be, and the reader has not passed.
    pushes: VecDeque<Arc<Push>>,
}

impl Stream {
    pub fn new(seen: &Seen) -> Stream {
        let next = seen.read.end;
        let reader = Arc::new(Reader { wanted: AtomicBool::new(true), next: AtomicU64::new(next) });
        Stream {
            reader,
            next,
            section_end: seen.section_end,
            window: 0,
            ahead: next,
            fetched: next,
            crosses: false,
            small_reads: i32::from(seen.may_push),
            reads_after_late: READS_AFTER_LATE,
            pushes: VecDeque::new(),
        }
    }

    /// How far a read is from where this reader may go on: up to the end of what was
    /// pushed, of which it reads without a word.
    pub fn distance(&self, start: u64) -> u64 {
        let last = self.pushes.back().map_or(self.next, |push| push.range.end);
        self.next.saturating_sub(start).max(start.saturating_sub(last.max(self.next)))
    }

    /// Takes note of a read of this stream.
    pub fn read(&mut self, seen: &Seen) -> (Option<Ahead>, Settled) {
        if seen.read.end <= self.next {
            return (None, Settled::default());
        }
        let settled = self.settle(seen.read.start);
        self.next = seen.read.end;
        self.reader.next.store(self.next, Relaxed);
        let largest = LARGEST_WINDOW.min(seen.most.max(FIRST_WINDOW));
        self.window = (2 * self.window).clamp(FIRST_WINDOW, largest);
        self.small_reads = if seen.may_push { self.small_reads.saturating_add(1) } else { self.small_reads.min(0) };
        // A page that holds the end of a tensor holds the beginning of the next.
        self.crosses |= self.next > self.section_end + PAGE;
        self.section_end = seen.section_end;
        let limit = if self.crosses { seen.file_size } else { seen.section_end };
        let ahead = if self.small_reads >= READS_BEFORE_PUSH { self.push(limit) } else { self.extend(limit) };
        (ahead, settled)
    }

    /// What became of the pushes when the reader asks for something.
    fn settle(&mut self, start: u64) -> Settled {
        let mut settled = Settled::default();
        while let Some(push) = self.pushes.front() {
            if start >= push.range.end {
                let stored = push.stop();
                settled.hit += stored;
                if stored < (push.range.end - push.range.start) / 2 {
                    // The reader is faster than we are, and asking costs less than pushing.
                    self.small_reads = READS_BEFORE_PUSH - self.reads_after_late;
                    self.reads_after_late = (2 * self.reads_after_late).min(MOST_READS_AFTER_LATE);
                } else {
                    self.reads_after_late = READS_AFTER_LATE;
                }
                self.pushes.pop_front();
            } else if push.has_stored(start) {
                // It was there, and is not any more: memory is short.
                settled.wasted = self.abandon();
                (self.small_reads, self.window) = (READS_BEFORE_PUSH - READS_AFTER_LOSS, 0);
            } else {
                break;
            }
        }
        settled
    }

    /// Gives up all pushes; the bytes that were wasted.
    pub fn abandon(&mut self) -> u64 {
        self.pushes.drain(..).map(|push| push.stop()).sum()
    }

    /// Moves the end of what is decoded ahead, half a window at a time.
    fn extend(&mut self, limit: u64) -> Option<Ahead> {
        let from = self.ahead.max(self.next);
        let to = (self.next + self.window).min(limit);
        self.is_due(from, to, limit).then(|| self.advance(from..to, limit, None))
    }

    /// The same for what is pushed. The last page is left out, so that the reader asks for
    /// it and thereby says how far it has come.
    fn push(&mut self, limit: u64) -> Option<Ahead> {
        let behind_last = self.pushes.back().map(|push| push.range.end + PAGE);
        let from = behind_last.unwrap_or(self.next + KERNEL_WINDOW).next_multiple_of(PAGE);
        // Two in a window, so that the reader is heard of while it has one before it.
        let to = (self.next + self.window).min(from + self.window / 2).min(limit) / PAGE * PAGE;
        if to <= from + PAGE || !self.is_due(from, to, limit / PAGE * PAGE) {
            return None;
        }
        let push = Arc::new(Push::new(from..to - PAGE));
        self.pushes.push_back(push.clone());
        Some(self.advance(from..to, limit, Some(push)))
    }

    fn is_due(&self, from: u64, to: u64, limit: u64) -> bool {
        to > from && (from - self.next <= self.window / 2 || to == limit)
    }

    fn advance(&mut self, range: Range<u64>, limit: u64, push: Option<Arc<Push>>) -> Ahead {
        self.ahead = self.ahead.max(range.end);
        let fetch_from = self.fetched.max(range.start);
        let fetch_to = (self.next + (8 * self.window).min(LARGEST_FETCH)).min(limit).max(fetch_from);
        self.fetched = fetch_to;
        Ahead { range, fetch: fetch_from..fetch_to, reader: self.reader.clone(), push }
    }
}
