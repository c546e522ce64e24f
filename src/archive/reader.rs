//! Opening a file and reading from it at random.

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::describe::SIDE_BLOCK;
use super::frame;
use super::kept::{Kept, with_base_buffer, with_buffer};
use crate::buffer::fit;
use crate::codec::{decode_block, side::Side};
use crate::error::{Defect, Error, Result};
use crate::format::{
    ArrayInfo, BlockMode, BlockRecord, Codec, Extent, FileEntry, HEADER_LEN, Index, Model, TRAILER_LEN, Trailer,
    check_header,
};
#[cfg(feature = "std")]
use crate::object;
use crate::source::ReadAt;

/// Number of a file in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Number of an array in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArrayId(pub u32);

/// An open `.upg` file. All methods may be called from several threads at once.
pub struct Archive {
    pub(super) source: Box<dyn ReadAt>,
    pub(super) index: Index,
    pub(super) index_checksum: u64,
    /// Whether a model is shown in a directory of its own, even if it is the only one.
    pub(super) names_models: bool,
    pub(super) kept: Kept,
}

/// Most bytes that are read at the end in the hope that they hold the index.
const TAIL: u64 = 64 << 10;
/// Bytes of the index that are read at a time.
const STEP: usize = 16 << 20;

impl Archive {
    /// Opens a file by its path, or an object by its address ([`crate::object`]).
    #[cfg(feature = "std")]
    pub fn open(place: &Path) -> Result<Archive> {
        Archive::from_source(object::open(place)?)
    }

    /// Reads the tail of the source, then the rest of the index, then nothing.
    pub fn from_source(source: Box<dyn ReadAt>) -> Result<Archive> {
        let (file, size) = (source.name().to_owned(), source.size());
        let file = file.as_str();
        if size < HEADER_LEN + TRAILER_LEN {
            let what = format!("{size} bytes are too few for a UPG file");
            return Err(Error::truncated(file, "file", 0, what));
        }
        let mut header = [0; HEADER_LEN as usize];
        let header_is_right =
            |bytes: &[u8]| bytes.first_chunk().is_some_and(|header| check_header(file, header).is_ok());
        source.read_right_at(&mut header, 0, &header_is_right)?;
        check_header(file, &header)?;

        let tail_at = size.saturating_sub(TAIL);
        let mut tail = vec![0; (size - tail_at) as usize];
        source.read_right_at(&mut tail, tail_at, &|bytes| tail_is_right(file, bytes, size))?;
        let (before, trailer) = parse_tail(file, &tail, size)?;

        let mut index = Vec::new();
        let length = usize::try_from(trailer.index_length).unwrap_or(usize::MAX);
        // The length is that of bytes which exist: the file's size was checked.
        index
            .try_reserve_exact(length)
            .map_err(|_| Error::Invalid(format!("{file}: no memory for an index of {length} bytes")))?;
        if trailer.index_offset >= tail_at {
            index.extend_from_slice(&before[before.len() - length..]);
        }
        // Memory is touched only as far as bytes come: a server may have made up its size.
        while index.len() < length {
            let have = index.len();
            index.resize(length.min(have + STEP), 0);
            source.read_exact_at(&mut index[have..], trailer.index_offset + have as u64)?;
        }
        let is_right = |index: &[u8]| xxh3_64(index) == trailer.index_checksum;
        // Only the whole can be checked: by another read, which fetches it anew.
        if !is_right(&index) && !source.read_right_at(&mut index, trailer.index_offset, &is_right)? {
            return Err(Error::corrupt(file, "index", trailer.index_offset, "checksum mismatch"));
        }
        let index = Index::parse(file, &trailer, index)?;
        let kept = Kept::new(&index, size, trailer.index_offset);
        let names_models = index.models.len() > 1;
        Ok(Archive { source, index, index_checksum: trailer.index_checksum, names_models, kept })
    }

    /// Of the index, with the checksums of all blocks in it: it tells an archive from others.
    pub fn index_checksum(&self) -> u64 {
        self.index_checksum
    }

    /// Whether each model is shown in a directory with its name; else the files of the only one
    /// are shown without.
    pub fn names_models(&self) -> bool {
        self.names_models
    }

    /// The error that stored bytes are wrong.
    pub(super) fn defect(&self, defect: Defect, item: String, offset: u64) -> Error {
        let (file, offset) = self.source.locate(offset);
        defect.at(file, item, offset)
    }

    /// What messages call the file.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Ends the threads that its source has; they start again when they are needed.
    pub fn rest(&self) {
        self.source.rest();
    }

    /// What its source counts, each with its name.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.source.counters()
    }

    /// Size of the `.upg` file.
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn models(&self) -> &[Model] {
        &self.index.models
    }

    /// The files of a model with their ids.
    pub fn files<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = (FileId, &'a FileEntry)> {
        model.files.clone().map(|i| (FileId(i as u32), &self.index.files[i]))
    }

    pub fn file(&self, id: FileId) -> &FileEntry {
        &self.index.files[id.0 as usize]
    }

    pub fn extents(&self, file: &FileEntry) -> &[Extent] {
        &self.index.extents[file.extents.clone()]
    }

    pub fn array(&self, id: ArrayId) -> &ArrayInfo {
        &self.index.arrays[id.0 as usize]
    }

    /// Decodes block `block` of an array into `out`, whose length must be
    /// [`ArrayInfo::bytes_of_block`]. Checksums are verified before any byte is used.
    pub fn decode_block(&self, id: ArrayId, block: u32, out: &mut [u8]) -> Result<()> {
        let array = self.array(id);
        if block >= array.block_count() || out.len() as u64 != array.bytes_of_block(block) {
            return Err(Error::Invalid(format!("no block {block} of {} bytes in array {}", out.len(), id.0)));
        }
        self.decode(id, block, out)?;
        if let Some(base) = array.base {
            with_base_buffer(|bytes| {
                fit(bytes, out.len())?;
                self.decode(ArrayId(base), block, bytes)?;
                out.iter_mut().zip(&**bytes).for_each(|(byte, base)| *byte ^= base);
                Ok(())
            })?;
            self.done_with(self.array(ArrayId(base)).first_block + block);
        }
        self.done_with(array.first_block + block);
        Ok(())
    }

    fn decode(&self, id: ArrayId, block: u32, out: &mut [u8]) -> Result<()> {
        let array = self.array(id);
        let record = self.index.block(array.first_block + block);
        let at = |defect: Defect| self.defect(defect, self.describe_block(id, block), record.offset);
        match (record.mode, &array.codec) {
            (BlockMode::Zeros, _) => {
                out.fill(0);
                Ok(())
            }
            (BlockMode::Stored, _) | (BlockMode::Coded, Codec::Stored) => {
                if u64::from(record.length) != out.len() as u64 {
                    return Err(at(Defect("stored bytes of a wrong length")));
                }
                self.read_stored_at(&record, out)?.map_err(at)
            }
            (BlockMode::Coded, Codec::Zstd) => self.with_stored(&record, at, |stored| frame::decode(stored, out)),
            (BlockMode::Coded, Codec::Symbols(params)) => {
                let side = self.side(id)?;
                let row_len = usize::try_from(array.row_len).map_err(|_| at(Defect("row too long")))?;
                self.with_stored(&record, at, |stored| decode_block(params, &side, row_len, stored, out))
            }
        }
    }

    /// The stored bytes of a block, verified, with what decodes them
    /// ([`crate::codec::decode_block_on`]); None if another codec does, or none.
    pub fn coded_block(&self, id: ArrayId, block: u32) -> Result<Option<(Vec<u8>, Cow<'_, Side>)>> {
        let array = self.array(id);
        if block >= array.block_count() {
            return Err(Error::Invalid(format!("no block {block} in array {}", id.0)));
        }
        let record = self.index.block(array.first_block + block);
        if record.mode != BlockMode::Coded || array.codec.symbols().is_none() {
            return Ok(None);
        }
        let at = |defect: Defect| self.defect(defect, self.describe_block(id, block), record.offset);
        let side = self.side(id)?;
        let stored = self.with_stored(&record, at, |stored| Ok(stored.to_vec()))?;
        Ok(Some((stored, side)))
    }

    /// Reads and verifies stored bytes and hands them on.
    pub(super) fn with_stored<T>(
        &self,
        record: &BlockRecord,
        at: impl Fn(Defect) -> Error,
        then: impl FnOnce(&[u8]) -> Result<T, Defect>,
    ) -> Result<T> {
        let length = record.length as usize;
        if let Some(stored) = self.source.lend(record.offset..record.offset + u64::from(record.length)) {
            let stored = (*stored).as_ref();
            // If not, reading them may give others.
            if is_right(stored, record) {
                return then(stored).map_err(at);
            }
        }
        with_buffer(|stored| {
            // A thread keeps this for good: no more than it needs.
            fit(stored, length)?;
            self.read_stored_at(record, stored)?.and_then(|()| then(stored)).map_err(at)
        })
    }

    /// Reads stored bytes, and says whether they are damaged.
    fn read_stored_at(&self, record: &BlockRecord, out: &mut [u8]) -> Result<Result<(), Defect>> {
        let right = self.source.read_right_at(out, record.offset, &|stored| is_right(stored, record))?;
        Ok(if right { Ok(()) } else { Err(Defect("checksum mismatch")) })
    }

    pub(super) fn side(&self, id: ArrayId) -> Result<Cow<'_, Side>> {
        if let Some(side) = self.kept.side(id) {
            return Ok(Cow::Borrowed(side));
        }
        let array = self.array(id);
        let (Some(params), Some(number)) = (array.codec.symbols(), array.side_block) else {
            return Err(Error::Invalid(format!("array {} has no side block", id.0)));
        };
        let record = self.index.block(number);
        let at = |defect: Defect| self.defect(defect, self.describe(id, SIDE_BLOCK), record.offset);
        let side = self.with_stored(&record, at, |stored| Side::parse(params, array.row_len as usize, stored))?;
        let side = self.kept.keep_side(id, side, u64::from(record.length));
        if matches!(side, Cow::Borrowed(_)) {
            self.done_with(number);
        }
        Ok(side)
    }

    /// Reads from a presented file. Fails if the range leaves the file.
    pub fn read_at(&self, id: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut block = Vec::new();
        self.pieces(id, offset, out.len() as u64, |piece| {
            let to = &mut out[(piece.at - offset) as usize..][..piece.length];
            let array = self.array(piece.array);
            if piece.length as u64 == array.bytes_of_block(piece.block) {
                return self.decode_block(piece.array, piece.block, to);
            }
            let length = array.bytes_of_block(piece.block) as usize;
            fit(&mut block, length)?;
            self.decode_block(piece.array, piece.block, &mut block)?;
            to.copy_from_slice(&block[piece.skip..piece.skip + piece.length]);
            Ok(())
        })
    }
}

/// What the last bytes of a file are: what lies before the trailer, and the trailer.
fn parse_tail<'a>(file: &str, tail: &'a [u8], size: u64) -> Result<(&'a [u8], Trailer)> {
    let (before, trailer) = tail.split_last_chunk().ok_or_else(|| Error::truncated(file, "trailer", 0, "too short"))?;
    Ok((before, Trailer::parse(file, trailer, size)?))
}

/// Also of the index, if all of it lies in the tail.
fn tail_is_right(file: &str, tail: &[u8], size: u64) -> bool {
    let Ok((before, trailer)) = parse_tail(file, tail, size) else { return false };
    let index = usize::try_from(trailer.index_length).ok().and_then(|length| before.len().checked_sub(length));
    index.is_none_or(|start| xxh3_64(&before[start..]) == trailer.index_checksum)
}

fn is_right(stored: &[u8], record: &BlockRecord) -> bool {
    xxh3_64(stored) == record.checksum
}
