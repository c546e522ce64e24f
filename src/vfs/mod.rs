//! The files of an archive as a tree of inodes. Knows nothing of FUSE.

mod requests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::archive::{Archive, FileId};
use crate::blocks::Blocks;
use crate::cache::CacheStats;
use crate::error::Result;
use crate::format::ExtentKind;
use crate::readahead::{PageCache, PushStats, Readahead};
pub use requests::RequestSizes;

/// Inode number; the root is 1, as FUSE has it.
pub type Ino = u64;
pub const ROOT: Ino = 1;

pub struct Vfs {
    blocks: Arc<Blocks>,
    readahead: Readahead,
    nodes: Vec<Node>,
    requests: RequestSizes,
    errors: AtomicU64,
    /// KiB, once known.
    kernel_readahead: OnceLock<u32>,
}

#[derive(Debug)]
struct Node {
    parent: Ino,
    /// Bytes in the `.upg` file: of a directory, those of all that it holds.
    stored: u64,
    kind: NodeKind,
}

#[derive(Debug)]
enum NodeKind {
    Directory(BTreeMap<String, Ino>),
    File(FileId),
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

/// Parts in which a read is handed over; more are put together first.
const MOST_PARTS: usize = 8;

thread_local! {
    /// Puts together reads that touch many blocks.
    static ASSEMBLED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Vfs {
    /// The files of a sole model lie at the root, those of several models each
    /// in a directory with the model's name. `decoders`: threads that decode ahead of
    /// readers; none if 0.
    pub fn new(archive: Archive, cache_capacity: u64, decoders: usize) -> Result<Vfs> {
        let mut nodes = vec![Node::directory(ROOT)];
        let several = archive.models().len() > 1;
        for model in archive.models() {
            let top = if several { add_directory(&mut nodes, ROOT, &model.name) } else { ROOT };
            for (id, file) in archive.files(model) {
                let mut parent = top;
                let mut path = file.path.as_str();
                while let Some((directory, rest)) = path.split_once('/') {
                    parent = add_directory(&mut nodes, parent, directory);
                    path = rest;
                }
                let stored = archive.index().stored_bytes_of_file(file);
                add(&mut nodes, parent, path, Node { parent, stored, kind: NodeKind::File(id) });
                let mut above = parent;
                loop {
                    let node = &mut nodes[above as usize - 1];
                    node.stored += stored;
                    if above == ROOT {
                        break;
                    }
                    above = node.parent;
                }
            }
        }
        let blocks = Arc::new(Blocks::new(archive, cache_capacity));
        let readahead = Readahead::new(blocks.clone(), decoders)?;
        Ok(Vfs {
            blocks,
            readahead,
            nodes,
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
        let mut inodes = vec![ROOT; self.archive().index().files.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            if let NodeKind::File(id) = node.kind {
                inodes[id.0 as usize] = i as Ino + 1;
            }
        }
        inodes
    }

    /// Reads that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(usize::try_from(ino).ok()?.checked_sub(1)?)
    }

    /// No file is named `.` or `..`; the kernel asks for these, of files too, when it has nothing
    /// but an inode's number.
    pub fn lookup(&self, parent: Ino, name: &str) -> Option<Ino> {
        let node = self.node(parent)?;
        match &node.kind {
            _ if name == "." => Some(parent),
            _ if name == ".." => Some(node.parent),
            NodeKind::Directory(children) => children.get(name).copied(),
            NodeKind::File(_) => None,
        }
    }

    pub fn attributes(&self, ino: Ino) -> Option<Attributes> {
        let node = self.node(ino)?;
        let (directory, size, links) = match &node.kind {
            NodeKind::File(id) => (false, self.archive().file(*id).size, 1),
            NodeKind::Directory(children) => {
                let is_directory =
                    |&&child: &&Ino| matches!(self.node(child), Some(Node { kind: NodeKind::Directory(_), .. }));
                (true, 0, 2 + children.values().filter(is_directory).count() as u32)
            }
        };
        Some(Attributes { ino, directory, size, stored: node.stored, links })
    }

    /// The entries of a directory with `.` and `..`, always in the same order.
    pub fn entries(&self, ino: Ino) -> Option<impl Iterator<Item = (Ino, bool, &str)>> {
        let node = self.node(ino)?;
        let NodeKind::Directory(children) = &node.kind else { return None };
        let dots = [(ino, true, "."), (node.parent, true, "..")];
        let children = children.iter().map(|(name, &child)| {
            let directory = matches!(self.node(child), Some(Node { kind: NodeKind::Directory(_), .. }));
            (child, directory, name.as_str())
        });
        Some(dots.into_iter().chain(children))
    }

    pub fn file(&self, ino: Ino) -> Option<FileId> {
        match self.node(ino)?.kind {
            NodeKind::File(id) => Some(id),
            NodeKind::Directory(_) => None,
        }
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
    ) -> Result<T> {
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

    fn read_exact<T>(&self, file: FileId, offset: u64, length: u64, reply: impl FnOnce(&[&[u8]]) -> T) -> Result<T> {
        let mut pieces = Vec::with_capacity(MOST_PARTS);
        let mut count = 0;
        self.archive().pieces(file, offset, length, |piece| {
            count += 1;
            pieces.extend((count <= MOST_PARTS).then_some(piece));
            Ok(())
        })?;
        if count > MOST_PARTS {
            // Many small blocks, which are not held all at a time.
            return ASSEMBLED.with_borrow_mut(|bytes| {
                bytes.clear();
                self.blocks.copy(file, offset..offset + length, bytes)?;
                Ok(reply(&[bytes]))
            });
        }
        let blocks =
            pieces.iter().map(|piece| self.blocks.get((piece.array, piece.block))).collect::<Result<Vec<_>>>()?;
        let parts = blocks.iter().zip(&pieces).map(|(block, piece)| &block[piece.skip..][..piece.length]);
        let replied = reply(&parts.collect::<Vec<_>>());
        for (block, piece) in blocks.iter().zip(&pieces) {
            self.blocks.cache().served((piece.array, piece.block), block, piece.length as u64);
        }
        Ok(replied)
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

impl Node {
    fn directory(parent: Ino) -> Node {
        Node { parent, stored: 0, kind: NodeKind::Directory(BTreeMap::new()) }
    }
}

fn add(nodes: &mut Vec<Node>, parent: Ino, name: &str, node: Node) -> Ino {
    nodes.push(node);
    let ino = nodes.len() as Ino;
    if let NodeKind::Directory(children) = &mut nodes[parent as usize - 1].kind {
        children.insert(name.to_owned(), ino);
    }
    ino
}

fn add_directory(nodes: &mut Vec<Node>, parent: Ino, name: &str) -> Ino {
    if let NodeKind::Directory(children) = &nodes[parent as usize - 1].kind
        && let Some(&ino) = children.get(name)
    {
        return ino;
    }
    add(nodes, parent, name, Node::directory(parent))
}
