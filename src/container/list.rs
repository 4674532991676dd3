//! What containers there are.

use serde::Serialize;

use super::create::Config;
use super::error::ContainerError;
use super::state::{self, State, Status};
use crate::layer::Layer;
use crate::store::Store;

/// A container as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub config: Config,
    pub state: State,
}

/// The containers, the oldest first; `all` includes those that do not run.
///
/// # Errors
/// If the containers' folder cannot be read.
pub fn list(store: &Store, all: bool) -> Result<Vec<Summary>, ContainerError> {
    let mut found = Vec::new();
    for container in state::all(store)? {
        let state = match container.state() {
            Ok(state) => state,
            // It was removed while we looked.
            Err(_) if !container.exists() => continue,
            Err(error) => return Err(error),
        };
        if all || state.status == Status::Running {
            found.push(Summary { config: container.config, state });
        }
    }
    Ok(found)
}

/// One container as it is now: serialised, it is what `inspect` prints.
///
/// # Errors
/// If there is none of that name.
pub fn inspect(store: &Store, name: &str) -> Result<Summary, ContainerError> {
    let container = state::find(store, name)?;
    let state = container.state()?;
    Ok(Summary { config: container.config, state })
}

/// The layers that each container stands on, wherever its state lies: a clean-up of the
/// store must keep them.
///
/// # Errors
/// If a folder of containers cannot be read.
pub fn stacks(store: &Store) -> Result<Vec<Vec<Layer>>, ContainerError> {
    let mut stacks = Vec::new();
    for root in state::roots(store)? {
        stacks.extend(state::all_in(&root)?.into_iter().map(|one| one.config.layers));
    }
    Ok(stacks)
}
