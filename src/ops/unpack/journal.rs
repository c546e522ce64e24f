//! What an unfinished unpacking has finished: the next one goes on from there.
//!
//! A line of JSON says what is being unpacked, and one for each file which it is: written before the
//! file gets its name, with what tells it from any other, so that whatever has the name and is not in
//! the journal is somebody else's.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::plan::Output;
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::partial::cannot_write;

/// Lies in the destination until everything is there.
pub const NAME: &str = ".upg-unpack.json";

pub struct Journal {
    path: PathBuf,
    /// Locked for as long as we are at work.
    file: File,
    finished: BTreeMap<String, Stamp>,
    is_new: bool,
}

/// What is being unpacked.
#[derive(PartialEq, Serialize, Deserialize)]
struct Work {
    /// The archive: its size, and the checksum of its index, which covers those of all blocks.
    bytes: u64,
    index_checksum: u64,
    /// What is to be written: a hash of paths, sizes and headers.
    outputs: u64,
}

#[derive(Serialize, Deserialize)]
struct Finished {
    path: String,
    stamp: Stamp,
}

/// Tells a file from others, and from what somebody made of it since. A rename changes none of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        Stamp { inode: file.ino(), size: file.len(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

impl Work {
    fn new(archive: &Archive, outputs: &[Output]) -> Work {
        let mut all = Vec::new();
        for output in outputs {
            all.extend_from_slice(output.path.as_bytes());
            all.push(0);
            all.extend(output.size.to_le_bytes());
            all.extend(xxh3_64(&output.header).to_le_bytes());
        }
        Work { bytes: archive.size(), index_checksum: archive.index_checksum(), outputs: xxh3_64(&all) }
    }
}

impl Journal {
    /// That of an earlier run for the same work, or a new one; a new one in any case if it is to
    /// start `over`.
    pub fn open(directory: &Path, archive: &Archive, outputs: &[Output], over: bool) -> Result<Journal> {
        let path = directory.join(NAME);
        let failed = |e| Error::io(&path, e);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(|e| cannot_write(&path, e))?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::Invalid(format!("{}: another upg unpack is writing there", directory.display())));
        }
        let mut journal = Journal { path: path.clone(), file, finished: BTreeMap::new(), is_new: true };
        let work = Work::new(archive, outputs);
        let mut lines = BufReader::new(&journal.file).lines();
        let first = lines.next().transpose().map_err(failed)?;
        // Without a whole first line nothing was begun.
        let before: Option<Work> = first.and_then(|line| serde_json::from_str(&line).ok());
        match before {
            Some(before) if !over && before != work => {
                let what = "an unfinished unpacking of something else; finish that, or start over with --force";
                Err(Error::Invalid(format!("{}: {what}", directory.display())))
            }
            Some(_) if !over => {
                // A run that was killed may have left half a line.
                let whole = lines.map_while(io::Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
                journal.is_new = false;
                journal.finished = whole.map(|Finished { path, stamp }| (path, stamp)).collect();
                journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
                // So that no line is appended to half a one.
                journal.write(b"\n")?;
                Ok(journal)
            }
            _ => {
                journal.file.set_len(0).map_err(failed)?;
                journal.file.seek(SeekFrom::Start(0)).map_err(failed)?;
                journal.add_line(&work)?;
                Ok(journal)
            }
        }
    }

    /// Whether no earlier run has begun.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether what has this name is what was written.
    pub fn has(&self, path: &str, there: &Metadata) -> bool {
        there.is_file() && self.finished.get(path) == Some(&Stamp::of(there))
    }

    /// Notes that this file, whose content is durable, is about to get its name.
    pub fn add(&mut self, path: &str, file: &File) -> Result<()> {
        let stamp = Stamp::of(&file.metadata().map_err(|e| Error::io(path, e))?);
        self.add_line(&Finished { path: path.to_owned(), stamp })
    }

    /// Everything is there.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|e| Error::io(&self.path, e))
    }

    fn add_line(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|e| Error::Invalid(e.to_string()))?;
        text.push(b'\n');
        self.write(&text)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        written.map_err(|e| cannot_write(&self.path, e))
    }
}
