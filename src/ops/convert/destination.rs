//! Where the result goes, and how it appears there whole or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::report::Report;
use super::tree::{SourceKind, SourceTree};
use crate::archive::sync_directory_of;
use crate::error::{Error, Result};

/// The report beside the archive.
const REPORT_NAME: &str = "upg-metadata.json";
/// What was in the way, in a temporary directory.
const SET_ASIDE: &str = "old";

/// A file, or a directory that is filled under a temporary name beside its own.
pub struct Destination {
    output: PathBuf,
    archive: PathBuf,
    directory: Option<TempDir>,
}

impl Destination {
    pub fn prepare(output: &Path, name: &str, force: bool) -> Result<Destination> {
        if !force && fs::symlink_metadata(output).is_ok() {
            let what = format!("{} exists; choose another name with -o, or replace it with --force", output.display());
            return Err(Error::Invalid(what));
        }
        if output.extension().is_some_and(|extension| extension == "upg") {
            if output.is_dir() {
                return Err(Error::Invalid(format!("{} is a directory", output.display())));
            }
            return Ok(Destination { output: output.to_path_buf(), archive: output.to_path_buf(), directory: None });
        }
        if output.is_file() {
            let what = format!("{} is a file; a result that is a file must end in .upg", output.display());
            return Err(Error::Invalid(what));
        }
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = tempfile::Builder::new()
            .prefix(".upg-")
            .suffix(".partial")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .map_err(|e| Error::io(parent, e))?;
        let archive = directory.path().join(format!("{name}.upg"));
        Ok(Destination { output: output.to_path_buf(), archive, directory: Some(directory) })
    }

    /// Where the archive is to be written.
    pub fn archive_path(&self) -> &Path {
        &self.archive
    }

    /// Adds what goes beside the archive and moves the directory to its name.
    pub fn complete(self, tree: &SourceTree, report: &mut Report) -> Result<()> {
        report.output = self.output.display().to_string();
        let Some(directory) = self.directory else { return Ok(()) };
        let inside = directory.path();
        let catalog_name = format!("{}-catalog.json", tree.name);
        let ours = [catalog_name.as_str(), REPORT_NAME];
        let small = tree.files.iter().filter(|file| matches!(file.kind, SourceKind::Other));
        for file in small.filter(|file| !ours.contains(&file.path.as_str())) {
            let copy = inside.join(&file.path);
            if let Some(parent) = copy.parent() {
                fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
            }
            fs::copy(&file.location, &copy).map_err(|e| Error::io(&copy, e))?;
        }
        write_json(&inside.join(&catalog_name), &catalog(tree))?;
        write_json(&inside.join(REPORT_NAME), &*report)?;
        let old = if self.output.exists() { Some(set_aside(&self.output)?) } else { None };
        if let Err(e) = fs::rename(inside, &self.output) {
            if let Some(old) = &old {
                let _ = fs::rename(old.path().join(SET_ASIDE), &self.output);
            }
            return Err(Error::io(&self.output, e));
        }
        // It has its name now and must stay.
        let _ = directory.keep();
        sync_directory_of(&self.output)?;
        drop(old);
        Ok(())
    }
}

/// Moves what is in the way into a temporary directory, which goes when dropped.
fn set_aside(output: &Path) -> Result<TempDir> {
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let aside = tempfile::Builder::new().prefix(".upg-").suffix(".old").tempdir_in(parent);
    let aside = aside.map_err(|e| Error::io(parent, e))?;
    fs::rename(output, aside.path().join(SET_ASIDE)).map_err(|e| Error::io(output, e))?;
    Ok(aside)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::Invalid(e.to_string()))?;
    text.push('\n');
    fs::write(path, text).map_err(|e| Error::io(path, e))
}

/// Every tensor of the source, from the headers alone.
fn catalog(tree: &SourceTree) -> serde_json::Value {
    let tensors: Vec<_> = tree
        .shards()
        .flat_map(|(file, shard)| shard.tensors.iter().map(move |tensor| (file, tensor)))
        .map(|(file, tensor)| {
            json!({
                "name": tensor.name,
                "file": file.path,
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape,
                "bytes": tensor.length,
                "parameters": tensor.elements(),
            })
        })
        .collect();
    json!({
        "model": tree.name,
        "parameters": tree.tensors().map(|tensor| tensor.elements()).sum::<u64>(),
        "bytes": tree.shard_bytes(),
        "tensors": tensors,
    })
}
