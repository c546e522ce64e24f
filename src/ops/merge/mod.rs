//! `upg merge`: several archives become one, without coding anything again.
//!
//! Each model keeps its name, and has a directory of its own in a mount. What is the same in
//! several is stored once: blocks with the same stored bytes, and whole arrays. Tensors that differ
//! from those of another model may be stored as differences. Parts of a model become that model.

mod blocks;
mod difference;
mod parts;

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::archive::{Archive, ArchiveWriter};
use crate::error::{Error, Result};
use crate::format::{Extent, ExtentKind, check_component, clash};
use crate::object;
use crate::ops::existing::refuse_existing;
use crate::ops::progress::Progress;
use crate::partial::Existing;
use blocks::{Copier, Place};
use difference::Base;
use parts::Joined;

/// Arrays that may name a block record, on average.
const MOST_SHARING: u64 = 4;

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
    /// The model, by its name in the result, that tensors of the others are stored as differences
    /// to where that is smaller; only those that both store exactly. What that model stores as a
    /// difference stands for what it is from.
    pub delta: Option<String>,
    pub force: bool,
}

/// Sizes in bytes.
#[derive(Debug, Serialize)]
pub struct Report {
    pub output: String,
    pub models: Vec<String>,
    /// How many inputs were parts of one of them.
    pub parts: usize,
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
    /// Arrays that became differences.
    pub differences: u64,
    pub seconds: f64,
}

pub fn merge(options: &Options, progress: &dyn Progress) -> Result<Report> {
    let start = Instant::now();
    if !options.force {
        refuse_existing(&options.output)?;
    }
    if options.output.is_dir() {
        return Err(Error::Invalid(format!("{} is a directory", options.output.display())));
    }
    // Nobody is to read more than every input lets him read.
    let mut mode = !0;
    let open = |input: &Input| {
        let source = object::open(&input.file)?;
        mode &= source.mode().unwrap_or(!0);
        let archive = Archive::from_source(source)?;
        check_sharing(&archive)?;
        Ok(archive)
    };
    let archives = options.inputs.iter().map(open).collect::<Result<Vec<_>>>()?;
    let names = names(&options.inputs, &archives)?;
    let models = parts::join(&archives, &names)?;
    if let Some(clash) = clash(models.iter().map(|model| model.name.as_str())) {
        return Err(Error::Invalid(format!("models of the same name: {clash}; give one another as NAME=FILE")));
    }
    let parts = models.iter().map(|model| model.parts).sum();
    if parts > 0 && options.delta.is_some() {
        return Err(Error::Invalid(
            "--delta takes whole models: join the parts first, then merge what comes of it".into(),
        ));
    }
    progress.begin(archives.iter().map(stored_bytes).fold(0, u64::saturating_add));
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    let most = archives.iter().map(Archive::size).fold(0, u64::saturating_add);
    let mut writer = ArchiveWriter::create_at(&options.output, most)?.existing(existing);
    writer.limit_mode(mode)?;
    let mut copier = Copier::new(&archives, progress);
    let base = options.delta.as_deref().map(|delta| base(options, &archives, &names, delta)).transpose()?;
    // A difference is to what lies before it.
    for place in base.iter().flat_map(Base::places) {
        copier.array(&mut writer, place)?;
    }
    for model in &models {
        copy_model(&mut copier, &mut writer, base.as_ref(), model)?;
    }
    let shared = copier.shared();
    Ok(Report {
        output: object::shown(&options.output),
        models: models.into_iter().map(|model| model.name).collect(),
        parts,
        input_bytes: archives.iter().map(Archive::size).sum(),
        file_bytes: writer.finish()?,
        arrays: shared.arrays_seen,
        shared_arrays: shared.arrays,
        shared_blocks: shared.blocks,
        shared_bytes: shared.bytes,
        differences: shared.differences,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn copy_model(copier: &mut Copier, writer: &mut ArchiveWriter, base: Option<&Base>, model: &Joined<'_>) -> Result<()> {
    let first = writer.next_file();
    for &(input, file) in &model.files {
        let archive = copier.archive(input);
        let copied = archive.extents(file).iter().map(|extent| {
            let Some(array) = extent.array else { return Ok(extent.clone()) };
            let place = Place { archive: input, array };
            let beside = base.filter(|_| extent.kind == ExtentKind::Tensor).and_then(|base| base.tensor(&extent.name));
            let array = match beside {
                Some(beside) if beside != place => copier.array_beside(writer, place, beside)?,
                _ => copier.array(writer, place)?,
            };
            Ok(Extent { array: Some(array), ..extent.clone() })
        });
        let extents = copied.collect::<Result<Vec<_>>>()?;
        writer.add_file(&file.path, &extents);
    }
    writer.add_model(&model.name, &model.metadata, first);
    Ok(())
}

fn base<'a>(options: &Options, archives: &'a [Archive], names: &[Vec<String>], delta: &str) -> Result<Base<'a>> {
    let found = names.iter().zip(archives).enumerate().find_map(|(i, (names, archive))| {
        let model = names.iter().position(|name| name == delta)?;
        Some(Base::new(archives, i, &archive.models()[model]))
    });
    found.ok_or_else(|| {
        let names = names.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
        let output = options.output.display();
        Error::Invalid(format!("{output}: no model {delta:?} to take differences from; there are {names}"))
    })
}

/// The names of the models of each input.
fn names(inputs: &[Input], archives: &[Archive]) -> Result<Vec<Vec<String>>> {
    let named = inputs.iter().zip(archives).map(|(input, archive)| match (&input.name, archive.models()) {
        (None, models) => Ok(models.iter().map(|model| model.name.clone()).collect()),
        (Some(name), [_]) => {
            check_component(name).map_err(|what| Error::Invalid(format!("{name:?} cannot name a model: {what}")))?;
            Ok(vec![name.clone()])
        }
        (Some(_), models) => {
            let (file, count) = (object::shown(&input.file), models.len());
            Err(Error::Invalid(format!("{file} holds {count} models; NAME=FILE needs a file with one")))
        }
    });
    named.collect()
}

/// Arrays may name the same block records, all of them all; each has its own in a copy. Only files that
/// were made to do harm have more than a few such arrays.
fn check_sharing(archive: &Archive) -> Result<()> {
    let index = archive.index();
    let named: u64 = index.arrays.iter().map(|array| u64::from(array.block_count()) + 1).sum();
    let there = index.block_count() as u64 + index.arrays.len() as u64;
    if named > MOST_SHARING * there {
        let what = format!("its arrays name {named} blocks, of which there are {}", index.block_count());
        return Err(Error::unsupported(archive.name(), what));
    }
    Ok(())
}

/// What copying an archive reads, at most.
fn stored_bytes(archive: &Archive) -> u64 {
    let arrays = 0..archive.index().arrays.len() as u32;
    arrays.map(|array| archive.index().stored_bytes(array)).fold(0, u64::saturating_add)
}
