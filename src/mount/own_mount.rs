//! The mount that a daemon serves, and how it gives it up.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::mountinfo::{Mounted, last_at, mounts};
use super::unmount::{self, Unmounted};
use crate::error::{Error, Result};

/// How long whoever aborts the connection in order to unmount (`umount -f`) may take for the rest.
const UNMOUNTING: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One mount, told apart from whatever is mounted at its place later.
#[derive(Debug)]
pub struct OwnMount {
    id: u64,
    device: String,
    /// Of /dev/fuse: the kernel's end of the connection.
    connection: OwnedFd,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Detached {
    Now(Unmounted),
    /// Somebody had unmounted it before.
    Before,
}

impl OwnMount {
    /// What has just been mounted at this place.
    pub fn new(mountpoint: &Path, connection: OwnedFd) -> Result<OwnMount> {
        let mounts = mounts()?;
        let mount = last_at(&mounts, mountpoint).filter(|mount| mount.ours);
        let gone = || Error::Invalid(format!("{}: the mount has gone", mountpoint.display()));
        let Mounted { id, device, .. } = mount.ok_or_else(gone)?;
        Ok(OwnMount { id: *id, device: device.clone(), connection })
    }

    /// `major:minor`.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether somebody may still ask for something.
    pub fn is_connected(&self) -> bool {
        let mut polled = [PollFd::new(&self.connection, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default())).is_ok() && !polled[0].revents().contains(PollFlags::ERR)
    }

    /// Unmounts it, wherever it lies by now. Of a mount that cannot be reached, as another covers it, an error.
    pub fn detach(&self) -> Result<Detached> {
        // By its number it is found as long as it is mounted, and its number is not another's as long as it
        // is connected.
        let Some(mount) = self.find()? else { return Ok(Detached::Before) };
        if !self.is_connected() {
            return self.clear(mount);
        }
        self.reach(&mount)?;
        unmount::detach(&mount.place).map(Detached::Now)
    }

    /// Unmounts what the kernel's end has been taken from: nobody would ever answer there.
    fn clear(&self, mut mount: Mounted) -> Result<Detached> {
        let mut waited = Duration::ZERO;
        while waited < UNMOUNTING {
            thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
            match self.find()? {
                Some(still) => mount = still,
                None => return Ok(Detached::Before),
            }
        }
        self.reach(&mount)?;
        // Else the numbers are another's by now.
        if !unmount::is_dead(&mount.place) {
            return Ok(Detached::Before);
        }
        unmount::detach(&mount.place).map(Detached::Now)
    }

    fn find(&self) -> Result<Option<Mounted>> {
        Ok(mounts()?.into_iter().find(|mount| mount.ours && mount.id == self.id && mount.device == self.device))
    }

    /// Fails unless the mount is what its path leads to. Asks the kernel, never the file system.
    fn reach(&self, mount: &Mounted) -> Result<()> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW;
        let there = statx(CWD, &mount.place, flags, StatxFlags::MNT_ID);
        let reached = there.is_ok_and(|there| {
            // The number of the mount since Linux 5.8.
            let known = there.stx_mask & StatxFlags::MNT_ID.bits() != 0;
            (!known || there.stx_mnt_id == self.id)
                && format!("{}:{}", there.stx_dev_major, there.stx_dev_minor) == self.device
        });
        let what = "the mount cannot be unmounted, as another covers it: unmount that first";
        if reached { Ok(()) } else { Err(Error::Invalid(format!("{}: {what}", mount.place.display()))) }
    }
}
