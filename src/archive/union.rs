//! Several archives as one, where they lie: for a mount of them all.

use xxhash_rust::xxh3::xxh3_64;

use super::concatenated::Concatenated;
use super::kept::Kept;
use super::reader::Archive;
use crate::error::{Error, Result};
use crate::format::{
    ArrayInfo, BlockMode, BlockRecord, Extent, ExtentKind, FileEntry, Index, IndexBuilder, Model, Trailer, clash,
};
use crate::source::{Memory, ReadAt};

/// How a model is shown beside others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Name of its directory.
    pub directory: String,
    /// What its paths begin with there: nothing, or directories that end in a slash.
    pub prefix: String,
    /// Small files that are shown with it: path in its directory, and content.
    pub added: Vec<(String, Vec<u8>)>,
}

impl Shown {
    pub fn under_its_name(model: &Model) -> Shown {
        Shown { directory: model.name.clone(), prefix: String::new(), added: Vec::new() }
    }
}

impl Archive {
    /// All models of these archives, each shown in a directory of its own, even if it is the only one.
    /// Nothing is read; the index takes as much memory as those of the archives do. `shown` has an
    /// entry for each model, whose directories must differ. `name` is for messages.
    pub fn union(name: &str, archives: Vec<Archive>, shown: &[Shown]) -> Result<Archive> {
        check_names(&archives, shown)?;
        let mut union = Union { end: archives.iter().map(Archive::size).sum(), ..Union::default() };
        let mut shown = shown.iter();
        for archive in &archives {
            union.add(archive, &mut shown);
        }
        let Union { index, added, end, .. } = union;
        let at = end + added.len() as u64;
        let bytes = index.finish().map_err(|defect| Error::Invalid(format!("{name}: {}", defect.0)))?;
        let trailer = Trailer {
            index_offset: at,
            index_length: bytes.len() as u64,
            index_checksum: xxh3_64(&bytes),
            features: 0,
        };
        let index = Index::parse(name, &trailer, bytes)?;
        let kept = Kept::new(&index, at, at);
        let added: Box<dyn ReadAt> = Box::new(Memory::new(name, added));
        let sources = archives.into_iter().map(|archive| archive.source).chain([added]);
        let source = Box::new(Concatenated::new(name, sources));
        Ok(Archive { source, index, index_checksum: trailer.index_checksum, names_models: true, kept })
    }
}

/// An index of several archives, as far as they were added. Of what there is too much is noticed when
/// the index is finished.
#[derive(Default)]
struct Union {
    index: IndexBuilder,
    /// Where the next archive's bytes begin.
    at: u64,
    /// Where those of all archives end, and what lies there.
    end: u64,
    added: Vec<u8>,
    arrays: u32,
    blocks: u32,
    extents: usize,
    files: usize,
}

impl Union {
    fn add<'s>(&mut self, archive: &Archive, shown: &mut impl Iterator<Item = &'s Shown>) {
        let from = archive.index();
        let (arrays, blocks) = (self.arrays, self.blocks);
        for i in 0..from.block_count() as u32 {
            let block = from.block(i);
            // Zeros lie nowhere, which is at a certain place.
            let offset = if block.mode == BlockMode::Zeros { block.offset } else { self.at + block.offset };
            self.add_block(BlockRecord { offset, ..block });
        }
        for array in &from.arrays {
            self.add_array(&ArrayInfo {
                first_block: blocks.wrapping_add(array.first_block),
                side_block: array.side_block.map(|side| blocks.wrapping_add(side)),
                base: array.base.map(|base| arrays.wrapping_add(base)),
                ..array.clone()
            });
        }
        for (model, shown) in from.models.iter().zip(shown) {
            let first = self.files;
            for file in &from.files[model.files.clone()] {
                let extents = from.extents[file.extents.clone()].iter().map(|extent| Extent {
                    array: extent.array.map(|array| arrays.wrapping_add(array)),
                    ..extent.clone()
                });
                self.add_file(format!("{}{}", shown.prefix, file.path), file.size, extents);
            }
            for (path, content) in &shown.added {
                let extents = self.bytes(content);
                self.add_file(path.clone(), content.len() as u64, extents);
            }
            let files = first..self.files;
            self.index.add_model(&Model { name: shown.directory.clone(), files, ..model.clone() });
        }
        self.at += archive.size();
    }

    fn add_block(&mut self, block: BlockRecord) {
        self.index.add_block(block);
        self.blocks = self.blocks.wrapping_add(1);
    }

    fn add_array(&mut self, array: &ArrayInfo) {
        self.index.add_array(array);
        self.arrays = self.arrays.wrapping_add(1);
    }

    fn add_file(&mut self, path: String, size: u64, extents: impl IntoIterator<Item = Extent>) {
        let first = self.extents;
        for extent in extents {
            self.index.add_extent(&extent);
            self.extents += 1;
        }
        self.index.add_file(&FileEntry { path, size, extents: first..self.extents });
        self.files += 1;
    }

    /// The extent of a file that is in none of the archives; none if it is empty.
    fn bytes(&mut self, content: &[u8]) -> Option<Extent> {
        let length = u32::try_from(content.len()).ok().filter(|&length| length > 0)?;
        let (array, first_block) = (self.arrays, self.blocks);
        let offset = self.end + self.added.len() as u64;
        self.added.extend_from_slice(content);
        self.add_block(BlockRecord { offset, length, mode: BlockMode::Stored, checksum: xxh3_64(content) });
        self.add_array(&ArrayInfo::of_bytes(length.into(), length, first_block));
        let (name, shape) = (String::new(), Vec::new());
        let kind = ExtentKind::Bytes;
        Some(Extent { offset: 0, length: length.into(), kind, name, dtype: None, shape, array: Some(array) })
    }
}

fn check_names(archives: &[Archive], shown: &[Shown]) -> Result<()> {
    let Some(clash) = clash(shown.iter().map(|shown| shown.directory.as_str())) else { return Ok(()) };
    let mut shown = shown.iter();
    let with = |archive: &&Archive| {
        let of_archive = shown.by_ref().take(archive.models().len());
        of_archive.filter(|shown| clash.names().into_iter().any(|name| *name == shown.directory)).count() > 0
    };
    let files = archives.iter().filter(with).map(Archive::name).collect::<Vec<_>>().join(" and ");
    let what = "mount them in places of their own, or merge them and name one (upg merge NAME=FILE)";
    Err(Error::Invalid(format!("{files}: models cannot lie beside each other: {clash}; {what}")))
}
