//! One mount from beginning to end.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fuser::{Notifier, Session};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::adapter::Adapter;
use super::kernel_readahead;
use super::options::MountOptions;
use super::own_mount::{Detached, OwnMount};
use super::owner::Owners;
use super::page_cache::KernelPages;
use super::privileges;
use super::scheduling;
use super::unmount::{Unmounted, is_dead};
use super::watchdog::Watchdog;
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// The mountpoint as an absolute path, if something can be mounted there.
pub fn check_mountpoint(mountpoint: &Path) -> Result<PathBuf> {
    if is_dead(mountpoint) {
        let what = "a mount whose daemon is gone; clear it with upg-mount -u";
        return Err(Error::Invalid(format!("{}: {what}", mountpoint.display())));
    }
    let metadata = fs::metadata(mountpoint).map_err(|e| Error::io(mountpoint, e))?;
    if !metadata.is_dir() {
        return Err(Error::Invalid(format!("{}: not a directory", mountpoint.display())));
    }
    mountpoint.canonicalize().map_err(|e| Error::io(mountpoint, e))
}

/// Mounts the archive and serves it until it is unmounted. `ready` is called
/// once the kernel and we agree; requests are answered from then on. The process gives up the
/// rights that this does not take, must have one thread, and is expected to end afterwards.
pub fn serve(archive: Archive, owners: Owners, options: &MountOptions, ready: impl FnOnce()) -> Result<()> {
    privileges::keep_what_mounting_takes()?;
    // Before there are threads to inherit it.
    scheduling::interrupt_nobody();
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
    let _ = device.set(duplicate()?);
    let mount = OwnMount::new(mountpoint, duplicate()?);
    let notifier = session.notifier();
    // fuser unmounts by path when its `Mount` is dropped, even if the mount has gone from there and
    // another has taken its place: it must never be dropped.
    std::mem::forget(session.spawn().map_err(failed)?);
    let mount = mount?;
    let served = begin(&vfs, &mount, notifier, options).map(|()| {
        ready();
        unmount_on(signals, &mount);
    });
    // One of the decoders may wait for a store that is silent, and its answer is no use to anybody: the
    // process ends without waiting for them.
    std::mem::forget(vfs);
    let detached = mount.detach();
    served?;
    match detached? {
        Detached::Before => {
            tracing::info!("{}: unmounted", mountpoint.display());
            Ok(())
        }
        // The threads have ended, and nobody would have answered there.
        Detached::Now(_) => {
            Err(Error::Invalid(format!("{}: the connection to the kernel broke; unmounted", mountpoint.display())))
        }
    }
}

/// What needs the mount to be there already.
fn begin(vfs: &Arc<Vfs>, mount: &OwnMount, notifier: Notifier, options: &MountOptions) -> Result<()> {
    vfs.set_kernel_readahead(kernel_readahead::set(mount.device(), options.kernel_readahead));
    if let Some(endpoint) = &options.metrics {
        endpoint.serve(vfs.clone(), &options.mountpoint, mount.device())?;
    }
    if let Some(program) = options.watchdog.as_ref().filter(|_| !options.null && options.decoders > 0) {
        match watchdog(program, mount) {
            Ok(watchdog) => vfs.push_into(Box::new(KernelPages::new(notifier, vfs.inodes(), watchdog))),
            Err(error) => tracing::info!("nothing is pushed into the page cache: {error}"),
        }
    }
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
    // Whether the mount has gone from its place, and somebody has asked for that who may ask again.
    let mut asked = false;
    while !signals.handle().is_closed() {
        let received: Vec<_> = signals.wait().collect();
        if received.is_empty() {
            continue;
        }
        tracing::info!("signals {received:?}");
        // Whoever ends a login, a terminal or a scope sends SIGHUP beside SIGTERM, and asks once.
        let asks = received.iter().any(|signal| *signal != SIGHUP);
        if asked && asks {
            // Asked twice: whoever still reads gets an error.
            std::process::exit(1);
        }
        match mount.detach() {
            // Nobody can read any more, whatever threads still wait for.
            Ok(_) if !mount.is_connected() => return,
            Ok(outcome) => {
                if outcome == Detached::Now(Unmounted::WhenNoLongerBusy) {
                    tracing::warn!("the mount is in use; it goes when its last user does");
                }
                asked |= asks;
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
        Some(libc::ENOTCONN) => "a mount whose daemon is gone is in the way; clear it with upg-mount -u".to_owned(),
        Some(libc::EPERM | libc::EACCES) => {
            format!("{error}: mounting needs root, or fusermount3 (package fuse3) and access to /dev/fuse")
        }
        // fusermount3's words end with a line feed.
        _ => error.to_string().trim_end().to_owned(),
    };
    Error::Invalid(format!("{}: cannot mount: {what}", mountpoint.display()))
}
