//! What the models of the result come of: each of one model of the inputs, or of all parts of one.

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::format::{FileEntry, Model};
use crate::ops::convert::{PartNote, join_metadata};

/// A model of the result.
pub struct Joined<'a> {
    pub name: String,
    /// Its files, each with the number of the archive that it is in.
    pub files: Vec<(usize, &'a FileEntry)>,
    pub metadata: String,
    /// How many parts it is made of; 0 if it was whole.
    pub parts: usize,
}

/// A part, and where it is.
struct Found<'a> {
    archive: usize,
    model: &'a Model,
    note: PartNote,
}

/// The models of the result in the order in which the inputs have them, or their first part. Parts with
/// the same name belong together. `names`: of the models of each archive.
pub fn join<'a>(archives: &'a [Archive], names: &[Vec<String>]) -> Result<Vec<Joined<'a>>> {
    let mut whole: Vec<(String, usize, &'a Model)> = Vec::new();
    let mut divided: Vec<(String, usize, Vec<Found<'a>>)> = Vec::new();
    for (archive, names) in names.iter().enumerate() {
        for (model, name) in archives[archive].models().iter().zip(names) {
            let at = whole.len() + divided.len();
            let Some(note) = PartNote::of(model) else {
                whole.push((name.clone(), archive, model));
                continue;
            };
            let found = Found { archive, model, note };
            match divided.iter_mut().find(|(other, ..)| other == name) {
                Some((.., parts)) => parts.push(found),
                None => divided.push((name.clone(), at, vec![found])),
            }
        }
    }
    let of_model = |(name, archive, model): (String, usize, &'a Model)| {
        let files = archives[archive].files(model).map(|(_, file)| (archive, file)).collect();
        Joined { name, files, metadata: model.metadata.clone(), parts: 0 }
    };
    let mut joined: Vec<Joined<'_>> = whole.into_iter().map(of_model).collect();
    for (name, at, parts) in divided {
        joined.insert(at.min(joined.len()), of_parts(archives, name, parts)?);
    }
    Ok(joined)
}

fn of_parts<'a>(archives: &'a [Archive], name: String, mut parts: Vec<Found<'a>>) -> Result<Joined<'a>> {
    let file = |found: &Found<'_>| archives[found.archive].name().to_owned();
    parts.sort_by_key(|found| found.note.part.number());
    check_alike(&parts, file)?;
    let of = parts.first().map_or(0, |found| found.note.part.of());
    let is_there = |number: &u32| parts.iter().any(|found| found.note.part.number() == *number);
    let missing: Vec<String> = (1..=of).filter(|number| !is_there(number)).map(|n| format!("{n}/{of}")).collect();
    if let Some(first) = missing.first() {
        let (there, missing) = (parts.iter().map(file).collect::<Vec<_>>().join(", "), missing.join(", "));
        let what = format!("of model {name:?} these parts are missing: {missing}");
        return Err(Error::Invalid(format!("{there}: {what}; convert them as the others were, with --part {first}")));
    }
    let mut files: Vec<(usize, &FileEntry)> = parts
        .iter()
        .flat_map(|found| archives[found.archive].files(found.model).map(move |(_, file)| (found.archive, file)))
        .collect();
    files.sort_by(|(_, a), (_, b)| a.path.cmp(&b.path));
    let models: Vec<_> = parts.iter().map(|found| (&archives[found.archive], found.model)).collect();
    Ok(Joined { name, files, metadata: join_metadata(&models)?, parts: parts.len() })
}

/// Two neighbours that are not parts of one conversion, or the same part twice, are an error.
fn check_alike(parts: &[Found<'_>], file: impl Fn(&Found<'_>) -> String) -> Result<()> {
    for pair in parts.windows(2) {
        let [a, b] = pair else { continue };
        let (one, other) = (a.note.part, b.note.part);
        let what = if one.of() != other.of() {
            format!("part {one} and part {other}: they come from conversions into different numbers of parts")
        } else if a.note.source != b.note.source {
            "parts of different sources, or of one that was changed; convert them again of the same files".to_owned()
        } else if a.note.options != b.note.options {
            "parts that were converted with different options; convert them again with the same ones".to_owned()
        } else if one == other {
            format!("both are part {one}; give each part once")
        } else {
            continue;
        };
        return Err(Error::Invalid(format!("{} and {}: {what}", file(a), file(b))));
    }
    Ok(())
}
