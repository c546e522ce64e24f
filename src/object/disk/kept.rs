//! One version of an object on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use lru::LruCache;
use rustix::fs::Advice;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::usage::Usage;
use super::{DiskCache, PARTIAL};
use crate::object::buffers::Buffers;
use crate::object::counters::Counters;
use crate::object::fetch::{Mark, Version};
use crate::source::advise;

/// Behind a unit's bytes.
const CHECKSUM: u64 = 8;
/// Files that stay open.
const FILES: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// How long ago a unit must have been used for the next use to be written down.
const USED_AGAIN: u32 = 10;

/// What is kept of one version of an object.
pub struct KeptObject {
    cache: DiskCache,
    key: u64,
    pub(super) directory: PathBuf,
    version: Version,
    units: Vec<Kept>,
    counters: Arc<Counters>,
    buffers: Buffers,
    /// Those that were read last: a reader comes back for the next bytes of a unit.
    files: Mutex<LruCache<u64, Arc<File>>>,
    /// Whether the last thing that was to be kept was not: one message is enough.
    failing: AtomicBool,
}

/// What this process knows of a unit.
#[derive(Default)]
struct Kept {
    /// When its use was last written down, in seconds since 1970.
    used: AtomicU32,
    /// How often it turned out to be wrong.
    forgotten: AtomicU32,
}

impl KeptObject {
    /// None if versions cannot be told apart. `identity`: of the object whatever its version.
    pub fn new(
        cache: DiskCache,
        identity: &str,
        version: &Version,
        counters: Arc<Counters>,
        buffers: Buffers,
    ) -> Option<KeptObject> {
        let mark = match version.mark.as_ref()? {
            Mark::ETag(tag) => format!("tag {tag}"),
            Mark::Time(seconds) => format!("time {seconds}"),
        };
        let key = xxh3_128(format!("{identity}\n{mark}\n{}", version.size).as_bytes());
        let directory = cache.directory.join(format!("{key:032x}"));
        let units = (0..version.units()).map(|_| Kept::default()).collect();
        let (files, failing) = (Mutex::new(LruCache::new(FILES)), AtomicBool::new(false));
        let (version, key) = (version.clone(), key as u64);
        Some(KeptObject { cache, key, directory, version, units, counters, buffers, files, failing })
    }

    pub(super) fn path(&self, unit: u64) -> PathBuf {
        self.directory.join(format!("{unit:08x}"))
    }

    fn checksum(&self, unit: u64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.key ^ unit)
    }

    /// Whether it is there now: what was read a moment ago may have had to make room.
    pub fn has(&self, unit: u64) -> bool {
        self.path(unit).exists()
    }

    /// Reads a part of a unit, if it is there, whatever it is: blocks have checksums of their own.
    pub fn read(&self, unit: u64, within: usize, out: &mut [u8]) -> bool {
        self.outcome(unit, self.try_read(unit, within, out).map(|()| Some(()))).is_some()
    }

    /// Reads and checks all of a unit, if it is there.
    pub fn read_whole(&self, unit: u64) -> Option<Bytes> {
        self.outcome(unit, self.try_read_whole(unit))
    }

    /// Has the part of a unit that lies in a range of the object read ahead, if it is there.
    pub fn will_need(&self, unit: u64, range: Range<u64>) {
        let bytes = self.version.bytes_of(unit);
        let (from, to) = (range.start.max(bytes.start), range.end.min(bytes.end));
        if from < to
            && let Ok(file) = self.file(unit)
        {
            advise(&file, from - bytes.start..to - bytes.start, Advice::WillNeed);
        }
    }

    /// It is not what it should be. What is being written now goes, too: see [`KeptObject::put`].
    pub fn forget(&self, unit: u64) {
        self.units[unit as usize].forgotten.fetch_add(1, SeqCst);
        self.files().pop(&unit);
        let _ = fs::remove_file(self.path(unit));
    }

    /// How often that happened; to be asked before what came is shown to anybody.
    pub fn forgotten(&self, unit: u64) -> u32 {
        self.units[unit as usize].forgotten.load(SeqCst)
    }

    fn files(&self) -> MutexGuard<'_, LruCache<u64, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was removed since has its bytes as long as it is open.
    fn file(&self, unit: u64) -> io::Result<Arc<File>> {
        if let Some(file) = self.files().get(&unit) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.path(unit))?);
        self.files().put(unit, file.clone());
        Ok(file)
    }

    /// What became of reading a unit; None if it is damaged.
    fn outcome<T>(&self, unit: u64, read: io::Result<Option<T>>) -> Option<T> {
        match read {
            Ok(Some(read)) => return Some(read),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                tracing::warn!("{}: {error}", self.path(unit).display());
            }
            Ok(None) | Err(_) => {
                tracing::warn!("{}: damaged; it is fetched again", self.path(unit).display());
                let _ = fs::remove_file(self.path(unit));
            }
        }
        self.files().pop(&unit);
        None
    }

    fn try_read(&self, unit: u64, within: usize, out: &mut [u8]) -> io::Result<()> {
        let file = self.file(unit)?;
        file.read_exact_at(out, within as u64)?;
        self.was_used(unit, &file, out.len());
        Ok(())
    }

    /// None if the checksum is wrong.
    fn try_read_whole(&self, unit: u64) -> io::Result<Option<Bytes>> {
        let file = File::open(self.path(unit))?;
        let range = self.version.bytes_of(unit);
        let length = range.end - range.start;
        if file.metadata()?.len() != length + CHECKSUM {
            return Ok(None);
        }
        let mut bytes = self.buffers.take(length as usize);
        let mut checksum = [0; CHECKSUM as usize];
        file.read_exact_at(&mut bytes, 0)?;
        file.read_exact_at(&mut checksum, length)?;
        if self.checksum(unit, &bytes).to_le_bytes() != checksum {
            return Ok(None);
        }
        self.was_used(unit, &file, bytes.len());
        Ok(Some(bytes.freeze()))
    }

    fn was_used(&self, unit: u64, file: &File, bytes: usize) {
        Counters::add(&self.counters.from_disk, bytes as u64);
        let now = SystemTime::now();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        let used = &self.units[unit as usize].used;
        if seconds.saturating_sub(used.load(Relaxed)) >= USED_AGAIN {
            used.store(seconds, Relaxed);
            // Nothing depends on it but what goes first.
            let _ = file.set_modified(now);
        }
    }

    /// Keeps a unit, if that can be done, and unless it was forgotten since it came. Of one object, one after
    /// the other. False if the disk takes nothing.
    pub fn put(&self, unit: u64, bytes: &[u8], forgotten: u32) -> bool {
        if self.forgotten(unit) != forgotten {
            return true;
        }
        let put = self.try_put(unit, bytes);
        self.files().pop(&unit);
        match &put {
            Ok(()) => {
                Counters::add(&self.counters.to_disk, bytes.len() as u64);
                self.failing.store(false, Relaxed);
                // Either it is seen here that it was forgotten meanwhile, or the file by who forgets it.
                if self.forgotten(unit) != forgotten {
                    let _ = fs::remove_file(self.path(unit));
                }
            }
            Err(error) if !self.failing.swap(true, Relaxed) => {
                tracing::warn!("{}: nothing is kept there: {error}", self.cache.directory.display());
            }
            Err(_) => {}
        }
        put.is_ok()
    }

    fn try_put(&self, unit: u64, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64 + CHECKSUM;
        let usage = Usage::lock(&self.cache.directory)?;
        let fits = |used: &u64| used.checked_add(length).is_some_and(|sum| sum <= self.cache.size);
        let used = usage.read()?.filter(fits);
        let used = used.map_or_else(|| self.cache.shrink(length), Ok)?;
        // Another may have removed it when nothing was in it.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let partial = self.cache.directory.join(PARTIAL);
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let mut file = options.open(&partial)?;
            file.write_all(bytes)?;
            file.write_all(&self.checksum(unit, bytes).to_le_bytes())?;
            let replaced = self.path(unit).exists();
            // Who is killed now has counted too much, which the next who finds no room will notice.
            usage.write(if replaced { used } else { used + length })?;
            fs::rename(&partial, self.path(unit))
        };
        write().inspect_err(|_| drop(fs::remove_file(&partial)))
    }
}
