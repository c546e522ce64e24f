//! Where the result goes, and how it appears there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Options;
use super::report::Report;
use super::tree::{SourceFile, SourceKind, SourceTree};
use crate::archive::ArchiveWriter;
use crate::error::{Error, Result};
use crate::object;
use crate::ops::existing::refuse_existing;
use crate::partial::{Existing, Partial, cannot_write, directory_of, sync_directory};

/// The report beside the archive.
const REPORT_NAME: &str = "upg-metadata.json";

/// Where the archive goes, and what goes beside it.
pub struct Destination {
    output: PathBuf,
    archive: PathBuf,
    beside: Beside,
    existing: Existing,
}

enum Beside {
    Nothing,
    /// A directory that is filled under a temporary name beside its own.
    Directory(Partial),
    /// Objects with names that begin like the archive's. They come after it: an archive is whole
    /// without them.
    Objects,
}

impl Destination {
    pub fn prepare(options: &Options, tree: &SourceTree) -> Result<Destination> {
        let Options { output, force, .. } = options;
        let (output, force, name) = (output.as_path(), *force, &tree.name);
        let is_file = output.extension().is_some_and(|extension| extension == "upg");
        let existing = if force { Existing::Replace } else { Existing::Keep };
        if options.part.is_some() && !is_file {
            let what = format!("{}: a part is a file alone, and must end in .upg", object::shown(output));
            return Err(Error::Invalid(what));
        }
        if object::is_address(output) {
            let archive = if is_file { output.to_path_buf() } else { output.join(below(&format!("{name}.upg"))) };
            let beside = if is_file { Beside::Nothing } else { Beside::Objects };
            if !force {
                refuse_existing(&archive)?;
                if matches!(beside, Beside::Objects) {
                    let ours = [catalog_name(tree), REPORT_NAME.to_owned()];
                    let mut names = small(tree).map(|file| file.path.clone()).chain(ours);
                    names.try_for_each(|name| refuse_existing(&output.join(below(&name))))?;
                }
            }
            return Ok(Destination { output: output.to_path_buf(), archive, beside, existing });
        }
        if !force {
            refuse_existing(output)?;
        }
        if is_file {
            if output.is_dir() {
                return Err(Error::Invalid(format!("{} is a directory", output.display())));
            }
            let (output, archive) = (output.to_path_buf(), output.to_path_buf());
            return Ok(Destination { output, archive, beside: Beside::Nothing, existing });
        }
        if output.is_file() {
            let what = format!("{} is a file; a result that is a file must end in .upg", output.display());
            return Err(Error::Invalid(what));
        }
        let directory = Partial::directory_in(directory_of(output))?;
        let archive = directory.path().join(format!("{name}.upg"));
        Ok(Destination { output: output.to_path_buf(), archive, beside: Beside::Directory(directory), existing })
    }

    /// What writes the archive, and gives it its name if it is to be alone. Nobody is to read more
    /// than every file of the source lets him read.
    pub fn writer(&self, tree: &SourceTree) -> Result<ArchiveWriter> {
        let existing = if matches!(self.beside, Beside::Directory(_)) { Existing::Keep } else { self.existing };
        // Nothing that is stored takes more than a little beyond the source, and the index less.
        let most = tree.converted_bytes() + tree.converted_bytes() / 8;
        let writer = ArchiveWriter::create_at(&self.archive, most)?.existing(existing);
        writer.limit_mode(tree.mode())?;
        Ok(writer)
    }

    /// Adds what goes beside the archive and gives the directory its name.
    pub fn complete(self, tree: &SourceTree, report: &mut Report) -> Result<()> {
        report.output = object::shown(&self.output);
        let (catalog_name, small) = (catalog_name(tree), small(tree));
        match self.beside {
            Beside::Nothing => Ok(()),
            Beside::Directory(directory) => {
                let inside = directory.path();
                for file in small {
                    copy(file, &inside.join(&file.path))?;
                }
                write(&inside.join(&catalog_name), tree.mode(), &json(&tree.catalog())?)?;
                write(&inside.join(REPORT_NAME), tree.mode(), &json(&*report)?)?;
                sync_directories(inside)?;
                // The copies are of the same files as what the archive holds.
                tree.check_unchanged()?;
                directory.publish(&self.output, self.existing)
            }
            Beside::Objects => {
                let put = |name: &str, bytes: Vec<u8>| object::put(&self.output.join(below(name)), bytes);
                for file in small {
                    put(&file.path, fs::read(&file.location).map_err(|e| Error::io(&file.location, e))?)?;
                }
                put(&catalog_name, json(&tree.catalog())?)?;
                put(REPORT_NAME, json(&*report)?)
            }
        }
    }
}

fn catalog_name(tree: &SourceTree) -> String {
    format!("{}-catalog.json", tree.name)
}

/// The files that are copied as they are.
fn small(tree: &SourceTree) -> impl Iterator<Item = &SourceFile> {
    let ours = [catalog_name(tree), REPORT_NAME.to_owned()];
    let others = tree.files.iter().filter(|file| matches!(file.kind, SourceKind::Other));
    others.filter(move |file| !ours.contains(&file.path))
}

/// A path as an address has it.
fn below(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")
}

fn copy(file: &SourceFile, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|e| cannot_write(parent, e))?;
    }
    fs::copy(&file.location, to).and_then(|_| File::open(to)?.sync_all()).map_err(|e| cannot_write(to, e))
}

/// Makes the entries of a directory durable, and of those in it; what the files hold already is.
fn sync_directories(directory: &Path) -> Result<()> {
    let failed = |e| Error::io(directory, e);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(directory)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::Invalid(e.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let mode = 0o600 | mode & 0o666;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| cannot_write(path, e))
}
