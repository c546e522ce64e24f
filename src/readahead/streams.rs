//! Who reads on from where: the streams of reads in one file.
//!
//! A reader is recognised by byte offsets and by nothing else. Handles do not tell
//! readers apart (a loader's threads share one), block numbers do not either (several
//! requests fall into one block), and the kernel has several requests of one reader
//! under way, which arrive in any order. So a read belongs to the stream whose next
//! offset is near its own; what is near none begins a stream, and says nothing yet about
//! what comes next.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How far from a stream's next offset a read may be: what the kernel has under way.
const NEAR: u64 = 4 << 20;
/// The same beyond the end of a tensor, where whoever skips the next one begins another
/// stream: one request that overtook another.
const NEAR_BEYOND: u64 = 1 << 20;
/// What the kernel rounds its reads to, both ends.
pub const PAGE: u64 = 4096;
/// The first window, once a second read has followed a first.
const FIRST_WINDOW: u64 = 1 << 20;
/// The largest: enough for every core to have a block to decode, and so little that it is
/// still in the processor's cache when its reader comes.
const LARGEST_WINDOW: u64 = 8 << 20;
/// How far the stored bytes are fetched ahead, as decoded bytes: disks and networks like
/// to have more under way.
const LARGEST_FETCH: u64 = 64 << 20;
/// Streams that are remembered in a file: more than a loader has threads.
const STREAMS: usize = 32;

/// What is to be decoded ahead.
#[derive(Debug, Clone)]
pub struct Ahead {
    pub range: Range<u64>,
    /// What is to be fetched, but not decoded yet; it goes on where the last one ended.
    pub fetch: Range<u64>,
    /// False once the stream is forgotten: then nobody will come for it.
    pub wanted: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Stream {
    /// Behind the farthest byte that was read.
    next: u64,
    /// Bytes to be ahead of the reader.
    window: u64,
    /// Up to where decoding was asked for.
    ahead: u64,
    /// Up to where fetching was.
    fetched: u64,
    /// End of the section of the last read.
    section_end: u64,
    /// Whether the reader went on from one section into the next.
    crosses: bool,
    wanted: Arc<AtomicBool>,
}

/// The streams of a file, the last used first.
#[derive(Debug, Default)]
pub struct Streams(Vec<Stream>);

impl Streams {
    /// Takes note of a read and says what should be decoded ahead of it.
    ///
    /// `section_end`: where the tensor ends that the read is for (not the one before it,
    /// of which a page of the kernel's may hold the last bytes). A reader that has not
    /// gone from one tensor into the next is not believed to: whoever wants tensors in an
    /// order of their own jumps at the end of each.
    /// `most`: largest window, for want of memory.
    pub fn read(&mut self, read: Range<u64>, section_end: u64, file_size: u64, most: u64) -> Option<Ahead> {
        let near = |s: &Stream| {
            let limit = if read.start > s.section_end { NEAR_BEYOND } else { NEAR };
            read.start.abs_diff(s.next) <= limit
        };
        let nearest =
            self.0.iter().enumerate().filter(|(_, s)| near(s)).min_by_key(|(_, s)| read.start.abs_diff(s.next));
        let Some((i, _)) = nearest else {
            self.begin(&read, section_end);
            return None;
        };
        let mut stream = self.0.remove(i);
        let goes_on = read.end > stream.next;
        if goes_on {
            stream.next = read.end;
            stream.window = (2 * stream.window).clamp(FIRST_WINDOW, LARGEST_WINDOW.min(most.max(FIRST_WINDOW)));
        }
        let ahead = goes_on.then(|| stream.extend(section_end, file_size)).flatten();
        self.0.insert(0, stream);
        ahead
    }

    fn begin(&mut self, read: &Range<u64>, section_end: u64) {
        if self.0.len() == STREAMS
            && let Some(forgotten) = self.0.pop()
        {
            forgotten.wanted.store(false, Relaxed);
        }
        let wanted = Arc::new(AtomicBool::new(true));
        let stream = Stream {
            next: read.end,
            window: 0,
            ahead: read.end,
            fetched: read.end,
            section_end,
            crosses: false,
            wanted,
        };
        self.0.insert(0, stream);
    }
}

impl Stream {
    /// Moves the end of what is decoded ahead, half a window at a time.
    fn extend(&mut self, section_end: u64, file_size: u64) -> Option<Ahead> {
        // A page that holds the end of a tensor holds the beginning of the next.
        self.crosses |= self.next > self.section_end + PAGE;
        self.section_end = section_end;
        let limit = if self.crosses { file_size } else { section_end };
        let from = self.ahead.max(self.next);
        let to = (self.next + self.window).min(limit);
        let is_due = to > from && (from - self.next <= self.window / 2 || to == limit);
        if !is_due {
            return None;
        }
        self.ahead = to;
        let fetch_from = self.fetched.max(from);
        let fetch_to = (self.next + (8 * self.window).min(LARGEST_FETCH)).min(limit).max(fetch_from);
        self.fetched = fetch_to;
        Some(Ahead { range: from..to, fetch: fetch_from..fetch_to, wanted: self.wanted.clone() })
    }
}

#[cfg(test)]
mod tests {
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
}
