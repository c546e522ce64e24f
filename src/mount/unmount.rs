//! Ending a mount from outside or inside.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::options::{FS_NAME, FS_TYPE};
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
    let mounts = mountinfo()?;
    let ours = |place: &Path| last_mount_at(&mounts, place).is_some_and(|fields| is_ours(&fields));
    let literal = resolve(mountpoint)?;
    // A link to a mountpoint that is alive can be followed.
    let followed = mountpoint.canonicalize().ok().filter(|place| !ours(&literal) && ours(place));
    let mountpoint = followed.unwrap_or(literal);
    if !ours(&mountpoint) {
        return Err(Error::Invalid(format!("{}: nothing that upg-mount mounted", mountpoint.display())));
    }
    detach(&mountpoint)
}

/// Unmounts what a daemon that died while it started may have mounted already.
pub fn clear_if_dead(mountpoint: &Path) {
    let error = fs::metadata(mountpoint).err().and_then(|error| error.raw_os_error());
    // The first of them if the question came just before the end.
    if matches!(error, Some(libc::ECONNABORTED | libc::ENOTCONN)) {
        // If that fails, the next to mount there is told what is in the way.
        let _ = unmount(mountpoint);
    }
}

/// Canonical, without asking the file system at the mountpoint, which may be dead.
fn resolve(mountpoint: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(mountpoint).map_err(|e| Error::io(mountpoint, e))?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(|e| Error::io(mountpoint, e))?.join(name)),
        _ => Ok(absolute),
    }
}

/// One mount, told apart from whatever is mounted at its place later.
#[derive(Debug)]
pub(super) struct OwnMount {
    mountpoint: PathBuf,
    /// Of /dev/fuse: the kernel's end of the connection.
    connection: OwnedFd,
    /// `major:minor` of the file system, not given to another while the
    /// connection lives.
    device: Vec<u8>,
}

impl OwnMount {
    /// What has just been mounted at this place.
    pub(super) fn new(mountpoint: &Path, connection: OwnedFd) -> Result<OwnMount> {
        let mounts = mountinfo()?;
        let device = last_mount_at(&mounts, mountpoint).map(|fields| fields[2].to_vec());
        let device = device.ok_or_else(|| Error::Invalid(format!("{}: the mount has gone", mountpoint.display())))?;
        Ok(OwnMount { mountpoint: mountpoint.to_path_buf(), connection, device })
    }

    /// `major:minor`.
    pub(super) fn device(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.device)
    }

    /// Unmounts it if it is still there; None if it was not.
    pub(super) fn detach(&self) -> Result<Option<Unmounted>> {
        let mounts = mountinfo()?;
        let on_top = last_mount_at(&mounts, &self.mountpoint).is_some_and(|fields| fields[2] == self.device);
        if on_top && self.is_connected() { detach(&self.mountpoint).map(Some) } else { Ok(None) }
    }

    fn is_connected(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.connection.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: `poll` is one valid pollfd, which outlives the call.
        let polled = unsafe { libc::poll(&mut poll, 1, 0) };
        polled >= 0 && poll.revents & libc::POLLERR == 0
    }
}

fn mountinfo() -> Result<Vec<u8>> {
    fs::read("/proc/self/mountinfo").map_err(|e| Error::io("/proc/self/mountinfo", e))
}

/// The fields of the line of mountinfo(5) for the topmost mount at a place.
fn last_mount_at<'a>(mounts: &'a [u8], mountpoint: &Path) -> Option<Vec<&'a [u8]>> {
    let lines = mounts.split(|&b| b == b'\n').rev();
    lines
        .map(|line| line.split(|&b| b == b' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4).is_some_and(|place| unescape(place) == mountpoint.as_os_str().as_bytes()))
}

/// Whether a line of mountinfo(5) is about a mount of ours.
fn is_ours(fields: &[&[u8]]) -> bool {
    let mut after = fields.iter().skip_while(|field| **field != b"-").skip(1);
    let (kind, source) = (after.next(), after.next());
    match kind {
        Some(&b"fuse") => source.is_some_and(|source| *source == FS_NAME.as_bytes()),
        kind => kind.is_some_and(|kind| *kind == FS_TYPE.as_bytes()),
    }
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// Unmounts, lazily if the mount is in use: as root by the system call, else by
/// fusermount3.
fn detach(mountpoint: &Path) -> Result<Unmounted> {
    let path = CString::new(mountpoint.as_os_str().as_bytes())
        .map_err(|_| Error::Invalid("a mountpoint with a NUL byte".into()))?;
    for (flags, outcome) in [(0, Unmounted::Now), (libc::MNT_DETACH, Unmounted::WhenNoLongerBusy)] {
        // SAFETY: `path` is a NUL-terminated string that outlives the call.
        let done = unsafe { libc::umount2(path.as_ptr(), flags | libc::UMOUNT_NOFOLLOW) };
        let error = io::Error::last_os_error();
        match (done, error.raw_os_error()) {
            (0, _) => return Ok(outcome),
            (_, Some(libc::EBUSY)) => continue,
            (_, Some(libc::EPERM)) => break,
            _ => return Err(Error::io(mountpoint, error)),
        }
    }
    for (flags, outcome) in [(["-q", "-u"].as_slice(), Unmounted::Now), (&["-u", "-z"], Unmounted::WhenNoLongerBusy)] {
        let mut command = Command::new("fusermount3");
        let status = command.args(flags).arg("--").arg(mountpoint).stdin(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => return Ok(outcome),
            Ok(_) => continue,
            Err(e) => return Err(Error::io("fusermount3", e)),
        }
    }
    Err(Error::Invalid(format!("{}: fusermount3 could not unmount it", mountpoint.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_mounts_are_found() {
        let mounts = b"22 1 0:20 / /proc rw - proc proc rw\n\
            30 1 0:40 / /mnt/a\\040b ro,nosuid shared:1 - fuse upg ro\n\
            31 1 0:41 / /mnt/c ro - fuse.upg upg ro\n\
            32 1 0:42 / /mnt/d ro - fuse.sshfs host rw\n\
            33 1 0:43 / /mnt/e ro - fuse.upg upg ro\n\
            34 1 0:44 / /mnt/e rw - tmpfs tmpfs rw\n\
            35 1 0:45 / /mnt/f ro - fuse.upg /models/f.upg ro\n\
            36 1 0:46 / /mnt/g ro - fuse /models/f.upg ro\n";
        let others = ["/mnt/d", "/mnt/e", "/mnt/g", "/x"].map(|place| (place, false));
        for (place, ours) in ["/mnt/a b", "/mnt/c", "/mnt/f"].map(|place| (place, true)).into_iter().chain(others) {
            let last = last_mount_at(mounts, Path::new(place));
            assert_eq!(last.is_some_and(|fields| is_ours(&fields)), ours, "{place}");
        }
    }
}
