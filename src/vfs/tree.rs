//! The files of an index as a tree of inodes, of which nothing is kept but the order of the files:
//! what lies in a directory follows each other there. So a mount of many small files, or of few in
//! deep directories, takes a few bytes per file, whatever their names.

use std::iter;
use std::ops::Range;

use crate::archive::FileId;
use crate::format::{FileEntry, Index};

/// Inode number; the root is 1, as FUSE has it.
pub type Ino = u64;
pub const ROOT: Ino = 1;

/// Bits of an inode's number that say how deep it lies. A path has at most 2048 components
/// (`docs/format.md`, 4.4), and the name of its model may come before them.
const DEPTH_BITS: u32 = 12;

pub struct Tree {
    /// Numbers of the files, and behind those of models that have none, in the order of the
    /// components of their paths.
    leaves: Vec<u32>,
    /// Bytes in the `.upg` file of all before each, and of all.
    stored: Vec<u64>,
    /// Whether each model has a directory with its name.
    named: bool,
}

/// The directory or file that the first `depth` components of a leaf's path are; of a directory,
/// the leaf is the first in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    leaf: usize,
    depth: usize,
}

/// A tree with the names in it.
#[derive(Clone, Copy)]
pub struct Nodes<'a> {
    tree: &'a Tree,
    index: &'a Index,
}

impl Tree {
    /// `named`: each model is in a directory with its name; else there is one model, and its files
    /// lie at the root.
    pub fn new(index: &Index, named: bool) -> Tree {
        let files = index.files.len();
        let empty = index.models.iter().enumerate().filter(|(_, model)| model.files.is_empty());
        let empty = empty.filter(|_| named).map(|(i, _)| files + i);
        let mut leaves: Vec<u32> = (0..files).chain(empty).map(|leaf| leaf as u32).collect();
        leaves.sort_unstable_by(|&a, &b| components(index, named, a).cmp(components(index, named, b)));
        let sizes = leaves.iter().map(|&leaf| file(index, leaf).map_or(0, |file| index.stored_bytes_of_file(file)));
        let mut stored = Vec::with_capacity(leaves.len() + 1);
        stored.push(0);
        stored.extend(sizes.scan(0u64, |sum, size| {
            *sum = sum.saturating_add(size);
            Some(*sum)
        }));
        Tree { leaves, stored, named }
    }

    pub fn with<'a>(&'a self, index: &'a Index) -> Nodes<'a> {
        Nodes { tree: self, index }
    }

    /// The inodes of all files, by the files' numbers.
    pub fn inodes(&self, index: &Index) -> Vec<Ino> {
        let mut inodes = vec![ROOT; index.files.len()];
        for (i, &leaf) in self.leaves.iter().enumerate() {
            if let Some(inode) = inodes.get_mut(leaf as usize) {
                *inode = Node { leaf: i, depth: components(index, self.named, leaf).count() }.ino();
            }
        }
        inodes
    }
}

impl Node {
    pub fn ino(self) -> Ino {
        ROOT + ((self.leaf as u64) << DEPTH_BITS | self.depth as u64)
    }
}

impl<'a> Nodes<'a> {
    pub fn node(&self, ino: Ino) -> Option<Node> {
        let number = ino.checked_sub(ROOT)?;
        let node = Node { leaf: (number >> DEPTH_BITS) as usize, depth: (number & ((1 << DEPTH_BITS) - 1)) as usize };
        let exists = match node.depth {
            0 => node.leaf == 0,
            depth => {
                node.leaf < self.tree.leaves.len()
                    && depth <= self.components(node.leaf).count()
                    && (node.leaf == 0 || !self.share(node.leaf - 1, node.leaf, depth))
            }
        };
        exists.then_some(node)
    }

    /// None if it is a directory.
    pub fn file(&self, node: Node) -> Option<FileId> {
        let leaf = *self.tree.leaves.get(node.leaf).filter(|_| node.depth > 0)?;
        file(self.index, leaf)?;
        (node.depth == self.components(node.leaf).count()).then_some(FileId(leaf))
    }

    /// The number of the model that it is part of; None for a directory of models.
    pub fn model(&self, node: Node) -> Option<usize> {
        let leaf = self.tree.leaves.get(node.leaf).filter(|_| node.depth > 0 || !self.tree.named);
        leaf.map(|&leaf| model_of(self.index, leaf as usize))
    }

    /// Bytes in the `.upg` file: of a directory, those of all that it holds.
    pub fn stored(&self, node: Node) -> u64 {
        let leaves = self.leaves(node);
        self.tree.stored[leaves.end] - self.tree.stored[leaves.start]
    }

    /// The root is its own.
    pub fn parent(&self, node: Node) -> Node {
        let depth = node.depth.saturating_sub(1);
        let before = &self.tree.leaves[..node.leaf];
        let path = || self.components(node.leaf).take(depth);
        let leaf = before.partition_point(|&leaf| components(self.index, self.tree.named, leaf).take(depth).lt(path()));
        Node { leaf, depth }
    }

    pub fn child(&self, node: Node, name: &str) -> Option<Node> {
        let leaves = self.leaves(node);
        let component = |leaf| components(self.index, self.tree.named, leaf).nth(node.depth);
        let leaf = leaves.start + self.tree.leaves[leaves].partition_point(|&leaf| component(leaf) < Some(name));
        let found = Node { leaf, depth: node.depth + 1 };
        let leaf = *self.tree.leaves.get(leaf)?;
        (component(leaf) == Some(name) && self.share(found.leaf, node.leaf, node.depth)).then_some(found)
    }

    /// What lies in a directory by name, from a position on; with each the position of the next.
    pub fn children(&self, node: Node, position: u64) -> impl Iterator<Item = (u64, Node, &'a str)> + use<'a> {
        let nodes = *self;
        let leaves = nodes.leaves(node);
        let depth = node.depth + 1;
        let mut at = leaves.end.min(leaves.start.saturating_add(usize::try_from(position).unwrap_or(usize::MAX)));
        if at > leaves.start && at < leaves.end && nodes.share(at - 1, at, depth) {
            // Not a position that anybody was told.
            at = nodes.end(Node { leaf: at, depth });
        }
        iter::from_fn(move || {
            if at == leaves.end {
                return None;
            }
            let child = Node { leaf: at, depth };
            let name = nodes.components(at).nth(node.depth)?;
            at = nodes.end(child);
            Some(((at - leaves.start) as u64, child, name))
        })
    }

    /// The leaves in a directory, or a file as such.
    fn leaves(&self, node: Node) -> Range<usize> {
        match node.depth {
            0 => 0..self.tree.leaves.len(),
            _ => node.leaf..self.end(node),
        }
    }

    /// Behind the last leaf in a node. Nearby if there are few, or going through a directory would
    /// take a search of the whole tree for each of its entries.
    fn end(&self, node: Node) -> usize {
        let start = node.leaf + 1;
        if self.components(node.leaf).nth(node.depth).is_none() {
            return start;
        }
        let rest = &self.tree.leaves[start..];
        let mut near = 1;
        while near < rest.len() && self.share(start + near - 1, node.leaf, node.depth) {
            near *= 2;
        }
        let path = || self.components(node.leaf).take(node.depth);
        let inside = |&leaf: &u32| components(self.index, self.tree.named, leaf).take(node.depth).eq(path());
        start + rest[..near.min(rest.len())].partition_point(inside)
    }

    /// Whether the paths of two leaves begin with the same `depth` components.
    fn share(&self, a: usize, b: usize, depth: usize) -> bool {
        self.components(a).take(depth).eq(self.components(b).take(depth))
    }

    fn components(&self, leaf: usize) -> impl Iterator<Item = &'a str> + use<'a> {
        components(self.index, self.tree.named, self.tree.leaves[leaf])
    }
}

fn file(index: &Index, leaf: u32) -> Option<&FileEntry> {
    index.files.get(leaf as usize)
}

/// The model of a leaf.
fn model_of(index: &Index, leaf: usize) -> usize {
    match leaf.checked_sub(index.files.len()) {
        None => index.models.partition_point(|model| model.files.end <= leaf),
        Some(model) => model,
    }
}

fn components(index: &Index, named: bool, leaf: u32) -> impl Iterator<Item = &str> {
    let leaf = leaf as usize;
    let path = index.files.get(leaf).map(|file| file.path.split('/'));
    let model = named.then(|| index.models[model_of(index, leaf)].name.as_str());
    model.into_iter().chain(path.into_iter().flatten())
}
