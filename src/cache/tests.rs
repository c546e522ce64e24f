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
        let cache = BlockCache::new(3 * cost(length), 0);
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
        assert_eq!((stats.bytes, stats.decoded_bytes), (3 * cost(length), 5 * length as u64));
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
    // A budget that blocks leave before anybody recycles them.
    let tight = BlockCache::new(3 * length, 1000 * length);
    (0..100).for_each(|i| read(&tight, i));
    assert!(tight.lock().consumed.len() <= CONSUMED_KEPT + 1);
    for (all, kept) in [(1000 * length, CONSUMED_KEPT as u64 + 1), (100 * length, 100)] {
        let cache = BlockCache::new(100 * length, all);
        (0..100).for_each(|i| read(&cache, i));
        assert_eq!(cache.stats().bytes, kept * length);
        // What is kept are the last.
        cache.get(key(99), length as usize, |_| panic!("kept")).expect("kept");
    }
}

#[test]
fn a_mapping_serves_blocks_of_about_its_length() {
    let (short, long) = (MAPPED_FROM + 1, MAPPED_FROM + 5000);
    let cache = BlockCache::new(cost(long), 1000 * cost(long));
    assert_eq!(cost(short), cost(long));
    let mut at = None;
    for i in 0..20 {
        let length = if i % 2 == 0 { long } else { short };
        let block = cache.get(key(i), length, fill(i as u8)).expect("decodes");
        assert!(block.iter().all(|&b| b == i as u8) && block.len() == length);
        assert_eq!(*at.get_or_insert(block.as_ptr()), block.as_ptr(), "block {i} has memory of its own");
    }
    assert_eq!(cache.stats().bytes, cost(long));
}

#[test]
fn what_is_decoded_ahead_waits_for_its_reader_or_was_wasted() {
    let cache = BlockCache::new(2 * cost(10), 20);
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
    let full = BlockCache::new(cost(10), 20);
    full.get(key(0), 10, |bytes| {
        full.fetch_ahead(key(1), 10, |_| panic!("no room"))?;
        fill(4)(bytes)
    })
    .expect("decodes");
    assert_eq!(full.stats().bytes, cost(10));
}

#[test]
fn what_was_decoded_again_is_not_taken_for_what_was_read_before() {
    let length = MAPPED_FROM;
    let blocks = 2 * CONSUMED_KEPT as u64;
    let cache = BlockCache::new(blocks * cost(length), 1000 * cost(length));
    let read = |i: u32| {
        let block = cache.get(key(i), length, fill(i as u8)).expect("decodes");
        cache.served(key(i), &block, length as u64);
    };
    read(0);
    // Evicted before its memory is wanted for another, and decoded again for somebody to come.
    cache.lock().make_room(blocks * cost(length));
    cache.fetch_ahead(key(0), length, fill(9)).expect("decodes");
    (1..blocks as u32).for_each(read);
    assert_eq!(cache.get(key(0), length, |_| panic!("kept")).expect("kept")[0], 9);
    assert_eq!(cache.stats().wasted_blocks, 0);
}

#[test]
fn nothing_is_evicted_for_what_finds_no_room_all_the_same() {
    let cache = BlockCache::new(3 * cost(10), 0);
    cache.get(key(0), 10, fill(1)).expect("decodes");
    cache.fetch_ahead(key(1), 40, |_| panic!("no room")).expect("nothing to do");
    cache.get(key(0), 10, |_| panic!("kept")).expect("kept");
    assert_eq!(cache.stats().evictions, 0);
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
