//! An object as a source of bytes.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::address::Address;
use super::buffers::Buffers;
use super::claimed::{Claimed, Shared};
use super::client::Client;
use super::counters::Counters;
use super::disk::{DiskCache, KeptObject};
use super::failure::Failure;
use super::fetch::{ENOUGH, Fetcher, Mark};
use super::sequences::Sequences;
use super::units::{Flight, Found, RUN, Units};
use super::{Access, UNIT};
use crate::error::{Error, Result};
use crate::source::ReadAt;

/// How often a unit is looked for that was there and then was not.
const TURNS: usize = 10;

/// What the objects that this process has open have in common.
static OPEN: OnceLock<Arc<()>> = OnceLock::new();

/// One version of an object, read in units of 1 MiB.
pub struct ObjectFile {
    shared: Arc<Shared>,
    client: Client,
    /// Whether somebody who knows says what will be needed.
    guided: AtomicBool,
    only_what_is_asked: AtomicBool,
    sequences: Mutex<Sequences>,
}

impl ObjectFile {
    pub fn open(address: Address, access: &Access) -> Result<ObjectFile> {
        let cache = access.disk_cache.as_ref();
        let cache = cache.map(|(directory, size)| DiskCache::open(directory, *size)).transpose()?.flatten();
        let client = Client::for_reading(address.clone(), access.deadline);
        let counters = Arc::<Counters>::default();
        let buffers = Buffers::default();
        let deadline = access.deadline;
        let fetcher = Fetcher { address, deadline, counters: counters.clone(), buffers: buffers.clone() };
        let opened = client.wait_for(|store| fetcher.open(store))?;
        let (version, first) = opened.map_err(|failure| failure.into_error(fetcher.address.name()))?;
        let name = fetcher.address.name();
        let identity = fetcher.address.identity();
        // Two queries can ask one path for two things, of one time.
        let is_told_apart = !fetcher.address.has_query() || !matches!(version.mark, Some(Mark::Time(_)));
        if cache.is_some() && (!is_told_apart || version.mark.is_none()) {
            tracing::warn!("{name}: not kept on the disk, as its server does not tell versions apart");
        }
        let cache = cache.filter(|_| is_told_apart);
        let disk = cache.and_then(|cache| KeptObject::new(cache, &identity, &version, counters, buffers));
        let units = Units::new(OPEN.get_or_init(Arc::default));
        units.claim([0], false);
        units.arrived(0, Ok(first));
        let shared = Arc::new(Shared::new(fetcher, version, units, disk));
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
            let claimed = Claimed::new(self.shared.clone(), run);
            // Whoever waits is told that nothing comes.
            if let Err(error) = self.client.spawn(|store| claimed.fetch(store, later)) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Those that are neither in memory nor on their way: on the disk, and nowhere.
    fn absent(&self, units: Range<u64>) -> (Vec<u64>, Vec<u64>) {
        let absent = self.shared.units.absent(units);
        absent.into_iter().partition(|&unit| self.shared.disk.as_ref().is_some_and(|disk| disk.has(unit)))
    }

    /// Fills the buffer. `checks`: whether the reader knows what is damaged.
    fn read(&self, buffer: &mut [u8], offset: u64, checks: bool) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|&end| end <= self.size());
        let end = end.ok_or_else(|| {
            let what = format!("{} bytes were to be read; the object has {}", buffer.len(), self.size());
            Error::truncated(self.name(), "object", offset, what)
        })?;
        let units = units_of(offset..end);
        if !self.guided.load(Relaxed) && !self.only_what_is_asked.load(Relaxed) {
            let ahead = self.sequences.lock().unwrap_or_else(PoisonError::into_inner).read(&units);
            let (_, missing) = self.absent(ahead.start..ahead.end.min(self.shared.version.units()));
            self.fetch(missing, true);
        }
        let mut rest = buffer;
        for unit in units.clone() {
            let bytes = self.shared.version.bytes_of(unit);
            let (from, to) = (offset.max(bytes.start), end.min(bytes.end));
            let (part, behind) = rest.split_at_mut((to - from) as usize);
            let read = self.read_unit(unit..units.end, (from - bytes.start) as usize, part, checks);
            read.map_err(|failure| failure.into_error(self.name()))?;
            rest = behind;
        }
        Ok(())
    }

    /// Reads from the first of some units what is wanted of it; all of them are wanted.
    fn read_unit(&self, units: Range<u64>, within: usize, out: &mut [u8], checks: bool) -> Result<(), Failure> {
        let (shared, unit) = (&self.shared, units.start);
        for _ in 0..TURNS {
            let bytes = match shared.units.find(unit) {
                Found::Here(bytes) => bytes,
                Found::Flying(flight) => self.wait(unit, &flight)?,
                // Also if its server is away.
                Found::Failed(_) | Found::Nothing if self.read_from_disk(unit, within, out, checks) => return Ok(()),
                Found::Failed(failure) => return Err(failure),
                Found::Nothing => {
                    let (_, others) = self.absent(unit + 1..units.end);
                    self.fetch(std::iter::once(unit).chain(others), false);
                    continue;
                }
            };
            out.copy_from_slice(&bytes[within..][..out.len()]);
            return Ok(());
        }
        Err(Failure::Passing("what was fetched was gone before it was read".into()))
    }

    fn read_from_disk(&self, unit: u64, within: usize, out: &mut [u8], checks: bool) -> bool {
        let Some(disk) = &self.shared.disk else { return false };
        if checks {
            return disk.read(unit, within, out);
        }
        let bytes = disk.read_whole(unit);
        bytes.inspect(|bytes| out.copy_from_slice(&bytes[within..][..out.len()])).is_some()
    }

    /// Has units fetched anew by whoever reads them next.
    fn forget(&self, units: Range<u64>) {
        for unit in units {
            self.shared.units.forget(unit);
            if let Some(disk) = &self.shared.disk {
                disk.forget(unit);
            }
        }
    }

    /// Waits for a unit that is on its way, for as long as anything comes.
    fn wait(&self, unit: u64, flight: &Flight) -> Result<Bytes, Failure> {
        let fetcher = &self.shared.fetcher;
        let came = || fetcher.counters.fetched.load(Relaxed);
        loop {
            let before = came();
            if let Some(outcome) = flight.wait(fetcher.deadline) {
                self.shared.units.was_read(unit);
                return outcome;
            }
            if came() - before < ENOUGH as u64 {
                let failure = fetcher.late();
                self.shared.units.was_late(unit, &failure);
                return Err(failure);
            }
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
        self.read(buffer, offset, false)
    }

    fn read_right_at(&self, buffer: &mut [u8], offset: u64, is_right: &dyn Fn(&[u8]) -> bool) -> Result<bool> {
        self.read(buffer, offset, true)?;
        let range = offset..offset + buffer.len() as u64;
        if is_right(buffer) {
            return Ok(true);
        }
        self.forget(units_of(range.clone()));
        tracing::warn!("{}: bytes {range:?} came here damaged; they are fetched again", self.name());
        self.read(buffer, offset, true)?;
        Ok(is_right(buffer))
    }

    fn lend(&self, range: Range<u64>) -> Option<Box<dyn AsRef<[u8]> + '_>> {
        let unit = range.start / UNIT;
        let within = |at: u64| at.checked_sub(unit * UNIT).map(|at| at as usize);
        let (from, to) = (within(range.start)?, within(range.end)?);
        // Who is not guided has to be seen reading on. What lies in two units has to be put together.
        if !self.guided.load(Relaxed) || to > UNIT as usize {
            return None;
        }
        let bytes = match self.shared.units.find(unit) {
            Found::Here(bytes) => bytes,
            // What went wrong will be met again by whoever reads.
            Found::Flying(flight) => self.wait(unit, &flight).ok()?,
            Found::Failed(_) | Found::Nothing => return None,
        };
        (from <= to && to <= bytes.len()).then(|| Box::new(bytes.slice(from..to)) as _)
    }

    fn will_need(&self, range: Range<u64>) {
        self.guided.store(true, Relaxed);
        let end = range.end.min(self.size());
        if range.start >= end {
            return;
        }
        let units = units_of(range.start..end);
        // It comes in small steps, and a request is to be for more than one.
        let ahead = units.end.next_multiple_of(RUN).min(self.shared.version.units());
        let (on_disk, missing) = self.absent(units.start..ahead);
        if let Some(disk) = &self.shared.disk {
            on_disk.into_iter().for_each(|unit| disk.will_need(unit, range.start..end));
        }
        self.fetch(missing, true);
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

fn units_of(range: Range<u64>) -> Range<u64> {
    range.start / UNIT..range.end.div_ceil(UNIT)
}
