//! See `upg --help`.

fn main() -> std::process::ExitCode {
    upg::cli::upg_main()
}
