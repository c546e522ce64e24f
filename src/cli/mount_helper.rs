//! The program `mount.upg`, which mount(8) starts for `mount -t upg` and for lines of /etc/fstab:
//! upg-mount under another name, with the arguments and exit codes that mount(8) has for helpers.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::mount_args::MountArgs;
use super::{output, upg_mount};
use crate::mount::MountOptions;
use crate::object;

const NAME: &str = "mount.upg";
/// The type of a mount is `fuse.upg`, and mount(8) asks for this when it knows no more of it.
const NAME_BY_MOUNTED_TYPE: &str = "mount.fuse.upg";

/// Exit codes of mount(8).
const WRONG_USAGE: u8 = 1;
const MOUNT_FAILURE: u8 = 32;

/// What upg-mount has beside options for mounting.
const NOT_FOR_MOUNTING: [&str; 5] = ["unmount", "if-dead", "foreground", "help", "version"];

/// Mount a .upg file for mount(8) and fstab(5)
///
/// mount(8) runs this for `mount -t upg FILE DIRECTORY` and for lines of /etc/fstab. Every option of
/// upg-mount(1) that has to do with mounting can be given with -o, without its dashes: cache_size=1GiB,
/// hf_cache, allow_other. In such names _ and - are the same. A value with commas stands in double
/// quotes. The mount is read-only, whether or not ro is given.
#[derive(Debug, Parser)]
#[command(
    name = "mount.upg",
    version,
    override_usage = "mount.upg <FILE> <DIRECTORY> [-sfnv] [-N <FILE>] [-o <OPTIONS>] [-t <TYPE>]",
    after_help = "\
Examples:
  mount -t upg /models/phi-4.upg /mnt/phi4
  mount -t upg /models/phi-4.upg /mnt/phi4 -o allow_other,cache_size=2GiB
  umount /mnt/phi4

Lines of /etc/fstab:
  /models/phi-4.upg  /mnt/phi4  upg  allow_other,nofail  0 0
  /models  /mnt/hub  upg  hf_cache,allow_other,noauto,x-systemd.automount  0 0

Exit codes: 0 done, 1 wrong usage, 32 the mount failed."
)]
pub struct HelperArgs {
    /// A .upg file, or a directory with some
    file: PathBuf,

    /// An existing directory to show it in
    directory: PathBuf,

    /// Options of upg-mount and of mount(8), with commas between them
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,

    /// Leave out options that nobody knows
    #[arg(short)]
    sloppy: bool,

    /// Do everything but mount
    #[arg(short)]
    fake: bool,

    /// Change no mtab: none is ever changed
    #[arg(short)]
    no_mtab: bool,

    /// Say what was mounted
    #[arg(short)]
    verbose: bool,

    /// Mount in the namespace that this file stands for
    #[arg(short = 'N', value_name = "FILE")]
    namespace: Option<PathBuf>,

    /// Type, which is known
    #[arg(short, value_name = "TYPE")]
    type_name: Option<String>,
}

/// Whether this process was started as the helper.
pub fn is_called() -> bool {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_name);
    name.is_some_and(|name| name == NAME || name == NAME_BY_MOUNTED_TYPE)
}

pub fn main() -> ExitCode {
    let args = match HelperArgs::try_parse() {
        Ok(args) => args,
        Err(error) => return end_of_parsing(&error),
    };
    let mount_args = match args.for_upg_mount() {
        Ok(line) => match MountArgs::try_parse_from(line) {
            Ok(mount_args) => mount_args,
            Err(error) => return end_of_parsing(&error),
        },
        Err(error) => {
            output::print_error(NAME, &error);
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match args.mount(&mount_args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(NAME, &error);
            ExitCode::from(MOUNT_FAILURE)
        }
    }
}

/// After the text of --help, or what is wrong with the arguments.
fn end_of_parsing(error: &clap::Error) -> ExitCode {
    // Where nothing can be printed, the exit code has to do.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(WRONG_USAGE) } else { ExitCode::SUCCESS }
}

impl HelperArgs {
    /// The command line of upg-mount that means the same.
    fn for_upg_mount(&self) -> Result<Vec<OsString>> {
        let mut line = vec![OsString::from(NAME)];
        let mut options = MountOptions::new(self.directory.clone(), 0, 0);
        for option in self.options.iter().flat_map(|list| split(list)) {
            if option == "remount" {
                bail!("-o remount: a mount of a .upg file cannot be changed; umount it and mount it again");
            }
            // mount(8) says rw where nobody said ro.
            if option == "rw" {
                continue;
            }
            if let Some(long) = long_option(&option) {
                line.push(long.into());
                continue;
            }
            match options.add(&option) {
                Ok(()) => line.extend(["-o".into(), option.into()]),
                Err(_) if self.sloppy => {}
                Err(error) => bail!("{error}; upg-mount --help says which there are"),
            }
        }
        line.extend(["--".into(), self.file.clone().into(), self.directory.clone().into()]);
        Ok(line)
    }

    fn mount(&self, args: &MountArgs) -> Result<()> {
        upg_mount::mount(args, std::slice::from_ref(&self.file), &self.directory, Some(self))?;
        if self.verbose && !self.fake {
            let (file, directory) = (self.source(), self.directory.display().to_string());
            output::print(&format!("{NAME}: {} mounted on {}\n", output::escape(&file), output::escape(&directory)))?;
        }
        Ok(())
    }

    /// By this mount(8) finds out that a line of fstab is mounted already.
    pub fn source(&self) -> String {
        object::shown(&self.file)
    }

    pub fn is_fake(&self) -> bool {
        self.fake
    }

    /// From here on, paths are those of the namespace to mount in. This process must have one thread.
    pub fn enter_namespace(&self) -> Result<()> {
        let Some(path) = &self.namespace else { return Ok(()) };
        let name = || path.display().to_string();
        let namespace = File::open(path).with_context(name)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).with_context(name)
    }
}

/// An option of upg-mount as upg-mount takes it: `--cache-size=1GiB` for `cache_size=1GiB`.
fn long_option(option: &str) -> Option<String> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    let name = name.replace('_', "-");
    let command = MountArgs::command();
    let mut known = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_long());
    if NOT_FOR_MOUNTING.contains(&name.as_str()) || !known.any(|long| long == name) {
        return None;
    }
    Some(match value {
        Some(value) => format!("--{name}={value}"),
        None => format!("--{name}"),
    })
}

/// At commas outside double quotes, which are left out.
fn split(list: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut quoted = false;
    for c in list.chars() {
        match (c, options.last_mut()) {
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => options.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    options.retain(|option| !option.is_empty());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &str, sloppy: bool) -> Result<Vec<String>> {
        let more = if sloppy { "-s" } else { "-n" };
        let args = HelperArgs::try_parse_from([NAME, "a.upg", "/mnt", more, "-o", options])?;
        let line = args.for_upg_mount()?;
        MountArgs::try_parse_from(&line)?;
        Ok(line[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn options_of_upg_mount_are_known_by_their_names() {
        let options = r#"rw,noexec,cache_size=1GiB,hf_cache,repo=A/B,log-file="/a,b",_netdev,nofail,user,x-a.b=c"#;
        let expected = "-o noexec --cache-size=1GiB --hf-cache --repo=A/B --log-file=/a,b -o _netdev -o nofail \
            -o user -o x-a.b=c -- a.upg /mnt";
        assert_eq!(line(options, false).expect("known").join(" "), expected);
        // All that there are, but for those that are no options of a mount.
        for arg in MountArgs::command().get_arguments().filter(|arg| !arg.is_hide_set()) {
            let Some(long) = arg.get_long() else { continue };
            assert_eq!(long_option(long).is_some(), !NOT_FOR_MOUNTING.contains(&long), "{long}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_by_name_or_left_out_if_asked() {
        for unknown in ["colour=red", "unmount=/mnt", "foreground", "help", "bench_null", "watch_connection=3", "suid"]
        {
            let error = line(unknown, false).expect_err(unknown);
            assert!(format!("{error:#}").contains(&format!("-o {unknown}")), "{error:#}");
            assert_eq!(line(unknown, true).expect("sloppy"), ["--", "a.upg", "/mnt"]);
        }
        for wrong in ["cache_size", "cache_size=much", "verify=yes", "remount", "ro,remount"] {
            line(wrong, false).expect_err(wrong);
            line(wrong, true).expect_err(wrong);
        }
    }
}
