//! The cache: readers, blocks decoded ahead, too little room, and decoding that fails or panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Arc;
use shuttle::thread;
use upg::archive::ArrayId;
use upg::error::{Error, Result};
use upg_schedules::cache::{Block, BlockCache, BlockKey};
use upg_schedules::check::{check, exhaust};

/// From this size on, blocks are mapped and recycled.
const LARGE: usize = 256 << 10;
/// What their mappings are rounded up to.
const MAPPED_STEP: usize = 64 << 10;
const SMALL: usize = 1000;
/// Bytes apart of the numbers that make up a block: few, so that more schedules are run.
const STRIDE: usize = 16 << 10;
const BLOCKS: usize = 4;

/// A cache, what was done with it, and what ought to come of that. Its own records are the
/// standard library's: they are not to be looked at by the checker.
struct World {
    cache: BlockCache,
    lengths: [usize; BLOCKS],
    faults: bool,
    gets: AtomicU64,
    decoding: [AtomicBool; BLOCKS],
    /// Of every decode that succeeded, in order: whether it was ahead, and whether a reader got it.
    decoded: Mutex<Vec<Decoded>>,
}

#[derive(Clone, Copy, Default)]
struct Decoded {
    ahead: bool,
    read: bool,
}

/// What decoding panics with, without a word on the terminal.
struct OnPurpose;

impl World {
    fn new(capacity: u64, all: u64, lengths: [usize; BLOCKS], faults: bool) -> World {
        World {
            cache: BlockCache::new(capacity, all),
            lengths,
            faults,
            gets: AtomicU64::new(0),
            decoding: Default::default(),
            decoded: Mutex::default(),
        }
    }

    /// Decodes a block into its number, that of this decode, and more of the same.
    fn decode(&self, i: usize, ahead: bool, failed: &AtomicBool, out: &mut [u8]) -> Result<()> {
        assert!(!self.decoding[i].swap(true, Relaxed), "two decode a block at once");
        assert!(self.stats_that_agree() >= cost(out.len()), "what is being decoded is not counted");
        let outcome = if self.faults { thread_rng().gen_range(0..6) } else { 2 };
        self.decoding[i].store(false, Relaxed);
        failed.store(outcome < 2, Relaxed);
        match outcome {
            0 => resume_unwind(Box::new(OnPurpose)),
            1 => return Err(Error::Invalid("on purpose".into())),
            _ => {}
        }
        let mut decoded = self.decoded.lock().expect("records");
        fill(out, i, decoded.len());
        decoded.push(Decoded { ahead, read: false });
        Ok(())
    }

    fn get(&self, i: usize) -> Option<Arc<Block>> {
        let failed = AtomicBool::new(false);
        let result = caught(|| self.cache.get(key(i), self.lengths[i], |out| self.decode(i, false, &failed, out)));
        self.gets.fetch_add(1, Relaxed);
        // Nobody gets an error, or a panic, of somebody else's.
        assert_eq!(failed.into_inner(), !matches!(result, Ok(Ok(_))));
        let block = result.ok()?.ok()?;
        let serial = serial(&block, i, self.lengths[i]);
        self.decoded.lock().expect("records")[serial].read = true;
        Some(block)
    }

    fn fetch_ahead(&self, i: usize) {
        let failed = AtomicBool::new(false);
        let fetch = || self.cache.fetch_ahead(key(i), self.lengths[i], |out| self.decode(i, true, &failed, out));
        let result = caught(fetch);
        assert_eq!(failed.into_inner(), !matches!(result, Ok(Ok(()))));
    }

    /// Bytes of blocks that are being decoded.
    fn stats_that_agree(&self) -> u64 {
        let stats = self.cache.stats();
        assert!(stats.bytes == 0 || stats.bytes + stats.in_flight <= stats.capacity, "{stats:?}");
        assert!(stats.wasted_blocks <= stats.ahead_blocks, "{stats:?}");
        assert!(stats.decoded_blocks <= stats.misses + stats.ahead_blocks, "{stats:?}");
        stats.in_flight
    }

    /// Some of what threads do with a cache, holding blocks meanwhile.
    fn go_on(&self, steps: usize) {
        let mut held: Vec<(usize, usize, Arc<Block>)> = Vec::new();
        for _ in 0..steps {
            let i = thread_rng().gen_range(0..BLOCKS);
            match thread_rng().gen_range(0..6) {
                0 | 1 => self.fetch_ahead(i),
                2 => drop(self.cache.holds(key(i))),
                _ => {
                    let Some(block) = self.get(i) else { continue };
                    if thread_rng().gen_bool(0.7) {
                        self.cache.served(key(i), &block, block.len() as u64);
                    }
                    held.push((i, serial(&block, i, self.lengths[i]), block));
                }
            }
            self.stats_that_agree();
            if held.len() > 2 || thread_rng().gen_bool(0.3) {
                held.drain(..1.min(held.len()));
            }
            // Whatever was evicted and recycled meanwhile: not what a reader holds.
            for (i, before, block) in &held {
                assert_eq!(serial(block, *i, self.lengths[*i]), *before);
            }
        }
    }

    /// What must be when nobody does anything any more.
    fn finish(&self) {
        let stats = self.cache.stats();
        let decoded = self.decoded.lock().expect("records").clone();
        assert_eq!(self.stats_that_agree(), 0);
        assert_eq!(stats.hits + stats.misses, self.gets.load(Relaxed));
        assert_eq!(stats.decoded_blocks, decoded.len() as u64);
        // Of a block that is here, the cache hands out the decode that it keeps.
        let mut bytes = 0;
        let mut unread = decoded.iter().filter(|decoded| decoded.ahead && !decoded.read).count() as u64;
        for i in (0..BLOCKS).filter(|&i| self.cache.holds(key(i))) {
            let block = self.cache.get(key(i), self.lengths[i], |_| panic!("it is here")).expect("it is here");
            unread -= u64::from(!decoded[serial(&block, i, self.lengths[i])].read);
            bytes += cost(self.lengths[i]);
        }
        assert_eq!(stats.bytes, bytes);
        assert_eq!(stats.wasted_blocks, unread);
        // No flight is left that anybody could wait for: every block can be had.
        for i in 0..BLOCKS {
            self.cache.get(key(i), self.lengths[i], |_| Ok(())).expect("decodes");
        }
    }
}

fn key(i: usize) -> BlockKey {
    (ArrayId(0), i as u32)
}

/// What a block takes of the budget, as the cache says.
fn cost(length: usize) -> u64 {
    let taken = if length < LARGE { length + length / 8 } else { length.next_multiple_of(MAPPED_STEP) };
    taken as u64
}

fn fill(out: &mut [u8], i: usize, serial: usize) {
    let number = ((i as u64) << 32 | serial as u64).to_ne_bytes();
    out.chunks_mut(STRIDE).for_each(|chunk| chunk[..8].copy_from_slice(&number));
    let end = out.len() - 8;
    out[end..].copy_from_slice(&number);
}

/// The number of the decode that a block is the whole result of.
fn serial(block: &Block, i: usize, length: usize) -> usize {
    assert_eq!(block.len(), length);
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
    let first = number(&block[..8]);
    assert!(block.chunks(STRIDE).all(|chunk| number(&chunk[..8]) == first), "of several decodes");
    assert_eq!(number(&block[length - 8..]), first, "of several decodes");
    assert_eq!((first >> 32) as usize, i, "of another block");
    first as u32 as usize
}

/// The outcome, unless it panicked on purpose.
fn caught<T>(f: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload: Box<dyn Any + Send>| {
        if !payload.is::<OnPurpose>() {
            resume_unwind(payload);
        }
    })
}

fn together(world: World, threads: usize, each: impl Fn(&World) + Copy + Send + Sync + 'static) {
    let world = Arc::new(world);
    let running: Vec<_> = (0..threads)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || each(&world))
        })
        .collect();
    running.into_iter().for_each(|thread| thread.join().expect("no panic but on purpose"));
    world.finish();
}

#[test]
fn while_all_is_kept_a_block_is_decoded_once() {
    check(1000, || {
        together(World::new(1 << 20, 0, [SMALL; BLOCKS], false), 4, |world| {
            world.go_on(6);
            assert!(world.decoded.lock().expect("records").len() <= BLOCKS);
        });
    });
}

#[test]
fn with_room_for_few_blocks_they_come_and_go() {
    check(2000, || {
        let world = World::new(2 * cost(SMALL), 1 << 20, [SMALL, SMALL, SMALL / 2, SMALL / 3], false);
        together(world, 4, |world| world.go_on(5));
    });
}

#[test]
fn memory_is_recycled_only_when_nobody_reads_it() {
    check(300, || {
        // Of the last two, one takes the other's memory.
        let lengths = [LARGE, LARGE, LARGE + STRIDE, LARGE + 2 * STRIDE];
        let world = World::new(2 * cost(LARGE + STRIDE), 1 << 30, lengths, false);
        together(world, 3, |world| world.go_on(12));
    });
}

#[test]
fn where_no_block_fits_readers_are_served() {
    check(1000, || {
        let world = World::new(SMALL as u64 / 2, 1 << 20, [SMALL, SMALL, SMALL / 4, SMALL / 4], false);
        together(world, 4, |world| world.go_on(4));
    });
}

#[test]
fn decoding_that_fails_or_panics_leaves_nothing() {
    check(2000, || {
        let world = World::new(2 * cost(SMALL), 1 << 20, [SMALL; BLOCKS], true);
        together(world, 4, |world| world.go_on(5));
    });
}

/// Small enough for every schedule: two who want one block, and what the first makes of it.
#[test]
fn every_schedule_of_two_who_want_a_block() {
    for (ahead, fails) in [(false, false), (false, true), (true, false), (true, true)] {
        exhaust(move || {
            let cache = Arc::new(BlockCache::new(100, 100));
            let tried = Arc::new(AtomicU64::new(0));
            let decode = move |tried: &AtomicU64, out: &mut [u8]| {
                out.fill(7);
                let first = tried.fetch_add(1, Relaxed) == 0;
                if first && fails { Err(Error::Invalid("on purpose".into())) } else { Ok(()) }
            };
            let (of_other, other) = (tried.clone(), cache.clone());
            let other = thread::spawn(move || {
                if ahead {
                    other.fetch_ahead(key(0), 10, |out| decode(&of_other, out)).is_ok()
                } else {
                    other.get(key(0), 10, |out| decode(&of_other, out)).is_ok()
                }
            });
            let got = cache.get(key(0), 10, |out| decode(&tried, out));
            assert!(got.as_ref().is_ok_and(|block| block[..] == [7; 10]) || got.is_err() && fails);
            let all = [got.is_ok(), other.join().expect("no panic")];
            let errors = all.iter().filter(|ok| !**ok).count() as u64;
            assert_eq!(errors, u64::from(fails), "an error is told to whoever met it, and to nobody else");
            assert!(tried.load(Relaxed) <= 1 + errors);
            assert_eq!((cache.stats().in_flight, cache.stats().bytes > 0), (0, tried.load(Relaxed) > errors));
        });
    }
}
