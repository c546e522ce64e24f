//! See `upg-mount --help`.

fn main() -> std::process::ExitCode {
    upg::cli::upg_mount_main()
}
