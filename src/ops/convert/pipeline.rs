//! Planner, encoder and writer, joined by bounded channels.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::analyse::{count_symbols, histogram};
use super::encode::{Encoded, PatternTable, encode};
use super::plan::{Coding, Plan, Quality, array_dtype, is_matrix};
use super::report::{Report, TensorReport};
use super::tree::{SourceFile, SourceKind, SourceTree};
use super::{Options, Progress, Target};
use crate::archive::ArchiveWriter;
use crate::codec::histogram::Histogram;
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, BlockMode, Codec, Extent, ExtentKind};
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// Working memory of a block being encoded: elements, symbols, words, output.
const MEMORY_PER_BLOCK: u64 = 8 << 20;
/// How often a budget that an F32 tensor turned out to exceed is lowered.
const RECOUNTS: usize = 4;
/// Blocks per thread between two hand-overs to the writer.
const BLOCKS_PER_THREAD: u64 = 8;

/// An extent with its plan, on the way from planner to encoder.
struct Planned<'a> {
    extent: Extent,
    /// Where its bytes lie in the source.
    source: Arc<LocalFile>,
    at: u64,
    plan: Option<Plan>,
    tensor: Option<&'a ShardTensor>,
    /// Of prime-sparse, known before it is encoded; else counted on the way.
    quality: Quality,
    spent: Duration,
}

/// On the way from encoder to writer.
enum Message<'a> {
    Blocks(Vec<Encoded>),
    ExtentEnds(Box<Planned<'a>>),
    FileEnds(&'a SourceFile),
}

pub fn run(options: &Options, tree: &SourceTree, archive: &Path, progress: &dyn Progress) -> Result<Report> {
    let threads = options.threads_within_memory();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::Invalid(format!("cannot start {threads} threads: {e}")))?;
    let bits = pool.install(|| bits_per_weight(options, tree, progress))?;
    let batch = (threads as u64 * BLOCKS_PER_THREAD).min(options.memory / 4 / MEMORY_PER_BLOCK).max(1);
    let writer = ArchiveWriter::create(archive)?;

    std::thread::scope(|scope| {
        // A plan is small; its encode table is not, so few of them wait.
        let (plan_sender, plans) = sync_channel(2);
        let (block_sender, blocks) = sync_channel(2);
        let pool = &pool;
        let planner = scope.spawn(move || plan_all(options, bits, pool, tree, plan_sender, progress));
        let metadata = metadata(options, bits);
        let writer = scope.spawn(move || write_all(writer, tree, &metadata, blocks));
        let encoded = encode_all(pool, batch, plans, block_sender, progress);
        // Whoever fails hangs up on the others, who then end without an error of
        // their own, but for the writer: it must not take an end for the end.
        let planned = planner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        planned.and(encoded).and(written)
    })
}

/// Bits per weight that the target means, or None for lossless.
fn bits_per_weight(options: &Options, tree: &SourceTree, progress: &dyn Progress) -> Result<Option<f64>> {
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

fn metadata(options: &Options, bits: Option<f64>) -> String {
    let keep = !options.keep.is_empty();
    serde_json::json!({
        "generator": concat!("upg ", env!("CARGO_PKG_VERSION")),
        "options": { "bits": bits, "lossless": bits.is_none(), "grid": options.grid.name(), "keep": keep },
    })
    .to_string()
}

fn plan_all<'a>(
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

fn encode_all<'a>(
    pool: &rayon::ThreadPool,
    batch: u64,
    plans: Receiver<(Option<Box<Planned<'a>>>, &'a SourceFile)>,
    writer: SyncSender<Message<'a>>,
    progress: &dyn Progress,
) -> Result<()> {
    for (planned, file) in plans {
        let Some(mut planned) = planned else {
            if writer.send(Message::FileEnds(file)).is_err() {
                return Ok(());
            }
            continue;
        };
        let start = Instant::now();
        if let Some(plan) = &planned.plan {
            let patterns = PatternTable::new(plan);
            let mut next = 0;
            while next < plan.block_count() {
                let end = (next + batch).min(plan.block_count());
                let blocks = pool.install(|| {
                    let each = |i| encode_one(plan, &patterns, &planned.source, planned.at, i, progress);
                    (next..end).into_par_iter().map(each).collect::<Result<Vec<_>>>()
                })?;
                if !matches!(plan.coding, Coding::PrimeSparse(_)) {
                    planned.quality.zeros += blocks.iter().map(|block| block.zeros).sum::<u64>();
                }
                if writer.send(Message::Blocks(blocks)).is_err() {
                    return Ok(());
                }
                next = end;
            }
        }
        planned.spent += start.elapsed();
        if writer.send(Message::ExtentEnds(planned)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn encode_one(
    plan: &Plan,
    patterns: &PatternTable,
    source: &LocalFile,
    at: u64,
    i: u64,
    progress: &dyn Progress,
) -> Result<Encoded> {
    if progress.cancelled() {
        return Err(Error::Cancelled);
    }
    let block_bytes = u64::from(plan.block_elems) * plan.width();
    let start = i * block_bytes;
    let mut bytes = vec![0; block_bytes.min(plan.elements * plan.width() - start) as usize];
    source.read_exact_at(&mut bytes, at + start)?;
    let encoded = encode(plan, patterns, &bytes)?;
    progress.advance(bytes.len() as u64);
    Ok(encoded)
}

fn write_all(
    mut writer: ArchiveWriter,
    tree: &SourceTree,
    metadata: &str,
    messages: Receiver<Message<'_>>,
) -> Result<Report> {
    let mut report = Report::default();
    let (mut extents, mut first_block, mut block_count, mut stored) = (Vec::new(), None, 0u64, 0u64);
    let mut complete = 0;
    for message in messages {
        match message {
            Message::Blocks(blocks) => {
                for block in blocks {
                    let record = writer.add_block(block.mode, &block.stored)?;
                    first_block.get_or_insert(record);
                    block_count += 1;
                    stored += block.stored.len() as u64;
                }
            }
            Message::ExtentEnds(planned) => {
                let mut planned = *planned;
                if let (Some(plan), Some(first)) = (&planned.plan, first_block) {
                    let array = finish_array(&mut writer, plan, first, &planned.quality)?;
                    stored += side_of(plan).map_or(0, |side| side.len() as u64);
                    planned.extent.array = Some(writer.add_array(&array));
                    if let Some(tensor) = planned.tensor {
                        let index = 24 * (block_count + u64::from(array.side_block.is_some())) + 80;
                        let index = index + 40 + tensor.name.len() as u64 + 8 * tensor.shape.len() as u64;
                        report.add(TensorReport::new(tensor, plan, &array, stored + index, planned.spent));
                    }
                } else if let Some(tensor) = planned.tensor {
                    report.add(TensorReport::empty(tensor));
                }
                extents.push(planned.extent);
                (first_block, block_count, stored) = (None, 0, 0);
            }
            Message::FileEnds(file) => {
                report.name_file(&file.path);
                writer.add_file(&file.path, &extents);
                extents.clear();
                complete += 1;
            }
        }
    }
    if complete < tree.files.len() {
        // The encoder hung up before the end; nothing must appear.
        return Err(Error::Invalid("conversion was abandoned".into()));
    }
    writer.add_model(&tree.name, metadata, 0);
    report.file_bytes = writer.finish()?;
    Ok(report)
}

fn side_of(plan: &Plan) -> Option<&[u8]> {
    match &plan.coding {
        Coding::Lossless(exact) => Some(&exact.side),
        Coding::PrimeSparse(lossy) => Some(&lossy.side),
        Coding::Stored | Coding::Zstd(_) => None,
    }
}

fn finish_array(writer: &mut ArchiveWriter, plan: &Plan, first_block: u32, quality: &Quality) -> Result<ArrayInfo> {
    let codec = match &plan.coding {
        Coding::Stored => Codec::Stored,
        Coding::Zstd(_) => Codec::Zstd,
        Coding::Lossless(exact) => Codec::Symbols(exact.params),
        Coding::PrimeSparse(lossy) => Codec::Symbols(lossy.params),
    };
    let side_block = side_of(plan).map(|side| writer.add_block(BlockMode::Coded, side)).transpose()?;
    Ok(ArrayInfo {
        elements: plan.elements,
        row_len: plan.row_len,
        block_elems: plan.block_elems,
        first_block,
        dtype: plan.dtype,
        codec,
        side_block,
        zeros: quality.zeros,
        signal: quality.signal,
        noise: quality.noise,
    })
}
