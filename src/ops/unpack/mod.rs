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

use crate::archive::{Archive, ArrayId, Existing, Partial, cannot_write};
use crate::error::{Error, Result};
use crate::ops::convert::Progress;
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
    let archive = Archive::open(&options.file)?;
    let outputs = outputs(&archive, &options.selection)?;
    if outputs.is_empty() {
        let what = format!("{}: nothing in it matches; upg info lists what there is", options.file.display());
        return Err(Error::Invalid(what));
    }
    let directory = options.output.as_path();
    fs::create_dir_all(directory).map_err(|e| cannot_write(directory, e))?;
    let mut journal = journal(options, &archive, &outputs)?;
    let (finished, missing): (Vec<_>, Vec<_>) =
        outputs.iter().partition(|output| journal.has(&output.path, &directory.join(&output.path)));
    let written_bytes = missing.iter().map(|output| output.size).sum();
    progress.begin(written_bytes);
    let mut directories = BTreeSet::from([directory.to_path_buf()]);
    for output in missing {
        let location = directory.join(&output.path);
        let parent = location.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(|e| cannot_write(parent, e))?;
        directories.extend(parent.ancestors().take_while(|&above| above != directory).map(Path::to_path_buf));
        write(&archive, output, &location, options.threads, progress)?;
        journal.add(&output.path, &location)?;
    }
    for made in &directories {
        File::open(made).and_then(|made| made.sync_all()).map_err(|e| Error::io(made, e))?;
    }
    journal.remove()?;
    Ok(Report {
        output: directory.display().to_string(),
        files: outputs.len() as u64,
        bytes: outputs.iter().map(|output| output.size).sum(),
        kept: finished.len() as u64,
        written_bytes,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// An earlier run's, or a new one, if nothing is in the way.
fn journal(options: &Options, archive: &Archive, outputs: &[Output]) -> Result<Journal> {
    if !options.force
        && let Some(journal) = Journal::find(&options.output, archive)?
    {
        return Ok(journal);
    }
    let there = |output: &&Output| fs::symlink_metadata(options.output.join(&output.path)).is_ok();
    if !options.force
        && let Some(there) = outputs.iter().find(there)
    {
        let location = options.output.join(&there.path);
        let what = format!("{} exists; choose another place with -o, or replace it with --force", location.display());
        return Err(Error::Invalid(what));
    }
    let journal = Journal::new(&options.output, archive);
    journal.save()?;
    Ok(journal)
}

fn write(archive: &Archive, output: &Output, location: &Path, threads: usize, progress: &dyn Progress) -> Result<()> {
    let failed = |e| cannot_write(location, e);
    let partial = Partial::file_in(location.parent().unwrap_or(Path::new(".")))?;
    let file = partial.handle().map_err(failed)?;
    reserve(&file, output.size).map_err(failed)?;
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
    drop(file);
    partial.publish(location, Existing::Replace)
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
