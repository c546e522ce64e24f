//! An object as a source of bytes.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::ObjectStore;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::Address;
use super::buffers::Buffers;
use super::client::Client;
use super::counters::Counters;
use super::disk::{DiskCache, KeptObject};
use super::failure::Failure;
use super::fetch::{Fetcher, Mark, Version};
use super::sequences::Sequences;
use super::units::{Flight, Found, RUN, Units};
use super::{Access, UNIT};
use crate::error::{Error, Result};
use crate::source::ReadAt;

/// Requests for what will be needed later that are under way at once.
const REQUESTS_AHEAD: usize = 16;
/// The same from the disk.
const READS_AHEAD: usize = 4;
/// Units that wait at once to be written to the disk.
const WRITES: usize = 32;
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
    /// For those that nobody waits for yet.
    requests: Semaphore,
    /// The same from the disk.
    reads: Semaphore,
    /// Units that are being written to the disk.
    writes: Arc<Semaphore>,
}

impl ObjectFile {
    pub fn open(address: Address, access: &Access) -> Result<ObjectFile> {
        let cache = access.disk_cache.as_ref();
        let cache = cache.map(|(directory, size)| DiskCache::open(directory, *size)).transpose()?;
        let client = Client::for_reading(address.clone(), access.deadline);
        let counters = Arc::<Counters>::default();
        let buffers = Buffers::default();
        let deadline = access.deadline;
        let fetcher = Fetcher { address, deadline, counters: counters.clone(), buffers: buffers.clone() };
        let opened = client.wait_for(|store| fetcher.open(store))?;
        let (version, first) = opened.map_err(|failure| failure.of(fetcher.address.name()))?;
        let name = fetcher.address.name();
        let identity = fetcher.address.identity();
        // Two queries can ask one path for two things, of one time.
        let cache = cache.filter(|_| !fetcher.address.has_query() || !matches!(version.mark, Some(Mark::Time(_))));
        if access.disk_cache.is_some() && (cache.is_none() || version.mark.is_none()) {
            tracing::warn!("{name}: not kept on the disk, as its server does not tell versions apart");
        }
        let disk = cache.and_then(|cache| cache.object(&identity, &version, counters, buffers));
        let units = Units::new(disk.is_some());
        units.claim([0], false);
        units.arrived(0, Ok(first));
        let (requests, reads) = (Semaphore::new(REQUESTS_AHEAD), Semaphore::new(READS_AHEAD));
        let writes = Arc::new(Semaphore::new(WRITES));
        let shared = Arc::new(Shared { fetcher, version, units, disk, requests, reads, writes });
        Ok(ObjectFile {
            shared,
            client,
            guided: AtomicBool::new(false),
            only_what_is_asked: AtomicBool::new(false),
            sequences: Mutex::default(),
        })
    }

    /// Has units fetched that are not here; `later`: nobody waits for them yet.
    fn fetch(&self, units: impl IntoIterator<Item = u64>, later: bool) {
        for run in self.shared.units.claim(units, later) {
            for (units, on_disk) in self.shared.by_place(run) {
                let claimed = Claimed { shared: self.shared.clone(), units };
                // Whoever waits is told that nothing comes.
                if let Err(error) = self.client.spawn(|store| claimed.fetch(store, later, on_disk)) {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    /// Reads from the first of some units what is wanted of it; all of them are wanted.
    fn read(&self, units: Range<u64>, within: usize, out: &mut [u8]) -> Result<(), Failure> {
        let (shared, unit) = (&self.shared, units.start);
        let disk = shared.disk.as_ref();
        for _ in 0..TURNS {
            let bytes = match shared.units.find(unit) {
                Found::Here(bytes) => bytes,
                Found::Flying(flight) => self.wait(unit, &flight)?,
                // That a server is away does not matter for what lies here.
                Found::Failed(failure) if disk.is_none_or(|disk| !disk.read(unit, within, out)) => return Err(failure),
                Found::Failed(_) => return Ok(()),
                // Of what is read in no order no more is read than what is wanted.
                Found::Nothing if disk.is_some_and(|disk| disk.is_checked(unit) && disk.read(unit, within, out)) => {
                    return Ok(());
                }
                Found::Nothing => {
                    let others = (unit + 1..units.end).filter(|&other| disk.is_none_or(|disk| !disk.has(other)));
                    self.fetch(std::iter::once(unit).chain(others).collect::<Vec<_>>(), false);
                    continue;
                }
            };
            shared.units.was_read(unit);
            out.copy_from_slice(&bytes[within..][..out.len()]);
            return Ok(());
        }
        Err(Failure::Passing("what was fetched was gone before it was read".into()))
    }

    /// Waits for a unit that is on its way, for as long as anything comes.
    fn wait(&self, unit: u64, flight: &Flight) -> Result<Bytes, Failure> {
        let units = &self.shared.units;
        loop {
            let before = units.arrivals();
            if let Some(outcome) = flight.wait(self.shared.fetcher.deadline) {
                return outcome;
            }
            if units.arrivals() == before {
                let failure = self.shared.fetcher.late();
                units.was_late(unit, &failure);
                return Err(failure);
            }
        }
    }
}

/// Units that were claimed, and of which nothing is known yet.
struct Claimed {
    shared: Arc<Shared>,
    units: Range<u64>,
}

impl Claimed {
    /// Has them read from the disk, if they are there, or else fetched.
    async fn fetch(mut self, store: Arc<dyn ObjectStore>, later: bool, on_disk: bool) {
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
            self.fetch(ahead.start..ahead.end.min(self.shared.version.units()), true);
        }
        let mut rest = buffer;
        for unit in units.clone() {
            let bytes = self.shared.version.bytes_of(unit);
            let (from, to) = (offset.max(bytes.start), end.min(bytes.end));
            let (part, behind) = rest.split_at_mut((to - from) as usize);
            let read = self.read(unit..units.end, (from - bytes.start) as usize, part);
            read.map_err(|failure| failure.of(self.name()))?;
            rest = behind;
        }
        Ok(())
    }

    fn lend(&self, range: Range<u64>) -> Option<Box<dyn AsRef<[u8]> + '_>> {
        let unit = range.start / UNIT;
        let within = |at: u64| at.checked_sub(unit * UNIT).map(|at| at as usize);
        let (from, to) = (within(range.start)?, within(range.end)?);
        // Who is not guided has to be seen reading on. What lies in two units has to be put together.
        if !self.guided.load(Relaxed) || to > UNIT as usize {
            return None;
        }
        let units = &self.shared.units;
        let bytes = match units.find(unit) {
            Found::Here(bytes) => bytes,
            // What went wrong will be met again by whoever reads.
            Found::Flying(flight) => self.wait(unit, &flight).ok()?,
            Found::Failed(_) | Found::Nothing => return None,
        };
        units.was_read(unit);
        (from <= to && to <= bytes.len()).then(|| Box::new(bytes.slice(from..to)) as _)
    }

    fn will_need(&self, range: Range<u64>) {
        self.guided.store(true, Relaxed);
        let end = range.end.min(self.size());
        if range.start < end {
            // It comes in small steps, and a request is to be for more than one.
            let ahead = end.div_ceil(UNIT).next_multiple_of(RUN);
            self.fetch(range.start / UNIT..ahead.min(self.shared.version.units()), true);
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
    /// Cuts a run where the disk begins or ceases to have its units; says for each part whether it has.
    fn by_place(&self, run: Range<u64>) -> Vec<(Range<u64>, bool)> {
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
