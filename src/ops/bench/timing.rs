//! Turns of work and copies, on several threads.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use crate::error::Result;

/// Fewest turns that a median is taken of, however long they take.
const LEAST_TURNS: usize = 5;

/// Pieces of `bytes`, each of which is worked on as a whole.
pub struct Pieces<'a> {
    pub bytes: &'a [u8],
    pub ranges: Vec<Range<usize>>,
    /// Bytes that a thread works on, and then copies, in a turn: about as much work that
    /// neither the clock nor the start of the threads matters.
    pub turn_bytes: usize,
}

/// Medians in bytes per second, of all threads together.
pub struct Paces {
    pub work: f64,
    pub copy: f64,
    pub turns: usize,
}

/// What a thread did in a turn.
struct Turn {
    worked: usize,
    work: f64,
    copied: usize,
    copy: f64,
}

impl Pieces<'_> {
    /// Neighbouring pieces, so many bytes of them or a little more.
    fn turns(&self) -> Vec<Range<usize>> {
        let (mut turns, mut first, mut bytes) = (Vec::new(), 0, 0);
        for (i, range) in self.ranges.iter().enumerate() {
            bytes += range.len();
            if bytes >= self.turn_bytes || i + 1 == self.ranges.len() {
                turns.push(first..i + 1);
                (first, bytes) = (i + 1, 0);
            }
        }
        turns
    }
}

/// Every thread works on pieces of its own; a turn lasts until the last thread is done.
/// Turn follows turn through all pieces, and from the first again, for so many seconds.
pub fn measure(
    pieces: &Pieces<'_>,
    threads: usize,
    seconds: f64,
    work: impl Fn(usize, &mut [u8]) -> Result<()> + Sync,
) -> Result<Paces> {
    let turns = pieces.turns();
    let largest = pieces.ranges.iter().map(Range::len).max().unwrap_or(0);
    let (barrier, stop, begin) = (Barrier::new(threads), AtomicBool::new(false), Instant::now());
    let run = |thread: usize| {
        let mut out = vec![0u8; largest];
        let (mut done, mut result) = (Vec::new(), Ok(()));
        loop {
            // The first thread decides for all before any of them begins the turn.
            if thread == 0 && done.len() >= LEAST_TURNS && begin.elapsed().as_secs_f64() > seconds {
                stop.store(true, Relaxed);
            }
            barrier.wait();
            if stop.load(Relaxed) {
                break;
            }
            let number = done.len() * threads + thread;
            let turn = &turns[number % turns.len()];
            let start = Instant::now();
            for i in turn.clone() {
                let worked = work(i, &mut out[..pieces.ranges[i].len()]);
                // Others wait at the barrier: go on, and say so at the end.
                result = result.and(worked);
            }
            let work = start.elapsed().as_secs_f64();
            // What was just worked on is in the caches: copy what is far from it.
            let far = &pieces.ranges[turns[(number + turns.len() / 2) % turns.len()].clone()];
            barrier.wait();
            let start = Instant::now();
            for range in far {
                black_box(&mut out[..range.len()]).copy_from_slice(black_box(&pieces.bytes[range.clone()]));
            }
            let copy = start.elapsed().as_secs_f64();
            let sum = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).sum();
            done.push(Turn { worked: sum(&pieces.ranges[turn.clone()]), copied: sum(far), work, copy });
        }
        result.map(|()| done)
    };
    let of_threads = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mut all = vec![run(0)];
        let join = |other: thread::ScopedJoinHandle<'_, _>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        all.extend(others.into_iter().map(join));
        all.into_iter().collect::<Result<Vec<Vec<Turn>>>>()
    })?;
    let pace = |part: fn(&Turn) -> (usize, f64)| {
        let of_turn = |i: usize| {
            let parts = of_threads.iter().map(|turns| part(&turns[i]));
            let (bytes, slowest) = parts.fold((0, 1e-9), |all, one| (all.0 + one.0, one.1.max(all.1)));
            bytes as f64 / slowest
        };
        median((0..of_threads[0].len()).map(of_turn).collect())
    };
    Ok(Paces {
        work: pace(|turn| (turn.worked, turn.work)),
        copy: pace(|turn| (turn.copied, turn.copy)),
        turns: of_threads[0].len(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn turns_cover_all_pieces_in_order() {
        let ranges = vec![0..4, 4..8, 8..12, 12..14, 14..15];
        let pieces = Pieces { bytes: &[0; 15], ranges, turn_bytes: 6 };
        assert_eq!(pieces.turns(), [0..2, 2..4, 4..5]);
    }

    #[test]
    fn threads_end_together_and_errors_come_out() {
        let bytes = vec![7; 1 << 16];
        let ranges: Vec<_> = (0..16).map(|i| i << 12..(i + 1) << 12).collect();
        let pieces = Pieces { bytes: &bytes, ranges, turn_bytes: 1 << 12 };
        let copy = |i: usize, out: &mut [u8]| {
            out.copy_from_slice(&bytes[i << 12..(i + 1) << 12]);
            Ok(())
        };
        let paces = measure(&pieces, 3, 0.01, copy).expect("no error");
        assert!(paces.turns >= LEAST_TURNS && paces.work > 0.0 && paces.copy > 0.0);
        let failing = |i: usize, _: &mut [u8]| if i == 9 { Err(Error::Cancelled) } else { Ok(()) };
        assert!(measure(&pieces, 2, 0.01, failing).is_err());
    }
}
