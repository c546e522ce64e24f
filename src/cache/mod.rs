//! Decoded blocks, least recently used evicted first, within a byte budget.
//!
//! A block is decoded once however many readers ask for it at a time: the first
//! decodes, without holding any lock, the others wait for it. The budget covers what is
//! being decoded, too.

mod block;
mod flight;
mod stats;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use memmap2::MmapMut;

use crate::archive::ArrayId;
use crate::error::{Error, Result};

pub use block::Block;
use block::{Buffer, MAPPED_FROM, cost};
use flight::{Flight, Landing};
pub use stats::CacheStats;
use stats::Counters;

/// Array and number of the block in it.
pub type BlockKey = (ArrayId, u32);

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
    spare: VecDeque<MmapMut>,
    /// Blocks that were read to the end, the first of them first.
    consumed: VecDeque<BlockKey>,
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
            spare: VecDeque::new(),
            consumed: VecDeque::new(),
        };
        BlockCache { state: Mutex::new(state), capacity, recycles: all > capacity, counters: Counters::default() }
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether a block is here, or on its way.
    pub fn holds(&self, key: BlockKey) -> bool {
        let state = self.lock();
        state.blocks.contains(&key) || state.flights.contains_key(&key)
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
                        self.reserve(&mut state, cost(length));
                        let pilot = self.take_off(&mut state, key, cost(length));
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
            if !self.reserve(&mut state, cost(length)) {
                return Ok(());
            }
            self.take_off(&mut state, key, cost(length))
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
    fn reserve(&self, state: &mut State, cost: u64) -> bool {
        while state.bytes + state.in_flight + cost > self.capacity {
            let Some((_, evicted)) = state.blocks.pop_lru() else { return false };
            state.bytes -= evicted.cost();
            self.counters.evictions.fetch_add(1, Relaxed);
            if !evicted.used.load(Relaxed) {
                self.counters.wasted_blocks.fetch_add(1, Relaxed);
            }
            // Readers may still hold it; then it goes when they let go.
            if let Some(Block { buffer: Buffer::Mapped(buffer), .. }) = Arc::into_inner(evicted) {
                // The oldest may be of a length that nobody asks for again.
                if state.spare.len() == SPARE_BUFFERS {
                    state.spare.pop_front();
                }
                state.spare.push_back(buffer);
            }
        }
        true
    }

    fn take_off(&self, state: &mut State, key: BlockKey, cost: u64) -> Pilot<'_> {
        let flight = Arc::new(Flight::default());
        state.flights.insert(key, flight.clone());
        state.in_flight += cost;
        Pilot { cache: self, key, cost, flight, landing: Landing::Failed }
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
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(length).map_err(Error::no_memory)?;
            bytes.resize(length, 0);
            return Ok(Buffer::Heap(bytes));
        }
        let mut state = self.lock();
        // Before the spare ones, so that this list is as short as few blocks are in use.
        while state.consumed.len() > CONSUMED_KEPT {
            let consumed = state.consumed.pop_front().and_then(|key| state.blocks.pop(&key));
            let Some(block) = consumed else { continue };
            state.bytes -= block.cost();
            self.counters.evictions.fetch_add(1, Relaxed);
            if let Some(Block { buffer: Buffer::Mapped(buffer), .. }) = Arc::into_inner(block)
                && buffer.len() == length
            {
                return Ok(Buffer::Mapped(buffer));
            }
        }
        let spare = state.spare.iter().position(|buffer| buffer.len() == length);
        if let Some(buffer) = spare.and_then(|i| state.spare.remove(i)) {
            return Ok(Buffer::Mapped(buffer));
        }
        drop(state);
        let mapping = MmapMut::map_anon(length).map_err(|e| Error::io("memory for a block", e))?;
        Ok(Buffer::Mapped(mapping))
    }

    pub fn stats(&self) -> CacheStats {
        let bytes = self.lock().bytes;
        self.counters.stats(bytes, self.capacity)
    }

    /// Nothing that is done under this lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, key: BlockKey, cost: u64, landing: &Landing) {
        let mut state = self.lock();
        state.flights.remove(&key);
        state.in_flight -= cost;
        let Landing::Decoded(block) = landing else { return };
        // Whoever asked was served without room, too; then it is not kept.
        if self.reserve(&mut state, cost) {
            state.bytes += cost;
            state.blocks.put(key, block.clone());
        }
    }
}

/// Decodes on behalf of everybody who waits for the flight.
struct Pilot<'a> {
    cache: &'a BlockCache,
    key: BlockKey,
    cost: u64,
    flight: Arc<Flight>,
    landing: Landing,
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        self.cache.land(self.key, self.cost, &self.landing);
        self.flight.land(self.landing.clone());
    }
}

#[cfg(test)]
mod tests;
