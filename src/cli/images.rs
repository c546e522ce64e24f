//! The .upg files that are to be mounted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::mount_args::NamedSnapshot;
use crate::archive::{Archive, Shown};
use crate::format::Model;
use crate::hub::Snapshot;
use crate::mount::{Owner, Owners};
use crate::object::{self, Access};
use crate::source::LocalFile;

/// Opens one file, or several as one, or all that lie in a directory; with whom they belong to.
/// `hub`: to be shown as a cache of the hub's client, with repositories that were given.
pub fn open(paths: &[PathBuf], hub: Option<&Vec<NamedSnapshot>>, access: &Access) -> Result<(Archive, Owners)> {
    let open_all = |files: &[PathBuf], name: &str, hub| open_all(files, name, hub, access);
    match paths {
        [directory] if directory.is_dir() => open_all(&library(directory)?, &directory.display().to_string(), hub),
        [file] if hub.is_some() => open_all(paths, &object::shown(file), hub),
        [file] => open_one(file, access).map(|(archive, owner)| (archive, Owners::of_file(owner))),
        files => open_all(files, &format!("{} files", files.len()), hub),
    }
}

fn open_all(
    files: &[PathBuf],
    name: &str,
    hub: Option<&Vec<NamedSnapshot>>,
    access: &Access,
) -> Result<(Archive, Owners)> {
    let mut archives = Vec::with_capacity(files.len());
    let mut owners = Vec::with_capacity(files.len());
    for file in files {
        let (archive, owner) = open_one(file, access)?;
        owners.push((owner, archive.models().len()));
        archives.push(archive);
    }
    let shown = match hub {
        Some(given) => in_cache(&archives, given)?,
        None => archives.iter().flat_map(Archive::models).map(Shown::under_its_name).collect(),
    };
    Ok((Archive::union(name, archives, &shown)?, Owners::of_files(&owners)))
}

/// Each model by its repository: the one that was given, or else the one that the model names.
fn in_cache(archives: &[Archive], given: &[NamedSnapshot]) -> Result<Vec<Shown>> {
    let models = || archives.iter().flat_map(|archive| archive.models().iter().map(move |model| (archive, model)));
    let is_sole = models().count() == 1;
    let is_of = |given: &NamedSnapshot, model: &Model| given.model.as_ref().map_or(is_sole, |name| *name == model.name);
    if let Some(other) = given.iter().find(|given| !models().any(|(_, model)| is_of(given, model))) {
        let NamedSnapshot { model, snapshot } = other;
        match model {
            Some(name) => bail!("--repo: there is no model {name:?}"),
            None => bail!("--repo: of several models, which is {0}? Give it as MODEL={0}", snapshot.repository),
        }
    }
    let shown = models().map(|(archive, model)| {
        let named = Snapshot::of(model);
        let given = given.iter().find(|given| is_of(given, model)).map(|given| given.snapshot.clone());
        let snapshot = match (given, named) {
            (Some(given), Some(named)) if given.revision.is_none() && given.repository == named.repository => named,
            (Some(snapshot), _) | (None, Some(snapshot)) => snapshot,
            (None, None) => {
                let (file, name) = (archive.name(), &model.name);
                bail!(
                    "{file}: model {name:?} does not say which repository it is of; give it with --repo {name}=ORG/NAME"
                )
            }
        };
        // As long as a commit, and another one for another file.
        Ok(snapshot.shown(&format!("{:040x}", archive.index_checksum())))
    });
    shown.collect()
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
fn open_one(place: &Path, access: &Access) -> Result<(Archive, Owner)> {
    if object::is_address(place) {
        let source = object::open_with(place, access)?;
        let owner = Owner::of_object(source.modified());
        return Ok((Archive::from_source(source)?, owner));
    }
    let file = LocalFile::open(place)?;
    let owner = Owner::of(&file.metadata()?);
    Ok((Archive::from_source(Box::new(file))?, owner))
}
