//! The page cache of a mount, as far as its daemon can put something there.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use fuser::{INodeNo, Notifier};

use super::watchdog::Watchdog;
use crate::archive::FileId;
use crate::readahead::PageCache;
use crate::vfs::Ino;

/// Stores through the kernel's notification FUSE_NOTIFY_STORE, and only as long as there
/// is a watchdog.
pub struct KernelPages {
    notifier: Notifier,
    /// By the files' numbers.
    inodes: Vec<Ino>,
    watchdog: Watchdog,
    closed: AtomicBool,
}

impl KernelPages {
    pub fn new(notifier: Notifier, inodes: Vec<Ino>, watchdog: Watchdog) -> KernelPages {
        KernelPages { notifier, inodes, watchdog, closed: AtomicBool::new(false) }
    }

    fn close(&self, why: &dyn std::fmt::Display) {
        if !self.closed.swap(true, Relaxed) {
            tracing::warn!("nothing is pushed into the page cache from now on: {why}");
        }
    }
}

impl PageCache for KernelPages {
    fn is_open(&self) -> bool {
        if self.closed.load(Relaxed) {
            return false;
        }
        let alive = self.watchdog.is_alive();
        if !alive {
            self.close(&"its watchdog has gone");
        }
        alive
    }

    fn store(&self, file: FileId, offset: u64, pages: &[u8]) -> io::Result<()> {
        let ino = self.inodes.get(file.0 as usize).ok_or(io::ErrorKind::NotFound)?;
        self.notifier.store(INodeNo(*ino), offset, pages).inspect_err(|error| match error.raw_os_error() {
            // The mount is going.
            Some(libc::ENODEV | libc::ENOTCONN | libc::ECONNABORTED) => self.closed.store(true, Relaxed),
            _ => self.close(error),
        })
    }
}
