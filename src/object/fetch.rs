//! Fetching units, and asking again until a deadline.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::UNIT;
use super::address::Address;
use super::buffers::Buffers;
use super::counters::Counters;
use super::failure::Failure;

/// Before the second request; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A first answer that stands still for so long is asked for again, or after a quarter of the deadline if
/// that is less. The next ones may stand still for longer, up to a third: it may be we who ask for too much.
const FIRST_STANDSTILL: Duration = Duration::from_secs(15);
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
        loop {
            match timeout_at(patience.until, self.first(&*store, patience.standstill)).await {
                Ok(Err(failure)) if failure.is_passing() => patience.again(failure, self).await?,
                Ok(outcome) => return outcome,
                Err(_) => return Err(patience.late()),
            }
        }
    }

    async fn first(&self, store: &dyn ObjectStore, standstill: Duration) -> Result<(Version, Bytes), Failure> {
        let answer = within(standstill, self.get(store, 0..UNIT, None)).await??;
        let version = Version::of(&answer.meta);
        if version.size > LARGEST {
            return Err(Failure::Final(format!("{} bytes are more than any model has", version.size)));
        }
        let length = version.bytes_of(0).end as usize;
        let mut body = Body::new(answer, self, standstill);
        let bytes = body.take(length).await?;
        Ok((version, bytes))
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
        let mut patience = Patience::new(self.deadline);
        while next < units.end {
            let before = next;
            let standstill = patience.standstill;
            let attempt = self.attempt(&*store, version, standstill, &mut next, units.end, &mut deliver);
            let outcome = timeout_at(patience.until, attempt).await;
            if next > before {
                patience = Patience::new(self.deadline);
            }
            let failure = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) if failure.is_passing() => match patience.again(failure, self).await {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                Ok(Err(failure)) => failure,
                Err(_) if next > before => continue,
                Err(_) => patience.late(),
            };
            (next..units.end).for_each(|unit| deliver(unit, Err(failure.clone())));
            return;
        }
    }

    /// One request for all that is left.
    async fn attempt(
        &self,
        store: &dyn ObjectStore,
        version: &Version,
        standstill: Duration,
        next: &mut u64,
        end: u64,
        deliver: &mut impl FnMut(u64, Result<Bytes, Failure>),
    ) -> Result<(), Failure> {
        let range = version.bytes_of(*next).start..version.bytes_of(end - 1).end;
        let answer = within(standstill, self.get(store, range.clone(), Some(version))).await??;
        if !version.is(&answer.meta) {
            return Err(Failure::Replaced);
        }
        if answer.range != range {
            return Err(Failure::Passing("the server sent other bytes than it was asked for".into()));
        }
        let mut body = Body::new(answer, self, standstill);
        while *next < end {
            let bytes = version.bytes_of(*next);
            let unit = body.take((bytes.end - bytes.start) as usize).await?;
            deliver(*next, Ok(unit));
            *next += 1;
        }
        Ok(())
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

/// The bytes of an answer as they come.
struct Body<'a> {
    stream: futures_util::stream::BoxStream<'static, object_store::Result<Bytes>>,
    /// Came with what was asked for, and is for the next.
    rest: Bytes,
    counters: &'a Counters,
    buffers: &'a Buffers,
    standstill: Duration,
}

/// Has something done that is not to stand still for so long.
async fn within<T>(standstill: Duration, work: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::Passing(format!("nothing moved for {} s", standstill.as_secs_f32()));
    timeout(standstill, work).await.map_err(late)
}

impl<'a> Body<'a> {
    fn new(answer: GetResult, fetcher: &'a Fetcher, standstill: Duration) -> Body<'a> {
        let Fetcher { counters, buffers, .. } = fetcher;
        Body { stream: answer.into_stream(), rest: Bytes::new(), counters, buffers, standstill }
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, Failure> {
        let mut unit = self.buffers.take(length);
        let mut filled = 0;
        while filled < length {
            if self.rest.is_empty() {
                let chunk = within(self.standstill, self.stream.next()).await?;
                self.rest = chunk.ok_or_else(|| Failure::Passing("the answer ended early".into()))??;
                Counters::add(&self.counters.fetched, self.rest.len() as u64);
            }
            let part = self.rest.split_to(self.rest.len().min(length - filled));
            unit[filled..][..part.len()].copy_from_slice(&part);
            filled += part.len();
        }
        Ok(unit.freeze())
    }
}

/// How long to go on trying.
struct Patience {
    deadline: Duration,
    until: Instant,
    wait: Duration,
    standstill: Duration,
    last: Option<String>,
}

impl Patience {
    fn new(deadline: Duration) -> Patience {
        let standstill = FIRST_STANDSTILL.min(deadline / 4);
        Patience { deadline, until: Instant::now() + deadline, wait: FIRST_WAIT, standstill, last: None }
    }

    /// Waits a while before another request, or says why there will be none.
    async fn again(&mut self, failure: Failure, fetcher: &Fetcher) -> Result<(), Failure> {
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
        Failure::Late(format!("nothing came within {} s: {last}", self.deadline.as_secs_f32()))
    }
}
