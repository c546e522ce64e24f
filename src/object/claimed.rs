//! Units on their way from the store, and onto the disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use tokio::sync::{Mutex, Semaphore};

use super::disk::KeptObject;
use super::failure::Failure;
use super::fetch::{Fetcher, Version};
use super::units::Units;

/// Requests for what will be needed later that are under way at once.
const REQUESTS_AHEAD: usize = 16;
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
    /// Units that wait to be written to the disk.
    writes: Arc<Semaphore>,
    /// Who writes there now.
    writer: Arc<Mutex<()>>,
}

impl Shared {
    pub fn new(fetcher: Fetcher, version: Version, units: Units, disk: Option<KeptObject>) -> Shared {
        let (requests, writes) = (Semaphore::new(REQUESTS_AHEAD), Arc::new(Semaphore::new(WRITES)));
        Shared { fetcher, version, units, disk, requests, writes, writer: Arc::default() }
    }

    fn deliver(self: &Arc<Self>, unit: u64, outcome: Result<Bytes, Failure>) {
        let kept = self.disk.as_ref().and_then(|disk| Some((disk.forgotten(unit), outcome.as_ref().ok()?.clone())));
        self.units.arrived(unit, outcome);
        // A disk that is slower than the network does not get everything.
        let turn = self.writes.clone().try_acquire_owned();
        if let (Some((forgotten, bytes)), Ok(turn)) = (kept, turn) {
            let shared = self.clone();
            tokio::spawn(async move {
                // All of them at once would wait for the lock of the cache, each in a thread.
                let writer = shared.writer.clone().lock_owned().await;
                tokio::task::spawn_blocking(move || {
                    if let Some(disk) = &shared.disk {
                        shared.units.set_cheap(disk.put(unit, &bytes, forgotten));
                    }
                    drop((writer, turn));
                });
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

    /// `later`: nobody waits for them yet.
    pub async fn fetch(mut self, store: Arc<dyn ObjectStore>, later: bool) {
        let shared = self.shared.clone();
        // Never closed.
        let _turn = if later { shared.requests.acquire().await.ok() } else { None };
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
}

/// Whatever became of the task, those who wait are told.
impl Drop for Claimed {
    fn drop(&mut self) {
        for unit in self.units.clone() {
            self.shared.units.arrived(unit, Err(Failure::Passing("fetching it was given up".into())));
        }
    }
}
