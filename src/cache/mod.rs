//! Decoded blocks, least recently used evicted first, within a byte budget.
//!
//! A block is decoded once however many readers ask for it at a time: the first
//! decodes, without holding any lock, the others wait for it. The budget covers what is
//! being decoded, too.

mod block;
mod flight;
mod stats;

use std::collections::{HashMap, VecDeque};

use lru::LruCache;
use memmap2::MmapMut;

use crate::archive::ArrayId;
use crate::buffer;
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use block::Block;
use block::{Buffer, MAPPED_FROM, cost, mapped};
use flight::{Flight, Landing};
pub use stats::CacheStats;

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
}

struct State {
    blocks: LruCache<BlockKey, Arc<Block>>,
    flights: HashMap<BlockKey, Awaited>,
    spare: VecDeque<MmapMut>,
    /// Blocks that were read to the end, the first of them first.
    consumed: VecDeque<BlockKey>,
    /// Under the lock, so that the counts agree with each other whenever they are looked at.
    stats: CacheStats,
}

/// A flight, and how many readers wait for it.
struct Awaited {
    flight: Arc<Flight>,
    readers: u64,
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
            flights: HashMap::new(),
            spare: VecDeque::new(),
            consumed: VecDeque::new(),
            stats: CacheStats { capacity, ..CacheStats::default() },
        };
        BlockCache { state: Mutex::new(state), capacity, recycles: all > capacity }
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether a block is here, or on its way.
    pub fn holds(&self, key: BlockKey) -> bool {
        self.lock().holds(key)
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
                let mut guard = self.lock();
                let state = &mut *guard;
                if let Some(block) = state.blocks.get(&key) {
                    state.stats.hits += 1;
                    block.used.store(true, Relaxed);
                    return Ok(block.clone());
                }
                match state.flights.get_mut(&key) {
                    Some(awaited) => {
                        awaited.readers += 1;
                        awaited.flight.clone()
                    }
                    None => {
                        state.stats.misses += 1;
                        // If there is too little, it is served all the same.
                        state.make_room(cost(length));
                        let pilot = self.take_off(state, key, cost(length));
                        drop(guard);
                        return self.decode(pilot, Purpose::Asked, length, decode);
                    }
                }
            };
            if let Landing::Decoded(block) = flight.wait() {
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
            // It does not become younger by this: that it will be wanted was known.
            if state.holds(key) || !state.can_have_room(cost(length)) {
                return Ok(());
            }
            state.stats.ahead_blocks += 1;
            state.make_room(cost(length));
            self.take_off(&mut state, key, cost(length))
        };
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

    fn take_off(&self, state: &mut State, key: BlockKey, cost: u64) -> Pilot<'_> {
        let flight = Arc::new(Flight::default());
        state.flights.insert(key, Awaited { flight: flight.clone(), readers: 0 });
        state.stats.in_flight += cost;
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
        let block = Arc::new(block);
        pilot.landing = Landing::Decoded(block.clone());
        Ok(block)
    }

    fn allocate(&self, length: usize) -> Result<Buffer> {
        if length < MAPPED_FROM {
            return Ok(Buffer::Heap(buffer::of(length)?));
        }
        let whole = mapped(length);
        let mut state = self.lock();
        // Before the spare ones, so that this list is as short as few blocks are in use.
        while state.consumed.len() > CONSUMED_KEPT {
            let Some(key) = state.consumed.pop_front() else { break };
            // It may have been evicted and decoded again since, for somebody who has yet to read it.
            if !state.blocks.peek(&key).is_some_and(|block| block.is_consumed()) {
                continue;
            }
            let freed = state.blocks.pop(&key).and_then(|block| state.evict(block));
            if let Some(buffer) = freed.filter(|buffer| buffer.len() == whole) {
                return Ok(Buffer::Mapped(buffer, length));
            }
        }
        let spare = state.spare.iter().position(|buffer| buffer.len() == whole);
        if let Some(buffer) = spare.and_then(|i| state.spare.remove(i)) {
            return Ok(Buffer::Mapped(buffer, length));
        }
        drop(state);
        let fresh = MmapMut::map_anon(whole).map_err(|_| Error::NoMemory)?;
        Ok(Buffer::Mapped(fresh, length))
    }

    pub fn stats(&self) -> CacheStats {
        self.lock().stats
    }

    /// Nothing that is done under this lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn holds(&self, key: BlockKey) -> bool {
        self.blocks.contains(&key) || self.flights.contains_key(&key)
    }

    /// Whether evicting can make room for so many bytes.
    fn can_have_room(&self, cost: u64) -> bool {
        self.stats.in_flight + cost <= self.stats.capacity
    }

    /// Evicts until there is room for so many bytes, or nothing is left.
    fn make_room(&mut self, cost: u64) {
        while self.stats.bytes + self.stats.in_flight + cost > self.stats.capacity {
            let Some((_, block)) = self.blocks.pop_lru() else { return };
            if let Some(buffer) = self.evict(block) {
                // The oldest may be of a length that nobody asks for again.
                if self.spare.len() == SPARE_BUFFERS {
                    self.spare.pop_front();
                }
                self.spare.push_back(buffer);
            }
        }
    }

    /// Takes note that a block is kept no longer, and gives its memory, if that is a mapping.
    fn evict(&mut self, block: Arc<Block>) -> Option<MmapMut> {
        self.stats.bytes -= block.cost();
        self.stats.evictions += 1;
        self.stats.wasted_blocks += u64::from(!block.used.load(Relaxed));
        // Readers may still hold it; then it goes when they let go.
        match Arc::into_inner(block) {
            Some(Block { buffer: Buffer::Mapped(buffer, _), .. }) => Some(buffer),
            _ => None,
        }
    }

    fn land(&mut self, key: BlockKey, cost: u64, landing: &Landing) {
        let readers = self.flights.remove(&key).map_or(0, |awaited| awaited.readers);
        self.stats.in_flight -= cost;
        let Landing::Decoded(block) = landing else { return };
        self.stats.decoded_blocks += 1;
        self.stats.decoded_bytes += block.len() as u64;
        self.stats.hits += readers;
        if readers > 0 {
            block.used.store(true, Relaxed);
        }
        // There is room, and nothing to evict, unless it was decoded for want of any: then it may
        // not be kept.
        if self.can_have_room(cost) {
            self.stats.bytes += cost;
            self.blocks.put(key, block.clone());
        } else {
            self.stats.wasted_blocks += u64::from(!block.used.load(Relaxed));
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
        self.cache.lock().land(self.key, self.cost, &self.landing);
        self.flight.land(self.landing.clone());
    }
}

#[cfg(test)]
mod tests;
