//! Planner, encoder and writer, joined by bounded channels.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Builder;
use std::time::Instant;

use rayon::prelude::*;

use super::budget::Account;
use super::destination::Destination;
use super::encode::{Encoded, PatternTable, encode};
use super::part::PartNote;
use super::plan::{BLOCK_RECORD_BYTES, Coding, Plan, index_bytes};
use super::planner::{Planned, plan_all};
use super::planning::Planning;
use super::report::{Report, TensorReport};
use super::tree::{SourceFile, SourceTree};
use super::{Options, metadata};
use crate::archive::ArchiveWriter;
use crate::buffer;
use crate::codec::isa::Isa;
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, BlockMode, Codec};
use crate::ops::progress::Progress;
use crate::ops::quality::Quality;
use crate::source::{LocalFile, ReadAt};

/// Working memory of a block being encoded: elements, symbols, words, output.
const MEMORY_PER_BLOCK: u64 = 8 << 20;
/// Blocks per thread between two hand-overs to the writer.
const BLOCKS_PER_THREAD: u64 = 8;

/// On the way from encoder to writer.
enum Message<'a> {
    Blocks(Vec<Encoded>),
    ExtentEnds(Box<Planned<'a>>),
    FileEnds(&'a SourceFile),
}

pub fn run(
    options: &Options,
    tree: &SourceTree,
    part: Option<PartNote>,
    destination: &Destination,
    progress: &dyn Progress,
) -> Result<Report> {
    let Planning { pool, names, budget } = Planning::new(options, tree, progress)?;
    let bits = budget.as_ref().map(|budget| budget.average);
    let batch =
        (options.threads_within_memory() as u64 * BLOCKS_PER_THREAD).min(options.memory / 4 / MEMORY_PER_BLOCK).max(1);
    let writer = destination.writer(tree)?;

    std::thread::scope(|scope| {
        // A plan is small; its encode table is not, so few of them wait.
        let (plan_sender, plans) = sync_channel(2);
        let (block_sender, blocks) = sync_channel(2);
        let (pool, names) = (&pool, &names);
        let (taken_sender, taken) = channel();
        let account = budget.map(|budget| Account::new(budget, taken));
        let no_thread = |e| Error::io("cannot start a thread", e);
        let plan = move || plan_all(options, names, account, pool, tree, plan_sender, progress);
        let planner = Builder::new().spawn_scoped(scope, plan).map_err(no_thread)?;
        let note = part.clone();
        let describe = move |tensor_bits| metadata::write(options, tree.snapshot.clone(), note, bits, tensor_bits);
        let write = move || write_all(writer, tree, describe, blocks);
        let writer = Builder::new().spawn_scoped(scope, write).map_err(no_thread)?;
        let encoded = encode_all(pool, batch, plans, block_sender, taken_sender, progress);
        // Whoever fails hangs up on the others, who then end without an error of
        // their own, but for the writer: it must not take an end for the end.
        let planned = planner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        planned.and(encoded).and(written).map(|mut report| {
            report.part = part;
            report
        })
    })
}

fn encode_all<'a>(
    pool: &rayon::ThreadPool,
    batch: u64,
    plans: Receiver<(Option<Box<Planned<'a>>>, &'a SourceFile)>,
    writer: SyncSender<Message<'a>>,
    taken: Sender<u64>,
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
        let mut stored = 0;
        if let Some(plan) = &planned.plan {
            stored += side_of(plan).map_or(0, |side| side.len() as u64 + BLOCK_RECORD_BYTES);
            let patterns = PatternTable::new(plan);
            let mut next = 0;
            while next < plan.block_count() {
                let end = (next + batch).min(plan.block_count());
                let blocks = pool.install(|| {
                    let each = |i| encode_one(plan, &patterns, &planned.source, planned.at, i, progress);
                    (next..end).into_par_iter().map(each).collect::<Result<Vec<_>>>()
                })?;
                for block in &blocks {
                    planned.quality.add(&block.quality);
                    stored += block.stored.len() as u64 + BLOCK_RECORD_BYTES;
                }
                if writer.send(Message::Blocks(blocks)).is_err() {
                    return Ok(());
                }
                next = end;
            }
        }
        planned.spent += start.elapsed();
        if let Some(tensor) = planned.tensor.filter(|_| planned.bits.is_some()) {
            // The planner may be done and gone.
            let _ = taken.send(stored + index_bytes(tensor));
        }
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
    let length = block_bytes.min(plan.elements * plan.width() - start) as usize;
    let mut bytes = buffer::of(length)?;
    source.read_exact_at(&mut bytes, at + start)?;
    let encoded = encode(Isa::chosen(), plan, patterns, i, &bytes)?;
    progress.advance(bytes.len() as u64);
    Ok(encoded)
}

fn write_all(
    mut writer: ArchiveWriter,
    tree: &SourceTree,
    describe: impl FnOnce(Vec<Option<f64>>) -> Result<String>,
    messages: Receiver<Message<'_>>,
) -> Result<Report> {
    let mut report = Report::default();
    let (mut extents, mut first_block, mut block_count, mut stored) = (Vec::new(), None, 0u64, 0u64);
    let (mut complete, mut tensor_bits) = (0, Vec::new());
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
                if planned.tensor.is_some() {
                    tensor_bits.push(planned.bits);
                }
                if let (Some(plan), Some(first)) = (&planned.plan, first_block) {
                    let array = finish_array(&mut writer, plan, first, &planned.quality)?;
                    stored += side_of(plan).map_or(0, |side| side.len() as u64);
                    planned.extent.array = Some(writer.add_array(&array));
                    if let Some(tensor) = planned.tensor {
                        let records = block_count + u64::from(array.side_block.is_some());
                        let index = BLOCK_RECORD_BYTES * records + index_bytes(tensor);
                        let stored = stored + index;
                        report.add(TensorReport::new(tensor, plan, &array, stored, planned.exact, planned.spent));
                    }
                } else if let Some(tensor) = planned.tensor {
                    report.add(TensorReport::empty(tensor, planned.exact));
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
    if complete < tree.converted().count() {
        // The encoder hung up before the end; nothing must appear.
        return Err(Error::Invalid("conversion was abandoned".into()));
    }
    // Every tensor was read twice; a mixture of versions must not get a name.
    tree.check_unchanged()?;
    writer.add_model(&tree.name, &describe(tensor_bits)?, 0);
    report.file_bytes = writer.finish()?;
    Ok(report)
}

fn side_of(plan: &Plan) -> Option<&[u8]> {
    match &plan.coding {
        Coding::Lossless(exact) => Some(&exact.side),
        Coding::PrimeSparse(lossy) => Some(&lossy.side),
        Coding::Trellis(coding) => Some(&coding.side),
        Coding::Stored | Coding::Zstd(_) => None,
    }
}

fn finish_array(writer: &mut ArchiveWriter, plan: &Plan, first_block: u32, quality: &Quality) -> Result<ArrayInfo> {
    let codec = match &plan.coding {
        Coding::Stored => Codec::Stored,
        Coding::Zstd(_) => Codec::Zstd,
        Coding::Lossless(exact) => Codec::Symbols(exact.params),
        Coding::PrimeSparse(lossy) => Codec::Symbols(lossy.params),
        Coding::Trellis(coding) => Codec::Symbols(coding.params),
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
        base: None,
        zeros: quality.zeros,
        signal: quality.signal,
        noise: quality.noise,
    })
}
