//! A `.upg` file beside what it was made of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::findings::Finding;
use crate::archive::{Archive, ArrayId};
use crate::buffer::fit;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::format::{Extent, ExtentKind, FileEntry, Model};
use crate::ops::choose::choose;
use crate::ops::convert::{PartNote, SourceFile, SourceKind, SourceTree};
use crate::ops::quality::{Quality, broken};
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// How a model compares with its source.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub source: String,
    pub model: String,
    /// Files of the source that the `.upg` file need not hold, with their bytes.
    pub left_out: Vec<(String, u64)>,
    /// Of all tensors that are not stored exactly; null if all are.
    pub snr_db: Option<f64>,
    pub tensors: Vec<TensorComparison>,
}

#[derive(Debug, Serialize)]
pub struct TensorComparison {
    pub file: String,
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub codec: &'static str,
    /// Bytes that are not those of the source, or do not decode; null if not stored exactly.
    pub differing_bytes: Option<u64>,
    /// Measured now, over the finite elements; null if stored exactly.
    pub snr_db: Option<f64>,
    /// As the file says.
    pub recorded_snr_db: Option<f64>,
}

/// How far a sum may lie from the recorded one, relatively: both are of the same numbers,
/// added in another order.
const TOLERANCE: f64 = 1e-6;

/// An extent with its counterpart.
struct Pair<'a> {
    file: &'a FileEntry,
    extent: &'a Extent,
    source: PathBuf,
    /// Where the counterpart begins in it.
    at: u64,
    /// If the extent is a tensor that is not stored exactly.
    lossy: Option<Dtype>,
    tally: Mutex<Tally>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Bytes of blocks that do not decode.
    missed: u64,
    /// Of what is stored exactly.
    differing: u64,
    /// In the presented file.
    first: Option<u64>,
    quality: Quality,
    /// Elements that are finite on one side only.
    broken: u64,
}

pub struct Against<'a> {
    archive: &'a Archive,
    model: &'a Model,
    comparison: Comparison,
    findings: Vec<Finding>,
    pairs: Vec<Pair<'a>>,
    /// The pairs of each array that has any.
    of_array: HashMap<u32, Vec<usize>>,
}

impl<'a> Against<'a> {
    /// Finds the counterparts. `model`: which of several; else the one that is named as the
    /// source would be, or the only one. `file`: the archive's path.
    pub fn new(archive: &'a Archive, file: &Path, source: &Path, model: Option<&str>) -> Result<Against<'a>> {
        let tree = SourceTree::scan(source, Some(file))?;
        let model = choose(archive, model, Some(&tree.name), "--model")?;
        let mut against = Against {
            archive,
            model,
            comparison: Comparison {
                source: source.display().to_string(),
                model: model.name.clone(),
                left_out: tree.left_out.clone(),
                snr_db: None,
                tensors: Vec::new(),
            },
            findings: Vec::new(),
            pairs: Vec::new(),
            of_array: HashMap::new(),
        };
        let mut sources: HashMap<&str, &SourceFile> =
            tree.files.iter().map(|file| (file.path.as_str(), file)).collect();
        // Of a part, the files of the others are not missing.
        let chosen = PartNote::of(model).and_then(|note| note.part.files(&tree).ok());
        if let Some(chosen) = chosen {
            for (file, _) in tree.files.iter().zip(chosen).filter(|(_, chosen)| !chosen) {
                sources.remove(file.path.as_str());
            }
        }
        for (_, file) in archive.files(model) {
            match sources.remove(file.path.as_str()) {
                Some(source) => against.pair_file(file, source),
                None => against.differs(&file.path, None, "is not in the source"),
            }
        }
        let mut missing: Vec<&str> = sources.into_keys().collect();
        missing.sort_unstable();
        missing.into_iter().for_each(|path| against.differs(path, None, "of the source is missing"));
        for (i, pair) in against.pairs.iter().enumerate() {
            if let Some(array) = pair.extent.array {
                against.of_array.entry(array).or_default().push(i);
            }
        }
        Ok(against)
    }

    fn differs(&mut self, file: &str, tensor: Option<&str>, what: impl Into<String>) {
        self.findings.push(Finding::of_file(&self.model.name, file, tensor, what));
    }

    fn pair(&mut self, file: &'a FileEntry, extent: &'a Extent, source: &SourceFile, at: u64) {
        let array = extent.array.map(|i| self.archive.array(ArrayId(i)));
        let lossy = array.filter(|array| array.codec.prime_sparse().is_some()).map(|array| array.dtype);
        let tally = Mutex::default();
        self.pairs.push(Pair { file, extent, source: source.location.clone(), at, lossy, tally });
    }

    fn pair_file(&mut self, file: &'a FileEntry, source: &SourceFile) {
        let extents = self.archive.extents(file);
        let is_tensor = |extent: &&Extent| extent.kind == ExtentKind::Tensor;
        let SourceKind::Shard(shard) = &source.kind else {
            if file.size != source.size || extents.iter().any(|extent| is_tensor(&extent)) {
                let what = format!("has {} bytes, in the source {}", file.size, source.size);
                return self.differs(&file.path, None, what);
            }
            return extents.iter().for_each(|extent| self.pair(file, extent, source, extent.offset));
        };
        let mut tensors: HashMap<&str, &ShardTensor> = shard.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
        for extent in extents {
            if extent.kind != ExtentKind::Tensor {
                if extent.kind == ExtentKind::Header && extent.length == shard.header_len {
                    self.pair(file, extent, source, extent.offset);
                } else {
                    let what = format!("has a header of {} bytes, in the source {}", extent.length, shard.header_len);
                    self.differs(&file.path, None, what);
                }
                continue;
            }
            let Some(tensor) = tensors.remove(extent.name.as_str()) else {
                self.differs(&file.path, Some(&extent.name), "is not in the source");
                continue;
            };
            let dtype = extent.dtype.map_or("", |dtype| dtype.name());
            if (dtype, &extent.shape) != (tensor.dtype.name(), &tensor.shape) {
                let source = format!("{} {:?}", tensor.dtype.name(), tensor.shape);
                let what = format!("is {dtype} {:?}, in the source {source}", extent.shape);
                self.differs(&file.path, Some(&extent.name), what);
                continue;
            }
            self.pair(file, extent, source, tensor.offset);
        }
        let mut missing: Vec<&str> = tensors.into_keys().collect();
        missing.sort_unstable();
        missing.into_iter().for_each(|name| self.differs(&file.path, Some(name), "of the source is missing"));
    }

    /// Compares a decoded block with its counterparts. Fails if a source cannot be read.
    pub fn compare(&self, array: ArrayId, block: u32, decoded: &[u8]) -> Result<()> {
        let mut source = Vec::new();
        for &i in self.of_array.get(&array.0).into_iter().flatten() {
            let pair = &self.pairs[i];
            let within = u64::from(block) * self.archive.array(array).block_bytes();
            fit(&mut source, decoded.len())?;
            // Opened anew each time: a model may have more shards than a process may open files.
            LocalFile::open(&pair.source)?.read_exact_at(&mut source, pair.at + within)?;
            let tally = Tally::of(pair, within, &source, decoded);
            lock(&pair.tally).add(&tally);
        }
        Ok(())
    }

    /// Takes note of a block that does not decode, which is a finding elsewhere.
    pub fn miss(&self, array: ArrayId, block: u32) {
        for &i in self.of_array.get(&array.0).into_iter().flatten() {
            lock(&self.pairs[i].tally).missed += self.archive.array(array).bytes_of_block(block);
        }
    }

    /// What came out of it, and everything that is not as it should be.
    pub fn finish(mut self) -> (Comparison, Vec<Finding>) {
        let mut total = Quality::default();
        for pair in std::mem::take(&mut self.pairs) {
            let tally = *lock(&pair.tally);
            let Some(array) = pair.extent.array.map(|i| self.archive.array(ArrayId(i))) else {
                self.add_tensor(&pair, "stored", &tally, None);
                continue;
            };
            self.add_tensor(&pair, array.codec.name(), &tally, array.snr_db());
            let tensor = (pair.extent.kind == ExtentKind::Tensor).then_some(pair.extent.name.as_str());
            let mut what = Vec::new();
            match pair.lossy {
                None if tally.differing > 0 => {
                    let first = tally.first.unwrap_or_default();
                    let part = if pair.extent.kind == ExtentKind::Header { "its header " } else { "" };
                    let (differing, all) = (tally.differing, pair.extent.length);
                    what.push(format!("{part}differs from the source in {differing} of {all} bytes, first at {first}"));
                }
                None => {}
                Some(_) => {
                    total.add(&tally.quality);
                    let near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
                    let quality = &tally.quality;
                    let same = near(quality.signal, array.signal) && near(quality.noise, array.noise);
                    if tally.missed == 0 && !same {
                        what.push(format!(
                            "does not hold the source's weights: SNR {}, recorded {}",
                            decibels(quality.snr_db()),
                            decibels(array.snr_db()),
                        ));
                    }
                    if tally.broken > 0 {
                        what.push(format!("has {} elements that are finite on one side only", tally.broken));
                    }
                }
            }
            what.into_iter().for_each(|what| self.differs(&pair.file.path, tensor, what));
        }
        self.comparison.snr_db = total.snr_db();
        (self.comparison, self.findings)
    }

    fn add_tensor(&mut self, pair: &Pair<'_>, codec: &'static str, tally: &Tally, recorded: Option<f64>) {
        if pair.extent.kind != ExtentKind::Tensor {
            return;
        }
        self.comparison.tensors.push(TensorComparison {
            file: pair.file.path.clone(),
            name: pair.extent.name.clone(),
            dtype: pair.extent.dtype.map_or("", |dtype| dtype.name()),
            shape: pair.extent.shape.clone(),
            codec,
            differing_bytes: pair.lossy.is_none().then_some(tally.differing + tally.missed),
            snr_db: pair.lossy.and(tally.quality.snr_db()),
            recorded_snr_db: recorded,
        });
    }
}

impl Tally {
    /// Of a part of an extent, `within` bytes behind its beginning.
    fn of(pair: &Pair<'_>, within: u64, source: &[u8], decoded: &[u8]) -> Tally {
        let mut tally = Tally::default();
        if pair.lossy.is_none() && source != decoded {
            let mut differing = source.iter().zip(decoded).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i);
            tally.first = differing.next().map(|i| pair.extent.offset + within + i as u64);
            tally.differing = u64::from(tally.first.is_some()) + differing.count() as u64;
        }
        if let Some(dtype) = pair.lossy {
            tally.quality = Quality::measure(dtype, source, decoded);
            tally.broken = broken(dtype, source, decoded);
        }
        tally
    }

    fn add(&mut self, other: &Tally) {
        self.missed += other.missed;
        self.differing += other.differing;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.quality.add(&other.quality);
        self.broken += other.broken;
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decibels(snr: Option<f64>) -> String {
    snr.map_or("unlimited".to_owned(), |snr| format!("{snr:.2} dB"))
}
