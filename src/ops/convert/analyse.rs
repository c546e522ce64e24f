//! The passes over a tensor before it is encoded: counting its values.

use std::cell::RefCell;

use rayon::prelude::*;

use super::rows;
use crate::buffer::fit;
use crate::codec::float;
use crate::codec::histogram::Histogram;
use crate::codec::params::ENTRIES;
use crate::codec::sparse::Quantiser;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::ops::progress::Progress;
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// Bytes that a thread reads at a time.
const CHUNK: u64 = 8 << 20;

/// What a look at every element says.
pub struct Survey {
    pub histogram: Histogram,
    /// Size of each row ([`rows::size`]), if asked for.
    pub rms: Vec<f32>,
}

/// Looks at all elements of a tensor, on all threads of the pool. `row_len`: of rows
/// to be measured, at most a chunk long.
pub fn survey(
    source: &LocalFile,
    tensor: &ShardTensor,
    dtype: Dtype,
    row_len: Option<u64>,
    progress: &dyn Progress,
) -> Result<Survey> {
    let width = dtype.width_in_array() as u64;
    let row_bytes = row_len.unwrap_or(1) * width;
    chunks(source, tensor, CHUNK / row_bytes * row_bytes, progress, |bytes| {
        let mut histogram = Histogram::new(dtype);
        histogram.add(bytes);
        let mut values = Vec::new();
        let mut rms = |row: &[u8]| {
            values.clear();
            float::extend_values(dtype, row, &mut values);
            rows::size(&values)
        };
        let rms = row_len.map_or_else(Vec::new, |_| bytes.chunks(row_bytes as usize).map(&mut rms).collect());
        Survey { histogram, rms }
    })
    .try_reduce(
        || Survey { histogram: Histogram::new(dtype), rms: Vec::new() },
        |a, mut b| {
            let mut rms = a.rms;
            rms.append(&mut b.rms);
            Ok(Survey { histogram: a.histogram.merge(&b.histogram), rms })
        },
    )
}

/// How often each symbol occurs: the histogram of F32, of the upper 16 bits, does not
/// tell exactly.
pub fn count_symbols(
    source: &LocalFile,
    tensor: &ShardTensor,
    quantiser: &Quantiser,
    progress: &dyn Progress,
) -> Result<[u64; ENTRIES]> {
    chunks(source, tensor, CHUNK, progress, |bytes| {
        let mut counts = [0; ENTRIES];
        for &element in bytes.as_chunks().0 {
            counts[usize::from(quantiser.symbol(f32::from_le_bytes(element)).0)] += 1;
        }
        counts
    })
    .try_reduce(|| [0; ENTRIES], |a, b| Ok(std::array::from_fn(|i| a[i] + b[i])))
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads a tensor in chunks of so many bytes, on all threads of the pool.
fn chunks<T: Send>(
    source: &LocalFile,
    tensor: &ShardTensor,
    chunk: u64,
    progress: &dyn Progress,
    each: impl Fn(&[u8]) -> T + Sync + Send,
) -> impl IndexedParallelIterator<Item = Result<T>> {
    (0..tensor.length.div_ceil(chunk) as usize).into_par_iter().map(move |i| {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let start = i as u64 * chunk;
        let len = chunk.min(tensor.length - start) as usize;
        BUFFER.with_borrow_mut(|buffer| {
            // Kept: fresh memory takes as long as counting does.
            fit(buffer, len)?;
            source.read_exact_at(buffer, tensor.offset + start)?;
            Ok(each(buffer))
        })
    })
}
