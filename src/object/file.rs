//! An object as a source of bytes.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use object_store::RetryConfig;
use tokio::sync::Semaphore;

use super::address::Address;
use super::client::Client;
use super::counters::Counters;
use super::disk::{DiskCache, KeptObject};
use super::failure::Failure;
use super::fetch::{Fetcher, Version};
use super::sequences::Sequences;
use super::units::{Found, Units};
use super::{Access, UNIT};
use crate::error::{Error, Result};
use crate::source::ReadAt;

/// Requests for what will be needed later that are under way at once.
const REQUESTS_AHEAD: usize = 16;
/// How often a unit is looked for that was there and then was not.
const TURNS: usize = 10;

/// One version of an object, read in units of 1 MiB.
pub struct ObjectFile {
    shared: Arc<Shared>,
    client: Client,
    /// Whether somebody who knows says what will be needed.
    guided: AtomicBool,
    only_what_is_asked: AtomicBool,
    sequences: Mutex<Sequences>,
}

/// What the runtime's threads need of it.
struct Shared {
    fetcher: Fetcher,
    version: Version,
    units: Units,
    disk: Option<KeptObject>,
    ahead: Semaphore,
}

impl ObjectFile {
    pub fn open(address: Address, access: &Access) -> Result<ObjectFile> {
        let cache = access.disk_cache.as_ref();
        let cache = cache.map(|(directory, size)| DiskCache::open(directory, *size)).transpose()?;
        // Retrying is up to the fetcher, which knows the deadline.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let client = Client::new(address.clone(), access.deadline, retry);
        let counters = Arc::<Counters>::default();
        let fetcher = Fetcher { address, deadline: access.deadline, counters: counters.clone() };
        let opened = client.wait_for(|store| fetcher.open(store))?;
        let (version, first) = opened.map_err(|failure| failure.of(fetcher.address.name()))?;
        let name = fetcher.address.name();
        if cache.is_some() && version.mark.is_none() {
            tracing::warn!("{name}: not kept on the disk, as its server does not tell versions apart");
        }
        let disk = cache.and_then(|cache| cache.object(name, &version, counters));
        let units = Units::new();
        units.claim(0..1, false, |_| false);
        units.arrived(0, Ok(first));
        let ahead = Semaphore::new(REQUESTS_AHEAD);
        let shared = Arc::new(Shared { fetcher, version, units, disk, ahead });
        Ok(ObjectFile {
            shared,
            client,
            guided: AtomicBool::new(false),
            only_what_is_asked: AtomicBool::new(false),
            sequences: Mutex::default(),
        })
    }

    /// Has units fetched that are not here; `later`: nobody waits for them yet.
    fn fetch(&self, units: Range<u64>, later: bool, on_disk: impl Fn(u64) -> bool) {
        for run in self.shared.units.claim(units, later, on_disk) {
            let (shared, claimed) = (self.shared.clone(), run.clone());
            let spawned = self.client.spawn(|store| async move {
                // Never closed.
                let _turn = if later { shared.ahead.acquire().await.ok() } else { None };
                shared.fetcher.run(store, &shared.version, run, |unit, outcome| shared.deliver(unit, outcome)).await;
            });
            if let Err(error) = spawned {
                let failure = Failure::Final(error.to_string());
                claimed.for_each(|unit| self.shared.units.arrived(unit, Err(failure.clone())));
            }
        }
    }

    fn fetch_ahead(&self, units: Range<u64>) {
        self.fetch(units, true, |unit| self.shared.disk.as_ref().is_some_and(|disk| disk.has(unit)));
    }

    /// Reads from the first of some units what is wanted of it; all of them are wanted.
    fn read(&self, units: Range<u64>, within: usize, out: &mut [u8], until: Instant) -> Result<(), Failure> {
        let (shared, unit) = (&self.shared, units.start);
        for _ in 0..TURNS {
            let bytes = match shared.units.find(unit) {
                Found::Here(bytes) => bytes,
                Found::Flying(flight) => {
                    let waited = flight.wait(until.saturating_duration_since(Instant::now()));
                    let waited = waited.unwrap_or_else(|| Err(shared.fetcher.late()));
                    waited.inspect_err(|failure| shared.units.was_late(unit, failure))?
                }
                Found::Failed(failure) => return Err(failure),
                Found::Nothing => {
                    let disk = shared.disk.as_ref();
                    if disk.is_some_and(|disk| disk.read(unit, within, out)) {
                        return Ok(());
                    }
                    self.fetch(units.clone(), false, |other| other != unit && disk.is_some_and(|disk| disk.has(other)));
                    continue;
                }
            };
            shared.units.was_read(unit);
            out.copy_from_slice(&bytes[within..][..out.len()]);
            return Ok(());
        }
        Err(Failure::Passing("what was fetched was gone before it was read".into()))
    }
}

impl ReadAt for ObjectFile {
    fn name(&self) -> &str {
        self.shared.fetcher.address.name()
    }

    fn size(&self) -> u64 {
        self.shared.version.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|&end| end <= self.size());
        let end = end.ok_or_else(|| {
            let what = format!("{} bytes were to be read; the object has {}", buffer.len(), self.size());
            Error::truncated(self.name(), "object", offset, what)
        })?;
        let units = offset / UNIT..end.div_ceil(UNIT);
        if !self.guided.load(Relaxed) && !self.only_what_is_asked.load(Relaxed) {
            let ahead = self.sequences.lock().unwrap_or_else(PoisonError::into_inner).read(&units);
            self.fetch_ahead(ahead.start..ahead.end.min(self.shared.version.units()));
        }
        let (mut rest, until) = (buffer, Instant::now() + self.shared.fetcher.deadline);
        for unit in units.clone() {
            let bytes = self.shared.version.bytes_of(unit);
            let (from, to) = (offset.max(bytes.start), end.min(bytes.end));
            let (part, behind) = rest.split_at_mut((to - from) as usize);
            let read = self.read(unit..units.end, (from - bytes.start) as usize, part, until);
            read.map_err(|failure| failure.of(self.name()))?;
            rest = behind;
        }
        Ok(())
    }

    fn will_need(&self, range: Range<u64>) {
        self.guided.store(true, Relaxed);
        let end = range.end.min(self.size());
        if range.start < end {
            self.fetch_ahead(range.start / UNIT..end.div_ceil(UNIT));
        }
    }

    fn fetch_no_more_than_asked(&self) {
        self.only_what_is_asked.store(true, Relaxed);
    }

    fn modified(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.shared.version.modified).ok().filter(|&seconds| seconds > 0)?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    fn rest(&self) {
        self.client.rest();
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.fetcher.counters.all().to_vec()
    }
}

impl Shared {
    fn deliver(self: &Arc<Self>, unit: u64, outcome: Result<Bytes, Failure>) {
        if let (Ok(bytes), true) = (&outcome, self.disk.is_some()) {
            let (shared, bytes) = (self.clone(), bytes.clone());
            tokio::task::spawn_blocking(move || {
                if let Some(disk) = &shared.disk {
                    disk.put(unit, &bytes);
                }
            });
        }
        self.units.arrived(unit, outcome);
    }
}
