//! What an unfinished unpacking has finished: the next one goes on from there.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Existing, Partial, cannot_write};
use crate::error::{Error, Result};

/// Lies in the destination until everything is there.
const NAME: &str = ".upg-unpack.json";

pub struct Journal {
    path: PathBuf,
    content: Content,
}

#[derive(Serialize, Deserialize)]
struct Content {
    /// The archive: its size and the checksum of its index, which covers those of all blocks.
    bytes: u64,
    index_checksum: u64,
    /// Paths of what is written, each with what tells it from what somebody changed since.
    finished: BTreeMap<String, Stamp>,
}

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

impl Journal {
    pub fn new(directory: &Path, archive: &Archive) -> Journal {
        let content =
            Content { bytes: archive.size(), index_checksum: archive.index_checksum(), finished: BTreeMap::new() };
        Journal { path: directory.join(NAME), content }
    }

    /// That of an earlier run on the same archive, if there is one.
    pub fn find(directory: &Path, archive: &Archive) -> Result<Option<Journal>> {
        let new = Journal::new(directory, archive);
        let text = match fs::read(&new.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|e| Error::io(&new.path, e))?,
        };
        let content: Content = serde_json::from_slice(&text).map_err(|error| {
            let what = format!("{}: not what upg writes: {error}; remove it, or use --force", new.path.display());
            Error::Invalid(what)
        })?;
        if (content.bytes, content.index_checksum) != (new.content.bytes, new.content.index_checksum) {
            let what = "an unfinished unpacking of another file; finish that first, or start over with --force";
            return Err(Error::Invalid(format!("{}: {what}", directory.display())));
        }
        Ok(Some(Journal { content, ..new }))
    }

    /// Whether a file is there as it was written.
    pub fn has(&self, path: &str, location: &Path) -> bool {
        let now = fs::symlink_metadata(location).ok().filter(Metadata::is_file).map(|file| Stamp::of(&file));
        now.is_some() && now.as_ref() == self.content.finished.get(path)
    }

    /// Notes that a file is there.
    pub fn add(&mut self, path: &str, location: &Path) -> Result<()> {
        let file = fs::symlink_metadata(location).map_err(|e| Error::io(location, e))?;
        self.content.finished.insert(path.to_owned(), Stamp::of(&file));
        self.save()
    }

    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.content).map_err(|e| Error::Invalid(e.to_string()))?;
        let partial = Partial::file_in(self.path.parent().unwrap_or(Path::new(".")))?;
        let write = partial.handle().and_then(|mut file| file.write_all(&text));
        write.map_err(|e| cannot_write(&self.path, e))?;
        partial.publish(&self.path, Existing::Replace)
    }

    /// Everything is there.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|e| Error::io(&self.path, e))
    }
}
