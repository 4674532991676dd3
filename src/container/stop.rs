//! Ending containers, from any process of their owner.

use std::time::{Duration, Instant};

use super::error::ContainerError;
use super::signal::{Handle, KILL};
use super::state::{self, Container, Status};
use crate::store::Store;

/// docker's.
pub const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a monitor may take to write down an end; more than it needs, even
/// with much to remove.
pub(super) const SETTLE: Duration = Duration::from_secs(60);
/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(30);

/// Asks a container to end by its stop signal, and kills it if it has not after
/// the timeout, by default the one `run` was told. The first process of a container gets only signals it has a
/// handler for; those that have none end by being killed. One that does not run
/// is stopped already.
///
/// # Errors
/// If there is no such container, or it cannot be signalled.
pub fn stop(store: &Store, name: &str, timeout: Option<Duration>) -> Result<(), ContainerError> {
    let container = state::find(store, name)?;
    if let Some(handle) = handle(&container)? {
        let wrong = |source| ContainerError::Monitor { what: "signal the container", source };
        handle.signal(container.config.stop_signal).map_err(wrong)?;
        if !handle.wait(timeout.unwrap_or(container.config.stop_timeout)).map_err(wrong)? {
            end(&container, &handle)?;
        }
    }
    settle(&container)
}

/// Sends a signal to a container's first process. After KILL, waits for the end.
///
/// # Errors
/// If there is no such container or it does not run.
pub fn kill(store: &Store, name: &str, signal: i32) -> Result<(), ContainerError> {
    let container = state::find(store, name)?;
    let handle = handle(&container)?.ok_or_else(|| ContainerError::NotRunning(container.name()))?;
    if signal == KILL {
        end(&container, &handle)?;
        return settle(&container);
    }
    let wrong = |source| ContainerError::Monitor { what: "signal the container", source };
    if handle.signal(signal).map_err(wrong)? {
        return Ok(());
    }
    Err(ContainerError::NotRunning(container.name()))
}

/// The first process of a container, if it runs.
pub(super) fn handle(container: &Container) -> Result<Option<Handle>, ContainerError> {
    let wrong = |source| ContainerError::Monitor { what: "find the container's process", source };
    match container.state() {
        Ok(state) if state.status == Status::Running => match &state.process {
            Some(process) => process.open().map_err(wrong),
            None => Ok(None),
        },
        Ok(_) => Ok(None),
        // `run --rm` removed it meanwhile.
        Err(_) if !container.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Kills and waits for the death.
pub(super) fn end(container: &Container, handle: &Handle) -> Result<(), ContainerError> {
    let wrong = |source| ContainerError::Monitor { what: "kill the container", source };
    handle.signal(KILL).map_err(wrong)?;
    if handle.wait(DEATH).map_err(wrong)? {
        return Ok(());
    }
    Err(ContainerError::WillNotEnd(container.name()))
}

/// Waits until the monitor has written the end down and is gone.
pub(super) fn settle(container: &Container) -> Result<(), ContainerError> {
    match container.hold_within(SETTLE) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(ContainerError::Busy(container.name())),
        Err(_) if !container.exists() => {
            // Removed by its monitor, which may be at the last files.
            let until = Instant::now() + DEATH;
            while container.path.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}
