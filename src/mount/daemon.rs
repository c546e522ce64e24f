//! Going into the background: fork first, threads later, and the parent leaves
//! only when the mount answers or has failed.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::error::{Error, Result};

/// Which of the two processes this is after [`daemonise`].
pub enum Role {
    /// The parent, with what the child said: None if the mount answers.
    Parent(Option<String>),
    Child(Daemon),
}

/// Has the C library give memory back to the system.
///
/// By itself it puts large buffers into its heaps once one was freed, as happens after the
/// handshake with the kernel; then every thread's 16 MiB for a request lie there, touched from
/// end to end. And it gives threads heaps of their own, each of which stays as large as what its
/// threads ever had at a time, although one frees what another allocated.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in
        [(libc::M_MMAP_THRESHOLD, 256 << 10), (libc::M_TRIM_THRESHOLD, 1 << 20), (libc::M_ARENA_MAX, 1)]
    {
        // SAFETY: mallopt may be called at any time; these are settings that it documents.
        unsafe { libc::mallopt(setting, value) };
    }
}

/// The descriptors above the standard streams that this process was started with.
pub fn inherited_descriptors() -> Vec<RawFd> {
    let names = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let open: Vec<RawFd> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    // One was the directory's, which is closed by now.
    open.into_iter().filter(|fd| *fd > 2 && fs::read_link(format!("/proc/self/fd/{fd}")).is_ok()).collect()
}

/// Waits until this process has one thread: those that were told to end may take a moment.
pub fn wait_for_one_thread() -> Result<()> {
    for _ in 0..ENDING.as_millis() {
        // What cannot be counted is taken for one.
        if fs::read_dir("/proc/self/task").map_or(1, Iterator::count) <= MOST {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(Error::Invalid("threads that were to end do not: a look-up of a name, or a disk, hangs".into()))
}

/// This one. ThreadSanitizer has another of its own (scripts/race.sh).
const MOST: usize = if option_env!("UPG_TSAN").is_some() { 2 } else { 1 };

/// How long they may take.
const ENDING: Duration = Duration::from_secs(10);

/// The child's line to its parent.
pub struct Daemon {
    pipe: PipeWriter,
}

/// Splits the process. The child closes what was inherited: whoever waits for the end of a pipe
/// must not wait for the daemon's. Must be called while there is one thread only.
pub fn daemonise(inherited: &[RawFd]) -> Result<Role> {
    let failed = |e| Error::io("cannot go into the background", e);
    let (reader, writer) = io::pipe().map_err(failed)?;
    // SAFETY: the process has one thread. Those that checked files or fetched objects have ended
    // (`wait_for_one_thread`), so the child does not inherit a lock that nobody can open.
    match unsafe { libc::fork() } {
        -1 => Err(failed(io::Error::last_os_error())),
        0 => {
            drop(reader);
            for &fd in inherited {
                let _ = nix::unistd::close(fd);
            }
            // The child leads no process group, so it cannot fail.
            let _ = rustix::process::setsid();
            // The daemon must not keep the directory that it was started in busy.
            std::env::set_current_dir("/").map_err(failed)?;
            Ok(Role::Child(Daemon { pipe: writer }))
        }
        _ => {
            drop(writer);
            Ok(Role::Parent(wait(reader)))
        }
    }
}

/// What the child says until it closes the pipe or is ready.
fn wait(mut reader: PipeReader) -> Option<String> {
    let mut message = Vec::new();
    let _ = reader.read_to_end(&mut message);
    match message.split_first() {
        Some((0, _)) => None,
        Some((_, text)) => Some(String::from_utf8_lossy(text).into_owned()),
        None => Some("the daemon died before it was ready".into()),
    }
}

impl Daemon {
    /// Lets the parent go, and lets go of the terminal.
    pub fn ready(mut self) {
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).and_then(|()| dup2_stderr(&null));
        }
        let _ = self.pipe.write_all(&[0]);
    }

    /// Tells the parent why there will be no mount.
    pub fn failed(mut self, why: &str) {
        let _ = self.pipe.write_all(&[1]).and_then(|()| self.pipe.write_all(why.as_bytes()));
    }
}
