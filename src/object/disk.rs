//! Units of objects on a disk.
//!
//! A directory for each version of an object, in it a file for each unit: its bytes and a checksum.
//! Files get their names when they are whole, are never changed and may vanish at any time, so that
//! several processes can share the directory and any of them may be killed. Who writes has a lock. What is
//! used has a new modification time; what was not used for the longest goes first.

mod kept;
mod usage;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Error, Result};
pub use kept::KeptObject;

/// Least size of a cache: the units that are under way must have room.
pub const LEAST: u64 = 64 << 20;
/// The part of a full cache that is freed at a time.
const FREED: u64 = 16;
/// What is written has this name until it is whole.
const PARTIAL: &str = "upg-partial";

/// A directory that several mounts may share.
#[derive(Debug)]
pub struct DiskCache {
    directory: PathBuf,
    /// Bytes.
    size: u64,
}

impl DiskCache {
    /// Makes the directory if it is not there, for its owner alone. None if the disk does not let it, which is
    /// no reason not to mount; what nobody but the caller can put right is an error.
    pub fn open(directory: &Path, size: u64) -> Result<Option<DiskCache>> {
        let failed = |e| Error::io(directory, e);
        if size < LEAST {
            let what = format!("{}: a disk cache takes at least {} MiB", directory.display(), LEAST >> 20);
            return Err(Error::Invalid(what));
        }
        match DirBuilder::new().recursive(true).mode(0o700).create(directory) {
            Err(error) if is_of_the_disk(&error) => {
                tracing::warn!("{}: nothing is kept there: {error}", directory.display());
                return Ok(None);
            }
            made => made.map_err(failed)?,
        }
        let directory = directory.canonicalize().map_err(failed)?;
        let metadata = directory.metadata().map_err(failed)?;
        // Whoever can write there could give us other bytes.
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let what = "a disk cache must belong to whoever mounts, and nobody else may write to it (chmod go-w)";
            return Err(Error::Invalid(format!("{}: {what}", directory.display())));
        }
        Ok(Some(DiskCache { directory, size }))
    }

    /// Removes what was not used for the longest, until `more` bytes have room, and counts the rest.
    fn shrink(&self, more: u64) -> io::Result<u64> {
        let mut kept = Vec::new();
        // What has no name of ours is not ours to count or to remove.
        let is_object = |entry: &DirEntry| {
            is_hexadecimal(&entry.file_name(), 32) && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        for object in fs::read_dir(&self.directory)?.flatten().filter(is_object) {
            let Ok(units) = fs::read_dir(object.path()) else { continue };
            for unit in units.flatten() {
                let Ok(metadata) = unit.metadata() else { continue };
                if is_hexadecimal(&unit.file_name(), 8) {
                    kept.push((metadata.modified()?, metadata.len(), unit.path()));
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
        Ok(bytes)
    }
}

/// Whether it is full, fails or takes nothing.
fn is_of_the_disk(error: &io::Error) -> bool {
    let known = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO];
    Errno::from_io_error(error).is_some_and(|errno| known.contains(&errno))
}

fn is_hexadecimal(name: &OsStr, digits: usize) -> bool {
    let name = name.as_encoded_bytes();
    name.len() == digits && name.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests;
