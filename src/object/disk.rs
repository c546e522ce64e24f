//! Units of objects on a disk.
//!
//! A directory for each version of an object, in it a file for each unit: its bytes and a checksum.
//! Files get their names when they are whole, are never changed and may vanish at any time, so that
//! several processes can share the directory and any of them may be killed. What is used has a new
//! modification time; what was not used for the longest goes first.

mod kept;
mod usage;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::geteuid;

use crate::error::{Error, Result};
pub use kept::KeptObject;
use usage::Usage;

/// Least size of a cache: the units that are under way must have room.
pub const LEAST: u64 = 64 << 20;
/// The part of a full cache that is freed at a time.
const FREED: u64 = 16;
/// What is written has a name that begins so until it is whole.
const PARTIAL: &str = "partial-";
/// A writer that has not finished for so long never will.
const DEAD: Duration = Duration::from_secs(600);

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

#[cfg(test)]
mod tests;
