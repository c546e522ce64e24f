//! The first pass over a tensor: counting its values.

use rayon::prelude::*;

use super::Progress;
use crate::codec::histogram::Histogram;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// Bytes that a thread reads at a time.
pub const CHUNK: u64 = 8 << 20;

/// Counts the upper bits of all elements of a tensor, on all threads of the pool.
pub fn histogram(source: &LocalFile, tensor: &ShardTensor, dtype: Dtype, progress: &dyn Progress) -> Result<Histogram> {
    (0..tensor.length.div_ceil(CHUNK))
        .into_par_iter()
        .map(|i| {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let start = i * CHUNK;
            let mut bytes = vec![0; CHUNK.min(tensor.length - start) as usize];
            source.read_exact_at(&mut bytes, tensor.offset + start)?;
            let mut histogram = Histogram::new(dtype);
            histogram.add(&bytes);
            Ok(histogram)
        })
        .try_reduce(|| Histogram::new(dtype), |a, b| Ok(a.merge(&b)))
}
