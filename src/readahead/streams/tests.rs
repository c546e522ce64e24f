use std::ops::Range;

use super::super::stream::{LARGEST_WINDOW, PAGE};
use super::*;

const MIB: u64 = 1 << 20;
const FILE: u64 = 1 << 40;
/// What the kernel reads at a time for a user.
const SMALL: u64 = MIB / 8;

fn seen(read: Range<u64>, section_end: u64) -> Seen {
    Seen { read, section_end, file_size: FILE, most: 64 * MIB, may_push: false }
}

/// A read that a push may save.
fn small(at: u64) -> Seen {
    Seen { may_push: true, ..seen(at..at + SMALL, FILE) }
}

/// Reads of 128 KiB from `from` on; what was asked to be ahead.
fn go(streams: &mut Streams, from: u64, reads: u64, section_end: u64) -> Vec<Range<u64>> {
    let read = |i: u64| from + i * SMALL..from + (i + 1) * SMALL;
    (0..reads).filter_map(|i| streams.read(&seen(read(i), section_end)).0).map(|a| a.range).collect()
}

#[test]
fn one_read_says_nothing_and_a_second_starts_a_growing_window() {
    let mut streams = Streams::default();
    assert!(go(&mut streams, 0, 1, FILE).is_empty());
    let ranges = go(&mut streams, MIB / 8, 400, FILE);
    // Without gap or overlap, from where the reader is, and far ahead at the end.
    assert_eq!(ranges[0], MIB / 4..MIB / 4 + MIB);
    assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
    let ahead = ranges[ranges.len() - 1].end - 401 * MIB / 8;
    assert!((LARGEST_WINDOW / 2..=LARGEST_WINDOW).contains(&ahead), "{ahead}");
}

#[test]
fn random_reads_ask_for_nothing() {
    let mut streams = Streams::default();
    for i in 0..1000u64 {
        let at = i * 0x9E37_79B9 % 4096 * 100 * MIB;
        assert!(streams.read(&seen(at..at + 65536, FILE)).0.is_none() || i > 900, "{i}");
    }
}

#[test]
fn readers_do_not_disturb_each_other_and_order_does_not_matter() {
    let mut streams = Streams::default();
    let mut asked = [0; 4];
    for i in 0..64u64 {
        for reader in 0..4u64 {
            // Pairs of requests arrive the wrong way round.
            let at = reader * 1000 * MIB + (i ^ 1) * MIB / 8;
            if let Some(ahead) = streams.read(&seen(at..at + SMALL, FILE)).0 {
                asked[(ahead.range.start / (1000 * MIB)) as usize] += ahead.range.end - ahead.range.start;
            }
        }
    }
    assert!(asked.iter().all(|&bytes| bytes > 8 * MIB), "{asked:?}");
}

#[test]
fn a_tensor_is_not_left_before_the_reader_does() {
    let mut streams = Streams::default();
    let end = 4 * MIB;
    let ranges = go(&mut streams, 0, 32, end);
    assert_eq!(ranges.iter().map(|r| r.end).max(), Some(end));
    // It goes on into the next, and is believed to do so again.
    let ranges = go(&mut streams, end, 8, 2 * end);
    assert!(ranges.iter().any(|r| r.end > 2 * end), "{ranges:?}");
}

#[test]
fn who_skips_a_tensor_is_not_believed_to_go_on() {
    let mut streams = Streams::default();
    go(&mut streams, 0, 24, 3 * MIB);
    let ranges = go(&mut streams, 6 * MIB, 24, 9 * MIB);
    assert!(ranges.iter().all(|r| r.start >= 6 * MIB && r.end <= 9 * MIB), "{ranges:?}");
}

#[test]
fn a_forgotten_stream_is_not_worked_for() {
    let mut streams = Streams::default();
    go(&mut streams, 0, 1, FILE);
    let ahead = streams.read(&seen(SMALL..2 * SMALL, FILE)).0.expect("a window");
    for i in 1..=STREAMS as u64 {
        assert!(ahead.reader.wanted.load(Relaxed), "{i}");
        go(&mut streams, 1000 * i * MIB, 1, FILE);
    }
    assert!(!ahead.reader.wanted.load(Relaxed));
}

/// Reads as a mapped file is read, of which the kernel has nothing but what was pushed: the
/// reader asks for what is not there, in pieces of 128 KiB. What was pushed, with its bytes
/// stored at once; the file offsets of all reads; and what became of the bytes.
fn go_with_pushes(streams: &mut Streams, from: u64, to: u64) -> (Vec<Range<u64>>, Vec<u64>, Settled) {
    let (mut pushed, mut reads, mut sum): (Vec<Range<u64>>, Vec<u64>, _) = (Vec::new(), Vec::new(), Settled::default());
    let mut at = from;
    while at < to {
        if let Some(range) = pushed.iter().find(|range| range.contains(&at)) {
            at = range.end;
            continue;
        }
        // It reads what is missing up to the next page that is there.
        let length = pushed.iter().filter(|range| range.start > at).map(|range| range.start - at).min();
        let seen = Seen { may_push: true, ..seen(at..at + length.unwrap_or(SMALL).min(SMALL), FILE) };
        reads.push(at);
        at = seen.read.end;
        let (ahead, settled) = streams.read(&seen);
        (sum.hit, sum.wasted) = (sum.hit + settled.hit, sum.wasted + settled.wasted);
        if let Some(push) = ahead.and_then(|ahead| ahead.push) {
            push.note_stored(push.range.clone());
            pushed.push(push.range.clone());
        }
    }
    (pushed, reads, sum)
}

#[test]
fn small_reads_are_pushed_for_and_single_pages_tell_where_the_reader_is() {
    let mut streams = Streams::default();
    let (pushed, reads, settled) = go_with_pushes(&mut streams, 0, 256 * MIB);
    // A few reads before anything is pushed and until it is far ahead; then a page for each push.
    assert!(reads.len() < 100, "{reads:?}");
    assert!(pushed.windows(2).all(|pair| pair[0].end + PAGE == pair[1].start), "{pushed:?}");
    assert!(pushed.iter().all(|range| range.start % PAGE == 0 && range.end % PAGE == 0));
    let bytes: u64 = pushed.iter().map(|range| range.end - range.start).sum();
    assert!(bytes > 250 * MIB && settled.wasted == 0, "{bytes} {settled:?}");
    // All but what is ahead of the reader at the end.
    assert!((bytes - settled.hit) <= LARGEST_WINDOW, "{bytes} {settled:?}");
}

#[test]
fn large_reads_and_reads_past_the_page_cache_are_not_pushed_for() {
    let mut streams = Streams::default();
    assert!((0..400).all(|i| {
        let ahead = streams.read(&seen(i * SMALL..(i + 1) * SMALL, FILE)).0;
        ahead.is_none_or(|ahead| ahead.push.is_none())
    }));
}

#[test]
fn what_is_gone_before_its_reader_comes_stops_the_pushes_for_a_while() {
    let mut streams = Streams::default();
    let (pushed, ..) = go_with_pushes(&mut streams, 0, 64 * MIB);
    // The kernel asks for what had been pushed.
    let last = &pushed[pushed.len() - 1];
    let mut at = last.start;
    let (ahead, settled) = streams.read(&small(at));
    assert_eq!(settled.wasted, last.end - last.start);
    assert!(ahead.is_none_or(|ahead| ahead.push.is_none()));
    let mut reads = 0;
    let pushes_again = loop {
        at += SMALL;
        reads += 1;
        let ahead = streams.read(&small(at)).0;
        if let Some(push) = ahead.and_then(|ahead| ahead.push) {
            break push;
        }
        assert!(reads < 1000);
    };
    assert!(reads > 100 && pushes_again.range.start > at, "{reads} {pushes_again:?}");
}

#[test]
fn nothing_is_pushed_beyond_a_tensor_that_the_reader_may_leave() {
    let mut streams = Streams::default();
    let end = 10 * MIB + 12_345;
    let pushes = (0..end / SMALL)
        .filter_map(|i| streams.read(&Seen { section_end: end, ..small(i * SMALL) }).0.and_then(|ahead| ahead.push));
    let farthest = pushes.map(|push| push.range.end).max().expect("something is pushed");
    assert!(farthest <= end && farthest > end - MIB, "{farthest}");
}

#[test]
fn pushes_for_a_forgotten_stream_are_wasted() {
    let mut streams = Streams::default();
    let (pushed, _, settled) = go_with_pushes(&mut streams, 0, 64 * MIB);
    let bytes: u64 = pushed.iter().map(|range| range.end - range.start).sum();
    let mut wasted = settled.wasted;
    for i in 1..=STREAMS as u64 {
        wasted += streams.read(&small(1000 * i * MIB)).1.wasted;
    }
    assert_eq!(wasted + settled.hit, bytes);
}

#[test]
fn what_is_stored_once_its_reader_has_passed_comes_too_late() {
    let mut streams = Streams::default();
    let push = (0..400).find_map(|i| streams.read(&small(i * SMALL)).0.and_then(|ahead| ahead.push)).expect("a push");
    assert!(push.note_stored(push.range.start..push.range.start + PAGE));
    assert_eq!(streams.read(&small(push.range.end)).1, Settled { hit: PAGE, wasted: 0 });
    assert!(!push.note_stored(push.range.start + PAGE..push.range.end));
}

#[test]
fn a_reader_that_overtakes_the_pushes_is_pushed_for_less_and_less() {
    let mut streams = Streams::default();
    let pushes = |streams: &mut Streams, reads: Range<u64>| {
        // Nothing of what is asked for is ever stored in time.
        reads.filter(|&i| streams.read(&small(i * SMALL)).0.is_some_and(|ahead| ahead.push.is_some())).count()
    };
    let first = pushes(&mut streams, 0..1000);
    let later = pushes(&mut streams, 1000..10_000);
    assert!(first > 4 && later < 9 * first / 4, "{first} {later}");
}
