//! Several archives as one, where they lie: for a mount of them all.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::kept::Kept;
use super::reader::Archive;
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, BlockMode, BlockRecord, Extent, FileEntry, Index, IndexBuilder, Model, Trailer, clash};
use crate::source::ReadAt;

impl Archive {
    /// All models of these archives, whose names must differ. Nothing is read; the index takes as
    /// much memory as those of the archives do. Each model is shown in a directory of its own,
    /// even if it is the only one. `name` is for messages.
    pub fn union(name: &str, archives: Vec<Archive>) -> Result<Archive> {
        check_names(&archives)?;
        let mut index = IndexBuilder::default();
        let mut at = 0;
        let (mut arrays, mut blocks, mut extents, mut files) = (0u32, 0u32, 0, 0);
        for archive in &archives {
            let from = archive.index();
            for i in 0..from.block_count() as u32 {
                let block = from.block(i);
                // Zeros lie nowhere, which is at a certain place.
                let offset = if block.mode == BlockMode::Zeros { block.offset } else { at + block.offset };
                index.add_block(BlockRecord { offset, ..block });
            }
            for array in &from.arrays {
                index.add_array(&ArrayInfo {
                    first_block: blocks.wrapping_add(array.first_block),
                    side_block: array.side_block.map(|side| blocks.wrapping_add(side)),
                    base: array.base.map(|base| arrays.wrapping_add(base)),
                    ..array.clone()
                });
            }
            for extent in &from.extents {
                index.add_extent(&Extent {
                    array: extent.array.map(|array| arrays.wrapping_add(array)),
                    ..extent.clone()
                });
            }
            for file in &from.files {
                index.add_file(&FileEntry { extents: shifted(&file.extents, extents), ..file.clone() });
            }
            for model in &from.models {
                index.add_model(&Model { files: shifted(&model.files, files), ..model.clone() });
            }
            at += archive.size();
            // Too many are noticed when the index is finished.
            arrays = arrays.wrapping_add(from.arrays.len() as u32);
            blocks = blocks.wrapping_add(from.block_count() as u32);
            (extents, files) = (extents + from.extents.len(), files + from.files.len());
        }
        let bytes = index.finish().map_err(|defect| Error::Invalid(format!("{name}: {}", defect.0)))?;
        let trailer = Trailer {
            index_offset: at,
            index_length: bytes.len() as u64,
            index_checksum: xxh3_64(&bytes),
            features: 0,
        };
        let index = Index::parse(name, &trailer, bytes)?;
        let kept = Kept::new(&index, at, at);
        let source = Box::new(Concatenated::new(name, archives.into_iter().map(|archive| archive.source)));
        Ok(Archive { source, index, index_checksum: trailer.index_checksum, names_models: true, kept })
    }
}

fn shifted(range: &Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

fn check_names(archives: &[Archive]) -> Result<()> {
    let names = archives.iter().flat_map(|archive| archive.models().iter().map(|model| model.name.as_str()));
    let Some(clash) = clash(names) else { return Ok(()) };
    let with = |archive: &&Archive| {
        archive.models().iter().any(|model| clash.names().into_iter().any(|name| *name == model.name))
    };
    let files = archives.iter().filter(with).map(Archive::name).collect::<Vec<_>>().join(" and ");
    let what = "mount them in places of their own, or merge them and name one (upg merge NAME=FILE)";
    Err(Error::Invalid(format!("{files}: models cannot lie beside each other: {clash}; {what}")))
}

/// Sources, one behind the other.
struct Concatenated {
    name: String,
    /// Each with where it begins.
    parts: Vec<(u64, Box<dyn ReadAt>)>,
    size: u64,
}

impl Concatenated {
    fn new(name: &str, sources: impl Iterator<Item = Box<dyn ReadAt>>) -> Concatenated {
        let mut size = 0;
        let parts = sources.map(|source| {
            let start = size;
            size += source.size();
            (start, source)
        });
        let parts = parts.collect();
        Concatenated { name: name.to_owned(), parts, size }
    }

    /// The part that an offset is in, and what it is there; beyond the end, the last.
    fn part(&self, offset: u64) -> Option<(&dyn ReadAt, u64)> {
        let i = self.parts.partition_point(|(start, _)| *start <= offset);
        let (start, part) = self.parts.get(i.checked_sub(1)?)?;
        Some((&**part, offset - start))
    }

    fn for_parts_of(&self, range: Range<u64>, each: impl Fn(&dyn ReadAt, Range<u64>)) {
        for (start, part) in &self.parts {
            let within = range.start.max(*start)..range.end.min(start + part.size());
            if !within.is_empty() {
                each(&**part, within.start - start..within.end - start);
            }
        }
    }
}

impl ReadAt for Concatenated {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    /// Of one part: no block lies in two.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        match self.part(offset) {
            Some((part, offset)) => part.read_exact_at(buffer, offset),
            None => Err(Error::truncated(&self.name, "file", offset, "there is nothing")),
        }
    }

    fn will_need(&self, range: Range<u64>) {
        self.for_parts_of(range, |part, range| part.will_need(range));
    }

    fn will_not_need(&self, range: Range<u64>) {
        self.for_parts_of(range, |part, range| part.will_not_need(range));
    }

    fn fetch_no_more_than_asked(&self) {
        self.parts.iter().for_each(|(_, part)| part.fetch_no_more_than_asked());
    }

    fn locate(&self, offset: u64) -> (&str, u64) {
        self.part(offset).map_or((&self.name, offset), |(part, offset)| part.locate(offset))
    }
}
