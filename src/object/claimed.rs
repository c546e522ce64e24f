//! Units on their way: from the disk, or else from the store, and onto the disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::disk::KeptObject;
use super::failure::Failure;
use super::fetch::{Fetcher, Version};
use super::units::Units;

/// Requests for what will be needed later that are under way at once.
const REQUESTS_AHEAD: usize = 16;
/// The same from the disk.
const READS_AHEAD: usize = 4;
/// Units that wait at once to be written to the disk.
const WRITES: usize = 32;
/// What the runtime's threads need of a file.
pub struct Shared {
    pub fetcher: Fetcher,
    pub version: Version,
    pub units: Units,
    pub disk: Option<KeptObject>,
    /// For those that nobody waits for yet.
    requests: Semaphore,
    /// The same from the disk.
    reads: Semaphore,
    /// Units that are being written to the disk.
    writes: Arc<Semaphore>,
}

impl Shared {
    pub fn new(fetcher: Fetcher, version: Version, units: Units, disk: Option<KeptObject>) -> Shared {
        let (requests, reads) = (Semaphore::new(REQUESTS_AHEAD), Semaphore::new(READS_AHEAD));
        Shared { fetcher, version, units, disk, requests, reads, writes: Arc::new(Semaphore::new(WRITES)) }
    }

    /// Cuts a run where the disk begins or ceases to have its units; says for each part whether it has.
    pub fn by_place(&self, run: Range<u64>) -> Vec<(Range<u64>, bool)> {
        let mut parts: Vec<(Range<u64>, bool)> = Vec::new();
        for unit in run {
            let on_disk = self.disk.as_ref().is_some_and(|disk| disk.has(unit));
            match parts.last_mut() {
                Some((part, same)) if *same == on_disk => part.end = unit + 1,
                _ => parts.push((unit..unit + 1, on_disk)),
            }
        }
        parts
    }

    fn deliver(self: &Arc<Self>, unit: u64, outcome: Result<Bytes, Failure>) {
        let kept = outcome.as_ref().ok().filter(|_| self.disk.is_some()).cloned();
        self.units.arrived(unit, outcome);
        // A disk that is slower than the network does not get everything.
        let turn = self.writes.clone().try_acquire_owned();
        if let (Some(bytes), Ok(turn)) = (kept, turn) {
            let shared = self.clone();
            tokio::task::spawn_blocking(move || {
                if let Some(disk) = &shared.disk {
                    disk.put(unit, &bytes);
                }
                drop(turn);
            });
        }
    }
}

/// Units that were claimed, and of which nothing is known yet.
pub struct Claimed {
    shared: Arc<Shared>,
    units: Range<u64>,
}

impl Claimed {
    pub fn new(shared: Arc<Shared>, units: Range<u64>) -> Claimed {
        Claimed { shared, units }
    }

    /// Has them read from the disk, if they are there, or else fetched.
    pub async fn fetch(mut self, store: Arc<dyn ObjectStore>, later: bool, on_disk: bool) {
        let shared = self.shared.clone();
        // What lies on the disk does not wait for requests, which may stand still.
        if on_disk {
            let _turn = turn(&shared.reads, later).await;
            let Ok(rest) = tokio::task::spawn_blocking(|| self.read_from_disk()).await else { return };
            self = rest;
        }
        if self.units.is_empty() {
            return;
        }
        let _turn = turn(&shared.requests, later).await;
        // Or who comes to need one of these would wait as long again.
        if let Some(failure) = shared.units.is_late().filter(|_| later) {
            self.units.by_ref().for_each(|unit| shared.units.arrived(unit, Err(failure.clone())));
            return;
        }
        let run = self.units.clone();
        let deliver = |unit, outcome| {
            self.units.start = unit + 1;
            shared.deliver(unit, outcome);
        };
        shared.fetcher.run(store, &shared.version, run, deliver).await;
    }

    /// Those that remain begin with one that is damaged, or gone.
    fn read_from_disk(mut self) -> Claimed {
        while let (false, Some(disk)) = (self.units.is_empty(), &self.shared.disk) {
            let Some(bytes) = disk.read_whole(self.units.start) else { break };
            self.shared.units.found(self.units.start, bytes);
            self.units.start += 1;
        }
        self
    }
}

/// Among those that nobody waits for yet.
async fn turn(turns: &Semaphore, later: bool) -> Option<SemaphorePermit<'_>> {
    // Never closed.
    if later { turns.acquire().await.ok() } else { None }
}

/// Whatever became of the task, those who wait are told.
impl Drop for Claimed {
    fn drop(&mut self) {
        for unit in self.units.clone() {
            self.shared.units.arrived(unit, Err(Failure::Passing("fetching it was given up".into())));
        }
    }
}
