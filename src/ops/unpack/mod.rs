//! `upg unpack`: the files of an archive as a mount shows them, written to a directory.
//!
//! Each file appears whole or not at all. A journal in the destination says which are finished,
//! so that a run that was interrupted goes on with the first that is not.

mod journal;
mod plan;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use serde::Serialize;

use crate::archive::{Archive, ArrayId};
use crate::error::{Error, Result};
use crate::object;
use crate::ops::existing::exists_already;
use crate::ops::progress::Progress;
use crate::partial::{Existing, Partial, cannot_write, sync_directory};
use journal::Journal;
pub use plan::Selection;
use plan::{Output, outputs};

pub struct Options {
    pub file: PathBuf,
    /// A directory; made if it is not there.
    pub output: PathBuf,
    pub selection: Selection,
    pub threads: usize,
    /// Replace files that exist, and do not go on with what an earlier run has finished.
    pub force: bool,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub output: String,
    /// Files, with those of an earlier run.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Files that an earlier run had finished.
    pub kept: u64,
    /// Bytes written by this run.
    pub written_bytes: u64,
    pub seconds: f64,
}

pub fn unpack(options: &Options, progress: &dyn Progress) -> Result<Report> {
    let start = Instant::now();
    let image = object::open(&options.file)?;
    // Nobody is to read more than the archive let him read.
    let mode = image.mode().unwrap_or(!0);
    let archive = Archive::from_source(image)?;
    let outputs = outputs(&archive, &options.selection)?;
    if outputs.is_empty() {
        let what = format!("{}: nothing in it matches; upg info lists what there is", archive.name());
        return Err(Error::Invalid(what));
    }
    let directory = options.output.as_path();
    fs::create_dir_all(directory).map_err(|e| cannot_write(directory, e))?;
    let mut journal = Journal::open(directory, &archive, &outputs, options.force)?;
    let missing = missing(options, &journal, &outputs);
    // What never began leaves nothing; what did goes on another time.
    let missing = match missing {
        Err(error) if journal.is_new() => return journal.remove().and(Err(error)),
        missing => missing?,
    };
    let written_bytes = missing.iter().map(|output| output.size).fold(0, u64::saturating_add);
    progress.begin(written_bytes);
    let mut directories = BTreeSet::from([directory.to_path_buf()]);
    for output in &missing {
        let location = directory.join(&output.path);
        let parent = location.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(|e| cannot_write(parent, e))?;
        let first = directories.insert(parent.to_path_buf()) || parent == directory;
        directories.extend(parent.ancestors().take_while(|&above| above != directory).map(Path::to_path_buf));
        let partial = if first { Partial::file_in(parent)? } else { Partial::another_file_in(parent)? };
        partial.limit_mode(mode)?;
        write(&archive, output, &location, &partial, options.threads, progress)?;
        journal.add(&output.path, partial.file())?;
        partial.publish(&location, if options.force { Existing::Replace } else { Existing::Keep })?;
    }
    directories.iter().try_for_each(|made| sync_directory(made))?;
    journal.remove()?;
    Ok(Report {
        output: directory.display().to_string(),
        files: outputs.len() as u64,
        bytes: outputs.iter().map(|output| output.size).fold(0, u64::saturating_add),
        kept: (outputs.len() - missing.len()) as u64,
        written_bytes,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The files that an earlier run did not write. Fails if something else has the name of one.
fn missing<'a>(options: &Options, journal: &Journal, outputs: &'a [Output]) -> Result<Vec<&'a Output>> {
    let mut missing = Vec::new();
    for output in outputs {
        let location = options.output.join(&output.path);
        match fs::symlink_metadata(&location) {
            Ok(there) if journal.has(&output.path, &there) => {}
            Ok(_) if !options.force => return Err(exists_already(&location, "place")),
            _ => missing.push(output),
        }
    }
    Ok(missing)
}

/// Writes the content of a file, and makes it durable.
fn write(
    archive: &Archive,
    output: &Output,
    location: &Path,
    partial: &Partial,
    threads: usize,
    progress: &dyn Progress,
) -> Result<()> {
    let failed = |e| cannot_write(location, e);
    let file = partial.file();
    reserve(file, output.size).map_err(failed)?;
    file.write_all_at(&output.header, 0).map_err(failed)?;
    progress.advance(output.header.len() as u64);
    let arrays: Vec<ArrayId> = output.arrays.iter().map(|&(_, array)| array).collect();
    archive.decode_all(&arrays, threads, |i, block, decoded| {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let bytes = decoded?;
        let (at, array) = output.arrays[i];
        let within = u64::from(block) * archive.array(array).block_bytes();
        file.write_all_at(bytes, at + within).map_err(failed)?;
        progress.advance(bytes.len() as u64);
        Ok(())
    })?;
    file.sync_all().map_err(failed)
}

/// Gives a file its size, and its room on the disk where that can be had: want of it is noticed
/// before anything is decoded.
fn reserve(file: &File, size: u64) -> std::io::Result<()> {
    let length = i64::try_from(size).map_err(|_| std::io::ErrorKind::FileTooLarge)?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => file.set_len(size),
        done => Ok(done?),
    }
}
