//! Container images without a daemon.
// Level 0: words that every layer speaks.
pub mod atomic;
pub mod diagnostic;
pub mod digest;
pub mod env;
pub mod epoch;
pub mod platform;
pub mod progress;
pub mod reference;
// Level 1: formats, pure or streams.
pub mod dockerfile;
pub mod image;
pub mod layer;
pub mod lock;
// Level 2: places.
pub mod net;
pub mod sandbox;
pub mod store;
// Level 3: crafts.
pub mod plan;
pub mod registry;
pub mod rootfs;
// Level 4: deeds.
pub mod attest;
pub mod build;
pub mod container;
pub mod output;
pub mod sbom;
// Level 5: what leaves.
pub mod bundle;
pub mod compare;
pub mod copy;
pub mod deploy;
pub mod prune;
pub mod serve;
pub mod sign;
// Level 6: the command line.
pub mod cli;

use std::process::ExitCode;

/// The first thing that a program must do that builds or runs with this
/// library: some work is done by helper processes, which are this program
/// started again. `None` means that this process is none of them.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = kiln::enter() {
///         return code;
///     }
///     // …
/// #   std::process::ExitCode::SUCCESS
/// }
/// ```
#[must_use]
pub fn enter() -> Option<ExitCode> {
    sandbox::enter(rootfs::JOBS).or_else(container::enter)
}
