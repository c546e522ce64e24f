//! Decoding everything that an archive holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use crate::archive::{Archive, ArrayId};
use crate::error::{Error, Result};
use crate::format::ArrayInfo;
use crate::ops::convert::Progress;

/// Hands every block of every array to `visit`, decoded, in about the order in which they
/// lie in the file, from several threads; or the error, if it does not decode. Ends early
/// if `visit` fails.
///
/// Uses as much memory as the largest block has, decoded and stored, for each thread. No
/// thread is left when it returns.
pub fn decode_all(
    archive: &Archive,
    threads: usize,
    progress: &dyn Progress,
    visit: impl Fn(ArrayId, u32, Result<&[u8]>) -> Result<()> + Sync,
) -> Result<()> {
    let arrays = &archive.index().arrays;
    progress.begin(arrays.iter().map(ArrayInfo::byte_len).fold(0, u64::saturating_add));
    // Blocks of all arrays up to and with each.
    let ends: Vec<u64> = arrays
        .iter()
        .scan(0, |end, array| {
            *end += u64::from(array.block_count());
            Some(*end)
        })
        .collect();
    let (next, stop, failure) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(None));
    let work = || {
        let mut bytes = Vec::new();
        while !stop.load(Relaxed) {
            let i = next.fetch_add(1, Relaxed);
            let number = ends.partition_point(|&end| end <= i);
            let Some(array) = arrays.get(number) else { return Ok(()) };
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let block = (u64::from(array.block_count()) - (ends[number] - i)) as u32;
            let id = ArrayId(number as u32);
            let length = array.bytes_of_block(block) as usize;
            bytes.try_reserve_exact(length.saturating_sub(bytes.len())).map_err(Error::no_memory)?;
            bytes.resize(length, 0);
            let decoded = archive.decode_block(id, block, &mut bytes);
            visit(id, block, decoded.map(|()| bytes.as_slice()))?;
            progress.advance(bytes.len() as u64);
        }
        Ok(())
    };
    let fail = |error| {
        stop.store(true, Relaxed);
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let started = Builder::new().spawn_scoped(scope, || work().unwrap_or_else(fail));
            if let Err(error) = started {
                fail(Error::io("cannot start a thread", error));
            }
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
