//! How much is in a disk cache, counted by those who write to it, one at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for the lock, which its writers have for the time of a unit.
const LOCK: Duration = Duration::from_secs(10);
/// The bytes in the cache as its writers count them, which they do one at a time.
const NAME: &str = "upg-usage";

/// The number of bytes in the cache, locked for as long as this lives.
pub struct Usage(File);

impl Usage {
    /// Digits and spaces of the number, and a line feed.
    const LENGTH: usize = 21;

    pub fn path(directory: &Path) -> PathBuf {
        directory.join(NAME)
    }

    pub fn lock(directory: &Path) -> io::Result<Usage> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(Usage::path(directory))?;
        let end = Instant::now() + LOCK;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Usage(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(LOCK / 10_000),
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps it locked"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// None if it is no number.
    pub fn read(&self) -> io::Result<Option<u64>> {
        let mut text = [0; Usage::LENGTH];
        let length = self.0.read_at(&mut text, 0)?;
        Ok(str::from_utf8(&text[..length]).ok().and_then(|text| text.trim().parse().ok()))
    }

    pub fn write(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(Usage::LENGTH as u64)?;
        self.0.write_all_at(format!("{bytes:20}\n").as_bytes(), 0)
    }
}

/// Not only closed: a process that was forked has it open, too.
impl Drop for Usage {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
