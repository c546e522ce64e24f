//! A part of a conversion: some of a model's files, so that several machines can convert one model.
//!
//! Parts are whole safetensors files, shared out by their sizes alone; all other files go with the
//! first. What decides the rates is the same for all parts: each divides the bits between the matrices
//! of the whole model, from all headers and from what is stored exactly. What a matrix then takes too
//! much or too little of is made up for by later ones of the same part.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::exact::reason;
use super::tree::{SourceKind, SourceTree};
use super::{Options, Target};
use crate::error::{Error, Result};
use crate::format::Model;
use crate::source::ReadAt;

/// More parts than any model has files.
const MOST_PARTS: u32 = 1 << 16;
/// Of the tensors of each file, so much at both ends tells a source from another with the same headers.
const SAMPLE: u64 = 4 << 10;

/// Part `number`, from 1, of `of` parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Numbers", into = "Numbers")]
pub struct Part {
    number: u32,
    of: u32,
}

#[derive(Serialize, Deserialize)]
struct Numbers {
    number: u32,
    of: u32,
}

/// What a model says that is a part (`docs/format.md`, 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNote {
    #[serde(flatten)]
    pub part: Part,
    /// Hash of what it is a part of, as far as every part has seen it.
    pub source: String,
    /// Hash of what the conversion was asked for.
    pub options: String,
}

impl Part {
    pub fn new(number: u32, of: u32) -> Option<Part> {
        ((1..=of).contains(&number) && of <= MOST_PARTS).then_some(Part { number, of })
    }

    pub fn number(self) -> u32 {
        self.number
    }

    /// How many parts there are.
    pub fn of(self) -> u32 {
        self.of
    }

    /// Which files of a source are in it, in the order of the tree. Files are given out from the largest
    /// to the smallest, each to the part that has the fewest bytes.
    pub fn files(self, tree: &SourceTree) -> Result<Vec<bool>> {
        let is_shard = |i: &usize| matches!(tree.files[*i].kind, SourceKind::Shard(_));
        let mut shards: Vec<usize> = (0..tree.files.len()).filter(is_shard).collect();
        if shards.len() < self.of as usize {
            let (there, of) = (shards.len(), self.of);
            let what = "a part is made of whole safetensors files";
            let advice = if there == 1 {
                "; save the model in several files first (save_pretrained with max_shard_size)"
            } else {
                "; ask for no more parts than that"
            };
            let what = format!("--part {self}: {what}, and there are {there} of them for {of} parts{advice}");
            return Err(Error::Invalid(what));
        }
        // The sort is stable, and files are in the order of their paths.
        shards.sort_by_key(|&i| std::cmp::Reverse(tree.files[i].size));
        let mut bytes = vec![0u64; self.of as usize];
        let mut chosen: Vec<bool> = tree.files.iter().map(|_| self.number == 1).collect();
        for i in shards {
            let part = (0..bytes.len()).min_by_key(|&part| bytes[part]).unwrap_or_default();
            bytes[part] += tree.files[i].size;
            chosen[i] = part + 1 == self.number as usize;
        }
        Ok(chosen)
    }
}

impl PartNote {
    /// Of what a conversion of `tree` writes, which is only some of its files.
    pub(super) fn new(part: Part, options: &Options, tree: &SourceTree) -> Result<PartNote> {
        let hex = |hash: u64| format!("{hash:016x}");
        Ok(PartNote { part, source: hex(hash_of_source(tree)?), options: hex(hash_of_options(options, tree)) })
    }

    /// None if the model is whole.
    pub fn of(model: &Model) -> Option<PartNote> {
        #[derive(Deserialize)]
        struct Metadata {
            part: PartNote,
        }
        serde_json::from_str::<Metadata>(&model.metadata).ok().map(|metadata| metadata.part)
    }
}

/// Paths, sizes, headers, small files, and a little of the tensors.
fn hash_of_source(tree: &SourceTree) -> Result<u64> {
    let mut hash = Xxh3::new();
    hash.update(tree.name.as_bytes());
    for file in &tree.files {
        hash.update(format!("\n{} {} ", file.path, file.size).as_bytes());
        let ends = match &file.kind {
            SourceKind::Other => [0..file.size, file.size..file.size],
            SourceKind::Shard(shard) => {
                let begins = (shard.header_len + SAMPLE).min(file.size);
                [0..begins, begins.max(file.size.saturating_sub(SAMPLE))..file.size]
            }
        };
        let source = file.open()?;
        for range in ends {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            source.read_exact_at(&mut bytes, range.start)?;
            hash.update(&bytes);
        }
    }
    Ok(hash.digest())
}

/// What was typed, and what follows from it for each tensor: globs cannot be compared.
fn hash_of_options(options: &Options, tree: &SourceTree) -> u64 {
    let target = match options.target {
        Target::Bits(bits) => format!("bits {bits}"),
        Target::Ratio(ratio) => format!("ratio {ratio}"),
        Target::Lossless => "lossless".to_owned(),
    };
    let (grid, columns) = (options.grid.name(), options.columns.name());
    let Options { log2_states, flat, lossy_fp8, like, .. } = options;
    let mut hash = Xxh3::new();
    hash.update(format!("{target} {grid} {columns} {log2_states} {flat} {lossy_fp8}").as_bytes());
    for tensor in tree.tensors() {
        let exact = reason(options, tensor).map_or("", super::Reason::text);
        let like = like.as_ref().map(|like| like.bits_of(&tensor.name));
        hash.update(format!("\n{exact} {like:?}").as_bytes());
    }
    hash.digest()
}

impl TryFrom<Numbers> for Part {
    type Error = &'static str;

    fn try_from(numbers: Numbers) -> Result<Part, &'static str> {
        Part::new(numbers.number, numbers.of).ok_or("no part of so many")
    }
}

impl From<Part> for Numbers {
    fn from(part: Part) -> Numbers {
        Numbers { number: part.number, of: part.of }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let part = numbers.and_then(|(number, of)| Part::new(number, of));
        part.ok_or_else(|| "must be I/N, a number from 1 to N and how many parts there are".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn shard(path: &Path, bytes: usize) {
        let header = format!("{{\"t\":{{\"dtype\":\"U8\",\"shape\":[{bytes}],\"data_offsets\":[0,{bytes}]}}}}");
        let mut content = (header.len() as u64).to_le_bytes().to_vec();
        content.extend(header.bytes());
        content.resize(content.len() + bytes, 7);
        fs::write(path, content).expect("a file");
    }

    fn tree(directory: &Path, sizes: &[usize]) -> SourceTree {
        for (i, &bytes) in sizes.iter().enumerate() {
            shard(&directory.join(format!("model-{i}.safetensors")), bytes);
        }
        fs::write(directory.join("config.json"), "{}").expect("a file");
        SourceTree::scan(directory, None).expect("a source")
    }

    #[test]
    fn every_file_is_in_one_part_and_parts_are_alike() {
        let place = tempfile::tempdir().expect("a directory");
        let tree = tree(place.path(), &[90_000, 10_000, 50_000, 40_000, 20_000, 70_000]);
        for of in 1..=6 {
            let parts: Vec<Vec<bool>> =
                (1..=of).map(|i| Part::new(i, of).expect("a part").files(&tree).expect("files")).collect();
            for (i, file) in tree.files.iter().enumerate() {
                assert_eq!(parts.iter().filter(|part| part[i]).count(), 1, "{}", file.path);
            }
            assert!(parts[0][0] && tree.files[0].path == "config.json");
            let bytes = |part: &Vec<bool>| tree.files.iter().zip(part).filter(|p| *p.1).map(|p| p.0.size).sum::<u64>();
            let most = parts.iter().map(bytes).max().expect("parts");
            assert!(most <= (280_000 / u64::from(of)).max(90_000) * 5 / 4, "{of}: {most}");
        }
        let error = Part::new(7, 7).expect("a part").files(&tree).expect_err("too many parts");
        assert!(error.to_string().contains("whole safetensors files"), "{error}");
    }

    #[test]
    fn a_source_is_known_by_more_than_its_headers() {
        let place = tempfile::tempdir().expect("a directory");
        let first = hash_of_source(&tree(place.path(), &[90_000, 10_000])).expect("a hash");
        let path = place.path().join("model-1.safetensors");
        let mut bytes = fs::read(&path).expect("a file");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(&path, bytes).expect("a file");
        let second = hash_of_source(&SourceTree::scan(place.path(), None).expect("a source")).expect("a hash");
        assert_ne!(first, second);
    }

    #[test]
    fn parts_are_written_as_they_are_read() {
        let part: Part = "2/4".parse().expect("a part");
        assert_eq!((part.number(), part.of(), part.to_string()), (2, 4, "2/4".to_owned()));
        for wrong in ["", "2", "0/4", "5/4", "1/0", "a/b", "1/2/3", "-1/2", "1/99999999"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
        let note = PartNote { part, source: "00".into(), options: "01".into() };
        let text = serde_json::to_string(&note).expect("JSON");
        assert_eq!(serde_json::from_str::<PartNote>(&text).expect("a note"), note);
        assert!(serde_json::from_str::<PartNote>(&text.replace(":2,", ":9,")).is_err());
    }
}
