//! The source: every file that the archive will hold.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::{check_component, check_path, clash};
use crate::hub::Snapshot;
use crate::ops::catalog::Catalog;
use crate::shard::{Shard, ShardTensor};
use crate::source::LocalFile;

/// A model as it lies in a directory, or one safetensors file.
#[derive(Debug)]
pub struct SourceTree {
    /// Name of the model: that of its directory, but for one in a cache of the hub's client.
    pub name: String,
    /// What it is there.
    pub snapshot: Option<Snapshot>,
    /// Sorted by path.
    pub files: Vec<SourceFile>,
    /// Files that were left out: path and bytes.
    pub left_out: Vec<(String, u64)>,
}

#[derive(Debug)]
pub struct SourceFile {
    /// Relative to the model's directory.
    pub path: String,
    pub location: PathBuf,
    pub size: u64,
    pub kind: SourceKind,
    /// Whether it is converted; of the others only what decides about these is read.
    pub converted: bool,
    /// As stat gives it.
    mode: u32,
    version: Version,
}

/// Tells a file from others and, as far as the system keeps account of writes, from itself
/// before and after one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Unlike the time before, nobody can set this one.
    changed: (i64, i64),
}

impl Version {
    fn of(file: &Metadata) -> Version {
        Version {
            device: file.dev(),
            inode: file.ino(),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl SourceFile {
    /// Opens the very version that was found.
    pub fn open(&self) -> Result<LocalFile> {
        let file = LocalFile::open(&self.location)?;
        self.check(&file.metadata()?)?;
        Ok(file)
    }

    fn check(&self, now: &Metadata) -> Result<()> {
        if Version::of(now) == self.version {
            return Ok(());
        }
        let what = "changed while it was being converted; convert again when nothing writes to it";
        Err(Error::Invalid(format!("{}: {what}", self.location.display())))
    }
}

#[derive(Debug)]
pub enum SourceKind {
    Shard(Shard),
    /// Anything else; presented as it is.
    Other,
}

const SHARD_SUFFIX: &str = ".safetensors";
/// Other files beyond this size are weights in another format, as a rule.
const LARGEST_OTHER: u64 = 64 << 20;
/// Deeper directories are a mistake.
const MAX_DEPTH: usize = 16;

impl SourceTree {
    /// The text of one of the other files, if it is there.
    pub fn text_of(&self, path: &str) -> Option<String> {
        let file = self.files.iter().find(|file| file.path == path)?;
        fs::read_to_string(&file.location).ok()
    }

    /// Finds the files below `source`; `output` is passed over if it is among them.
    pub fn scan(source: &Path, output: Option<&Path>) -> Result<SourceTree> {
        let location = source.canonicalize().map_err(|e| Error::io(source, e))?;
        let output = output.and_then(|output| output.canonicalize().ok());
        let mut tree = SourceTree { name: String::new(), snapshot: None, files: Vec::new(), left_out: Vec::new() };
        if location.is_dir() {
            tree.snapshot = Snapshot::at(&location);
            let directory = || utf8(&location, location.file_name());
            tree.name = tree.snapshot.as_ref().map_or_else(directory, |snapshot| Ok(snapshot.name().to_owned()))?;
            tree.scan_directory(&location, "", output.as_deref(), 0)?;
        } else {
            // The name that was asked for, not that of a blob a link leads to.
            let path = utf8(source, source.file_name())?;
            let Some(stem) = path.strip_suffix(SHARD_SUFFIX) else {
                let what = format!("{}: neither a directory nor a {SHARD_SUFFIX} file", source.display());
                return Err(Error::Invalid(what));
            };
            tree.name = stem.to_owned();
            tree.add(path, location)?;
        }
        check_component(&tree.name)
            .map_err(|what| Error::Invalid(format!("{}: cannot name a model: {what}", source.display())))?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(clash) = clash(tree.files.iter().map(|file| file.path.as_str())) {
            let what = format!("{}: {clash}; rename or remove one of them", source.display());
            return Err(Error::Invalid(what));
        }
        if tree.shards().next().is_none() {
            return Err(Error::Invalid(format!("{}: no {SHARD_SUFFIX} file found", source.display())));
        }
        Ok(tree)
    }

    fn scan_directory(&mut self, directory: &Path, prefix: &str, output: Option<&Path>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::Invalid(format!("{}: too many nested directories", directory.display())));
        }
        for entry in fs::read_dir(directory).map_err(|e| Error::io(directory, e))? {
            let entry = entry.map_err(|e| Error::io(directory, e))?;
            let (location, name) = (entry.path(), utf8(directory, Some(&entry.file_name()))?);
            // Hidden files are the hub client's and version control's own.
            if name.starts_with('.') || Some(location.as_path()) == output {
                continue;
            }
            let path = format!("{prefix}{name}");
            let linked = entry.file_type().map_err(|e| Error::io(&location, e))?.is_symlink();
            let metadata = fs::metadata(&location).map_err(|e| Error::io(&location, e))?;
            // A linked directory may lead back here; the hub's cache links files only.
            if metadata.is_dir() && linked {
                self.left_out.push((path, 0));
            } else if metadata.is_dir() {
                self.scan_directory(&location, &format!("{path}/"), output, depth + 1)?;
            } else if metadata.is_file() {
                self.add(path, location)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, location: PathBuf) -> Result<()> {
        check_path(&path).map_err(|what| Error::Invalid(format!("{}: {what}", location.display())))?;
        let metadata = fs::metadata(&location).map_err(|e| Error::io(&location, e))?;
        let size = metadata.len();
        let is_shard = path.ends_with(SHARD_SUFFIX);
        if !is_shard && (size > LARGEST_OTHER || path.ends_with(".upg")) {
            self.left_out.push((path, size));
            return Ok(());
        }
        let (kind, mode, version) = (SourceKind::Other, metadata.mode(), Version::of(&metadata));
        let mut file = SourceFile { path, location, size, kind, converted: true, mode, version };
        if is_shard {
            file.kind = SourceKind::Shard(Shard::read(&file.open()?)?);
        }
        self.files.push(file);
        Ok(())
    }

    /// What all files let everybody do.
    pub fn mode(&self) -> u32 {
        self.files.iter().fold(0o777, |mode, file| mode & file.mode)
    }

    pub fn shards(&self) -> impl Iterator<Item = (&SourceFile, &Shard)> {
        self.files.iter().filter_map(|file| match &file.kind {
            SourceKind::Shard(shard) => Some((file, shard)),
            SourceKind::Other => None,
        })
    }

    pub fn tensors(&self) -> impl Iterator<Item = &ShardTensor> {
        self.shards().flat_map(|(_, shard)| &shard.tensors)
    }

    /// Every tensor, from the headers.
    pub fn catalog(&self) -> Catalog {
        let tensors = self.shards().flat_map(|(file, shard)| shard.tensors.iter().map(|t| (file.path.as_str(), t)));
        Catalog::of_shards(&self.name, self.shard_bytes(), tensors)
    }

    /// Fails if a file is not what it was when it was found.
    pub fn check_unchanged(&self) -> Result<()> {
        self.files.iter().try_for_each(|file| {
            let now = fs::metadata(&file.location).map_err(|e| Error::io(&file.location, e))?;
            file.check(&now)
        })
    }

    /// Leaves files out of the conversion: for each, whether it stays.
    pub fn convert_only(&mut self, chosen: &[bool]) {
        self.files.iter_mut().zip(chosen).for_each(|(file, &chosen)| file.converted = chosen);
    }

    pub fn converted(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.converted)
    }

    /// Bytes of all files that are converted.
    pub fn converted_bytes(&self) -> u64 {
        self.converted().map(|file| file.size).sum()
    }

    /// Bytes of the safetensors files among them.
    pub fn converted_shard_bytes(&self) -> u64 {
        self.shards().filter(|(file, _)| file.converted).map(|(file, _)| file.size).sum()
    }

    /// Bytes of all safetensors files.
    pub fn shard_bytes(&self) -> u64 {
        self.shards().map(|(file, _)| file.size).sum()
    }
}

fn utf8(directory: &Path, name: Option<&std::ffi::OsStr>) -> Result<String> {
    let name = name.and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| Error::Invalid(format!("{}: a file name that is not UTF-8", directory.display())))
}
