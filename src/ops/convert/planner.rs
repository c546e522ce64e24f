//! The planner: what becomes of each extent, decided in the order of the files.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::analyse::{count_symbols, histogram};
use super::plan::{Coding, Plan, Quality, array_dtype, is_matrix};
use super::tree::{SourceFile, SourceKind, SourceTree};
use super::{Options, Progress, Target};
use crate::codec::histogram::Histogram;
use crate::error::{Error, Result};
use crate::format::{Extent, ExtentKind};
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// How often a budget that an F32 tensor turned out to exceed is lowered.
const RECOUNTS: usize = 4;

/// An extent with its plan, on the way from planner to encoder.
pub struct Planned<'a> {
    pub extent: Extent,
    /// Where its bytes lie in the source.
    pub source: Arc<LocalFile>,
    pub at: u64,
    pub plan: Option<Plan>,
    pub tensor: Option<&'a ShardTensor>,
    /// Of prime-sparse, known before it is encoded; else counted on the way.
    pub quality: Quality,
    pub spent: Duration,
}

/// Bits per weight that the target means, or None for lossless.
pub fn bits_per_weight(options: &Options, tree: &SourceTree, progress: &dyn Progress) -> Result<Option<f64>> {
    let ratio = match options.target {
        Target::Lossless => return Ok(None),
        Target::Bits(bits) => return Ok(Some(bits)),
        Target::Ratio(ratio) => ratio,
    };
    let (mut exact, mut weights) = (0.0, 0u64);
    for file in &tree.files {
        let source = LocalFile::open(&file.location)?;
        let SourceKind::Shard(shard) = &file.kind else {
            exact += compressed_bytes(&source, file.size)?;
            continue;
        };
        exact += compressed_bytes(&source, shard.header_len)?;
        for tensor in &shard.tensors {
            if is_matrix(tensor) && !options.keep.is_match(&tensor.name) {
                weights += tensor.elements();
                continue;
            }
            let plan = match array_dtype(tensor.dtype) {
                dtype if dtype.split().is_some() && tensor.length > 0 => {
                    Plan::lossless(dtype, &histogram(&source, tensor, dtype, progress)?)
                }
                _ => None,
            };
            exact += plan.map_or(tensor.length as f64, |plan| plan.estimated_bytes());
        }
    }
    let wanted = tree.shard_bytes() as f64 / ratio;
    let bits = 8.0 * (wanted - exact) / weights.max(1) as f64;
    if !super::BITS.contains(&bits) {
        let what = format!(
            "a ratio of {ratio} would need {bits:.2} bits per weight for what is not stored exactly; \
             from {} to {} are possible",
            super::BITS.start(),
            super::BITS.end()
        );
        return Err(Error::Invalid(what));
    }
    Ok(Some(bits))
}

/// What the beginning of a file takes in the archive, more or less.
fn compressed_bytes(source: &LocalFile, length: u64) -> Result<f64> {
    let mut bytes = vec![0; length as usize];
    source.read_exact_at(&mut bytes, 0)?;
    Ok(zstd::bulk::compress(&bytes, 3).map_or(length, |compressed| compressed.len() as u64) as f64)
}

/// Plans every extent and sends it on; a file ends with a plan of None.
pub fn plan_all<'a>(
    options: &Options,
    bits: Option<f64>,
    pool: &rayon::ThreadPool,
    tree: &'a SourceTree,
    plans: SyncSender<(Option<Box<Planned<'a>>>, &'a SourceFile)>,
    progress: &dyn Progress,
) -> Result<()> {
    for file in &tree.files {
        let source = Arc::new(LocalFile::open(&file.location)?);
        let bytes = |kind, length: u64| Planned {
            extent: extent(kind, 0, length),
            source: source.clone(),
            at: 0,
            plan: (length > 0).then(|| Plan::bytes(length, 9)),
            tensor: None,
            quality: Quality::default(),
            spent: Duration::ZERO,
        };
        let send = |planned| plans.send((Some(Box::new(planned)), file)).is_ok();
        // A failed send means that somebody behind has an error to report.
        let going = match &file.kind {
            SourceKind::Other => send(bytes(ExtentKind::Bytes, file.size)),
            SourceKind::Shard(shard) => {
                let mut going = send(bytes(ExtentKind::Header, shard.header_len));
                for tensor in &shard.tensors {
                    let planned = pool.install(|| plan_tensor(options, bits, &source, tensor, progress))?;
                    going = going && send(planned);
                    if !going {
                        break;
                    }
                }
                going
            }
        };
        if !going || plans.send((None, file)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn extent(kind: ExtentKind, offset: u64, length: u64) -> Extent {
    Extent { offset, length, kind, name: String::new(), dtype: None, shape: Vec::new(), array: None }
}

fn plan_tensor<'a>(
    options: &Options,
    bits: Option<f64>,
    source: &Arc<LocalFile>,
    tensor: &'a ShardTensor,
    progress: &dyn Progress,
) -> Result<Planned<'a>> {
    let start = Instant::now();
    let dtype = array_dtype(tensor.dtype);
    let mut quality = Quality::default();
    let mut plan = None;
    if tensor.length > 0 && dtype.split().is_some() {
        let histogram = histogram(source, tensor, dtype, progress)?;
        if let Some(bits) = bits.filter(|_| is_matrix(tensor) && !options.keep.is_match(&tensor.name)) {
            (plan, quality) = plan_lossy(options, bits, source, tensor, &histogram, progress)?;
        }
        plan = plan.or_else(|| Plan::lossless(dtype, &histogram));
    }
    if plan.is_none() && tensor.length > 0 {
        let elements = tensor.length / u64::from(dtype.bits() / 8);
        plan = Some(Plan::opaque(dtype, elements, zstd_helps(source, tensor)?));
    }
    let mut extent = extent(ExtentKind::Tensor, tensor.offset, tensor.length);
    extent.name = tensor.name.clone();
    extent.dtype = Some(tensor.dtype);
    extent.shape = tensor.shape.clone();
    Ok(Planned {
        extent,
        source: source.clone(),
        at: tensor.offset,
        plan,
        tensor: Some(tensor),
        quality,
        spent: start.elapsed(),
    })
}

/// The plan that meets the bits asked for, and what it does to the tensor; no plan if
/// it cannot be done, or not in less than lossless coding takes.
fn plan_lossy(
    options: &Options,
    bits: f64,
    source: &LocalFile,
    tensor: &ShardTensor,
    histogram: &Histogram,
    progress: &dyn Progress,
) -> Result<(Option<Plan>, Quality)> {
    let names = tensor.name.len() as u64 + 8 * tensor.shape.len() as u64;
    let mut wanted = bits;
    for _ in 0..RECOUNTS {
        let mut plan = Plan::lossy(tensor.dtype, histogram, options.grid, wanted, names);
        let Some(Plan { coding: Coding::PrimeSparse(lossy), .. }) = &mut plan else {
            return Ok((None, Quality::default()));
        };
        let mut quality = Quality::default();
        if tensor.dtype.bits() == 16 {
            histogram.for_each_pattern(|bits, count| lossy.measure(bits, count, &mut quality));
            return Ok((plan, quality));
        }
        let counts;
        (counts, quality) = count_symbols(source, tensor, lossy, progress)?;
        let over = lossy.recount(counts) / lossy.budget;
        if over <= 1.001 {
            return Ok((plan, quality));
        }
        wanted /= over;
    }
    Ok((None, Quality::default()))
}

/// Whether zstd takes 3 % or more off the beginning of a tensor.
fn zstd_helps(source: &LocalFile, tensor: &ShardTensor) -> Result<bool> {
    let mut sample = vec![0; tensor.length.min(1 << 20) as usize];
    source.read_exact_at(&mut sample, tensor.offset)?;
    let compressed = zstd::bulk::compress(&sample, 3).map_or(sample.len(), |bytes| bytes.len());
    Ok(compressed * 100 < sample.len() * 97)
}
