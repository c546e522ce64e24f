//! `upg merge`: several archives become one, without coding anything again.
//!
//! Each model keeps its name, and has a directory of its own in a mount. What is the same in
//! several is stored once: blocks with the same stored bytes, and whole arrays.

mod blocks;

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::archive::{Archive, ArchiveWriter, Existing};
use crate::error::{Error, Result};
use crate::format::{Extent, Model, check_component, clash};
use crate::ops::convert::Progress;
use blocks::Copier;

/// An archive to be merged.
#[derive(Debug, Clone)]
pub struct Input {
    pub file: PathBuf,
    /// Of its model, if not what it is called now; then it must be the only one in the file.
    pub name: Option<String>,
}

pub struct Options {
    pub inputs: Vec<Input>,
    pub output: PathBuf,
    pub force: bool,
}

/// Sizes in bytes.
#[derive(Debug, Serialize)]
pub struct Report {
    pub output: String,
    pub models: Vec<String>,
    /// Of all inputs.
    pub input_bytes: u64,
    pub file_bytes: u64,
    pub arrays: u64,
    /// Arrays that are the same as one before, and their stored bytes.
    pub shared_arrays: u64,
    /// Blocks whose stored bytes are those of one before.
    pub shared_blocks: u64,
    /// Stored bytes that the inputs have together and the result has once.
    pub shared_bytes: u64,
    pub seconds: f64,
}

pub fn merge(options: &Options, progress: &dyn Progress) -> Result<Report> {
    let start = Instant::now();
    if !options.force && std::fs::symlink_metadata(&options.output).is_ok() {
        let what = "exists; choose another name with -o, or replace it with --force";
        return Err(Error::Invalid(format!("{} {what}", options.output.display())));
    }
    let archives = options.inputs.iter().map(|input| Archive::open(&input.file)).collect::<Result<Vec<_>>>()?;
    let names = names(&options.inputs, &archives)?;
    progress.begin(archives.iter().map(stored_bytes).sum());
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    let mut writer = ArchiveWriter::create(&options.output)?.existing(existing);
    let mut copier = Copier::new(&archives, progress);
    for (i, archive) in archives.iter().enumerate() {
        for (model, name) in archive.models().iter().zip(&names[i]) {
            copy_model(&mut copier, &mut writer, i, model, name)?;
        }
    }
    let shared = copier.shared();
    Ok(Report {
        output: options.output.display().to_string(),
        models: names.into_iter().flatten().collect(),
        input_bytes: archives.iter().map(Archive::size).sum(),
        file_bytes: writer.finish()?,
        arrays: shared.arrays_seen,
        shared_arrays: shared.arrays,
        shared_blocks: shared.blocks,
        shared_bytes: shared.bytes,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn copy_model(copier: &mut Copier, writer: &mut ArchiveWriter, input: usize, model: &Model, name: &str) -> Result<()> {
    let archive = copier.archive(input);
    let first = writer.next_file();
    for (_, file) in archive.files(model) {
        let copied = archive.extents(file).iter().map(|extent| {
            let array = extent.array.map(|array| copier.array(writer, input, array)).transpose()?;
            Ok(Extent { array, ..extent.clone() })
        });
        let extents = copied.collect::<Result<Vec<_>>>()?;
        writer.add_file(&file.path, &extents);
    }
    writer.add_model(name, &model.metadata, first);
    Ok(())
}

/// The names of the models of each input: no two the same.
fn names(inputs: &[Input], archives: &[Archive]) -> Result<Vec<Vec<String>>> {
    let named = inputs.iter().zip(archives).map(|(input, archive)| match (&input.name, archive.models()) {
        (None, models) => Ok(models.iter().map(|model| model.name.clone()).collect()),
        (Some(name), [_]) => {
            check_component(name).map_err(|what| Error::Invalid(format!("{name:?} cannot name a model: {what}")))?;
            Ok(vec![name.clone()])
        }
        (Some(_), models) => {
            let (file, count) = (input.file.display(), models.len());
            Err(Error::Invalid(format!("{file}: it holds {count} models, which one name cannot be given to")))
        }
    });
    let names = named.collect::<Result<Vec<Vec<String>>>>()?;
    match clash(names.iter().flatten().map(String::as_str)) {
        Some(clash) => Err(Error::Invalid(format!("models of the same name: {clash}; give one another as NAME=FILE"))),
        None => Ok(names),
    }
}

/// What copying an archive reads, at most.
fn stored_bytes(archive: &Archive) -> u64 {
    let arrays = 0..archive.index().arrays.len() as u32;
    arrays.map(|array| archive.index().stored_bytes(array)).fold(0, u64::saturating_add)
}
