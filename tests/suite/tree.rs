//! The tree that a mount shows, beside one made of nodes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use upg::archive::{Archive, ArchiveWriter};
use upg::vfs::{Ino, ROOT, Vfs};

/// Names that sort otherwise as bytes of a path than as components.
const NAMES: [&str; 8] = ["a", "a.b", "a-", "a b", "b", "bb", "ä", "0"];

#[derive(Default)]
struct Directory(BTreeMap<String, Option<Directory>>);

impl Directory {
    /// Unless a file or directory is in the way.
    fn add(&mut self, path: &[&str]) -> bool {
        let (first, rest) = path.split_first().expect("a path");
        if rest.is_empty() {
            let free = !self.0.contains_key(*first);
            self.0.entry((*first).to_owned()).or_insert(None);
            return free;
        }
        let fresh = || Some(Directory::default());
        self.0.entry((*first).to_owned()).or_insert_with(fresh).as_mut().is_some_and(|below| below.add(rest))
    }
}

/// An archive with these files, each empty, and the tree that they make.
fn archive(models: &[Vec<Vec<usize>>]) -> (Vfs, Directory) {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("tree.upg");
    let mut writer = ArchiveWriter::create(&path).expect("a writer");
    let mut tree = Directory::default();
    for (i, files) in models.iter().enumerate() {
        let (name, first) = (format!("{}{i}", NAMES[(i * 5) % NAMES.len()]), writer.next_file());
        let mut below = Directory::default();
        for file in files {
            let components: Vec<&str> = file.iter().map(|&name| NAMES[name]).collect();
            if below.add(&components) {
                writer.add_file(&components.join("/"), &[]);
            }
        }
        writer.add_model(&name, "", first);
        if models.len() == 1 {
            tree = below;
        } else {
            tree.0.insert(name, Some(below));
        }
    }
    writer.finish().expect("a file");
    (Vfs::new(Archive::open(&path).expect("opens"), 1 << 20, 0).expect("a tree"), tree)
}

/// Entries of a directory, read `step` at a time as the kernel does.
fn entries(vfs: &Vfs, ino: Ino, step: usize) -> Vec<(u64, Ino, bool, String)> {
    let mut all: Vec<(u64, Ino, bool, String)> = Vec::new();
    loop {
        let position = all.last().map_or(0, |last| last.0);
        let part = vfs.entries(ino, position).expect("a directory").take(step);
        let before = all.len();
        all.extend(part.map(|(next, ino, directory, name)| (next, ino, directory, name.to_owned())));
        if all.len() == before {
            return all;
        }
    }
}

/// Compares all below a directory; collects the inodes.
fn same(vfs: &Vfs, ino: Ino, parent: Ino, expected: &Directory, step: usize, seen: &mut Vec<Ino>) {
    seen.push(ino);
    let found = entries(vfs, ino, step);
    let names: Vec<&str> = found.iter().map(|entry| entry.3.as_str()).collect();
    let wanted: Vec<&str> = [".", ".."].into_iter().chain(expected.0.keys().map(String::as_str)).collect();
    assert_eq!(names, wanted);
    assert_eq!((found[0].1, found[1].1), (ino, parent));
    let attributes = vfs.attributes(ino).expect("it is there");
    let below = expected.0.values().flatten().count();
    assert!(attributes.directory && attributes.links as usize == 2 + below && vfs.file(ino).is_none());
    for (i, &(next, child, directory, ref name)) in found.iter().enumerate() {
        assert!(next > i as u64 && vfs.lookup(ino, name) == Some(child));
        let Some(below) = expected.0.get(name) else { continue };
        assert_eq!(directory, below.is_some());
        assert_eq!(vfs.lookup(child, "."), Some(child));
        assert_eq!(vfs.lookup(child, ".."), Some(ino));
        match below {
            Some(below) => same(vfs, child, ino, below, step, seen),
            None => {
                let file = vfs.archive().file(vfs.file(child).expect("a file"));
                assert!(file.path.ends_with(name.as_str()) && vfs.entries(child, 0).is_none());
                assert!(!vfs.attributes(child).expect("it is there").directory && vfs.lookup(child, "a").is_none());
                seen.push(child);
            }
        }
    }
    for name in NAMES {
        assert_eq!(vfs.lookup(ino, name).is_some(), expected.0.contains_key(name), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_mount_shows_the_tree_of_the_paths(
        models in prop::collection::vec(prop::collection::vec(prop::collection::vec(0..8usize, 1..5), 0..40), 1..5),
        step in 1..5usize,
        guesses in prop::collection::vec(0..400_000u64, 100),
    ) {
        let (vfs, tree) = archive(&models);
        let mut seen = Vec::new();
        same(&vfs, ROOT, ROOT, &tree, step, &mut seen);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), count, "an inode has one number");
        let files = vfs.inodes();
        prop_assert!(files.iter().enumerate().all(|(i, &ino)| vfs.file(ino).is_some_and(|id| id.0 as usize == i)));
        // What nobody was told, of inodes and of positions, is refused, or is something that is there.
        for guess in guesses {
            prop_assert_eq!(vfs.attributes(guess).is_some(), seen.binary_search(&guess).is_ok(), "inode {}", guess);
            for (_, ino, _, name) in vfs.entries(ROOT, guess % 50).expect("a directory") {
                prop_assert_eq!(vfs.lookup(ROOT, name), Some(ino));
            }
        }
    }
}

/// No path is deeper.
#[test]
fn the_deepest_path_has_its_inodes() {
    let deepest = vec![vec![0; 2048], vec![0; 2047].into_iter().chain([4]).collect()];
    let (vfs, _) = archive(&[deepest, vec![]]);
    let mut ino = vfs.lookup(ROOT, "a0").expect("a model");
    for _ in 0..2048 {
        ino = vfs.lookup(ino, "a").expect("a component");
    }
    assert!(vfs.file(ino).is_some() && vfs.lookup(ROOT, "a9").is_none());
    let root = (0..2049).fold(ino, |ino, _| vfs.lookup(ino, "..").expect("a directory"));
    assert_eq!(root, ROOT);
}

#[test]
fn an_archive_without_files_is_an_empty_directory() {
    let (vfs, tree) = archive(&[vec![]]);
    same(&vfs, ROOT, ROOT, &tree, 1, &mut Vec::new());
    assert!(vfs.attributes(2).is_none() && vfs.attributes(0).is_none() && vfs.attributes(u64::MAX).is_none());
}
