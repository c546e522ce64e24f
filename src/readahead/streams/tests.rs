use super::*;

const MIB: u64 = 1 << 20;
const FILE: u64 = 1 << 40;

/// Reads of 128 KiB from `from` on; what was asked to be ahead.
fn go(streams: &mut Streams, from: u64, reads: u64, section_end: u64) -> Vec<Range<u64>> {
    let read = |i: u64| from + i * MIB / 8..from + (i + 1) * MIB / 8;
    (0..reads).filter_map(|i| streams.read(read(i), section_end, FILE, 64 * MIB)).map(|a| a.range).collect()
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
        assert!(streams.read(at..at + 65536, FILE, FILE, 64 * MIB).is_none() || i > 900, "{i}");
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
            if let Some(ahead) = streams.read(at..at + MIB / 8, FILE, FILE, 64 * MIB) {
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
    let ahead = streams.read(MIB / 8..MIB / 4, FILE, FILE, 64 * MIB).expect("a window");
    for i in 1..=STREAMS as u64 {
        assert!(ahead.wanted.load(Relaxed), "{i}");
        go(&mut streams, 1000 * i * MIB, 1, FILE);
    }
    assert!(!ahead.wanted.load(Relaxed));
}
