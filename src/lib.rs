//! Container images without a daemon.

use std::process::ExitCode;

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
pub mod image;
pub mod layer;
// Level 2: places.
pub mod sandbox;
pub mod store;
// Level 5: what leaves.
pub mod output;
// Level 6: the command line; nobody uses it.
pub mod cli;

/// Runs what a re-executed kiln was started for, as one of its own helper
/// processes, and gives its exit code; `None` in a kiln that a user started.
/// It must be called before the process has threads.
#[must_use]
pub fn enter() -> Option<ExitCode> {
    None
}
