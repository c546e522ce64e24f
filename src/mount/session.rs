//! One mount from beginning to end.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fuser::Session;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::adapter::Adapter;
use super::kernel_readahead;
use super::options::MountOptions;
use super::owner::Owners;
use super::page_cache::KernelPages;
use super::privileges;
use super::unmount::{OwnMount, Unmounted};
use super::watchdog::Watchdog;
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// The mountpoint as an absolute path, if something can be mounted there.
pub fn check_mountpoint(mountpoint: &Path) -> Result<PathBuf> {
    let metadata = fs::metadata(mountpoint).map_err(|e| match e.raw_os_error() {
        // The second if it went while the question was on its way.
        Some(libc::ENOTCONN | libc::ECONNABORTED) => Error::Invalid(format!(
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
/// once the kernel and we agree; requests are answered from then on. The process gives up the
/// rights that this does not take, and must have one thread.
pub fn serve(archive: Archive, owners: Owners, options: &MountOptions, ready: impl FnOnce()) -> Result<()> {
    privileges::keep_what_mounting_takes()?;
    let vfs = Arc::new(Vfs::new(archive, options.cache_size, options.decoders)?);
    let mountpoint = &options.mountpoint;
    let failed = |e: io::Error| explain(mountpoint, e);

    // Before the mount, so that no signal can end the process with it in place.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    // A log file beyond the limit (ulimit -f) is no reason to end.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(failed)?;
    let device = Arc::new(OnceLock::new());
    let adapter = Adapter::new(vfs.clone(), owners, options, device.clone(), signals.handle());
    let session = Session::new(adapter, mountpoint, &options.config()).map_err(failed)?;
    let duplicate = || session.as_fd().try_clone_to_owned().map_err(failed);
    let connection = duplicate()?;
    let _ = device.set(duplicate()?);
    let mount = OwnMount::new(mountpoint, connection)?;
    vfs.set_kernel_readahead(kernel_readahead::set(&mount.device(), options.kernel_readahead));
    let notifier = session.notifier();
    // fuser 0.18 unmounts by path when its `Mount` is dropped, even if the mount is
    // gone and another has taken its place: it must never be dropped.
    std::mem::forget(session.spawn().map_err(failed)?);
    if let Some(endpoint) = &options.metrics {
        endpoint.serve(vfs.clone(), mountpoint, &mount.device())?;
    }
    if let Some(program) = options.watchdog.as_ref().filter(|_| !options.null && options.decoders > 0) {
        match watchdog(program, &mount) {
            Ok(watchdog) => vfs.push_into(Box::new(KernelPages::new(notifier, vfs.inodes(), watchdog))),
            Err(error) => tracing::info!("nothing is pushed into the page cache: {error}"),
        }
    }
    ready();
    unmount_on(signals, &mount);
    if mount.detach()?.is_some() {
        return Err(Error::Invalid(format!("{}: the connection to the kernel broke", mountpoint.display())));
    }
    tracing::info!("{}: unmounted", mountpoint.display());
    Ok(())
}

fn watchdog(program: &Path, mount: &OwnMount) -> Result<Watchdog> {
    let device = mount.device();
    let connection = device.strip_prefix("0:").and_then(|minor| minor.parse().ok());
    let connection = connection.ok_or_else(|| Error::Invalid(format!("{device}: not a device of FUSE's")))?;
    Watchdog::start(program, connection)
}

/// Until the session is over.
fn unmount_on(mut signals: Signals, mount: &OwnMount) {
    let mut detached = false;
    for signal in signals.forever() {
        tracing::info!("signal {signal}");
        if detached {
            // Asked twice: whoever still reads gets an error.
            std::process::exit(1);
        }
        let outcome = mount.detach();
        detached = outcome.is_ok();
        match outcome {
            Ok(Some(Unmounted::WhenNoLongerBusy)) => {
                tracing::warn!("the mount is in use; it goes when its last user does");
            }
            Ok(_) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }
}

fn explain(mountpoint: &Path, error: io::Error) -> Error {
    let what = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) if !Path::new("/dev/fuse").exists() => {
            "there is no /dev/fuse: load the kernel module fuse, or give the container the device".to_owned()
        }
        Some(libc::ENOTCONN) => "a mount whose daemon is gone is in the way; clear it with upg-mount -u".to_owned(),
        Some(libc::EPERM | libc::EACCES) => {
            format!("{error}: mounting needs root, or fusermount3 (package fuse3) and access to /dev/fuse")
        }
        // fusermount3's words end with a line feed.
        _ => error.to_string().trim_end().to_owned(),
    };
    Error::Invalid(format!("{}: cannot mount: {what}", mountpoint.display()))
}
