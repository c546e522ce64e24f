//! Where the result goes, and how it appears there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Options;
use super::report::Report;
use super::tree::{SourceFile, SourceKind, SourceTree};
use crate::archive::{ArchiveWriter, Existing, Partial, cannot_write, directory_of};
use crate::error::{Error, Result};

/// The report beside the archive.
const REPORT_NAME: &str = "upg-metadata.json";

/// A file, or a directory that is filled under a temporary name beside its own.
pub struct Destination {
    output: PathBuf,
    archive: PathBuf,
    directory: Option<Partial>,
    existing: Existing,
}

impl Destination {
    pub fn prepare(options: &Options, name: &str) -> Result<Destination> {
        let Options { output, force, .. } = options;
        let output = output.as_path();
        if !*force && fs::symlink_metadata(output).is_ok() {
            let what = format!("{} exists; choose another name with -o, or replace it with --force", output.display());
            return Err(Error::Invalid(what));
        }
        let existing = if *force { Existing::Replace } else { Existing::Keep };
        if output.extension().is_some_and(|extension| extension == "upg") {
            if output.is_dir() {
                return Err(Error::Invalid(format!("{} is a directory", output.display())));
            }
            let (output, archive) = (output.to_path_buf(), output.to_path_buf());
            return Ok(Destination { output, archive, directory: None, existing });
        }
        if options.part.is_some() {
            let what = format!("{}: a part is a file alone, and must end in .upg", output.display());
            return Err(Error::Invalid(what));
        }
        if output.is_file() {
            let what = format!("{} is a file; a result that is a file must end in .upg", output.display());
            return Err(Error::Invalid(what));
        }
        let directory = Partial::directory_in(directory_of(output))?;
        let archive = directory.path().join(format!("{name}.upg"));
        Ok(Destination { output: output.to_path_buf(), archive, directory: Some(directory), existing })
    }

    /// What writes the archive, and gives it its name if it is to be alone. Nobody is to read more
    /// than every file of the source lets him read.
    pub fn writer(&self, tree: &SourceTree) -> Result<ArchiveWriter> {
        let existing = if self.directory.is_some() { Existing::Keep } else { self.existing };
        let writer = ArchiveWriter::create(&self.archive)?.existing(existing);
        writer.limit_mode(tree.mode())?;
        Ok(writer)
    }

    /// Adds what goes beside the archive and gives the directory its name.
    pub fn complete(self, tree: &SourceTree, report: &mut Report) -> Result<()> {
        report.output = self.output.display().to_string();
        let Some(directory) = self.directory else { return Ok(()) };
        let inside = directory.path();
        let catalog_name = format!("{}-catalog.json", tree.name);
        let ours = [catalog_name.as_str(), REPORT_NAME];
        let small = tree.files.iter().filter(|file| matches!(file.kind, SourceKind::Other));
        for file in small.filter(|file| !ours.contains(&file.path.as_str())) {
            copy(file, &inside.join(&file.path))?;
        }
        write_json(&inside.join(&catalog_name), tree.mode(), &tree.catalog())?;
        write_json(&inside.join(REPORT_NAME), tree.mode(), &*report)?;
        sync_directories(inside)?;
        // The copies are of the same files as what the archive holds.
        tree.check_unchanged()?;
        directory.publish(&self.output, self.existing)
    }
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
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

fn write_json(path: &Path, mode: u32, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::Invalid(e.to_string()))?;
    text.push('\n');
    let write = |text: &str| -> io::Result<()> {
        let mode = 0o600 | mode & 0o666;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write(&text).map_err(|e| cannot_write(path, e))
}
