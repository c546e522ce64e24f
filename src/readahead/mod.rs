//! Decoding ahead of readers.
//!
//! A reader waits for a block, then works on it, then waits for the next; kernel, decoder
//! and disk would rest in turn. Streams of reads are recognised (`streams`), and a pool
//! of threads decodes into the cache what they will ask for next. The threads that answer
//! the kernel never wait for the pool, except for a block that one of its threads is
//! decoding already: what is only queued they decode themselves.

mod streams;

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::archive::{Archive, ArrayId, FileId};
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use streams::{PAGE, Streams};

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
    archive: Arc<Archive>,
    cache: Arc<BlockCache>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    ended: bool,
}

/// A block that will be wanted.
struct Job {
    array: ArrayId,
    block: u32,
    wanted: Arc<AtomicBool>,
}

impl Readahead {
    /// With so many threads that decode; none for none.
    pub fn new(archive: Arc<Archive>, cache: Arc<BlockCache>, threads: usize) -> Result<Readahead> {
        let files = archive.index().files.len();
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared { archive, cache, queue, changed: Condvar::new() });
        let mut readahead = Readahead {
            shared,
            threads: Vec::new(),
            streams: (0..files).map(|_| Mutex::new(Streams::default())).collect(),
        };
        for i in 0..threads {
            let shared = readahead.shared.clone();
            let thread = std::thread::Builder::new().name(format!("decode-{i}")).spawn(move || shared.work());
            readahead.threads.push(thread.map_err(|e| Error::io("a thread that decodes", e))?);
        }
        Ok(readahead)
    }

    /// To be told of every read, which lies within the file, before it is answered.
    pub fn read(&self, file: FileId, read: Range<u64>) {
        if self.threads.is_empty() || read.is_empty() {
            return;
        }
        let archive = &self.shared.archive;
        let entry = archive.file(file);
        let section_end = archive.section_end(file, (read.start + PAGE).min(read.end - 1));
        let most = self.shared.cache.capacity() / SHARE_OF_CACHE;
        let ahead = lock(&self.streams[file.0 as usize]).read(read, section_end, entry.size, most);
        let Some(ahead) = ahead else { return };
        let length = ahead.range.end - ahead.range.start;
        let cache = &self.shared.cache;
        archive.will_need(file, ahead.fetch.clone(), |array, block| !cache.holds((array, block)));
        let mut jobs = Vec::new();
        let pieces = archive.pieces(file, ahead.range.start, length, |piece| {
            jobs.push(Job { array: piece.array, block: piece.block, wanted: ahead.wanted.clone() });
            Ok(())
        });
        if pieces.is_ok() {
            lock(&self.shared.queue).jobs.extend(jobs);
            self.shared.changed.notify_all();
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
            if job.wanted.load(Relaxed) && catch_unwind(AssertUnwindSafe(|| self.decode(&job))).is_err() {
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
        let length = self.archive.array(job.array).bytes_of_block(job.block) as usize;
        let decode = |out: &mut [u8]| self.archive.decode_block(job.array, job.block, out);
        if let Err(error) = self.cache.fetch_ahead((job.array, job.block), length, decode) {
            // The reader will meet it, and be told.
            tracing::debug!("decoding ahead: {error}");
        }
    }
}

/// What is done under these locks leaves nothing half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
