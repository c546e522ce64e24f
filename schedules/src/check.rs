//! Running something under many schedules.
//!
//! By default as many as the test says, always the same. With UPG_LONG=1, other ones each time,
//! for UPG_SCHEDULE_SECONDS seconds per test and scheduler (60). A test that fails prints its
//! schedule; with UPG_SCHEDULE set to that, the test goes through it again.

use std::cell::Cell;
use std::env;
use std::panic;
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// In schedules with few changes, how many.
const MOST_CHANGES: usize = 4;
/// Bytes: reading /proc/meminfo needs more than the checker's own measure.
const STACK: usize = 256 << 10;

/// How long each scheduler goes on; None: as often as the test says.
fn long() -> Option<Duration> {
    env::var("UPG_LONG").ok().filter(|value| value == "1")?;
    let seconds = env::var("UPG_SCHEDULE_SECONDS").ok().and_then(|text| text.parse().ok());
    Some(Duration::from_secs(seconds.unwrap_or(60)))
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK;
    // It takes all atomic numbers for sequentially consistent, and would say so each time.
    config.silence_warnings = true;
    config
}

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Has panics remembered, as upg catches some. Those on purpose do without this
/// (`resume_unwind`).
fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.set(true);
            before(info);
        }));
    });
}

fn run(scheduler: impl Scheduler + 'static, body: impl Fn() + Send + Sync + 'static) -> usize {
    remember_panics();
    Runner::new(scheduler, config()).run(move || {
        body();
        assert!(!PANICKED.get(), "a panic was caught that was not on purpose");
    })
}

/// Runs the body under schedules of a kind; at length with seed after seed, as a scheduler that is
/// stopped by the clock says that the last one failed.
fn seeds<S: Scheduler + 'static>(
    kind: &str,
    scheduler: impl Fn(u64) -> S,
    body: impl Fn() + Send + Sync + Clone + 'static,
) {
    let start = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let mut seed = if long().is_some() { now } else { 1 };
    let mut count = run(scheduler(seed), body.clone());
    while long().is_some_and(|time| start.elapsed() < time) {
        seed += 1;
        count += run(scheduler(seed), body.clone());
    }
    eprintln!("{count} schedules, {kind}");
}

/// The one schedule that UPG_SCHEDULE asks for.
fn again() -> Option<ReplayScheduler> {
    Some(ReplayScheduler::new_from_encoded(&env::var("UPG_SCHEDULE").ok()?))
}

/// Runs the body so often under each of two kinds of schedules: at each step any thread goes on;
/// and one goes on as long as it can, but for a few changes.
pub fn check(schedules: usize, body: impl Fn() + Send + Sync + Clone + 'static) {
    if let Some(schedule) = again() {
        run(schedule, body);
        return;
    }
    seeds("at random", |seed| RandomScheduler::new_from_seed(seed, schedules), body.clone());
    seeds("with few changes", |seed| PctScheduler::new_from_seed(seed, MOST_CHANGES, schedules), body);
}

/// Runs the body under every schedule that there is.
pub fn exhaust(body: impl Fn() + Send + Sync + 'static) {
    let count = match again() {
        Some(schedule) => run(schedule, body),
        None => run(DfsScheduler::new(None, false), body),
    };
    eprintln!("{count} schedules, all there are");
}
