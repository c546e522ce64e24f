//! The files of an archive as a tree of inodes. Knows nothing of FUSE.

mod requests;
mod tree;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::archive::{Archive, FileId, Piece};
use crate::blocks::Blocks;
use crate::cache::CacheStats;
use crate::error::{Error, Result};
use crate::format::ExtentKind;
use crate::readahead::{PageCache, PushStats, Readahead};
pub use requests::RequestSizes;
pub use tree::{Ino, ROOT};
use tree::{Nodes, Tree};

pub struct Vfs {
    blocks: Arc<Blocks>,
    readahead: Readahead,
    tree: Tree,
    requests: RequestSizes,
    errors: AtomicU64,
    /// KiB, once known.
    kernel_readahead: OnceLock<u32>,
}

/// What stat shows, as far as the archive knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub ino: Ino,
    pub directory: bool,
    pub size: u64,
    /// Bytes in the `.upg` file.
    pub stored: u64,
    /// Hard links: of a directory, 2 and one per subdirectory.
    pub links: u32,
}

/// A read that failed, and the byte of the file that it failed at.
#[derive(Debug)]
pub struct Failed {
    pub at: u64,
    pub error: Error,
}

/// Parts in which a read is handed over; more are put together first.
const MOST_PARTS: usize = 8;

thread_local! {
    /// Puts together reads that touch many blocks.
    static ASSEMBLED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Vfs {
    /// `decoders`: threads that decode ahead of readers; none if 0.
    pub fn new(archive: Archive, cache_capacity: u64, decoders: usize) -> Result<Vfs> {
        let tree = Tree::new(archive.index(), archive.names_models());
        let blocks = Arc::new(Blocks::new(archive, cache_capacity));
        let readahead = Readahead::new(blocks.clone(), decoders)?;
        Ok(Vfs {
            blocks,
            readahead,
            tree,
            requests: RequestSizes::default(),
            errors: AtomicU64::new(0),
            kernel_readahead: OnceLock::new(),
        })
    }

    pub fn archive(&self) -> &Archive {
        self.blocks.archive()
    }

    pub fn cache_stats(&self) -> CacheStats {
        self.blocks.cache().stats()
    }

    pub fn requests(&self) -> &RequestSizes {
        &self.requests
    }

    /// How far the kernel reads ahead, in KiB, if whoever mounted knows.
    pub fn kernel_readahead(&self) -> Option<u32> {
        self.kernel_readahead.get().copied()
    }

    pub fn set_kernel_readahead(&self, kib: Option<u32>) {
        if let Some(kib) = kib {
            let _ = self.kernel_readahead.set(kib);
        }
    }

    /// Has what is decoded ahead of small reads put into the page cache, too.
    pub fn push_into(&self, pages: Box<dyn PageCache>) {
        self.readahead.push_into(pages);
    }

    /// What was put there; None if nothing is.
    pub fn push_stats(&self) -> Option<PushStats> {
        self.readahead.push_stats()
    }

    /// The inodes of all files, by the files' numbers.
    pub fn inodes(&self) -> Vec<Ino> {
        self.tree.inodes(self.archive().index())
    }

    /// Reads that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    fn nodes(&self) -> Nodes<'_> {
        self.tree.with(self.archive().index())
    }

    /// No file is named `.` or `..`; the kernel asks for these, of files too, when it has nothing
    /// but an inode's number.
    pub fn lookup(&self, parent: Ino, name: &str) -> Option<Ino> {
        let nodes = self.nodes();
        let node = nodes.node(parent)?;
        let found = match name {
            "." => Some(node),
            ".." => Some(nodes.parent(node)),
            _ => nodes.child(node, name),
        };
        found.map(|node| node.ino())
    }

    pub fn attributes(&self, ino: Ino) -> Option<Attributes> {
        let nodes = self.nodes();
        let node = nodes.node(ino)?;
        let file = nodes.file(node);
        let size = file.map_or(0, |id| self.archive().file(id).size);
        let directories = || nodes.children(node, 0).filter(|&(_, child, _)| nodes.file(child).is_none()).count();
        let links = if file.is_some() { 1 } else { 2 + directories() as u32 };
        Some(Attributes { ino, directory: file.is_none(), size, stored: nodes.stored(node), links })
    }

    /// The entries of a directory with `.` and `..`, always in the same order, from a position on
    /// (0 is the start): the position behind an entry, its inode, whether it is a directory, and
    /// its name. None if it is a file.
    pub fn entries(&self, ino: Ino, position: u64) -> Option<impl Iterator<Item = (u64, Ino, bool, &str)>> {
        let nodes = self.nodes();
        let node = nodes.node(ino).filter(|&node| nodes.file(node).is_none())?;
        let dots = [(1, ino, true, "."), (2, nodes.parent(node).ino(), true, "..")];
        let children = nodes
            .children(node, position.saturating_sub(2))
            .map(move |(next, child, name)| (2 + next, child.ino(), nodes.file(child).is_none(), name));
        Some(dots.into_iter().filter(move |&(next, ..)| next > position).chain(children))
    }

    /// The number of the model that a file or directory is part of; None for a directory of models.
    pub fn model(&self, ino: Ino) -> Option<usize> {
        let nodes = self.nodes();
        nodes.node(ino).and_then(|node| nodes.model(node))
    }

    pub fn file(&self, ino: Ino) -> Option<FileId> {
        let nodes = self.nodes();
        nodes.node(ino).and_then(|node| nodes.file(node))
    }

    /// Reads up to `length` bytes from `offset`, as many as the file has, and hands them
    /// to `reply` in parts, which is not called if anything failed. `cached`: whether the
    /// kernel keeps them.
    pub fn read<T>(
        &self,
        file: FileId,
        offset: u64,
        length: u64,
        cached: bool,
        reply: impl FnOnce(&[&[u8]]) -> T,
    ) -> Result<T, Failed> {
        self.requests.count(length);
        let size = self.archive().file(file).size;
        let offset = offset.min(size);
        let length = length.min(size - offset);
        self.readahead.read(file, offset..offset + length, cached);
        let result = self.read_exact(file, offset, length, reply);
        if result.is_err() {
            self.errors.fetch_add(1, Relaxed);
        }
        result
    }

    fn read_exact<T>(
        &self,
        file: FileId,
        offset: u64,
        length: u64,
        reply: impl FnOnce(&[&[u8]]) -> T,
    ) -> Result<T, Failed> {
        let failed = |at| move |error| Failed { at, error };
        let mut pieces = Vec::with_capacity(MOST_PARTS);
        let mut count = 0;
        let all = self.archive().pieces(file, offset, length, |piece| {
            count += 1;
            pieces.extend((count <= MOST_PARTS).then_some(piece));
            Ok(())
        });
        all.map_err(failed(offset))?;
        if count > MOST_PARTS {
            // Many small blocks, which are not held all at a time.
            return ASSEMBLED.with_borrow_mut(|bytes| {
                bytes.clear();
                let copied = self.blocks.copy(file, offset..offset + length, bytes);
                copied.map_err(failed(offset + bytes.len() as u64))?;
                Ok(reply(&[bytes]))
            });
        }
        let get = |piece: &Piece| self.blocks.get((piece.array, piece.block)).map_err(failed(piece.at));
        let blocks = pieces.iter().map(get).collect::<Result<Vec<_>, _>>()?;
        let parts = blocks.iter().zip(&pieces).map(|(block, piece)| &block[piece.skip..][..piece.length]);
        let replied = reply(&parts.collect::<Vec<_>>());
        for (block, piece) in blocks.iter().zip(&pieces) {
            self.blocks.cache().served((piece.array, piece.block), block, piece.length as u64);
        }
        Ok(replied)
    }

    /// What lies at a byte of a file: the file's path as it is shown, and the tensor, if it is one.
    pub fn place(&self, file: FileId, at: u64) -> (String, Option<&str>) {
        let extents = self.archive().extents(self.archive().file(file));
        let extent = extents.iter().find(|extent| (extent.offset..extent.offset + extent.length).contains(&at));
        let tensor = extent.filter(|extent| extent.kind == ExtentKind::Tensor);
        (self.archive().shown_path(file.0 as usize), tensor.map(|extent| extent.name.as_str()))
    }

    /// Bits per weight of a file's tensors in the `.upg` file, and the names of
    /// the codecs that they are stored with.
    pub fn file_coding(&self, id: FileId) -> (Option<f64>, Vec<&'static str>) {
        let file = self.archive().file(id);
        let (mut weights, mut stored) = (0u64, 0u64);
        let mut codecs = Vec::new();
        for extent in self.archive().extents(file) {
            let Some(i) = extent.array else { continue };
            let array = &self.archive().index().arrays[i as usize];
            if extent.kind != ExtentKind::Tensor && file.extents.len() > 1 {
                continue;
            }
            if extent.kind == ExtentKind::Tensor {
                weights += extent.elements();
                stored += self.archive().index().stored_bytes(i);
            }
            let name = array.codec.name();
            if !codecs.contains(&name) {
                codecs.push(name);
            }
        }
        ((weights > 0).then(|| 8.0 * stored as f64 / weights as f64), codecs)
    }
}
