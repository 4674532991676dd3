use std::process::ExitCode;

/// The helper entries come before everything: they need a process that has no
/// threads yet.
fn main() -> ExitCode {
    kiln::enter().unwrap_or_else(|| kiln::cli::run(std::env::args_os()))
}
