//! Ending a mount from outside.

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::statfs;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount as unmount_by_kernel};

use super::mountinfo::{last_at, mounts};
use crate::error::{Error, Result};

/// How an unmount went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    Now,
    /// It was in use: detached, and gone when the last user is.
    WhenNoLongerBusy,
}

/// Unmounts what upg-mount mounted at this place, and nothing else.
pub fn unmount(mountpoint: &Path) -> Result<Unmounted> {
    let mounts = mounts()?;
    let ours = |place: &Path| last_at(&mounts, place).is_some_and(|mount| mount.ours);
    let literal = resolve(mountpoint)?;
    // A link to a mountpoint that is alive can be followed.
    let followed = mountpoint.canonicalize().ok().filter(|place| !ours(&literal) && ours(place));
    let mountpoint = followed.unwrap_or(literal);
    if !ours(&mountpoint) {
        return Err(Error::Invalid(format!("{}: nothing that upg-mount mounted", mountpoint.display())));
    }
    detach(&mountpoint)
}

/// Unmounts what a daemon of upg-mount's that is gone left at this place; what answers, or is
/// none of ours, stays as it is.
pub fn clear_if_dead(mountpoint: &Path) -> Result<()> {
    // The daemon of another, further down, may be gone, too.
    while is_dead(mountpoint) {
        unmount(mountpoint)?;
    }
    Ok(())
}

/// Whether the mount at a place has lost its daemon. A question that the kernel cannot answer of
/// itself, as attributes are: it remembers those of a mount that is dead.
pub(super) fn is_dead(mountpoint: &Path) -> bool {
    // The first if the question came just before the end.
    matches!(statfs(mountpoint), Err(Errno::CONNABORTED | Errno::NOTCONN))
}

/// Canonical, without asking the file system at the mountpoint, which may be dead.
fn resolve(mountpoint: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(mountpoint).map_err(|e| Error::io(mountpoint, e))?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(|e| Error::io(mountpoint, e))?.join(name)),
        _ => Ok(absolute),
    }
}

/// Unmounts what is on top there, lazily if it is in use: as root by the system call, else by fusermount3.
pub(super) fn detach(mountpoint: &Path) -> Result<Unmounted> {
    for (flags, outcome) in
        [(UnmountFlags::empty(), Unmounted::Now), (UnmountFlags::DETACH, Unmounted::WhenNoLongerBusy)]
    {
        match unmount_by_kernel(mountpoint, flags | UnmountFlags::NOFOLLOW) {
            Ok(()) => return Ok(outcome),
            Err(Errno::BUSY) => continue,
            Err(Errno::PERM) => break,
            Err(error) => return Err(Error::io(mountpoint, error.into())),
        }
    }
    for (flags, outcome) in [(["-q", "-u"].as_slice(), Unmounted::Now), (&["-u", "-z"], Unmounted::WhenNoLongerBusy)] {
        if fusermount(flags, mountpoint)? {
            return Ok(outcome);
        }
    }
    Err(Error::Invalid(format!("{}: fusermount3 could not unmount it", mountpoint.display())))
}

/// By the program that fuser would mount by; whether it could.
fn fusermount(flags: &[&str], mountpoint: &Path) -> Result<bool> {
    let names = match env::var_os("FUSERMOUNT_PATH") {
        Some(name) => vec![name],
        None => [
            "fusermount3",
            "fusermount",
            "/sbin/fusermount3",
            "/sbin/fusermount",
            "/bin/fusermount3",
            "/bin/fusermount",
        ]
        .map(Into::into)
        .to_vec(),
    };
    for name in names {
        match Command::new(&name).args(flags).arg("--").arg(mountpoint).stdin(Stdio::null()).status() {
            Ok(status) => return Ok(status.success()),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(Path::new(&name), error)),
        }
    }
    let why = "to unmount it without root takes fusermount3 (package fuse3), which is not there";
    Err(Error::Invalid(format!("{}: {why}", mountpoint.display())))
}
