//! A [`crate::vfs::Vfs`] mounted through FUSE. Only this module names fuser.

mod adapter;
mod counters;
mod daemon;
mod exposition;
mod http;
mod kernel_readahead;
mod log;
mod metrics;
mod mountinfo;
mod notify;
mod options;
mod own_mount;
mod owner;
mod page_cache;
mod privileges;
mod probe;
mod reply;
mod scheduling;
mod session;
mod unmount;
mod watchdog;
mod xattr;

pub use daemon::{Role, daemonise, inherited_descriptors, keep_heap_small, wait_for_one_thread};
pub use kernel_readahead::KernelReadahead;
pub use log::{Format as LogFormat, log_to, start as start_log};
pub use metrics::Endpoint;
pub use notify::ready as tell_service_manager;
pub use options::MountOptions;
pub use owner::{Owner, Owners};
pub use probe::probe;
pub use session::{check_mountpoint, serve};
pub use unmount::{Unmounted, clear_if_dead, unmount};
pub use watchdog::{Watchdog, watch};
