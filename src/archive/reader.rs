//! Opening a file and reading from it at random.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use xxhash_rust::xxh3::xxh3_64;

use super::decoded::Decoded;
use crate::codec::{decode_block, side::Side};
use crate::error::{Defect, Error, Result};
use crate::format::{
    Array, BlockMode, BlockRecord, Codec, Extent, ExtentKind, FileEntry, HEADER_LEN, Index, Model, TRAILER_LEN,
    Trailer, check_header,
};
use crate::source::{LocalFile, ReadAt};

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
    index_checksum: u64,
    /// Side blocks, parsed when first needed.
    sides: Vec<OnceLock<Side>>,
    /// Stored bytes of side blocks that may still stay in memory once parsed.
    sides_left: AtomicU64,
    /// If the system is told what was decoded.
    decoded: Option<Decoded>,
}

/// Most bytes that are read at the end in the hope that they hold the index.
const TAIL: u64 = 64 << 10;

/// What messages call the block of a tensor that holds its tables and steps.
pub const SIDE_BLOCK: &str = "side block";

/// Side blocks up to this size stay in memory once parsed, together as many bytes as the
/// file has: many arrays may name one side block.
const MAX_KEPT_SIDE: u64 = 64 << 10;

thread_local! {
    /// Stored bytes of the block being decoded.
    static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What a difference is to be applied to: as much as is asked for.
    static BASE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Archive {
    pub fn open(path: &Path) -> Result<Archive> {
        Archive::from_source(Box::new(LocalFile::open(path)?))
    }

    /// Reads the tail of the source, then the rest of the index, then nothing.
    pub fn from_source(source: Box<dyn ReadAt>) -> Result<Archive> {
        let (file, size) = (source.name().to_path_buf(), source.size());
        let file = file.as_path();
        if size < HEADER_LEN + TRAILER_LEN {
            let what = format!("{size} bytes are too few for a UPG file");
            return Err(Error::truncated(file, "file", 0, what));
        }
        let mut header = [0; HEADER_LEN as usize];
        source.read_exact_at(&mut header, 0)?;
        check_header(file, &header)?;

        let tail_at = size.saturating_sub(TAIL);
        let mut tail = vec![0; (size - tail_at) as usize];
        source.read_exact_at(&mut tail, tail_at)?;
        let (before, end) = tail.split_at(tail.len() - TRAILER_LEN as usize);
        let mut trailer = [0; TRAILER_LEN as usize];
        trailer.copy_from_slice(end);
        let trailer = Trailer::parse(file, &trailer, size)?;

        let mut index = Vec::new();
        let length = usize::try_from(trailer.index_length).unwrap_or(usize::MAX);
        // The length is that of bytes which exist: the file's size was checked.
        index
            .try_reserve_exact(length)
            .map_err(|_| Error::Invalid(format!("{}: no memory for an index of {length} bytes", file.display())))?;
        index.resize(length, 0);
        if trailer.index_offset >= tail_at {
            index.copy_from_slice(&before[before.len() - length..]);
        } else {
            source.read_exact_at(&mut index, trailer.index_offset)?;
        }
        if xxh3_64(&index) != trailer.index_checksum {
            return Err(Error::corrupt(file, "index", trailer.index_offset, "checksum mismatch"));
        }
        let index = Index::parse(file, &trailer, index)?;
        let sides = index.arrays.iter().map(|_| OnceLock::new()).collect();
        let index_checksum = trailer.index_checksum;
        Ok(Archive { source, index, index_checksum, sides, sides_left: AtomicU64::new(size), decoded: None })
    }

    /// From now on, tells the system that it need not keep stored bytes in memory once they
    /// are decoded.
    pub fn let_go_of_decoded(&mut self) {
        self.decoded = Some(Decoded::new(self.index.block_count()));
        // Else it would bring in parts of neighbours that nobody decodes.
        self.source.fetch_no_more_than_asked();
        self.source.will_not_need(self.index_offset()..self.size());
    }

    /// Stored bytes of a block have served their purpose.
    fn done_with(&self, record: u32) {
        if let Some(decoded) = &self.decoded {
            let mut range = decoded.mark(record, |i| self.index.block(i));
            if range.end == self.index_offset() {
                range.end = self.size();
            }
            self.source.will_not_need(range);
        }
    }

    /// Of the index, with the checksums of all blocks in it: it tells an archive from others.
    pub fn index_checksum(&self) -> u64 {
        self.index_checksum
    }

    fn index_offset(&self) -> u64 {
        self.size() - TRAILER_LEN - self.index.byte_len()
    }

    pub fn path(&self) -> &Path {
        self.source.name()
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

    pub fn array(&self, id: ArrayId) -> &Array {
        &self.index.arrays[id.0 as usize]
    }

    /// What an array holds, for messages.
    fn describe(&self, id: ArrayId, block: u32) -> String {
        let found = self.index.extents.iter().position(|extent| extent.array == Some(id.0));
        let file = found.and_then(|i| self.index.files.iter().find(|file| file.extents.contains(&i)));
        let path = file.map_or("", |file| file.path.as_str());
        match found.map(|i| &self.index.extents[i]) {
            Some(e) if e.kind == ExtentKind::Tensor => format!("tensor {:?} of {path:?}, block {block}", e.name),
            Some(e) if e.kind == ExtentKind::Header => format!("header of {path:?}, block {block}"),
            _ => format!("content of {path:?}, block {block}"),
        }
    }

    /// Decodes block `block` of an array into `out`, whose length must be
    /// [`Array::bytes_of_block`]. Checksums are verified before any byte is used.
    pub fn decode_block(&self, id: ArrayId, block: u32, out: &mut [u8]) -> Result<()> {
        let array = self.array(id);
        if block >= array.block_count() || out.len() as u64 != array.bytes_of_block(block) {
            return Err(Error::Invalid(format!("no block {block} of {} bytes in array {}", out.len(), id.0)));
        }
        self.decode(id, block, out)?;
        if let Some(base) = array.base {
            BASE.with_borrow_mut(|bytes| {
                bytes.try_reserve_exact(out.len().saturating_sub(bytes.len())).map_err(Error::no_memory)?;
                bytes.resize(out.len(), 0);
                self.decode(ArrayId(base), block, bytes)?;
                out.iter_mut().zip(&**bytes).for_each(|(byte, base)| *byte ^= base);
                Ok(())
            })?;
        }
        self.done_with(array.first_block + block);
        Ok(())
    }

    fn decode(&self, id: ArrayId, block: u32, out: &mut [u8]) -> Result<()> {
        let array = self.array(id);
        let record = self.index.block(array.first_block + block);
        let at = |defect: Defect| defect.at(self.path(), self.describe(id, block), record.offset);
        match (record.mode, &array.codec) {
            (BlockMode::Zeros, _) => {
                out.fill(0);
                Ok(())
            }
            (BlockMode::Stored, _) | (BlockMode::Coded, Codec::Stored) => {
                if u64::from(record.length) != out.len() as u64 {
                    return Err(at(Defect("stored bytes of a wrong length")));
                }
                self.source.read_exact_at(out, record.offset)?;
                check(out, &record).map_err(at)
            }
            (BlockMode::Coded, Codec::Zstd) => self.with_stored(&record, at, |stored| decompress(stored, out)),
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
        let at = |defect: Defect| defect.at(self.path(), self.describe(id, block), record.offset);
        let side = self.side(id)?;
        let stored = self.with_stored(&record, at, |stored| Ok(stored.to_vec()))?;
        Ok(Some((stored, side)))
    }

    /// Reads and verifies stored bytes and hands them on.
    fn with_stored<T>(
        &self,
        record: &BlockRecord,
        at: impl Fn(Defect) -> Error,
        then: impl FnOnce(&[u8]) -> Result<T, Defect>,
    ) -> Result<T> {
        STORED.with_borrow_mut(|stored| {
            let length = record.length as usize;
            // A thread keeps this for good: no more than it needs.
            stored.try_reserve_exact(length.saturating_sub(stored.len())).map_err(Error::no_memory)?;
            stored.resize(length, 0);
            self.source.read_exact_at(stored, record.offset)?;
            check(stored, record).and_then(|()| then(stored)).map_err(at)
        })
    }

    fn side(&self, id: ArrayId) -> Result<Cow<'_, Side>> {
        if let Some(side) = self.sides[id.0 as usize].get() {
            return Ok(Cow::Borrowed(side));
        }
        let array = self.array(id);
        let (Some(params), Some(number)) = (array.codec.symbols(), array.side_block) else {
            return Err(Error::Invalid(format!("array {} has no side block", id.0)));
        };
        let record = self.index.block(number);
        let at = |defect: Defect| {
            let item = self.describe(id, 0).replace("block 0", SIDE_BLOCK);
            defect.at(self.path(), item, record.offset)
        };
        let side = self.with_stored(&record, at, |stored| Side::parse(params, array.row_len as usize, stored))?;
        let length = u64::from(record.length);
        let left = |left: u64| left.checked_sub(length).filter(|_| length <= MAX_KEPT_SIDE);
        if self.sides_left.fetch_update(Relaxed, Relaxed, left).is_err() {
            return Ok(Cow::Owned(side));
        }
        let side = self.sides[id.0 as usize].get_or_init(|| side);
        self.done_with(number);
        Ok(Cow::Borrowed(side))
    }

    /// Reads a side block and checks it, whether or not anything needs it.
    pub(super) fn check_side(&self, id: ArrayId) -> Result<()> {
        self.side(id).map(|_| ())
    }

    /// Reads the stored bytes of a block record into `out`, verified.
    pub fn read_stored(&self, record: u32, out: &mut Vec<u8>) -> Result<()> {
        let block = self.index.block(record);
        let at = |defect: Defect| defect.at(self.path(), format!("block record {record}"), block.offset);
        self.with_stored(&block, at, |stored| {
            out.clear();
            out.extend_from_slice(stored);
            Ok(())
        })
    }

    /// Reads the stored bytes of a record and compares their checksum.
    pub(super) fn check_record(&self, record: u32) -> Result<()> {
        let block = self.index.block(record);
        let at = |defect: Defect| defect.at(self.path(), format!("block record {record}"), block.offset);
        self.with_stored(&block, at, |_| Ok(()))
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
            block.resize(array.bytes_of_block(piece.block) as usize, 0);
            self.decode_block(piece.array, piece.block, &mut block)?;
            to.copy_from_slice(&block[piece.skip..piece.skip + piece.length]);
            Ok(())
        })
    }
}

fn check(stored: &[u8], record: &BlockRecord) -> Result<(), Defect> {
    if xxh3_64(stored) != record.checksum {
        return Err(Defect("checksum mismatch"));
    }
    Ok(())
}

fn decompress(stored: &[u8], out: &mut [u8]) -> Result<(), Defect> {
    // One frame with the magic of RFC 8878, and nothing behind it.
    let frame = zstd::zstd_safe::find_frame_compressed_size(stored).ok();
    if frame != Some(stored.len()) || !stored.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        return Err(Defect("not a single zstd frame"));
    }
    let written = zstd::bulk::decompress_to_buffer(stored, out).map_err(|_| Defect("zstd cannot decode it"))?;
    if written != out.len() {
        return Err(Defect("zstd frame of a wrong length"));
    }
    Ok(())
}
