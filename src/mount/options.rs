//! How to mount.

use std::path::PathBuf;

use fuser::{Config, MountOption, SessionACL};

use super::kernel_readahead::KernelReadahead;
use super::metrics::Endpoint;
use crate::error::{Error, Result};

/// The file system's type is `fuse` or `fuse.upg`, and its source is this; a
/// path would bring commas and, with some names, special cases in clients.
/// With another source ([`MountOptions::source`]) the type is always [`FS_TYPE`].
pub const FS_NAME: &str = "upg";

pub const FS_TYPE: &str = "fuse.upg";

#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Absolute.
    pub mountpoint: PathBuf,
    /// Bytes of decoded blocks to keep.
    pub cache_size: u64,
    /// FUSE threads.
    pub threads: usize,
    /// Threads that decode ahead of readers.
    pub decoders: usize,
    pub kernel_readahead: KernelReadahead,
    /// A upg-mount to start as the watchdog, without which nothing is pushed into the page
    /// cache.
    pub watchdog: Option<PathBuf>,
    /// Where monitors are answered.
    pub metrics: Option<Endpoint>,
    /// Refuse O_DIRECT, so that loaders fall back on the page cache.
    pub refuse_direct: bool,
    /// Answer every read with zeros: what the transport alone costs.
    pub null: bool,
    pub allow_other: bool,
    /// What mountinfo is to have as the source, instead of `upg`.
    pub source: Option<String>,
    /// Added by `-o`.
    extra: Vec<MountOption>,
}

impl MountOptions {
    pub fn new(mountpoint: PathBuf, cache_size: u64, threads: usize) -> MountOptions {
        MountOptions {
            mountpoint,
            cache_size,
            threads,
            decoders: threads,
            kernel_readahead: KernelReadahead::Auto,
            watchdog: None,
            metrics: None,
            refuse_direct: false,
            null: false,
            allow_other: false,
            source: None,
            extra: Vec::new(),
        }
    }

    /// Takes the comma-separated options of `-o`, as mount(8) and fstab have them.
    pub fn add(&mut self, options: &str) -> Result<()> {
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "allow_other" => self.allow_other = true,
                "noexec" => self.extra.push(MountOption::NoExec),
                // What every mount has anyway.
                "ro" | "nodev" | "nosuid" | "noatime" | "default_permissions" => {}
                // Of no consequence where nothing is written.
                "exec" | "async" | "relatime" | "nodiratime" => {}
                // What fstab says to others.
                "auto" | "noauto" | "user" | "nouser" | "users" | "owner" | "group" | "_netdev" | "nofail"
                | "defaults" => {}
                option if ["x-", "X-", "user=", "comment="].iter().any(|start| option.starts_with(start)) => {}
                "rw" => return Err(Error::Invalid("-o rw: a mount of a .upg file is read-only".into())),
                other => return Err(Error::Invalid(format!("-o {other}: no such option"))),
            }
        }
        Ok(())
    }

    pub(super) fn config(&self) -> Config {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
        ];
        config.mount_options.extend(match &self.source {
            None => [MountOption::FSName(FS_NAME.into()), MountOption::Subtype(FS_NAME.into())],
            // fuser tells fusermount3 of a subtype, but not the kernel, which knows it since 5.4.
            Some(source) => [MountOption::FSName(fs_name(source)), MountOption::CUSTOM("subtype=upg".into())],
        });
        config.mount_options.extend(self.extra.iter().cloned());
        config.acl = if self.allow_other { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(self.threads);
        config
    }
}

/// A source as the kernel takes it, or fusermount3 as one of several options.
fn fs_name(source: &str) -> String {
    if rustix::process::geteuid().is_root() {
        source.to_owned()
    } else {
        source.replace('\\', "\\\\").replace(',', "\\,")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_or_refused() {
        let mut options = MountOptions::new("/mnt".into(), 1, 1);
        options.add("ro,allow_other,noexec,x-systemd.automount,").expect("known options");
        assert!(options.allow_other);
        assert!(options.config().mount_options.contains(&MountOption::NoExec));
        for bad in ["rw", "suid", "fsname=hf-mount", "direct_io"] {
            assert!(options.add(bad).is_err(), "{bad}");
        }
    }
}
