//! Decoding many blocks at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use super::reader::{Archive, ArrayId};
use crate::buffer::fit;
use crate::error::{Error, Result};

impl Archive {
    /// Hands every block of these arrays to `visit`, from several threads and in about the order
    /// given: the array's position in the list, the block's number, and its bytes, or the error
    /// if it does not decode. Ends with the first error of `visit`.
    ///
    /// Uses as much memory as the largest block has, decoded and stored, for each thread. No
    /// thread is left when it returns.
    pub fn decode_all(
        &self,
        arrays: &[ArrayId],
        threads: usize,
        visit: impl Fn(usize, u32, Result<&[u8]>) -> Result<()> + Sync,
    ) -> Result<()> {
        // Blocks of all arrays up to and with each.
        let ends: Vec<u64> = arrays
            .iter()
            .scan(0, |end, &id| {
                *end += u64::from(self.array(id).block_count());
                Some(*end)
            })
            .collect();
        let (next, stop, failure) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            let mut bytes = Vec::new();
            while !stop.load(Relaxed) {
                let i = next.fetch_add(1, Relaxed);
                let position = ends.partition_point(|&end| end <= i);
                let Some(&id) = arrays.get(position) else { return Ok(()) };
                let array = self.array(id);
                let block = (u64::from(array.block_count()) - (ends[position] - i)) as u32;
                fit(&mut bytes, array.bytes_of_block(block) as usize)?;
                let decoded = self.decode_block(id, block, &mut bytes);
                visit(position, block, decoded.map(|()| bytes.as_slice()))?;
            }
            Ok(())
        };
        let fail = |error| {
            stop.store(true, Relaxed);
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        };
        std::thread::scope(|scope| {
            // No more of them than there are blocks.
            let blocks = ends.last().copied().unwrap_or(0);
            for _ in 0..(threads.max(1) as u64).min(blocks) {
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
}
