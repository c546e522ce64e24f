//! How far the kernel reads ahead in our mount.
//!
//! A FUSE file system cannot ask for more than 128 KiB. What can be had is the setting of
//! the mount's backing device in /sys, which root may write. It bounds the size of the
//! READs of a program that maps a file: with 128 KiB there are eight times as many as
//! with the 1 MiB that one READ can have.

use std::fs;
use std::path::PathBuf;

/// What `--readahead-kb` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelReadahead {
    /// What suits most loaders, if permitted.
    Auto,
    /// So many KiB, and a warning if that is not permitted.
    KiB(u32),
}

/// Several READs of the largest size: enough for one to be on its way while others are
/// answered, and little beside the first touch of a random reader.
const AUTO: u32 = 4096;

/// Sets it for the mount with this device number and returns what holds then, in KiB;
/// None if the kernel does not say.
pub fn set(device: &str, wanted: KernelReadahead) -> Option<u32> {
    let setting = PathBuf::from(format!("/sys/class/bdi/{device}/read_ahead_kb"));
    let kib = match wanted {
        KernelReadahead::Auto => AUTO,
        KernelReadahead::KiB(kib) => kib,
    };
    let written = fs::write(&setting, kib.to_string());
    let effective = fs::read_to_string(&setting).ok().and_then(|text| text.trim().parse().ok());
    match (written, wanted) {
        (Err(error), KernelReadahead::KiB(_)) => {
            tracing::warn!("read_ahead_kb stays at {effective:?}: {}: {error}", setting.display());
        }
        _ => tracing::info!("the kernel reads ahead by {effective:?} KiB"),
    }
    effective
}
