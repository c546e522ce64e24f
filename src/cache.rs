//! Decoded blocks, least recently used evicted first, within a byte budget.
//!
//! A block is decoded once however many readers ask for it at a time: the first
//! decodes, without holding any lock, the others wait for it. The budget covers what is
//! being decoded, too.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use memmap2::MmapMut;

use crate::archive::ArrayId;
use crate::error::{Error, Result};

/// Array and number of the block in it.
pub type BlockKey = (ArrayId, u32);

/// The bytes of a block. Large ones have a mapping of their own, so that memory
/// goes back to the system when they do, and none is lost to fragmentation.
pub struct Block {
    buffer: Buffer,
    /// Whether anybody asked for it: false of what was decoded ahead and not read yet.
    used: AtomicBool,
    /// Bytes of it that readers were given.
    served: AtomicU64,
}

enum Buffer {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

/// Buffers from this size on are mapped.
const MAPPED_FROM: usize = 256 << 10;
/// Mapped buffers kept for the next block: their pages are already there.
const SPARE_BUFFERS: usize = 8;
/// Blocks that were read to the end and stay for a while all the same, if such are
/// recycled: their bytes are still in the processor's cache.
const CONSUMED_KEPT: usize = 8;

pub struct BlockCache {
    state: Mutex<State>,
    capacity: u64,
    recycles: bool,
    counters: Counters,
}

struct State {
    blocks: LruCache<BlockKey, Arc<Block>>,
    bytes: u64,
    /// Of blocks that are being decoded.
    in_flight: u64,
    flights: HashMap<BlockKey, Arc<Flight>>,
    spare: Vec<MmapMut>,
    /// Blocks that were read to the end, the first of them first.
    consumed: VecDeque<BlockKey>,
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
    ahead_blocks: AtomicU64,
    wasted_blocks: AtomicU64,
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
    /// Blocks that were decoded before anybody asked for them.
    pub ahead_blocks: u64,
    /// Those of them that were evicted before anybody did.
    pub wasted_blocks: u64,
}

/// Why a block is decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Asked,
    Ahead,
}

impl BlockCache {
    /// With room for `capacity` bytes of decoded blocks, of `all` that there are.
    ///
    /// If all fit, all are kept. If not, a reader who goes from one end to the other finds
    /// nothing of what it read before, however long that is kept. Then a block that was
    /// read to the end gives its memory to the next before new memory is touched, which
    /// costs as much as decoding.
    pub fn new(capacity: u64, all: u64) -> BlockCache {
        let state = State {
            blocks: LruCache::unbounded(),
            bytes: 0,
            in_flight: 0,
            flights: HashMap::new(),
            spare: Vec::new(),
            consumed: VecDeque::new(),
        };
        BlockCache { state: Mutex::new(state), capacity, recycles: all > capacity, counters: Counters::default() }
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
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
                    block.used.store(true, Relaxed);
                    return Ok(block.clone());
                }
                match state.flights.get(&key) {
                    Some(flight) => flight.clone(),
                    None => {
                        self.reserve(&mut state, length as u64);
                        let pilot = self.take_off(&mut state, key, length as u64);
                        drop(state);
                        self.counters.misses.fetch_add(1, Relaxed);
                        return self.decode(pilot, Purpose::Asked, length, decode);
                    }
                }
            };
            if let Landing::Decoded(block) = flight.wait() {
                self.counters.hits.fetch_add(1, Relaxed);
                block.used.store(true, Relaxed);
                return Ok(block);
            }
        }
    }

    /// Decodes a block that somebody will ask for, unless it is here, or on its way, or
    /// there is no room for it.
    pub fn fetch_ahead(
        &self,
        key: BlockKey,
        length: usize,
        decode: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let pilot = {
            let mut state = self.lock();
            // Not `get`: that it will be wanted does not make it younger.
            if state.blocks.contains(&key) || state.flights.contains_key(&key) {
                return Ok(());
            }
            if !self.reserve(&mut state, length as u64) {
                return Ok(());
            }
            self.take_off(&mut state, key, length as u64)
        };
        self.counters.ahead_blocks.fetch_add(1, Relaxed);
        self.decode(pilot, Purpose::Ahead, length, decode).map(|_| ())
    }

    /// To be told that a reader was given so many bytes of a block.
    pub fn served(&self, key: BlockKey, block: &Block, bytes: u64) {
        let length = block.len() as u64;
        if self.recycles && length >= MAPPED_FROM as u64 {
            let before = block.served.fetch_add(bytes, Relaxed);
            if before < length && before + bytes >= length {
                self.lock().consumed.push_back(key);
            }
        }
    }

    /// Evicts until there is room for so many bytes; false if there is none.
    fn reserve(&self, state: &mut State, length: u64) -> bool {
        while state.bytes + state.in_flight + length > self.capacity {
            let Some((_, evicted)) = state.blocks.pop_lru() else { return false };
            state.bytes -= evicted.len() as u64;
            self.counters.evictions.fetch_add(1, Relaxed);
            if !evicted.used.load(Relaxed) {
                self.counters.wasted_blocks.fetch_add(1, Relaxed);
            }
            // Readers may still hold it; then it goes when they let go.
            if let Some(Block { buffer: Buffer::Mapped(buffer), .. }) = Arc::into_inner(evicted)
                && state.spare.len() < SPARE_BUFFERS
            {
                state.spare.push(buffer);
            }
        }
        true
    }

    fn take_off(&self, state: &mut State, key: BlockKey, length: u64) -> Pilot<'_> {
        let flight = Arc::new(Flight::default());
        state.flights.insert(key, flight.clone());
        state.in_flight += length;
        Pilot { cache: self, key, length, flight, landing: Landing::Failed }
    }

    /// The pilot ends the flight on every way out of here, an unwinding panic included.
    fn decode(
        &self,
        mut pilot: Pilot<'_>,
        purpose: Purpose,
        length: usize,
        decode: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Arc<Block>> {
        let mut block = Block {
            buffer: self.allocate(length)?,
            used: AtomicBool::new(purpose == Purpose::Asked),
            served: AtomicU64::new(0),
        };
        decode(block.bytes_mut())?;
        self.counters.decoded_blocks.fetch_add(1, Relaxed);
        self.counters.decoded_bytes.fetch_add(length as u64, Relaxed);
        let block = Arc::new(block);
        pilot.landing = Landing::Decoded(block.clone());
        Ok(block)
    }

    fn allocate(&self, length: usize) -> Result<Buffer> {
        if length < MAPPED_FROM {
            return Ok(Buffer::Heap(vec![0; length]));
        }
        let mut state = self.lock();
        let spare = state.spare.iter().position(|buffer| buffer.len() == length);
        if let Some(i) = spare {
            return Ok(Buffer::Mapped(state.spare.swap_remove(i)));
        }
        while state.consumed.len() > CONSUMED_KEPT {
            let consumed = state.consumed.pop_front().and_then(|key| state.blocks.pop(&key));
            let Some(block) = consumed else { continue };
            state.bytes -= block.len() as u64;
            self.counters.evictions.fetch_add(1, Relaxed);
            if let Some(Block { buffer: Buffer::Mapped(buffer), .. }) = Arc::into_inner(block)
                && buffer.len() == length
            {
                return Ok(Buffer::Mapped(buffer));
            }
        }
        drop(state);
        let mapping = MmapMut::map_anon(length).map_err(|e| Error::io("memory for a block", e))?;
        Ok(Buffer::Mapped(mapping))
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
            ahead_blocks: self.counters.ahead_blocks.load(Relaxed),
            wasted_blocks: self.counters.wasted_blocks.load(Relaxed),
        }
    }

    /// Nothing that is done under this lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, key: BlockKey, length: u64, landing: &Landing) {
        let mut state = self.lock();
        state.flights.remove(&key);
        state.in_flight -= length;
        let Landing::Decoded(block) = landing else { return };
        // Whoever asked was served without room, too; then it is not kept.
        if self.reserve(&mut state, length) {
            state.bytes += length;
            state.blocks.put(key, block.clone());
        }
    }
}

/// Decodes on behalf of everybody who waits for the flight.
struct Pilot<'a> {
    cache: &'a BlockCache,
    key: BlockKey,
    length: u64,
    flight: Arc<Flight>,
    landing: Landing,
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        self.cache.land(self.key, self.length, &self.landing);
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
        match &mut self.buffer {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(bytes) => bytes,
        }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.buffer {
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
            let cache = BlockCache::new(3 * length as u64, 0);
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
        let cache = BlockCache::new(5, 0);
        assert_eq!(cache.get(key(0), 6, fill(1)).expect("decodes")[..], [1; 6]);
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn what_was_read_to_the_end_makes_room_before_new_memory_is_touched() {
        let length = MAPPED_FROM as u64;
        let read = |cache: &BlockCache, i: u32| {
            let block = cache.get(key(i), length as usize, fill(i as u8)).expect("decodes");
            assert!(block.iter().all(|&b| b == i as u8));
            cache.served(key(i), &block, length / 2);
            cache.served(key(i), &block, length / 2);
        };
        for (all, kept) in [(1000 * length, CONSUMED_KEPT as u64 + 1), (100 * length, 100)] {
            let cache = BlockCache::new(100 * length, all);
            (0..100).for_each(|i| read(&cache, i));
            assert_eq!(cache.stats().bytes, kept * length);
            // What is kept are the last.
            cache.get(key(99), length as usize, |_| panic!("kept")).expect("kept");
        }
    }

    #[test]
    fn what_is_decoded_ahead_waits_for_its_reader_or_was_wasted() {
        let cache = BlockCache::new(20, 20);
        cache.fetch_ahead(key(0), 10, fill(1)).expect("decodes");
        cache.fetch_ahead(key(0), 10, |_| panic!("there already")).expect("nothing to do");
        assert_eq!(cache.get(key(0), 10, |_| panic!("decoded ahead")).expect("there")[..], [1; 10]);
        cache.fetch_ahead(key(1), 10, fill(2)).expect("decodes");
        assert!(cache.fetch_ahead(key(2), 10, |_| Err(Error::Invalid("on purpose".into()))).is_err());
        for i in 3..5 {
            cache.get(key(i), 10, fill(3)).expect("decodes");
        }
        let stats = cache.stats();
        assert_eq!((stats.ahead_blocks, stats.wasted_blocks, stats.hits, stats.misses), (3, 1, 1, 2));
        // No room while everything is in flight: nobody waits for it, so it is not done.
        let full = BlockCache::new(10, 20);
        full.get(key(0), 10, |bytes| {
            full.fetch_ahead(key(1), 10, |_| panic!("no room"))?;
            fill(4)(bytes)
        })
        .expect("decodes");
        assert_eq!(full.stats().bytes, 10);
    }

    #[test]
    fn many_readers_share_one_decode() {
        let cache = BlockCache::new(1000, 0);
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
        let cache = BlockCache::new(1000, 0);
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
