//! Decoded blocks, least recently used evicted first, within a byte budget.
//!
//! A block is decoded once however many readers ask for it at a time: the first
//! decodes, without holding any lock, the others wait for it.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use memmap2::MmapMut;

use crate::archive::ArrayId;
use crate::error::{Error, Result};

/// Array and number of the block in it.
pub type BlockKey = (ArrayId, u32);

/// The bytes of a block. Large ones have a mapping of their own, so that memory
/// goes back to the system when they do, and none is lost to fragmentation.
pub struct Block(Buffer);

enum Buffer {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

/// Buffers from this size on are mapped.
const MAPPED_FROM: usize = 256 << 10;
/// Mapped buffers kept for the next block: their pages are already there.
const SPARE_BUFFERS: usize = 8;

pub struct BlockCache {
    state: Mutex<State>,
    capacity: u64,
    counters: Counters,
}

struct State {
    blocks: LruCache<BlockKey, Arc<Block>>,
    bytes: u64,
    flights: HashMap<BlockKey, Arc<Flight>>,
    spare: Vec<MmapMut>,
}

/// A block that somebody is decoding.
#[derive(Default)]
struct Flight {
    landed: Mutex<Option<Landing>>,
    changed: Condvar,
}

#[derive(Clone)]
enum Landing {
    Decoded(Arc<Block>),
    /// Whoever waits tries for itself, and gets the error first-hand.
    Failed,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    decoded_blocks: AtomicU64,
    decoded_bytes: AtomicU64,
}

/// What the cache has done so far, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    pub bytes: u64,
    pub capacity: u64,
    pub decoded_blocks: u64,
    pub decoded_bytes: u64,
}

impl BlockCache {
    /// With room for `capacity` bytes of decoded blocks.
    pub fn new(capacity: u64) -> BlockCache {
        let state = State { blocks: LruCache::unbounded(), bytes: 0, flights: HashMap::new(), spare: Vec::new() };
        BlockCache { state: Mutex::new(state), capacity, counters: Counters::default() }
    }

    /// The block, decoded into `length` bytes by `decode` if it is not here.
    pub fn get(
        &self,
        key: BlockKey,
        length: usize,
        decode: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Arc<Block>> {
        loop {
            let flight = {
                let mut state = self.lock();
                if let Some(block) = state.blocks.get(&key) {
                    self.counters.hits.fetch_add(1, Relaxed);
                    return Ok(block.clone());
                }
                match state.flights.get(&key) {
                    Some(flight) => flight.clone(),
                    None => {
                        let flight = Arc::new(Flight::default());
                        state.flights.insert(key, flight.clone());
                        drop(state);
                        return self.decode(key, length, flight, decode);
                    }
                }
            };
            if let Landing::Decoded(block) = flight.wait() {
                self.counters.hits.fetch_add(1, Relaxed);
                return Ok(block);
            }
        }
    }

    fn decode(
        &self,
        key: BlockKey,
        length: usize,
        flight: Arc<Flight>,
        decode: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Arc<Block>> {
        // Ends the flight on every way out of here, an unwinding panic included.
        let mut pilot = Pilot { cache: self, key, flight, landing: Landing::Failed };
        self.counters.misses.fetch_add(1, Relaxed);
        let mut block = self.allocate(length)?;
        decode(block.bytes_mut())?;
        self.counters.decoded_blocks.fetch_add(1, Relaxed);
        self.counters.decoded_bytes.fetch_add(length as u64, Relaxed);
        let block = Arc::new(block);
        pilot.landing = Landing::Decoded(block.clone());
        Ok(block)
    }

    fn allocate(&self, length: usize) -> Result<Block> {
        if length < MAPPED_FROM {
            return Ok(Block(Buffer::Heap(vec![0; length])));
        }
        let mut state = self.lock();
        let spare = state.spare.iter().position(|buffer| buffer.len() == length);
        if let Some(i) = spare {
            return Ok(Block(Buffer::Mapped(state.spare.swap_remove(i))));
        }
        drop(state);
        let mapping = MmapMut::map_anon(length).map_err(|e| Error::io("memory for a block", e))?;
        Ok(Block(Buffer::Mapped(mapping)))
    }

    pub fn stats(&self) -> CacheStats {
        let bytes = self.lock().bytes;
        CacheStats {
            hits: self.counters.hits.load(Relaxed),
            misses: self.counters.misses.load(Relaxed),
            evictions: self.counters.evictions.load(Relaxed),
            bytes,
            capacity: self.capacity,
            decoded_blocks: self.counters.decoded_blocks.load(Relaxed),
            decoded_bytes: self.counters.decoded_bytes.load(Relaxed),
        }
    }

    /// Nothing that is done under this lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, key: BlockKey, landing: &Landing) {
        let mut state = self.lock();
        state.flights.remove(&key);
        let Landing::Decoded(block) = landing else { return };
        let length = block.len() as u64;
        if length > self.capacity {
            return;
        }
        while state.bytes + length > self.capacity {
            let Some((_, evicted)) = state.blocks.pop_lru() else { break };
            state.bytes -= evicted.len() as u64;
            self.counters.evictions.fetch_add(1, Relaxed);
            // Readers may still hold it; then it goes when they let go.
            if let Some(Block(Buffer::Mapped(buffer))) = Arc::into_inner(evicted)
                && state.spare.len() < SPARE_BUFFERS
            {
                state.spare.push(buffer);
            }
        }
        state.bytes += length;
        state.blocks.put(key, block.clone());
    }
}

/// Decodes on behalf of everybody who waits for the flight.
struct Pilot<'a> {
    cache: &'a BlockCache,
    key: BlockKey,
    flight: Arc<Flight>,
    landing: Landing,
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        self.cache.land(self.key, &self.landing);
        *self.flight.landed.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.landing.clone());
        self.flight.changed.notify_all();
    }
}

impl Flight {
    fn wait(&self) -> Landing {
        let mut landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(landing) = &*landed {
                return landing.clone();
            }
            landed = self.changed.wait(landed).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Block {
    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(bytes) => bytes,
        }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn key(i: u32) -> BlockKey {
        (ArrayId(0), i)
    }

    fn fill(byte: u8) -> impl FnOnce(&mut [u8]) -> Result<()> {
        move |bytes| {
            bytes.fill(byte);
            Ok(())
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_budget_holds() {
        for length in [10usize, MAPPED_FROM] {
            let cache = BlockCache::new(3 * length as u64);
            for i in 0..3 {
                cache.get(key(i), length, fill(i as u8)).expect("decodes");
            }
            cache.get(key(0), length, |_| panic!("cached")).expect("cached");
            cache.get(key(3), length, fill(3)).expect("decodes");
            cache.get(key(0), length, |_| panic!("used since")).expect("cached");
            let block = cache.get(key(1), length, fill(9)).expect("decodes again");
            assert!(block.iter().all(|&b| b == 9) && block.len() == length);
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.misses, stats.evictions), (2, 5, 2));
            assert_eq!((stats.bytes, stats.decoded_bytes), (3 * length as u64, 5 * length as u64));
        }
    }

    #[test]
    fn a_block_larger_than_the_budget_is_served_and_not_kept() {
        let cache = BlockCache::new(5);
        assert_eq!(cache.get(key(0), 6, fill(1)).expect("decodes")[..], [1; 6]);
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn many_readers_share_one_decode() {
        let cache = BlockCache::new(1000);
        let barrier = Barrier::new(8);
        let decodes = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let block = cache.get(key(0), 10, |bytes| {
                        decodes.fetch_add(1, Relaxed);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        fill(7)(bytes)
                    });
                    assert_eq!(block.expect("decodes")[..], [7; 10]);
                });
            }
        });
        assert_eq!(decodes.into_inner(), 1);
        assert_eq!(cache.stats().hits, 7);
    }

    #[test]
    fn failures_and_panics_reach_every_waiter_and_leave_nothing() {
        let cache = BlockCache::new(1000);
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for i in 0..4 {
                let (cache, barrier) = (&cache, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        cache.get(key(0), 10, |_| {
                            std::thread::sleep(std::time::Duration::from_millis(5));
                            assert!(i > 1, "a panic on purpose");
                            Err(Error::Invalid("on purpose".into()))
                        })
                    }));
                    assert!(!matches!(result, Ok(Ok(_))));
                });
            }
        });
        assert!(cache.lock().flights.is_empty());
        assert_eq!(cache.get(key(0), 10, fill(1)).expect("decodes")[..], [1; 10]);
    }
}
