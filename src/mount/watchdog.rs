//! A process that ends the connection to the kernel should its daemon be killed.
//!
//! A thread that puts pages into the page cache waits in the kernel for a page that a
//! READ has locked, and cannot be killed there. If the daemon is killed at that moment,
//! nobody will ever answer the READ, and as the waiting thread keeps /dev/fuse open, the
//! kernel does not notice: daemon and readers would stay for good. Somebody else has to
//! abort the connection, and this is who: a second process of ours, which holds the
//! connection's `abort` file open and sleeps until the daemon's main thread has ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::privileges;
use crate::error::{Error, Result};

/// What the daemon starts itself with to get its watchdog; the connection's number follows.
const ARGUMENT: &str = "--watch-connection";
/// Where the kernel lists its connections, if that is mounted.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// What the kernel tells the watchdog with.
const DAEMON_ENDED: Signal = Signal::SIGUSR1;

/// The daemon's end.
#[derive(Debug)]
pub struct Watchdog(Mutex<Child>);

impl Watchdog {
    /// Has a connection of this process watched; `program` is a upg-mount. Must be called by the
    /// main thread: it is the one whose end is heard of.
    pub fn start(program: &Path, connection: u32) -> Result<Watchdog> {
        let failed = |what: String| Error::Invalid(format!("no watchdog for the connection: {what}"));
        let mut child = Command::new(program)
            .args([ARGUMENT, &connection.to_string()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let mut answer = String::new();
        let heard = match child.stdout.take() {
            Some(mut stdout) => stdout.read_to_string(&mut answer),
            None => Ok(0),
        };
        // It waits for a word, so that it ends if we do before it hears of that otherwise.
        let told = child.stdin.take().map(|mut stdin| stdin.write_all(b"\n"));
        let mut watchdog = Watchdog(Mutex::new(child));
        match (heard, told) {
            (Ok(_), Some(Ok(()))) if answer == READY => Ok(watchdog),
            _ => {
                watchdog.end();
                Err(failed(answer.trim_end().to_owned()))
            }
        }
    }

    /// Whether it is still there.
    pub fn is_alive(&self) -> bool {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(child.try_wait(), Ok(None))
    }

    fn end(&mut self) {
        let child = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The connection has gone when its session is over, and needs no watching.
impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the watchdog says when it watches; anything else is why it cannot.
const READY: &str = "ready\n";

/// The watchdog's whole life. Its parent is the daemon.
pub fn watch(connection: u32) -> io::Result<()> {
    // Ctrl-C and pkill mean the daemon, which ends in order.
    SigSet::all().thread_block()?;
    set_pdeathsig(DAEMON_ENDED)?;
    let mut abort = match open_abort(connection) {
        Ok(file) => file,
        Err(why) => {
            writeln!(io::stdout(), "{why}")?;
            return Ok(());
        }
    };
    // The file is open; nothing else is needed.
    privileges::keep_none().map_err(io::Error::other)?;
    io::stdout().write_all(READY.as_bytes())?;
    close_stdout()?;
    if io::stdin().read(&mut [0])? == 0 {
        return Ok(()); // it died before we were told to be told
    }
    let stat = format!("/proc/{}/stat", getppid());
    loop {
        SigSet::from(DAEMON_ENDED).wait()?;
        // The signal comes a moment before the thread has ended, and may be anybody's.
        for _ in 0..CHECKS {
            if !has_main_thread(&stat) {
                // Of a connection that has gone, the file knows that, and does nothing.
                let _ = abort.write(b"1");
                return Ok(());
            }
            std::thread::sleep(CHECK_AGAIN);
        }
    }
}

/// How often, and how long apart, the watchdog looks for the end that it was told of.
const CHECKS: u32 = 1000;
const CHECK_AGAIN: Duration = Duration::from_millis(10);

fn has_main_thread(stat: &str) -> bool {
    // The state follows the name, which is in parentheses and may hold any of them.
    let Ok(text) = std::fs::read_to_string(stat) else { return false };
    let state = text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The file that aborts a connection when written to. It stays the connection's own even
/// if its number is given to another.
fn open_abort(connection: u32) -> io::Result<File> {
    let mounted = PathBuf::from(CONNECTIONS).join(connection.to_string()).join("abort");
    let error = match OpenOptions::new().write(true).open(&mounted) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    // In containers it often is not mounted. Root can open it without mounting it anywhere.
    let Ok(root) = connections_unmounted() else {
        return Err(io::Error::new(error.kind(), format!("{}: {error}", mounted.display())));
    };
    let path = format!("/proc/self/fd/{}/{connection}/abort", root.as_raw_fd());
    OpenOptions::new().write(true).open(path)
}

fn connections_unmounted() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn close_stdout() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(())
}
