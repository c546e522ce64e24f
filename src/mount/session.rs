//! One mount from beginning to end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::Session;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::adapter::{Adapter, Owner};
use super::options::MountOptions;
use super::unmount::{Unmounted, detach};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// The mountpoint as an absolute path, if something can be mounted there.
pub fn check_mountpoint(mountpoint: &Path) -> Result<PathBuf> {
    let metadata = fs::metadata(mountpoint).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOTCONN) => Error::Invalid(format!(
            "{}: a mount whose daemon is gone; clear it with upg-mount -u",
            mountpoint.display()
        )),
        _ => Error::io(mountpoint, e),
    })?;
    if !metadata.is_dir() {
        return Err(Error::Invalid(format!("{}: not a directory", mountpoint.display())));
    }
    mountpoint.canonicalize().map_err(|e| Error::io(mountpoint, e))
}

/// Mounts the archive and serves it until it is unmounted. `ready` is called
/// once the kernel and we agree; requests are answered from then on.
pub fn serve(archive: Archive, owner: Owner, options: &MountOptions, ready: impl FnOnce()) -> Result<()> {
    let vfs = Arc::new(Vfs::new(archive, options.cache_size));
    let mountpoint = &options.mountpoint;
    let failed = |e: io::Error| explain(mountpoint, e);

    // Before the mount, so that no signal can end the process with it in place.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let session = Session::new(Adapter::new(vfs, owner), mountpoint, &options.config()).map_err(failed)?;
    let for_signals = mountpoint.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || unmount_on(signals, &for_signals))
        .map_err(failed)?;
    ready();
    session.run().map_err(failed)?;
    tracing::info!("{}: unmounted", mountpoint.display());
    Ok(())
}

fn unmount_on(mut signals: Signals, mountpoint: &Path) {
    for (i, signal) in signals.forever().enumerate() {
        tracing::info!("signal {signal}");
        if i > 0 {
            // Asked twice: whoever still reads gets an error.
            std::process::exit(1);
        }
        match detach(mountpoint) {
            Ok(Unmounted::Now) => {}
            Ok(Unmounted::WhenNoLongerBusy) => {
                tracing::warn!("{}: in use; it goes when its last user does", mountpoint.display());
            }
            Err(error) => tracing::error!("{error}"),
        }
    }
}

fn explain(mountpoint: &Path, error: io::Error) -> Error {
    let what = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) if !Path::new("/dev/fuse").exists() => {
            "there is no /dev/fuse: load the kernel module fuse, or give the container the device".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => {
            format!("{error}: mounting needs root, or fusermount3 (package fuse3) and access to /dev/fuse")
        }
        _ => error.to_string(),
    };
    Error::Invalid(format!("{}: cannot mount: {what}", mountpoint.display()))
}
