//! Units of objects on a disk.
//!
//! A directory for each version of an object, in it a file for each unit: its bytes and a checksum.
//! Files get their names when they are whole, are never changed and may vanish at any time, so that
//! several processes can share the directory and any of them may be killed. What is used has a new
//! modification time; what was not used for the longest goes first.

mod usage;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::process::geteuid;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::buffers::Buffers;
use super::counters::Counters;
use super::fetch::{Mark, Version};
use crate::error::{Error, Result};
use usage::Usage;

/// Behind a unit's bytes.
const CHECKSUM: u64 = 8;
/// Least size of a cache: the units that are under way must have room.
pub const LEAST: u64 = 64 << 20;
/// The part of a full cache that is freed at a time.
const FREED: u64 = 16;
/// What is written has a name that begins so until it is whole.
const PARTIAL: &str = "partial-";
/// A writer that has not finished for so long never will.
const DEAD: Duration = Duration::from_secs(600);
/// How long ago a unit must have been used for the next use to be written down.
const USED_AGAIN: u32 = 10;

/// A directory that several mounts may share.
#[derive(Debug)]
pub struct DiskCache {
    directory: PathBuf,
    /// Bytes.
    size: u64,
}

impl DiskCache {
    /// Makes the directory if it is not there, for its owner alone.
    pub fn open(directory: &Path, size: u64) -> Result<DiskCache> {
        let failed = |e| Error::io(directory, e);
        if size < LEAST {
            let what = format!("{}: a disk cache takes at least {} MiB", directory.display(), LEAST >> 20);
            return Err(Error::Invalid(what));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let directory = directory.canonicalize().map_err(failed)?;
        let metadata = directory.metadata().map_err(failed)?;
        // Whoever can write there could give us other bytes.
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let what = "a disk cache must belong to whoever mounts, and nobody else may write to it (chmod go-w)";
            return Err(Error::Invalid(format!("{}: {what}", directory.display())));
        }
        let cache = DiskCache { directory, size };
        // Counts what is there, and shows that it can be written to.
        let usage = Usage::lock(&cache.directory).map_err(|e| Error::io(Usage::path(&cache.directory), e))?;
        cache.shrink(&usage, 0).map_err(|e| Error::io(&cache.directory, e))?;
        drop(usage);
        Ok(cache)
    }

    /// The part for one version of an object; none if versions cannot be told apart. `identity`: of the
    /// object whatever its version.
    pub fn object(
        self,
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
        let directory = self.directory.join(format!("{key:032x}"));
        let units = (0..version.units()).map(|_| Kept::default()).collect();
        let failing = AtomicBool::new(false);
        let (version, key) = (version.clone(), key as u64);
        Some(KeptObject { cache: self, key, directory, version, units, counters, buffers, failing })
    }

    /// Removes what was not used for the longest, until `more` bytes have room, and counts the rest.
    fn shrink(&self, usage: &Usage, more: u64) -> io::Result<u64> {
        let mut kept = Vec::new();
        let now = SystemTime::now();
        // What has no name of ours is not ours to count or to remove.
        let is_object = |entry: &DirEntry| {
            is_hexadecimal(&entry.file_name(), 32) && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        for object in fs::read_dir(&self.directory)?.flatten().filter(is_object) {
            let Ok(units) = fs::read_dir(object.path()) else { continue };
            for unit in units.flatten() {
                let Ok(metadata) = unit.metadata() else { continue };
                let used = metadata.modified()?;
                let age = now.duration_since(used).unwrap_or_default();
                let is_partial = unit.file_name().as_encoded_bytes().starts_with(PARTIAL.as_bytes());
                if is_partial && age > DEAD {
                    let _ = fs::remove_file(unit.path());
                } else if is_partial || is_hexadecimal(&unit.file_name(), 8) {
                    kept.push((used, metadata.len(), unit.path()));
                }
            }
        }
        let mut bytes: u64 = kept.iter().map(|(_, length, _)| length).sum();
        if bytes.saturating_add(more) > self.size {
            kept.sort_unstable();
            let enough = (self.size - self.size / FREED).saturating_sub(more);
            for (_, length, path) in kept {
                if bytes <= enough {
                    break;
                }
                if fs::remove_file(&path).is_ok() {
                    bytes -= length;
                }
                // Of an object of which nothing is left.
                let _ = path.parent().map(fs::remove_dir);
            }
        }
        usage.write(bytes)?;
        Ok(bytes)
    }
}

fn is_hexadecimal(name: &OsStr, digits: usize) -> bool {
    let name = name.as_encoded_bytes();
    name.len() == digits && name.iter().all(u8::is_ascii_hexdigit)
}

/// What is kept of one version of an object.
pub struct KeptObject {
    cache: DiskCache,
    key: u64,
    directory: PathBuf,
    version: Version,
    units: Vec<Kept>,
    counters: Arc<Counters>,
    buffers: Buffers,
    /// Whether the last thing that was to be kept was not: one message is enough.
    failing: AtomicBool,
}

/// What this process knows of a unit.
#[derive(Default)]
struct Kept {
    /// There is a file, or was.
    seen: AtomicBool,
    /// Its bytes have the right checksum.
    checked: AtomicBool,
    /// When its use was last written down, in seconds since 1970.
    used: AtomicU32,
}

impl KeptObject {
    fn path(&self, unit: u64) -> PathBuf {
        self.directory.join(format!("{unit:08x}"))
    }

    fn checksum(&self, unit: u64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.key ^ unit)
    }

    /// Whether it seems to be there.
    pub fn has(&self, unit: u64) -> bool {
        let kept = &self.units[unit as usize];
        if !kept.seen.load(Relaxed) && self.path(unit).exists() {
            kept.seen.store(true, Relaxed);
        }
        kept.seen.load(Relaxed)
    }

    /// Reads a part of a unit, if it is there whole.
    pub fn read(&self, unit: u64, within: usize, out: &mut [u8]) -> bool {
        if !self.is_checked(unit) {
            let bytes = self.read_whole(unit);
            return bytes.is_some_and(|bytes| {
                out.copy_from_slice(&bytes[within..][..out.len()]);
                true
            });
        }
        self.outcome(unit, self.try_read(unit, within, out).map(|()| Some(()))).is_some()
    }

    /// Reads and checks all of a unit, if it is there.
    pub fn read_whole(&self, unit: u64) -> Option<Bytes> {
        let bytes = self.outcome(unit, self.try_read_whole(unit))?;
        self.units[unit as usize].checked.store(true, Relaxed);
        Some(bytes)
    }

    /// Whether all of it was looked at once: after that a part can be read alone, as blocks have checksums
    /// of their own.
    pub fn is_checked(&self, unit: u64) -> bool {
        self.units[unit as usize].checked.load(Relaxed)
    }

    /// What became of reading a unit; None if it is damaged.
    fn outcome<T>(&self, unit: u64, read: io::Result<Option<T>>) -> Option<T> {
        let kept = &self.units[unit as usize];
        match read {
            Ok(Some(read)) => {
                kept.seen.store(true, Relaxed);
                return Some(read);
            }
            Ok(None) => {
                tracing::warn!("{}: damaged; it is fetched again", self.path(unit).display());
                let _ = fs::remove_file(self.path(unit));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{}: {error}", self.path(unit).display()),
        }
        kept.seen.store(false, Relaxed);
        kept.checked.store(false, Relaxed);
        None
    }

    fn try_read(&self, unit: u64, within: usize, out: &mut [u8]) -> io::Result<()> {
        let file = File::open(self.path(unit))?;
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
        if seconds.saturating_sub(self.units[unit as usize].used.swap(seconds, Relaxed)) >= USED_AGAIN {
            // Nothing depends on it but what goes first.
            let _ = file.set_modified(now);
        }
    }

    /// Keeps a unit, if that can be done.
    pub fn put(&self, unit: u64, bytes: &[u8]) {
        match self.try_put(unit, bytes) {
            Ok(()) => {
                self.units[unit as usize].seen.store(true, Relaxed);
                Counters::add(&self.counters.to_disk, bytes.len() as u64);
                self.failing.store(false, Relaxed);
            }
            Err(error) if !self.failing.swap(true, Relaxed) => {
                tracing::warn!("{}: nothing is kept there: {error}", self.cache.directory.display());
            }
            Err(_) => {}
        }
    }

    fn try_put(&self, unit: u64, bytes: &[u8]) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let length = bytes.len() as u64 + CHECKSUM;
        let usage = Usage::lock(&self.cache.directory)?;
        let fits = |used: &u64| used.checked_add(length).is_some_and(|sum| sum <= self.cache.size);
        let used = usage.read()?.filter(fits);
        let used = used.map_or_else(|| self.cache.shrink(&usage, length), Ok)?;
        // Another may have removed it when nothing was in it.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let partial = self.directory.join(format!("{PARTIAL}{}-{number}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
            file.write_all(bytes)?;
            file.write_all(&self.checksum(unit, bytes).to_le_bytes())?;
            fs::rename(&partial, self.path(unit))
        };
        let replaced = self.path(unit).exists();
        write().inspect_err(|_| drop(fs::remove_file(&partial)))?;
        usage.write(if replaced { used } else { used + length })
    }
}

#[cfg(test)]
mod tests;
