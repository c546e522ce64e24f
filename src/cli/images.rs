//! The .upg files that are to be mounted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::mount::{Owner, Owners};
use crate::source::LocalFile;

/// Opens one file, or several as one, or all that lie in a directory; with whom they belong to.
pub fn open(paths: &[PathBuf]) -> Result<(Archive, Owners)> {
    match paths {
        [directory] if directory.is_dir() => open_all(&library(directory)?, &directory.display().to_string()),
        [file] => open_one(file).map(|(archive, owner)| (archive, Owners::of_file(owner))),
        files => open_all(files, &format!("{} files", files.len())),
    }
}

fn open_all(files: &[PathBuf], name: &str) -> Result<(Archive, Owners)> {
    let mut archives = Vec::with_capacity(files.len());
    let mut owners = Vec::with_capacity(files.len());
    for file in files {
        let (archive, owner) = open_one(file)?;
        owners.push((owner, archive.models().len()));
        archives.push(archive);
    }
    Ok((Archive::union(name, archives)?, Owners::of_files(&owners)))
}

/// By name, so that every mount has the same order. What does not end in .upg is not looked at.
fn library(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "upg") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{}: no .upg file in this directory", directory.display());
    }
    Ok(files)
}

/// With the rights of the very file that is open: another may have its name by now.
fn open_one(file: &Path) -> Result<(Archive, Owner)> {
    let file = LocalFile::open(file)?;
    let owner = Owner::of(&file.metadata()?);
    Ok((Archive::from_source(Box::new(file))?, owner))
}
