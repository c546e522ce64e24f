//! Writing a `.upg` file that appears whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::format::{
    ArrayInfo, BlockMode, BlockRecord, Extent, FileEntry, HEADER_LEN, Index, IndexBuilder, Model, Trailer, header,
};
use crate::object::{self, Upload};
use crate::partial::{Existing, Partial, cannot_write, created_meanwhile, directory_of};

/// Writes blocks as they come to a temporary file beside the destination, or to parts of an object;
/// [`ArchiveWriter::finish`] adds the index and gives it its name.
pub struct ArchiveWriter {
    out: Out,
    path: PathBuf,
    existing: Existing,
    offset: u64,
    index: IndexBuilder,
    extents: u32,
    files: u32,
}

/// Where the bytes go.
enum Out {
    File(BufWriter<File>, Partial),
    Object(Box<Upload>),
}

impl ArchiveWriter {
    /// Of a file by its path.
    pub fn create(path: &Path) -> Result<ArchiveWriter> {
        let partial = Partial::file_in(directory_of(path))?;
        let file = partial.handle().map_err(|e| Error::io(path, e))?;
        ArchiveWriter::to(path, Out::File(BufWriter::with_capacity(1 << 20, file), partial))
    }

    /// Of a file by its path, or of an object by its address. `most`: bytes that it will not have
    /// more of, as far as can be known.
    pub fn create_at(place: &Path, most: u64) -> Result<ArchiveWriter> {
        if object::is_address(place) {
            ArchiveWriter::to(place, Out::Object(Box::new(Upload::create(place, most)?)))
        } else {
            ArchiveWriter::create(place)
        }
    }

    fn to(path: &Path, out: Out) -> Result<ArchiveWriter> {
        let mut writer = ArchiveWriter {
            out,
            path: path.to_path_buf(),
            existing: Existing::Replace,
            offset: 0,
            index: IndexBuilder::default(),
            extents: 0,
            files: 0,
        };
        writer.write(&header())?;
        Ok(writer)
    }

    /// What to do if something has the name when all is written; by default it is replaced.
    pub fn existing(mut self, existing: Existing) -> ArchiveWriter {
        self.existing = existing;
        self
    }

    /// Takes from group and others what `mode`, that of a source, does not give them.
    pub fn limit_mode(&self, mode: u32) -> Result<()> {
        match &self.out {
            Out::File(_, partial) => partial.limit_mode(mode),
            // Who may read an object is the store's affair.
            Out::Object(_) => Ok(()),
        }
    }

    /// Appends the stored bytes of a block and returns the number of its record.
    pub fn add_block(&mut self, mode: BlockMode, stored: &[u8]) -> Result<u32> {
        let length = stored.len() as u32;
        let offset = self.add_stored(stored)?;
        let offset = if mode == BlockMode::Zeros { HEADER_LEN } else { offset };
        Ok(self.add_record(BlockRecord { offset, length, mode, checksum: xxh3_64(stored) }))
    }

    /// Appends stored bytes, for records to name, and returns their offset.
    pub fn add_stored(&mut self, stored: &[u8]) -> Result<u64> {
        let offset = self.offset;
        self.write(stored)?;
        Ok(offset)
    }

    /// Adds the record of a block whose stored bytes are in the file, and returns its number.
    pub fn add_record(&mut self, record: BlockRecord) -> u32 {
        self.index.add_block(record)
    }

    /// A block record that was added.
    pub fn record(&self, i: u32) -> Option<BlockRecord> {
        self.index.block(i)
    }

    /// An array that was added.
    pub fn array(&self, i: u32) -> Option<ArrayInfo> {
        self.index.array(i)
    }

    pub fn add_array(&mut self, array: &ArrayInfo) -> u32 {
        self.index.add_array(array)
    }

    /// Adds a file made of these extents, which must tile it.
    pub fn add_file(&mut self, path: &str, extents: &[Extent]) {
        let first = self.extents;
        for extent in extents {
            self.index.add_extent(extent);
            self.extents += 1;
        }
        let size = extents.last().map_or(0, |extent| extent.offset + extent.length);
        let extents = first as usize..self.extents as usize;
        self.index.add_file(&FileEntry { path: path.to_owned(), size, extents });
        self.files += 1;
    }

    /// Adds a model made of the files since the last one.
    pub fn add_model(&mut self, name: &str, metadata: &str, first_file: u32) {
        let files = first_file as usize..self.files as usize;
        self.index.add_model(&Model { name: name.to_owned(), metadata: metadata.to_owned(), files });
    }

    /// Number that the next file gets.
    pub fn next_file(&self) -> u32 {
        self.files
    }

    /// Writes index and trailer, flushes everything to the disk and gives the file its
    /// name. Returns its size.
    pub fn finish(mut self) -> Result<u64> {
        let index = std::mem::take(&mut self.index).finish();
        let index = index.map_err(|defect| Error::Invalid(format!("{}: {}", self.path.display(), defect.0)))?;
        let trailer = Trailer {
            index_offset: self.offset,
            index_length: index.len() as u64,
            index_checksum: xxh3_64(&index),
            features: 0,
        };
        self.write(&index)?;
        self.write(&trailer.to_bytes())?;
        // What no reader would open must not get a name.
        Index::parse(&self.path.display().to_string(), &trailer, index)?;
        match self.out {
            Out::File(mut out, partial) => {
                out.flush().map_err(|e| cannot_write(&self.path, e))?;
                partial.publish(&self.path, self.existing)?;
            }
            Out::Object(mut upload) => {
                if self.existing == Existing::Keep && object::exists(&self.path)? {
                    return Err(created_meanwhile(object::shown(&self.path)));
                }
                upload.finish()?;
            }
        }
        Ok(self.offset)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match &mut self.out {
            Out::File(out, _) => out.write_all(bytes),
            Out::Object(upload) => upload.write_all(bytes),
        };
        written.map_err(|e| cannot_write(&self.path, e))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
