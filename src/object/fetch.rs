//! Fetching units, and asking again until a deadline.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};
use tokio::time::{Instant, sleep, timeout_at};

use super::UNIT;
use super::address::Address;
use super::buffers::{Buffer, Buffers};
use super::counters::Counters;
use super::failure::Failure;

/// Before the second request; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A first answer that stands still for so long is asked for again, or after a quarter of the deadline if
/// that is less. The next ones may stand still for longer, up to a third: it may be we who ask for too much.
const FIRST_STANDSTILL: Duration = Duration::from_secs(15);
/// Bytes that must come within the deadline, or it is as if nothing came.
pub const ENOUGH: usize = 64 << 10;
/// Bytes of the largest object: what a server says is not believed further.
const LARGEST: u64 = 1 << 44;

/// One version of an object.
#[derive(Debug, Clone)]
pub struct Version {
    pub size: u64,
    /// None if the server tells neither this nor the time: then versions cannot be told apart.
    pub mark: Option<Mark>,
    /// Seconds since 1970, or 0 if the server does not say.
    pub modified: i64,
}

/// What tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    ETag(String),
    /// Last modified, in seconds since 1970.
    Time(i64),
}

impl Version {
    fn of(meta: &ObjectMeta) -> Version {
        // What a server does not say is 1970 here.
        let modified = meta.last_modified.timestamp();
        let mark = meta.e_tag.clone().map(Mark::ETag).or_else(|| (modified > 0).then_some(Mark::Time(modified)));
        Version { size: meta.size, mark, modified }
    }

    pub fn units(&self) -> u64 {
        self.size.div_ceil(UNIT)
    }

    /// The bytes of a unit.
    pub fn bytes_of(&self, unit: u64) -> Range<u64> {
        unit * UNIT..((unit + 1) * UNIT).min(self.size)
    }

    /// A server that has another version is to refuse. Weak tags never match there.
    fn condition(&self) -> Option<String> {
        match &self.mark {
            Some(Mark::ETag(tag)) if !tag.starts_with("W/") => Some(tag.clone()),
            _ => None,
        }
    }

    fn is(&self, meta: &ObjectMeta) -> bool {
        let other = Version::of(meta);
        other.size == self.size && other.mark == self.mark
    }
}

/// What is fetched, and how patiently.
pub struct Fetcher {
    pub address: Address,
    pub deadline: Duration,
    pub counters: Arc<Counters>,
    pub buffers: Buffers,
}

impl Fetcher {
    /// That it took too long.
    pub fn late(&self) -> Failure {
        Failure::Late(format!("nothing came within {} s", self.deadline.as_secs_f32()))
    }

    /// The first unit of whatever lies there now, and its version.
    pub async fn open(&self, store: Arc<dyn ObjectStore>) -> Result<(Version, Bytes), Failure> {
        let mut patience = Patience::new(self.deadline);
        let answer = loop {
            match patience.within(self.get(&*store, 0..UNIT, None)).await.flatten() {
                Ok(answer) => break answer,
                Err(failure) => patience.again(failure, self).await?,
            }
        };
        let version = Version::of(&answer.meta);
        if version.size > LARGEST {
            return Err(Failure::Final(format!("{} bytes are more than any model has", version.size)));
        }
        if version.size == 0 {
            return Ok((version, Bytes::new()));
        }
        let mut first = Err(patience.late());
        let mut missing = Missing::new(&version, 0..1);
        let received = missing.receive(answer, self, &mut patience, |_, unit| first = Ok(unit)).await;
        if let Err(failure) = received {
            patience.again(failure, self).await?;
            self.fetch(&*store, &version, missing, patience, |_, unit| first = Ok(unit)).await?;
        }
        first.map(|unit| (version, unit))
    }

    /// Fetches a run of units and gives each to `deliver` when it is there; all of them, in order.
    pub async fn run(
        &self,
        store: Arc<dyn ObjectStore>,
        version: &Version,
        units: Range<u64>,
        mut deliver: impl FnMut(u64, Result<Bytes, Failure>),
    ) {
        let mut next = units.start;
        let missing = Missing::new(version, units.clone());
        let fetched = self.fetch(&*store, version, missing, Patience::new(self.deadline), |unit, bytes| {
            next = unit + 1;
            deliver(unit, Ok(bytes));
        });
        if let Err(failure) = fetched.await {
            (next..units.end).for_each(|unit| deliver(unit, Err(failure.clone())));
        }
    }

    /// Asks for what is missing until it is there, or patience has an end.
    async fn fetch(
        &self,
        store: &dyn ObjectStore,
        version: &Version,
        mut missing: Missing<'_>,
        mut patience: Patience,
        mut deliver: impl FnMut(u64, Bytes),
    ) -> Result<(), Failure> {
        loop {
            match self.attempt(store, version, &mut missing, &mut patience, &mut deliver).await {
                Ok(()) => return Ok(()),
                Err(failure) => patience.again(failure, self).await?,
            }
        }
    }

    /// One request for all that is missing.
    async fn attempt(
        &self,
        store: &dyn ObjectStore,
        version: &Version,
        missing: &mut Missing<'_>,
        patience: &mut Patience,
        deliver: impl FnMut(u64, Bytes),
    ) -> Result<(), Failure> {
        let answer = patience.within(self.get(store, missing.range(), Some(version))).await??;
        if !version.is(&answer.meta) {
            return Err(Failure::Replaced);
        }
        missing.receive(answer, self, patience, deliver).await
    }

    async fn get(
        &self,
        store: &dyn ObjectStore,
        range: Range<u64>,
        version: Option<&Version>,
    ) -> Result<GetResult, Failure> {
        Counters::add(&self.counters.requests, 1);
        let if_match = version.and_then(Version::condition);
        let options = GetOptions { range: Some(GetRange::Bounded(range)), if_match, ..GetOptions::default() };
        Ok(store.get_opts(self.address.path(), options).await?)
    }
}

/// What is still to come of a run of units: what came of the first is kept when an answer breaks off.
struct Missing<'a> {
    version: &'a Version,
    units: Range<u64>,
    /// The first of them, as far as it came.
    begun: Option<Buffer>,
    filled: usize,
}

impl<'a> Missing<'a> {
    fn new(version: &'a Version, units: Range<u64>) -> Missing<'a> {
        Missing { version, units, begun: None, filled: 0 }
    }

    /// Bytes of the object.
    fn range(&self) -> Range<u64> {
        let start = self.version.bytes_of(self.units.start).start + self.filled as u64;
        start..self.version.bytes_of(self.units.end - 1).end
    }

    /// Takes an answer that has these bytes.
    async fn receive(
        &mut self,
        answer: GetResult,
        fetcher: &Fetcher,
        patience: &mut Patience,
        mut deliver: impl FnMut(u64, Bytes),
    ) -> Result<(), Failure> {
        let mut body = answer.into_stream();
        while !self.units.is_empty() {
            let chunk = patience.within(body.next()).await?;
            let mut chunk = chunk.ok_or_else(|| Failure::Passing("the answer ended early".into()))??;
            Counters::add(&fetcher.counters.fetched, chunk.len() as u64);
            patience.came(chunk.len());
            while !chunk.is_empty() && !self.units.is_empty() {
                self.fill(&mut chunk, fetcher, &mut deliver);
            }
        }
        Ok(())
    }

    /// Takes what belongs to the first unit.
    fn fill(&mut self, chunk: &mut Bytes, fetcher: &Fetcher, deliver: &mut impl FnMut(u64, Bytes)) {
        let unit = self.units.start;
        let bytes = self.version.bytes_of(unit);
        let length = (bytes.end - bytes.start) as usize;
        let mut buffer = self.begun.take().unwrap_or_else(|| fetcher.buffers.take(length));
        let part = chunk.split_to(chunk.len().min(length - self.filled));
        buffer[self.filled..][..part.len()].copy_from_slice(&part);
        self.filled += part.len();
        if self.filled < length {
            self.begun = Some(buffer);
            return;
        }
        (self.units.start, self.filled) = (unit + 1, 0);
        deliver(unit, buffer.freeze());
    }
}

/// How long to go on trying.
struct Patience {
    deadline: Duration,
    until: Instant,
    wait: Duration,
    standstill: Duration,
    last: Option<String>,
    /// Bytes that came since it began.
    came: usize,
}

impl Patience {
    fn new(deadline: Duration) -> Patience {
        let standstill = FIRST_STANDSTILL.min(deadline / 4);
        Patience { deadline, until: Instant::now() + deadline, wait: FIRST_WAIT, standstill, last: None, came: 0 }
    }

    /// It begins anew when enough came.
    fn came(&mut self, bytes: usize) {
        self.came += bytes;
        if self.came >= ENOUGH {
            *self = Patience::new(self.deadline);
        }
    }

    /// Has something done that is not to stand still.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let end = Instant::now() + self.standstill;
        let passing = || Failure::Passing(format!("nothing moved for {} s", self.standstill.as_secs_f32()));
        let late = |_| if end < self.until { passing() } else { self.late() };
        timeout_at(end.min(self.until), work).await.map_err(late)
    }

    /// Waits a while before another request, or says why there will be none.
    async fn again(&mut self, failure: Failure, fetcher: &Fetcher) -> Result<(), Failure> {
        if !failure.is_passing() {
            return Err(failure);
        }
        tracing::info!("{}: {}; asking again", fetcher.address.name(), failure.text());
        self.last = Some(failure.text().to_owned());
        let left = self.until.saturating_duration_since(Instant::now());
        if left < FIRST_WAIT {
            return Err(self.late());
        }
        Counters::add(&fetcher.counters.retries, 1);
        // However long it has failed, there is a last attempt before the end.
        sleep(self.wait.min(left / 2)).await;
        self.wait = (2 * self.wait).min(LONGEST_WAIT);
        self.standstill = (2 * self.standstill).min(self.deadline / 3);
        Ok(())
    }

    fn late(&self) -> Failure {
        let last = self.last.as_deref().unwrap_or("the server does not answer");
        let nearly = if self.came > 0 { "hardly anything" } else { "nothing" };
        Failure::Late(format!("{nearly} came within {} s: {last}", self.deadline.as_secs_f32()))
    }
}
