//! Whether memory is short, so that nobody should put into the page cache what was not
//! asked for.

use crate::sync::Mutex;
use std::fs;
use std::time::{Duration, Instant};

/// How long an answer holds.
const HOLDS: Duration = Duration::from_millis(200);
/// Of all memory, what must be available: less than this, and the kernel is about to
/// throw out pages that are in use.
const LEAST_SHARE: u64 = 20;

#[derive(Debug, Default)]
pub struct Pressure(Mutex<Option<(Instant, bool)>>);

impl Pressure {
    /// What /proc/meminfo said a short time ago; high if it says nothing.
    pub fn is_high(&self) -> bool {
        let mut last = super::lock(&self.0);
        if let Some((when, high)) = *last
            && when.elapsed() < HOLDS
        {
            return high;
        }
        let high = fs::read_to_string("/proc/meminfo").map_or(true, |text| is_high(&text));
        *last = Some((Instant::now(), high));
        high
    }
}

fn is_high(meminfo: &str) -> bool {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()
    };
    match (kib("MemTotal"), kib("MemAvailable")) {
        (Some(total), Some(available)) => available < total / LEAST_SHARE,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_high_when_little_is_available_or_nothing_known() {
        let text = |available: u32| format!("MemTotal:  1000 kB\nMemFree:   1 kB\nMemAvailable:  {available} kB\n");
        assert!(!is_high(&text(50)));
        assert!(is_high(&text(49)));
        assert!(is_high("MemTotal: 1000 kB\n"));
        assert!(is_high(""));
    }

    #[test]
    fn this_machine_has_an_answer() {
        assert!(fs::read_to_string("/proc/meminfo").expect("Linux").contains("MemAvailable:"));
        Pressure::default().is_high();
    }
}
