//! What can be typed after `upg-mount`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::args::EXIT_CODES;
use super::size;
use crate::error::Error;
use crate::hub::Snapshot;
use crate::mount::{KernelReadahead, LogFormat};
use crate::object::{self, Access};

/// Show a .upg file as the files of its model: safetensors are decompressed as
/// they are read.
#[derive(Debug, Parser)]
#[command(name = "upg-mount", version, override_usage = "upg-mount [OPTIONS] <FILE>... <MOUNTPOINT>", after_help = format!("\
Examples:
  upg-mount phi-4.upg /mnt/phi4                mount, and return when it answers
  upg-mount phi-4.upg /mnt/phi4 -f             stay in the foreground
  upg-mount phi-4.upg qwen3.upg /mnt/models    several: each model in a directory of its own
  upg-mount models /mnt/models                 all .upg files in the directory models
  upg-mount --hf-cache models /mnt/hub         the same by repository, for HF_HUB_CACHE=/mnt/hub
  upg-mount s3://models/phi-4.upg /mnt/phi4    an object: also gs://, az://, https://
  upg-mount phi-4.upg /mnt/phi4 --metrics 127.0.0.1:9464
                                               counters for Prometheus at /metrics
  upg-mount -u /mnt/phi4                       unmount
  getfattr -d -m user.upg /mnt/phi4            what cache and decoder have done

The mount is read-only. The log goes to the system's log, or to standard error
with -f; UPG_LOG=debug makes it longer.

{EXIT_CODES}"))]
pub struct MountArgs {
    /// .upg files, object addresses or a directory of .upg files, then the mount point
    #[arg(value_names = ["FILE", "MOUNTPOINT"], required_unless_present_any = ["unmount", "watch_connection", "probe"])]
    #[arg(num_args = 2..)]
    pub paths: Vec<PathBuf>,

    /// Show the models as a cache of the hub's client, for HF_HUB_CACHE=MOUNTPOINT: then
    /// from_pretrained takes them by the names of their repositories
    #[arg(long, conflicts_with = "unmount")]
    pub hf_cache: bool,

    /// Repository of a model that does not name its own; prefix it with MODEL= if there are several;
    /// may be repeated
    #[arg(long, value_name = "[MODEL=]ORG/NAME[@REVISION]", requires = "hf_cache", value_parser = parse_repository)]
    pub repo: Vec<NamedSnapshot>,

    /// Unmount MOUNTPOINT
    #[arg(short, long, value_name = "MOUNTPOINT", conflicts_with = "paths")]
    pub unmount: Option<PathBuf>,

    /// Only if its daemon is gone: what answers, or is no mount, stays as it is
    #[arg(long, requires = "unmount")]
    pub if_dead: bool,

    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,

    /// Mount options, as mount(8) has them: ro, allow_other, noexec, ...
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,

    /// Most bytes of decoded blocks to keep
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = size::parse)]
    pub cache_size: u64,

    /// Threads that answer the kernel [default: one per core, at most 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,

    /// Threads that decode ahead of readers; 0 for none [default: one per core, at most 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    pub decoders: Option<u16>,

    /// How far the kernel reads ahead in the mount, in KiB, or auto; needs root
    #[arg(long, value_name = "KIB", default_value = "auto", value_parser = parse_readahead)]
    pub readahead_kb: KernelReadahead,

    /// Keep what is compressed out of the page cache once it is decoded: less memory, but what the
    /// cache gives up is read from the disk again
    #[arg(long)]
    pub drop_compressed: bool,

    /// Keep what was fetched of objects in this directory, too; several mounts may share it
    #[arg(long, value_name = "DIR", requires = "disk_cache_size")]
    pub disk_cache: Option<PathBuf>,

    /// Most bytes to keep there
    #[arg(long, value_name = "SIZE", value_parser = size::parse, requires = "disk_cache")]
    pub disk_cache_size: Option<u64>,

    /// When a server of objects does not answer, readers get an I/O error after so many seconds
    #[arg(long, value_name = "S", default_value_t = object::DEADLINE.as_secs() as u16,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub deadline: u16,

    /// Check the whole file first, as upg verify does, and mount it only if nothing is wrong
    #[arg(long)]
    pub verify: bool,

    /// Refuse O_DIRECT: loaders then use the page cache, and several processes share one decode
    #[arg(long)]
    pub refuse_direct: bool,

    /// Do not put what is decoded ahead into the page cache before it is asked for
    #[arg(long)]
    pub no_push: bool,

    /// Watch over the daemon that started this
    #[arg(long, hide = true, exclusive = true, value_name = "NUMBER")]
    pub watch_connection: Option<u32>,

    /// Ask whether the file system of a device number answers at a mountpoint
    #[arg(long, hide = true, num_args = 2, value_names = ["DEVICE", "MOUNTPOINT"])]
    pub probe: Vec<OsString>,

    /// Answer every read with zeros, to measure what the transport alone costs
    #[arg(long, hide = true)]
    pub bench_null: bool,

    /// Let other users read the mount
    #[arg(long)]
    pub allow_other: bool,

    /// Write the log to this file
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// How the log is written: json is an object per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormatArg::Text)]
    pub log_format: LogFormatArg,

    /// Serve the counters to Prometheus at http://ADDRESS:PORT/metrics, and whether the mount answers at
    /// /healthz; with port 0 the log says which was taken
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "unmount")]
    pub metrics: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    Text,
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> LogFormat {
        match format {
            LogFormatArg::Text => LogFormat::Text,
            LogFormatArg::Json => LogFormat::Json,
        }
    }
}

impl MountArgs {
    /// How objects are read.
    pub fn access(&self) -> Access {
        let disk_cache = self.disk_cache.clone().zip(self.disk_cache_size);
        Access { deadline: Duration::from_secs(self.deadline.into()), disk_cache }
    }
}

/// A repository, and which model comes of it.
#[derive(Debug, Clone)]
pub struct NamedSnapshot {
    pub model: Option<String>,
    pub snapshot: Snapshot,
}

fn parse_repository(text: &str) -> Result<NamedSnapshot, Error> {
    // No repository has = in its name.
    let (model, repository) = text.rsplit_once('=').map_or((None, text), |(model, r)| (Some(model.to_owned()), r));
    Ok(NamedSnapshot { model, snapshot: repository.parse()? })
}

fn parse_readahead(text: &str) -> Result<KernelReadahead, String> {
    match text {
        "auto" => Ok(KernelReadahead::Auto),
        kib => kib.parse().map(KernelReadahead::KiB).map_err(|_| "a number of KiB, or auto".into()),
    }
}
