//! The command line: what was typed becomes validated options, results become
//! text. Only this module prints.

mod args;
mod bench_output;
mod catalog_output;
mod convert_args;
mod generate;
mod images;
mod mount_args;
mod mount_helper;
pub mod output;
mod progress;
mod size;
mod threads;
mod upg;
mod upg_mount;
mod values;
mod verify_output;

pub use upg::main as upg_main;
pub use upg_mount::main as upg_mount_main;
