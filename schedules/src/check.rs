//! Running something under many schedules.
//!
//! By default as many as the test says, always the same. With UPG_LONG=1, other ones each time,
//! for UPG_SCHEDULE_SECONDS seconds per test and scheduler (60). A test that fails prints its
//! schedule; with UPG_SCHEDULE set to that, the test goes through it again.

use std::cell::Cell;
use std::env;
use std::panic;
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// In schedules with few changes, how many.
const MOST_CHANGES: usize = 4;
/// Bytes: reading /proc/meminfo needs more than the checker's own measure.
const STACK: usize = 256 << 10;

fn long() -> bool {
    env::var("UPG_LONG").is_ok_and(|value| value == "1")
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK;
    // It takes all atomic numbers for sequentially consistent, and would say so each time.
    config.silence_warnings = true;
    if long() {
        let seconds = env::var("UPG_SCHEDULE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
        config.max_time = Some(Duration::from_secs(seconds));
    }
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

fn run(what: &str, scheduler: impl Scheduler + 'static, body: impl Fn() + Send + Sync + 'static) {
    remember_panics();
    let count = Runner::new(scheduler, config()).run(move || {
        body();
        assert!(!PANICKED.get(), "a panic was caught that was not on purpose");
    });
    eprintln!("{count} schedules, {what}");
}

/// Runs the body so often under each of two kinds of schedules: at each step any thread goes on;
/// and one goes on as long as it can, but for a few changes.
pub fn check(schedules: usize, body: impl Fn() + Send + Sync + Clone + 'static) {
    if let Ok(schedule) = env::var("UPG_SCHEDULE") {
        return run("again", ReplayScheduler::new_from_encoded(&schedule), body);
    }
    let (seed, schedules) = if long() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        (now, usize::MAX)
    } else {
        (1, schedules)
    };
    run("at random", RandomScheduler::new_from_seed(seed, schedules), body.clone());
    run("with few changes", PctScheduler::new_from_seed(seed, MOST_CHANGES, schedules), body);
}

/// Runs the body under every schedule that there is.
pub fn exhaust(body: impl Fn() + Send + Sync + 'static) {
    match env::var("UPG_SCHEDULE") {
        Ok(schedule) => run("again", ReplayScheduler::new_from_encoded(&schedule), body),
        Err(_) => run("all there are", DfsScheduler::new(None, false), body),
    }
}
