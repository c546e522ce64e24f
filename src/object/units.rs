//! Units of an object in memory: those that came last, and those that are on their way.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;

use super::failure::Failure;

/// Most units that are kept or on their way, but for those that somebody waits for: of all objects that are
/// open, which have equal shares.
const MOST: usize = 256;
/// However many are open, one has as many.
const LEAST_SHARE: usize = 8;
/// Most that are kept when they were read, as long as they can be had again from the disk.
const MOST_READ_IF_CHEAP: usize = 8;
/// Who has not read what came so long ago is not coming, if there is no room for others.
const GIVEN_UP: Duration = Duration::from_secs(5);
/// Most that are asked for at once.
pub const RUN: u64 = 4;
/// Who asks for what has just failed, or a server that has just not answered, is told so at once. A
/// reader's one question can become several: the kernel asks for less when it is refused, and what is
/// decoded ahead is decoded again.
const REMEMBERED: Duration = Duration::from_secs(1);

pub struct Units {
    /// Each object that is open has one of these, and one is who gave it to them.
    open: Arc<()>,
    state: Mutex<State>,
}

struct State {
    /// What was read can be had again at little cost.
    cheap: bool,
    held: LruCache<u64, Held>,
    flights: HashMap<u64, Arc<Flight>>,
    failed: HashMap<u64, (Instant, Failure)>,
    /// Since when the server does not answer, if it does not.
    late: Option<(Instant, Failure)>,
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
    /// `open`: what those have in common that share the memory.
    pub fn new(open: &Arc<()>) -> Units {
        let state = State {
            cheap: false,
            held: LruCache::unbounded(),
            flights: HashMap::new(),
            failed: HashMap::new(),
            late: None,
            unread: 0,
        };
        Units { open: open.clone(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most units now.
    fn most(&self) -> usize {
        let open = Arc::strong_count(&self.open).saturating_sub(1).max(1);
        (MOST / open).max(LEAST_SHARE)
    }

    /// Most that were fetched or asked for and that nobody has read yet: beyond it nothing is fetched ahead.
    fn most_unread(&self) -> usize {
        self.most() / 4 * 3
    }

    /// Whether what comes can be had again at little cost.
    pub fn set_cheap(&self, cheap: bool) {
        self.lock().cheap = cheap;
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

    /// Those of which nothing is known.
    pub fn absent(&self, units: Range<u64>) -> Vec<u64> {
        let state = self.lock();
        units.filter(|&unit| !state.has(unit)).collect()
    }

    /// Takes those that are neither here nor on their way, for the caller to fetch, in runs of
    /// neighbours. If they are for later, no more than there is room for.
    pub fn claim(&self, units: impl IntoIterator<Item = u64>, for_later: bool) -> Vec<Range<u64>> {
        let mut state = self.lock();
        state.forget_failures();
        let most_unread = self.most_unread();
        if for_later && state.unread >= most_unread {
            state.give_up();
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        for unit in units {
            if for_later && state.unread >= most_unread {
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

    /// That the server did not answer a moment ago, if so.
    pub fn is_late(&self) -> Option<Failure> {
        let mut state = self.lock();
        state.forget_failures();
        state.late.as_ref().map(|(_, failure)| failure.clone())
    }

    /// What became of a unit that was claimed.
    pub fn arrived(&self, unit: u64, outcome: Result<Bytes, Failure>) {
        let flight = {
            let mut state = self.lock();
            let flight = state.flights.remove(&unit);
            match &outcome {
                Ok(bytes) => {
                    state.late = None;
                    state.hold(unit, bytes, self.most());
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
            flight.end(outcome);
        }
    }

    /// Somebody waited for it for too long, and nothing else came; it may still come. Those who were to ask
    /// after him are told so, too, and need not wait until whoever fetches it gives up.
    pub fn was_late(&self, unit: u64, failure: &Failure) {
        let mut state = self.lock();
        if state.flights.contains_key(&unit) {
            let failed = (Instant::now(), failure.clone());
            state.late = Some(failed.clone());
            state.failed.insert(unit, failed);
        }
    }

    /// What came was wrong: it is to be fetched anew.
    pub fn forget(&self, unit: u64) {
        let mut state = self.lock();
        let unread = state.held.pop(&unit).is_some_and(|held| !held.read);
        state.unread -= usize::from(unread);
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

    fn hold(&mut self, unit: u64, bytes: &Bytes, most: usize) {
        self.failed.remove(&unit);
        self.held.put(unit, Held { bytes: bytes.clone(), read: false, came: Instant::now() });
        self.make_room(most);
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
    fn make_room(&mut self, most: usize) {
        let most_read = if self.cheap { MOST_READ_IF_CHEAP } else { most };
        let read = |state: &State| state.held.len() + state.flights.len() - state.unread;
        while self.held.len() > most || read(self) > most_read {
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
    fn end(&self, outcome: Result<Bytes, Failure>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.arrived.notify_all();
    }

    /// Waits for the unit, at most so long. None if it did not come.
    pub fn wait(&self, most: Duration) -> Option<Result<Bytes, Failure>> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(outcome, most, |outcome| outcome.is_none());
        let (outcome, _) = waited.unwrap_or_else(PoisonError::into_inner);
        outcome.clone()
    }
}

#[cfg(test)]
mod tests;
