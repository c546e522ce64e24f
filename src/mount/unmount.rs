//! Ending a mount from outside or inside.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::options::FS_NAME;
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
    let mountpoint = resolve(mountpoint)?;
    let mounts = fs::read("/proc/self/mountinfo").map_err(|e| Error::io("/proc/self/mountinfo", e))?;
    if !is_our_mount(&mounts, &mountpoint) {
        return Err(Error::Invalid(format!("{}: nothing that upg-mount mounted", mountpoint.display())));
    }
    detach(&mountpoint)
}

/// Canonical, without asking the file system at the mountpoint, which may be dead.
fn resolve(mountpoint: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(mountpoint).map_err(|e| Error::io(mountpoint, e))?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(|e| Error::io(mountpoint, e))?.join(name)),
        _ => Ok(absolute),
    }
}

/// Whether the last mount at this place is one of ours, going by mountinfo(5).
fn is_our_mount(mounts: &[u8], mountpoint: &Path) -> bool {
    let lines = mounts.split(|&b| b == b'\n').rev();
    let last = lines
        .map(|line| line.split(|&b| b == b' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4).is_some_and(|place| unescape(place) == mountpoint.as_os_str().as_bytes()));
    let Some(fields) = last else { return false };
    let mut after = fields.iter().skip_while(|field| **field != b"-").skip(1);
    let (kind, source) = (after.next(), after.next());
    kind.is_some_and(|kind| *kind == b"fuse.upg" || *kind == b"fuse")
        && source.is_some_and(|source| *source == FS_NAME.as_bytes())
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
    std::ffi::OsString::from_vec(out).into_vec()
}

/// Unmounts, lazily if the mount is in use: as root by the system call, else by
/// fusermount3.
pub(super) fn detach(mountpoint: &Path) -> Result<Unmounted> {
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
            34 1 0:44 / /mnt/e rw - tmpfs tmpfs rw\n";
        for (place, ours) in [("/mnt/a b", true), ("/mnt/c", true), ("/mnt/d", false), ("/mnt/e", false), ("/x", false)]
        {
            assert_eq!(is_our_mount(mounts, Path::new(place)), ours, "{place}");
        }
    }
}
