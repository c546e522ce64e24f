//! The passes over a tensor before it is encoded: counting its values.

use std::cell::RefCell;

use rayon::prelude::*;

use super::Progress;
use super::plan::{Lossy, Quality};
use crate::codec::histogram::Histogram;
use crate::codec::params::ENTRIES;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::shard::ShardTensor;
use crate::source::{LocalFile, ReadAt};

/// Bytes that a thread reads at a time.
const CHUNK: u64 = 8 << 20;

/// Counts the upper bits of all elements of a tensor, on all threads of the pool.
pub fn histogram(source: &LocalFile, tensor: &ShardTensor, dtype: Dtype, progress: &dyn Progress) -> Result<Histogram> {
    chunks(source, tensor, progress, |bytes| {
        let mut histogram = Histogram::new(dtype);
        histogram.add(bytes);
        histogram
    })
    .try_reduce(|| Histogram::new(dtype), |a, b| Ok(a.merge(&b)))
}

/// What the histogram of F32, of the upper 16 bits, does not tell exactly: how often
/// each symbol occurs, and what the quantiser does to the tensor.
pub fn count_symbols(
    source: &LocalFile,
    tensor: &ShardTensor,
    lossy: &Lossy,
    progress: &dyn Progress,
) -> Result<([u64; ENTRIES], Quality)> {
    let chunks: Vec<([u64; ENTRIES], Quality)> = chunks(source, tensor, progress, |bytes| {
        let (mut counts, mut quality) = ([0; ENTRIES], Quality::default());
        for &element in bytes.as_chunks().0 {
            let element = u32::from_le_bytes(element);
            counts[usize::from(lossy.quantiser.symbol(f32::from_bits(element)).0)] += 1;
            lossy.measure(element, 1, &mut quality);
        }
        (counts, quality)
    })
    .collect::<Result<_>>()?;
    // In order: sums of f64 depend on it, and the file must not depend on threads.
    let (mut counts, mut quality) = ([0; ENTRIES], Quality::default());
    for (of_chunk, quality_of_chunk) in &chunks {
        counts.iter_mut().zip(of_chunk).for_each(|(sum, count)| *sum += count);
        quality.add(quality_of_chunk);
    }
    Ok((counts, quality))
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads a tensor in chunks, on all threads of the pool.
fn chunks<T: Send>(
    source: &LocalFile,
    tensor: &ShardTensor,
    progress: &dyn Progress,
    each: impl Fn(&[u8]) -> T + Sync + Send,
) -> impl IndexedParallelIterator<Item = Result<T>> {
    (0..tensor.length.div_ceil(CHUNK) as usize).into_par_iter().map(move |i| {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let start = i as u64 * CHUNK;
        let len = CHUNK.min(tensor.length - start) as usize;
        BUFFER.with_borrow_mut(|buffer| {
            // Kept: fresh memory takes as long as counting does.
            buffer.resize(buffer.len().max(len), 0);
            let bytes = &mut buffer[..len];
            source.read_exact_at(bytes, tensor.offset + start)?;
            Ok(each(bytes))
        })
    })
}
