//! How many bits each matrix may take, so that the whole file takes what was asked for.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use super::allocate::{Matrix, allocate};
use super::analyse::survey;
use super::exact::{Reason, reason};
use super::metadata::rounded;
use super::plan::{Plan, ZSTD_FOR_MUCH, array_dtype};
use super::roles::Names;
use super::tree::{SourceFile, SourceKind, SourceTree};
use super::{Options, Target};
use crate::error::{Error, Result};
use crate::ops::progress::Progress;
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// Rates are predicted from samples: so much of the total is held back.
const MARGIN: f64 = 0.0001;
/// What is not a matrix may take so much of the total from the matrices. Tiny models
/// with large vocabularies exceed it; their files are larger than was asked for.
const MOST_FOR_THE_REST: f64 = 0.05;
/// Bytes of the file besides what its blocks and tensors take, and for each file in it.
const FRAME_BYTES: f64 = 600.0;
const FRAME_BYTES_PER_FILE: f64 = 120.0;
/// What the metadata say of a tensor.
const METADATA_BYTES_PER_TENSOR: f64 = 7.0;
/// How many tensors the planner is ahead of the sizes that it knows.
const AHEAD: usize = 2;
/// Most that earlier tensors' misses change a tensor's bits by, relatively.
const MOST_CORRECTION: f64 = 0.03;

/// Bits per weight of every matrix that may be stored lossily.
pub struct Budget {
    /// Over all matrices.
    pub average: f64,
    /// Of each that is converted, in the order of the files.
    bits: Vec<f64>,
    /// Whatever earlier matrices took.
    settled: bool,
}

impl Budget {
    /// None if everything is to be lossless.
    pub fn new(
        options: &Options,
        tree: &SourceTree,
        names: &Names<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<Budget>> {
        if options.target == Target::Lossless {
            return Ok(None);
        }
        // Of all files: what a matrix gets depends on the others.
        let (files, lossy): (Vec<&SourceFile>, Vec<&ShardTensor>) = tree
            .shards()
            .flat_map(|(file, shard)| shard.tensors.iter().map(move |tensor| (file, tensor)))
            .filter(|(_, tensor)| reason(options, tensor).is_none())
            .unzip();
        let converted = |bits: Vec<f64>| -> Vec<f64> {
            let converted = bits.into_iter().zip(&files).filter(|(_, file)| file.converted);
            converted.map(|(bits, _)| bits).collect()
        };
        if let Some(like) = &options.like {
            let bits = lossy.iter().map(|tensor| like.bits_of(&tensor.name)).collect();
            return Ok(Some(Budget { average: like.bits(), bits: converted(bits), settled: true }));
        }
        let rest = Rest::new(options, tree, progress)?;
        let weights = lossy.iter().map(|tensor| tensor.elements()).sum::<u64>().max(1) as f64;
        let average = match options.target {
            Target::Lossless => return Ok(None),
            Target::Bits(bits) => {
                let total = bits * (weights + rest.weights as f64);
                (total - (8.0 * rest.bytes).min(MOST_FOR_THE_REST * total)) / weights
            }
            Target::Ratio(ratio) => {
                let wanted = tree.shard_bytes() as f64 / ratio;
                let bits = 8.0 * (wanted - rest.bytes - rest.kept) / weights;
                if !super::BITS.contains(&bits) {
                    let what = format!(
                        "a ratio of {ratio} would need {bits:.2} bits per weight for what is not stored exactly; \
                         from {} to {} are possible",
                        super::BITS.start(),
                        super::BITS.end()
                    );
                    return Err(Error::Invalid(what));
                }
                bits
            }
        };
        let average = average * (1.0 - MARGIN);
        let matrices: Vec<Matrix> =
            lossy.iter().map(|tensor| Matrix { role: names.role(&tensor.name), elements: tensor.elements() }).collect();
        let bits = allocate(&matrices, names.layers(), average, options.flat);
        Ok(Some(Budget { average, bits: converted(bits), settled: false }))
    }
}

/// What is stored exactly: sizes in bytes, predicted.
#[derive(Default)]
struct Rest {
    /// Frame, other files, headers, and tensors that are no matrices.
    bytes: f64,
    /// Weights of these tensors.
    weights: u64,
    /// What the user keeps and what was quantised already. It is no part of the bits asked for:
    /// its weights would lend the other matrices bits that it does not save.
    kept: f64,
}

impl Rest {
    fn new(options: &Options, tree: &SourceTree, progress: &dyn Progress) -> Result<Rest> {
        let mut rest = Rest { bytes: FRAME_BYTES, ..Rest::default() };
        for file in &tree.files {
            let source = file.open()?;
            rest.bytes += FRAME_BYTES_PER_FILE;
            let SourceKind::Shard(shard) = &file.kind else {
                rest.bytes += compressed_bytes(&source, file.size)?;
                continue;
            };
            rest.bytes += compressed_bytes(&source, shard.header_len)?;
            rest.bytes += METADATA_BYTES_PER_TENSOR * shard.tensors.len() as f64;
            for tensor in &shard.tensors {
                let Some(reason) = reason(options, tensor) else { continue };
                let kept = matches!(reason, Reason::Asked | Reason::Quantised);
                if kept && matches!(options.target, Target::Bits(_)) {
                    continue;
                }
                let bytes = exact_bytes(&source, tensor, progress)?;
                *(if kept { &mut rest.kept } else { &mut rest.bytes }) += bytes;
                rest.weights += if kept { 0 } else { tensor.elements() };
            }
        }
        Ok(rest)
    }
}

/// What a tensor takes if it is stored exactly, more or less.
fn exact_bytes(source: &LocalFile, tensor: &ShardTensor, progress: &dyn Progress) -> Result<f64> {
    let dtype = array_dtype(tensor.dtype);
    if dtype.split().is_none() || tensor.length == 0 {
        return Ok(tensor.length as f64);
    }
    let plan = Plan::lossless(dtype, &survey(source, tensor, dtype, None, progress)?.histogram);
    Ok(plan.map_or(tensor.length as f64, |plan| plan.estimated_bytes()))
}

/// What the beginning of a file takes in the archive, more or less.
fn compressed_bytes(source: &LocalFile, length: u64) -> Result<f64> {
    let mut bytes = vec![0; length as usize];
    source.read_exact_at(&mut bytes, 0)?;
    Ok(zstd::bulk::compress(&bytes, ZSTD_FOR_MUCH).map_or(length, |compressed| compressed.len() as u64) as f64)
}

/// A budget being spent: what earlier matrices took too much or too little of goes to
/// the account of later ones.
pub struct Account {
    bits: std::vec::IntoIter<f64>,
    settled: bool,
    /// Bytes that each matrix took, in order.
    taken: Receiver<u64>,
    /// Of the matrices whose size is not known yet: bytes in the budget, and bytes asked for.
    open: VecDeque<(f64, f64)>,
    /// Bytes that are left over from the others.
    left: f64,
}

impl Account {
    pub fn new(budget: Budget, taken: Receiver<u64>) -> Account {
        Account { bits: budget.bits.into_iter(), settled: budget.settled, taken, open: VecDeque::new(), left: 0.0 }
    }

    /// Bits per weight for the next matrix, of so many elements. What is known of
    /// earlier sizes when it is asked does not depend on anybody's speed: always all
    /// but the last [`AHEAD`], which are waited for.
    pub fn next(&mut self, elements: u64) -> f64 {
        let bits = self.bits.next().unwrap_or_default();
        if self.settled {
            return bits;
        }
        while self.open.len() > AHEAD {
            // If the encoder is gone, an error is on its way to the user.
            let (Ok(taken), Some((budgeted, _))) = (self.taken.recv(), self.open.pop_front()) else { break };
            self.left += budgeted - taken as f64;
        }
        let promised: f64 = self.open.iter().map(|(budgeted, asked)| asked - budgeted).sum();
        let budgeted = bits * elements as f64 / 8.0;
        let most = MOST_CORRECTION * budgeted;
        let asked = rounded(8.0 * (budgeted + (self.left - promised).clamp(-most, most)) / elements as f64);
        self.open.push_back((budgeted, asked * elements as f64 / 8.0));
        asked
    }
}
