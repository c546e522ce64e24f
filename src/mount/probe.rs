//! Whether a mount answers, asked by a process of its own.
//!
//! The daemon must not ask: should it be killed while the kernel waits for its answer, the thread
//! that asked would keep /dev/fuse open, and neither could ever end. A second process can, for its
//! wait ends with the daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags, statfs, statx};

use crate::error::{Error, Result};

/// What the daemon starts itself with to ask; the device and the mountpoint follow.
const ARGUMENT: &str = "--probe";
/// How long a mount may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer is given again: however many ask, there is no more than a process a second.
const KEPT: Duration = Duration::from_secs(1);

/// What has become of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answers,
    Fails,
    Waiting,
}

/// Asks one question at a time, so that a mount that does not answer has one process waiting.
pub struct Probe {
    mountpoint: PathBuf,
    /// `major:minor`: something else may be mounted there by now.
    device: String,
    asked: Option<(Child, ChildStdout, Instant)>,
    /// The last answer, and when it came.
    answered: Option<(Outcome, Instant)>,
}

impl Probe {
    pub fn new(mountpoint: &Path, device: &str) -> Probe {
        Probe { mountpoint: mountpoint.to_path_buf(), device: device.to_owned(), asked: None, answered: None }
    }

    /// Asks, if no question is open and none was answered just now.
    pub fn ask(&mut self) -> io::Result<()> {
        let is_fresh = self.answered.is_some_and(|(_, since)| since.elapsed() < KEPT);
        if self.asked.is_some() || is_fresh {
            return Ok(());
        }
        let mut child = Command::new("/proc/self/exe")
            .args([ARGUMENT, &self.device])
            .arg(&self.mountpoint)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let end = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        self.asked = Some((child, end, Instant::now()));
        Ok(())
    }

    /// What hangs up with the answer.
    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        self.asked.as_ref().map(|(_, end, _)| end.as_fd())
    }

    /// When a question that is open becomes a failure.
    pub fn deadline(&self) -> Option<Instant> {
        self.asked.as_ref().map(|(.., since)| *since + PATIENCE)
    }

    /// Of the question that was asked last.
    pub fn outcome(&mut self) -> Outcome {
        let Some((child, _, since)) = &mut self.asked else {
            return self.answered.map_or(Outcome::Fails, |(outcome, _)| outcome);
        };
        let outcome = match child.try_wait() {
            Ok(None) if since.elapsed() < PATIENCE => return Outcome::Waiting,
            Ok(None) => return Outcome::Fails,
            Ok(Some(status)) if status.success() => Outcome::Answers,
            Ok(Some(_)) | Err(_) => Outcome::Fails,
        };
        self.asked = None;
        self.answered = Some((outcome, Instant::now()));
        outcome
    }
}

/// The second process: asks the mount for what the kernel does not keep.
pub fn probe(device: &str, mountpoint: &Path) -> Result<()> {
    let failed = |e: rustix::io::Errno| Error::io(mountpoint, e.into());
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW;
    let there = statx(CWD, mountpoint, flags, StatxFlags::empty()).map_err(failed)?;
    if format!("{}:{}", there.stx_dev_major, there.stx_dev_minor) != device {
        return Err(Error::Invalid(format!("{}: another file system is mounted there", mountpoint.display())));
    }
    statfs(mountpoint).map(drop).map_err(failed)
}
