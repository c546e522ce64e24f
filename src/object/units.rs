//! Units of an object in memory: those that came last, and those that are on their way.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;

use super::failure::Failure;

/// Most units that are kept or on their way, but for those that somebody waits for.
const MOST: usize = 256;
/// Most that were fetched or asked for and that nobody has read yet: beyond it nothing is fetched ahead.
const MOST_UNREAD: usize = 192;
/// Who has not read what came so long ago is not coming, if there is no room for others.
const GIVEN_UP: Duration = Duration::from_secs(5);
/// Most that are asked for at once.
pub const RUN: u64 = 4;
/// Who asks for what has just failed, or a server that has just not answered, is told so at once. A reader's one question can become several: the
/// kernel asks for less when it is refused, and what is decoded ahead is decoded again.
const REMEMBERED: Duration = Duration::from_secs(1);

pub struct Units {
    state: Mutex<State>,
}

struct State {
    held: LruCache<u64, Held>,
    flights: HashMap<u64, Arc<Flight>>,
    failed: HashMap<u64, (Instant, Failure)>,
    /// Since when the server does not answer, if it does not.
    late: Option<(Instant, Failure)>,
    arrivals: u64,
    /// Of the first two, how many nobody has read.
    unread: usize,
}

struct Held {
    bytes: Bytes,
    read: bool,
    came: Instant,
}

/// A unit that is on its way.
#[derive(Default)]
pub struct Flight {
    outcome: Mutex<Option<Result<Bytes, Failure>>>,
    arrived: Condvar,
}

/// What a reader finds.
pub enum Found {
    Here(Bytes),
    Flying(Arc<Flight>),
    Failed(Failure),
    Nothing,
}

impl Units {
    pub fn new() -> Units {
        let (flights, failed) = (HashMap::new(), HashMap::new());
        Units {
            state: Mutex::new(State {
                held: LruCache::unbounded(),
                flights,
                failed,
                late: None,
                arrivals: 0,
                unread: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For somebody who needs the unit now.
    pub fn find(&self, unit: u64) -> Found {
        let mut state = self.lock();
        if let Some(held) = state.held.get_mut(&unit) {
            let bytes = held.bytes.clone();
            if !std::mem::replace(&mut held.read, true) {
                state.unread -= 1;
            }
            return Found::Here(bytes);
        }
        state.forget_failures();
        if let Some((_, failure)) = state.failed.get(&unit) {
            return Found::Failed(failure.clone());
        }
        if let Some(flight) = state.flights.get(&unit) {
            return Found::Flying(flight.clone());
        }
        state.late.as_ref().map_or(Found::Nothing, |(_, failure)| Found::Failed(failure.clone()))
    }

    /// Those of some units that are neither here nor on their way.
    pub fn missing(&self, units: Range<u64>) -> Vec<u64> {
        let state = self.lock();
        units.filter(|&unit| !state.has(unit)).collect()
    }

    /// Takes those that are neither here nor on their way, for the caller to fetch, in runs of
    /// neighbours. If they are for later, no more than there is room for.
    pub fn claim(&self, units: impl IntoIterator<Item = u64>, for_later: bool) -> Vec<Range<u64>> {
        let mut state = self.lock();
        state.forget_failures();
        if for_later && state.unread >= MOST_UNREAD {
            state.give_up();
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        for unit in units {
            if for_later && state.unread >= MOST_UNREAD {
                break;
            }
            if state.has(unit) {
                continue;
            }
            state.flights.insert(unit, Arc::default());
            state.unread += 1;
            match runs.last_mut() {
                Some(run) if run.end == unit && run.end - run.start < RUN => run.end += 1,
                _ => runs.push(unit..unit + 1),
            }
        }
        runs
    }

    /// Units that came, ever: whether anything comes.
    pub fn arrivals(&self) -> u64 {
        self.lock().arrivals
    }

    /// What became of a unit that was claimed.
    pub fn arrived(&self, unit: u64, outcome: Result<Bytes, Failure>) {
        let flight = {
            let mut state = self.lock();
            let flight = state.flights.remove(&unit);
            match &outcome {
                Ok(bytes) => {
                    state.arrivals += 1;
                    state.late = None;
                    state.failed.remove(&unit);
                    state.held.put(unit, Held { bytes: bytes.clone(), read: false, came: Instant::now() });
                    state.make_room();
                }
                Err(failure) => {
                    state.unread -= 1;
                    let failed = (Instant::now(), failure.clone());
                    if matches!(failure, Failure::Late(_)) {
                        state.late = Some(failed.clone());
                    }
                    state.failed.insert(unit, failed);
                }
            }
            flight
        };
        if let Some(flight) = flight {
            *flight.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            flight.arrived.notify_all();
        }
    }

    /// Somebody waited for it for too long; it may still come.
    pub fn was_late(&self, unit: u64, failure: &Failure) {
        let mut state = self.lock();
        if state.flights.contains_key(&unit) {
            state.failed.insert(unit, (Instant::now(), failure.clone()));
        }
    }

    /// Somebody waited for it, and has it.
    pub fn was_read(&self, unit: u64) {
        let mut state = self.lock();
        let first = state.held.get_mut(&unit).is_some_and(|held| !std::mem::replace(&mut held.read, true));
        state.unread -= usize::from(first);
    }
}

impl State {
    fn has(&self, unit: u64) -> bool {
        self.held.contains(&unit) || self.flights.contains_key(&unit) || self.failed.contains_key(&unit)
    }

    fn forget_failures(&mut self) {
        let remembered = |(when, _): &(Instant, Failure)| when.elapsed() < REMEMBERED;
        if !self.failed.is_empty() {
            self.failed.retain(|_, failed| remembered(failed));
            self.late = self.late.take().filter(remembered);
        }
    }

    fn give_up(&mut self) {
        let old = self.held.iter_mut().map(|(_, held)| held).filter(|held| held.came.elapsed() > GIVEN_UP);
        for held in old {
            self.unread -= usize::from(!std::mem::replace(&mut held.read, true));
        }
    }

    /// What was read goes first: most readers do not come back.
    fn make_room(&mut self) {
        while self.held.len() > MOST {
            let read = self.held.iter().rev().find(|(_, held)| held.read).map(|(unit, _)| *unit);
            let gone = match read {
                Some(unit) => self.held.pop(&unit),
                None => self.held.pop_lru().map(|(_, held)| held),
            };
            self.unread -= usize::from(gone.is_some_and(|held| !held.read));
        }
    }
}

impl Flight {
    /// Waits for the unit, at most so long. None if it did not come.
    pub fn wait(&self, most: Duration) -> Option<Result<Bytes, Failure>> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(outcome, most, |outcome| outcome.is_none());
        let (outcome, _) = waited.unwrap_or_else(PoisonError::into_inner);
        outcome.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(i: u64) -> Bytes {
        Bytes::from(i.to_le_bytes().to_vec())
    }

    #[test]
    fn neighbours_are_claimed_together_and_once() {
        let units = Units::new();
        assert_eq!(units.claim((0..10).filter(|&unit| unit != 5), false), [0..4, 4..5, 6..10]);
        assert_eq!(units.missing(0..10), [5]);
        units.arrived(0, Ok(unit(0)));
        units.arrived(1, Err(Failure::Replaced));
        assert!(matches!(units.find(0), Found::Here(_)));
        assert!(matches!(units.find(2), Found::Flying(_)));
        // A failure is one for everybody, for a while.
        assert!(matches!(units.find(1), Found::Failed(Failure::Replaced)));
        assert!(units.claim(0..3, false).is_empty());
        // If nothing came at all, it is one for all units.
        units.arrived(3, Err(Failure::Late(String::new())));
        assert!(matches!(units.find(20), Found::Failed(Failure::Late(_))));
        units.arrived(2, Ok(unit(2)));
        assert!(matches!(units.find(20), Found::Nothing));
        std::thread::sleep(REMEMBERED);
        assert_eq!(units.claim(0..3, false).first(), Some(&(1..2)));
    }

    #[test]
    fn what_nobody_read_is_bounded_and_what_was_read_goes_first() {
        let units = Units::new();
        let all = MOST as u64 * 4;
        let ahead = |from| units.claim(from..all, true).iter().map(|run| run.end - run.start).sum::<u64>();
        let most = MOST_UNREAD as u64;
        assert_eq!(ahead(0), most);
        assert_eq!(ahead(most), 0);
        (0..most).for_each(|i| units.arrived(i, Ok(unit(i))));
        assert_eq!(ahead(most), 0);
        (0..100).for_each(|i| assert!(matches!(units.find(i), Found::Here(_))));
        assert_eq!(ahead(most), 100);
        (most..most + 100).for_each(|i| units.arrived(i, Ok(unit(i))));
        assert!(matches!(units.find(100), Found::Here(bytes) if bytes == unit(100)));
        let gone = (0..100).filter(|i| matches!(units.find(*i), Found::Nothing)).count();
        assert_eq!(gone, most as usize + 100 - MOST);
    }

    #[test]
    fn whoever_waits_is_told() {
        let units = Units::new();
        units.claim(0..2, false);
        let flight = |i| match units.find(i) {
            Found::Flying(flight) => flight,
            _ => panic!("it is on its way"),
        };
        let (first, second) = (flight(0), flight(1));
        let waiting = std::thread::spawn(move || first.wait(Duration::from_secs(30)));
        units.arrived(0, Ok(unit(0)));
        assert!(matches!(waiting.join(), Ok(Some(Ok(bytes))) if bytes == unit(0)));
        assert!(second.wait(Duration::from_millis(10)).is_none());
    }
}
