//! What a conversion measured. Every number comes from the bytes at hand.

use std::time::Duration;

use serde::Serialize;

use super::exact::Reason;
use super::part::PartNote;
use super::plan::{Coding, Plan};
use super::tree::SourceTree;
use crate::format::{ArrayInfo, snr_db};
use crate::shard::ShardTensor;

/// Totals over all tensors; sizes in bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub output: String,
    /// Size of the `.upg` file.
    pub file_bytes: u64,
    /// If it is a part of a model; the sizes are the part's.
    pub part: Option<PartNote>,
    /// Size of the safetensors files.
    pub source_bytes: u64,
    pub weights: u64,
    /// Of the whole file, over all weights.
    pub bits_per_weight: f64,
    /// Safetensors files over the `.upg` file.
    pub ratio_source: f64,
    /// The same weights in FP32 over the `.upg` file.
    pub ratio_fp32: f64,
    /// Share of all weights that are exactly zero after decoding.
    pub sparsity: f64,
    /// Of all lossily stored weights together; null if there are none.
    pub snr_db: Option<f64>,
    pub seconds: f64,
    pub threads: usize,
    /// Files that the archive does not hold, with their bytes.
    pub left_out: Vec<(String, u64)>,
    /// What is stored exactly, by reason.
    pub exact: Vec<ExactTotal>,
    pub tensors: Vec<TensorReport>,
    #[serde(skip)]
    signal: f64,
    #[serde(skip)]
    noise: f64,
    #[serde(skip)]
    zeros: u64,
}

/// All tensors that are stored exactly for one reason; sizes in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct ExactTotal {
    pub reason: Reason,
    pub tensors: usize,
    pub source_bytes: u64,
    /// Payload, tables and index.
    pub stored_bytes: u64,
    /// Of the bytes of all tensors of the source.
    pub share: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TensorReport {
    pub name: String,
    pub file: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub codec: &'static str,
    /// Why it is stored exactly; null if it is stored lossily.
    pub exact: Option<Reason>,
    /// Of prime-sparse: prime or uniform.
    pub grid: Option<&'static str>,
    /// What the prime grid costs against the uniform one at the same bits, where
    /// both were tried.
    pub prime_cost_db: Option<f64>,
    pub source_bytes: u64,
    /// Payload, tables and index.
    pub stored_bytes: u64,
    pub weights: u64,
    pub bits_per_weight: f64,
    pub ratio_source: f64,
    pub ratio_fp32: f64,
    /// Share of the elements that are exactly zero after decoding.
    pub sparsity: f64,
    pub snr_db: Option<f64>,
    /// Time from the first look at the tensor to its last block.
    pub seconds: f64,
    #[serde(skip)]
    zeros: u64,
    #[serde(skip)]
    signal: f64,
    #[serde(skip)]
    noise: f64,
}

impl TensorReport {
    pub fn new(
        tensor: &ShardTensor,
        plan: &Plan,
        array: &ArrayInfo,
        stored: u64,
        exact: Option<Reason>,
        spent: Duration,
    ) -> TensorReport {
        let weights = tensor.elements();
        TensorReport {
            codec: array.codec.name(),
            grid: array.codec.prime_sparse().map(|p| p.grid.name()),
            prime_cost_db: match &plan.coding {
                Coding::PrimeSparse(lossy) => lossy.grid_cost_db,
                Coding::Trellis(coding) => coding.grid_cost_db,
                _ => None,
            },
            stored_bytes: stored,
            bits_per_weight: 8.0 * stored as f64 / weights as f64,
            ratio_source: tensor.length as f64 / stored as f64,
            ratio_fp32: 4.0 * weights as f64 / stored as f64,
            sparsity: array.zeros as f64 / weights as f64,
            snr_db: array.snr_db(),
            seconds: spent.as_secs_f64(),
            zeros: array.zeros,
            signal: array.signal,
            noise: array.noise,
            ..TensorReport::empty(tensor, exact)
        }
    }

    /// A tensor without elements.
    pub fn empty(tensor: &ShardTensor, exact: Option<Reason>) -> TensorReport {
        TensorReport {
            name: tensor.name.clone(),
            file: String::new(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            codec: "stored",
            exact,
            grid: None,
            prime_cost_db: None,
            source_bytes: tensor.length,
            stored_bytes: 0,
            weights: tensor.elements(),
            bits_per_weight: 0.0,
            ratio_source: 1.0,
            ratio_fp32: 1.0,
            sparsity: 0.0,
            snr_db: None,
            seconds: 0.0,
            zeros: 0,
            signal: 0.0,
            noise: 0.0,
        }
    }
}

impl Report {
    pub fn add(&mut self, tensor: TensorReport) {
        self.signal += tensor.signal;
        self.noise += tensor.noise;
        self.zeros += tensor.zeros;
        self.weights += tensor.weights;
        self.tensors.push(tensor);
    }

    /// The tensors added since the last call are of this file.
    pub fn name_file(&mut self, path: &str) {
        let unnamed = self.tensors.iter_mut().rev().take_while(|tensor| tensor.file.is_empty());
        unnamed.for_each(|tensor| tensor.file = path.to_owned());
    }

    /// Works out the totals once the archive is written.
    pub fn finish(&mut self, tree: &SourceTree, threads: usize, elapsed: Duration) {
        let file = self.file_bytes as f64;
        self.source_bytes = tree.converted_shard_bytes();
        self.bits_per_weight = 8.0 * file / self.weights.max(1) as f64;
        self.ratio_source = self.source_bytes as f64 / file;
        self.ratio_fp32 = 4.0 * self.weights as f64 / file;
        self.sparsity = self.zeros as f64 / self.weights.max(1) as f64;
        self.snr_db = snr_db(self.signal, self.noise);
        self.seconds = elapsed.as_secs_f64();
        self.threads = threads;
        self.left_out.clone_from(&tree.left_out);
        self.exact = self.exact_by_reason();
    }

    fn exact_by_reason(&self) -> Vec<ExactTotal> {
        let all: u64 = self.tensors.iter().map(|tensor| tensor.source_bytes).sum();
        let of = |reason| {
            let mut sum = ExactTotal { reason, tensors: 0, source_bytes: 0, stored_bytes: 0, share: 0.0 };
            for tensor in self.tensors.iter().filter(|tensor| tensor.exact == Some(reason)) {
                sum.tensors += 1;
                sum.source_bytes += tensor.source_bytes;
                sum.stored_bytes += tensor.stored_bytes;
            }
            sum.share = sum.source_bytes as f64 / all.max(1) as f64;
            sum
        };
        Reason::ALL.into_iter().map(of).filter(|sum| sum.tensors > 0).collect()
    }
}
