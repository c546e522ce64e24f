//! Decoding ahead of readers.
//!
//! A reader waits for a block, then works on it, then waits for the next; kernel, decoder
//! and disk would rest in turn. Streams of reads are recognised (`streams`), and a pool
//! of threads decodes into the cache what they will ask for next. The threads that answer
//! the kernel never wait for the pool, except for a block that one of its threads is
//! decoding already: what is only queued they decode themselves.

mod counters;
mod pressure;
mod push;
mod stream;
mod streams;

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::archive::FileId;
use crate::blocks::Blocks;
use crate::cache::BlockKey;
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use counters::Counters;
pub use counters::PushStats;
use pressure::Pressure;
use push::{PushPiece, SMALL_READ};
use stream::{PAGE, Reader, Seen};
use streams::Streams;

pub use push::PageCache;

/// A window takes at most this share of the cache: several readers share it, and what they
/// read already stays for a while.
const SHARE_OF_CACHE: u64 = 4;

pub struct Readahead {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Per file.
    streams: Vec<Mutex<Streams>>,
}

struct Shared {
    blocks: Arc<Blocks>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Where decoded bytes can be pushed, if anywhere.
    pages: OnceLock<Box<dyn PageCache>>,
    pressure: Pressure,
    pushed: Counters,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    ended: bool,
}

/// A block that will be wanted.
struct Job {
    key: BlockKey,
    reader: Arc<Reader>,
    push: Option<PushPiece>,
}

impl Readahead {
    /// With so many threads that decode; none for none.
    pub fn new(blocks: Arc<Blocks>, threads: usize) -> Result<Readahead> {
        let files = blocks.archive().index().files.len();
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared {
            blocks,
            queue,
            changed: Condvar::new(),
            pages: OnceLock::new(),
            pressure: Pressure::default(),
            pushed: Counters::default(),
        });
        let mut readahead = Readahead {
            shared,
            threads: Vec::new(),
            streams: (0..files).map(|_| Mutex::new(Streams::default())).collect(),
        };
        for i in 0..threads {
            let shared = readahead.shared.clone();
            let thread = thread::Builder::new().name(format!("decode-{i}")).spawn(move || shared.work());
            readahead.threads.push(thread.map_err(|e| Error::io("a thread that decodes", e))?);
        }
        Ok(readahead)
    }

    /// From now on, what is decoded ahead of small reads is pushed here.
    pub fn push_into(&self, pages: Box<dyn PageCache>) {
        let _ = self.shared.pages.set(pages);
    }

    /// What was pushed; None if nothing can be.
    pub fn push_stats(&self) -> Option<PushStats> {
        self.shared.pages.get()?;
        Some(self.shared.pushed.stats())
    }

    /// To be told of every read, which lies within the file, before it is answered.
    /// `cached`: whether the kernel keeps what it reads.
    pub fn read(&self, file: FileId, read: Range<u64>, cached: bool) {
        if self.threads.is_empty() || read.is_empty() {
            return;
        }
        let shared = &self.shared;
        let (archive, cache) = (shared.blocks.archive(), shared.blocks.cache());
        let seen = Seen {
            section_end: archive.section_end(file, (read.start + PAGE).min(read.end - 1)),
            file_size: archive.file(file).size,
            most: cache.capacity() / SHARE_OF_CACHE,
            may_push: cached && read.end - read.start <= SMALL_READ && shared.can_push(),
            read,
        };
        let (ahead, settled) = lock(&self.streams[file.0 as usize]).read(&seen);
        shared.pushed.settled(settled);
        let Some(ahead) = ahead else { return };
        archive.will_need(file, ahead.fetch.clone(), |array, block| !cache.holds((array, block)));
        let mut jobs = Vec::new();
        let length = ahead.range.end - ahead.range.start;
        let pieces = archive.pieces(file, ahead.range.start, length, |piece| {
            let push = ahead.push.as_ref().map(|push| PushPiece {
                push: push.clone(),
                reader: ahead.reader.clone(),
                file,
                at: piece.at..piece.at + piece.length as u64,
                skip: piece.skip,
            });
            jobs.push(Job { key: (piece.array, piece.block), reader: ahead.reader.clone(), push });
            Ok(())
        });
        if pieces.is_ok() {
            lock(&shared.queue).jobs.extend(jobs);
            shared.changed.notify_all();
        }
    }
}

impl Drop for Readahead {
    fn drop(&mut self) {
        lock(&self.shared.queue).ended = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // It catches panics of its own.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            if job.reader.wanted.load(Relaxed) && catch_unwind(AssertUnwindSafe(|| self.decode(&job))).is_err() {
                tracing::error!("decoding ahead panicked; the reader will meet the same block");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.ended {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn decode(&self, job: &Job) {
        if job.push.as_ref().is_some_and(|piece| !piece.is_wanted()) {
            return;
        }
        if let Err(error) = self.blocks.fetch_ahead(job.key) {
            // The reader will meet it, and be told.
            tracing::debug!("decoding ahead: {error}");
            return;
        }
        let (Some(piece), Some(pages)) = (&job.push, self.pages.get()) else { return };
        if let Err(error) = piece.store(&**pages, &self.blocks, job.key, &self.pushed) {
            tracing::debug!("pushing: {error}");
        }
    }

    fn can_push(&self) -> bool {
        self.pages.get().is_some_and(|pages| pages.is_open()) && !self.pressure.is_high()
    }
}

/// What is done under these locks leaves nothing half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
