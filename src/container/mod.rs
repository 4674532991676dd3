//! Containers of images in the store: run, list, stop, update, remove. No daemon.
//!
//! Each container has a monitor: this program once more, in a session of its
//! own, which opens the sandbox, starts the process, writes down what it prints,
//! serves its published ports, and records how it ended. The container dies with
//! its monitor. On disk, below `KILN_STATE` or the store's `containers` (0700):
//! ```text
//! lock                 held while names are compared and a container is made
//! ID/config.json       what runs, resolved; limits change with `update`
//! ID/state.json        what became of it; written by who holds the lock
//! ID/lock              held by the monitor (and `run` before it): who holds it is alive
//! ID/upper  ID/work    what the container changed, in the IDs of the sandbox
//! ID/log               its output, in the form of Kubernetes (`TIME stdout F line`)
//! ```
//! A folder without `config.json` is the rest of an interrupted creation or
//! removal and is no container. Images' VOLUMEs are folders of the container
//! like any other: they live until it is removed.
//!
//! Nothing here decides how an image is fetched or unpacked, and nothing prints.

mod connector;
mod control;
mod create;
mod error;
mod list;
mod logs;
mod monitor;
mod name;
mod ports;
mod remove;
mod request;
mod signal;
mod spec;
mod start;
mod state;
mod stop;
mod streams;
mod update;

pub use create::Config;
pub use error::ContainerError;
pub use list::{Summary, inspect, list, stacks};
pub use logs::{LogRequest, logs};
pub use remove::remove;
pub use request::{LimitChanges, Limits, NetworkMode, Port, Protocol, RunRequest, Volume};
pub use signal::{Process, parse_signal};
pub use start::{Outcome, run, start};
pub use state::{State, Status};
pub use stop::{DEFAULT_STOP_TIMEOUT, kill, stop};
pub use update::update;

use std::process::ExitCode;

/// What `--network` means, for help texts.
pub const NETWORK_HELP: &str = "host: the host's network (the default). none: a loopback \
    interface and nothing else. private: as none, but ports published with -p can be reached from \
    the host; the container itself cannot open connections to the outside. -p implies private. \
    Only TCP ports can be published.";

/// Does the work of a container's monitor, or of its connector, if this process
/// is one, and returns its exit code. Call it in `main` right after
/// [`crate::sandbox::enter`], before any thread exists.
#[must_use]
pub fn enter() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let name = args.next()?;
    if !control::is_socket() {
        return None;
    }
    match name.to_str()? {
        monitor::NAME => Some(monitor::main(&std::path::PathBuf::from(args.next()?))),
        connector::NAME => Some(connector::main()),
        _ => None,
    }
}
