//! What the figures were measured on.

use std::fs;

use serde::Serialize;

use crate::codec::isa::Isa;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    /// The most that were measured with.
    pub threads: usize,
    /// That there are kernels for, the best first.
    pub isas: Vec<&'static str>,
    /// The last cache of the first processor, where Linux says.
    pub cache_bytes: Option<u64>,
}

impl Machine {
    pub fn here(threads: usize) -> Machine {
        Machine {
            cpu: cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            threads,
            isas: Isa::available().into_iter().map(Isa::name).collect(),
            cache_bytes: cache_bytes(),
        }
    }

    /// One, and all.
    pub fn thread_counts(&self) -> Vec<usize> {
        if self.threads > 1 { vec![1, self.threads] } else { vec![1] }
    }
}

fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cache_bytes() -> Option<u64> {
    let sizes = (0..8).filter_map(|i| {
        let text = fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{i}/size")).ok()?;
        Some(text.trim().strip_suffix('K')?.parse::<u64>().ok()? << 10)
    });
    sizes.max()
}
