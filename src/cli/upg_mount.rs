//! The program `upg-mount`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;

use super::args::WRONG;
use super::mount_args::MountArgs;
use super::mount_helper::{self, HelperArgs};
use super::progress::Bar;
use super::threads::cores;
use super::{images, output, verify_output};
use crate::archive::Archive;
use crate::mount::{self, Endpoint, MountOptions, Role, Unmounted};
use crate::ops::convert::PartNote;
use crate::ops::verify;

/// Of either kind, unless asked: more than any transport keeps busy, and each has buffers of up
/// to two blocks beside the cache.
const MOST_THREADS: usize = 16;

pub fn main() -> ExitCode {
    if mount_helper::is_called() {
        return mount_helper::main();
    }
    let args = MountArgs::parse();
    if let Some(connection) = args.watch_connection {
        return if mount::watch(connection).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let [device, mountpoint] = &args.probe[..] {
        let answers = mount::probe(&device.to_string_lossy(), mountpoint.as_ref());
        return if answers.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let result = match (&args.unmount, args.paths.split_last()) {
        (Some(mountpoint), _) if args.if_dead => mount::clear_if_dead(mountpoint).map_err(Into::into),
        (Some(mountpoint), _) => unmount(mountpoint),
        (None, Some((mountpoint, files))) => mount(&args, files, mountpoint, None),
        // clap has made sure that there are some.
        _ => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error("upg-mount", &error);
            if error.is::<Wrong>() { ExitCode::from(WRONG) } else { ExitCode::FAILURE }
        }
    }
}

/// The file that was to be verified first is not whole.
#[derive(Debug, thiserror::Error)]
#[error("{file}: not whole: {first} (upg verify lists all {findings} findings)")]
struct Wrong {
    file: String,
    findings: usize,
    first: String,
}

/// Checks all that an archive holds.
fn verify(archive: &Archive, threads: usize) -> Result<()> {
    let checked = verify::check(archive, threads, &Bar::new(Arc::default()), |_, _, _| Ok(()))?;
    match checked.findings.first() {
        None => Ok(()),
        Some(first) => {
            let (file, first) = (archive.name().to_owned(), verify_output::line(first));
            Err(Wrong { file, findings: checked.findings.len(), first }.into())
        }
    }
}

fn unmount(mountpoint: &Path) -> Result<()> {
    if mount::unmount(mountpoint)? == Unmounted::WhenNoLongerBusy {
        let name = output::escape(&mountpoint.display().to_string());
        output::print(&format!("{name} is in use; it goes when its last user does\n"))?;
    }
    Ok(())
}

/// `helper`: what mount(8) wants beside, if it is for mount(8).
pub fn mount(args: &MountArgs, files: &[PathBuf], mountpoint: &Path, helper: Option<&HelperArgs>) -> Result<()> {
    let inherited = mount::inherited_descriptors();
    // Everything that can be wrong is found before anything is mounted, and
    // the image is open before it: the daemon never touches its own mount.
    mount::keep_heap_small();
    mount::start_log(args.log_format.into(), args.foreground || args.log_file.is_some());
    let (mut archive, owners) = images::open(files, args.hf_cache.then_some(&args.repo), &args.access())?;
    refuse_parts(&archive)?;
    if args.drop_compressed {
        archive.let_go_of_decoded();
    }
    if args.verify {
        verify(&archive, cores())?;
    }
    // What checks files and fetches objects has threads, and there is to be one from here on.
    archive.rest();
    mount::wait_for_one_thread()?;
    if let Some(helper) = helper {
        helper.enter_namespace()?;
    }
    let default = cores().min(MOST_THREADS);
    let threads = args.threads.map_or(default, usize::from);
    let mut options = MountOptions::new(mount::check_mountpoint(mountpoint)?, args.cache_size, threads);
    args.options.iter().try_for_each(|list| options.add(list))?;
    options.allow_other |= args.allow_other;
    options.decoders = args.decoders.map_or(default, usize::from);
    options.kernel_readahead = args.readahead_kb;
    // Not its path, at which another version may lie by now.
    options.watchdog = (!args.no_push).then(|| "/proc/self/exe".into());
    (options.refuse_direct, options.null) = (args.refuse_direct, args.bench_null);
    options.source = helper.map(HelperArgs::source);
    check_places(args, &options)?;
    if helper.is_some_and(HelperArgs::is_fake) {
        return Ok(());
    }
    // While there is somebody to tell that it is taken, and the right to take it.
    options.metrics = args.metrics.map(Endpoint::bind).transpose()?;
    if args.foreground {
        mount::log_to(args.log_file.as_deref(), false)?;
        return Ok(mount::serve(archive, owners, &options, mount::tell_service_manager)?);
    }
    let log_file = args.log_file.as_deref().map(std::path::absolute).transpose()?;
    match mount::daemonise(&inherited)? {
        Role::Parent(failure) => {
            // The mount is there; this is the proof that it answers.
            let answers = || std::fs::metadata(&options.mountpoint).context("the mount does not answer");
            let failure = failure.map(anyhow::Error::msg).or_else(|| answers().err());
            failure.map_or(Ok(()), |failure| {
                // If that fails, the next to mount there is told what is in the way.
                let _ = mount::clear_if_dead(&options.mountpoint);
                Err(failure)
            })
        }
        Role::Child(daemon) => {
            let mut daemon = Some(daemon);
            let served = mount::log_to(log_file.as_deref(), true).and_then(|()| {
                mount::serve(archive, owners, &options, || daemon.take().into_iter().for_each(|daemon| daemon.ready()))
            });
            if let (Err(error), Some(daemon)) = (&served, daemon) {
                daemon.failed(&error.to_string());
                std::process::exit(1);
            }
            if let Err(error) = served {
                tracing::error!("{error}");
            }
            Ok(())
        }
    }
}

/// Of a model of which files are missing, a loader may make something that is none.
fn refuse_parts(archive: &Archive) -> Result<()> {
    let part = archive.models().iter().find_map(|model| Some((&model.name, PartNote::of(model)?.part)));
    let Some((model, part)) = part else { return Ok(()) };
    let (file, number, of) = (archive.name(), part.number(), part.of());
    bail!("{file}: only part {number} of {of} of model {model:?}: join all with upg merge, and mount what comes of it")
}

/// What the daemon writes below the mountpoint it would have to wait for itself.
fn check_places(args: &MountArgs, options: &MountOptions) -> Result<()> {
    if let Some(log) = &args.log_file {
        let parent = std::path::absolute(log)?.parent().map(Path::to_path_buf).unwrap_or_default();
        let parent = parent.canonicalize().with_context(|| log.display().to_string())?;
        if parent.starts_with(&options.mountpoint) {
            bail!("{}: the log must not lie below the mountpoint", log.display());
        }
    }
    if let Some(cache) = &args.disk_cache
        && cache.canonicalize().is_ok_and(|cache| cache.starts_with(&options.mountpoint))
    {
        bail!("{}: the disk cache must not lie below the mountpoint", cache.display());
    }
    Ok(())
}
