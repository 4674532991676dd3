//! Changing the limits of a container while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::error::ContainerError;
use super::request::{LimitChanges, Limits};
use super::signal::Handle;
use super::state::{self, Container};
use super::stop;
use crate::atomic::{AtPath as _, FileLock};
use crate::sandbox;
use crate::sandbox::cgroup::{Cgroup, CgroupError};
use crate::store::Store;

/// Changes some limits of a container and gives them all.
/// A container that does not run gets them at its next start.
///
/// # Errors
/// If the container's processes cannot be limited here; its limits are as they
/// were then.
pub fn update(store: &Store, name: &str, changes: &LimitChanges) -> Result<Limits, ContainerError> {
    let found = state::find(store, name)?;
    let _edit = FileLock::exclusive(&found.file("edit"))?;
    let mut container = Container::open(found.path)?;
    let old = container.config.limits;
    let new = changes.apply(&old);
    sandbox::cgroup::check(&in_sandbox_words(&new))?;
    // Written first: who sees the container end knows that there is a group.
    container.config.limits = new;
    container.config.grouped |= !new.is_empty();
    container.write_config()?;
    let Some(handle) = stop::handle(&container)? else { return Ok(new) };
    if let Err(error) = apply(&container, &handle, &new) {
        container.config.limits = old;
        container.write_config()?;
        return Err(error);
    }
    Ok(new)
}

/// Limits in the sandbox's words.
pub(super) fn limits(container: &Container, limits: &Limits) -> sandbox::Limits {
    let cgroup = if limits.is_empty() { String::new() } else { container.cgroup() };
    let own = container.config.own_limits.clone();
    sandbox::Limits { cgroup, own, ..in_sandbox_words(limits) }
}

pub(super) fn in_sandbox_words(limits: &Limits) -> sandbox::Limits {
    let Limits { memory, memory_swap, cpus, pids } = *limits;
    sandbox::Limits { memory, memory_swap, cpus, pids, ..sandbox::Limits::default() }
}

fn apply(container: &Container, handle: &Handle, new: &Limits) -> Result<(), ContainerError> {
    let new = limits(container, new);
    match Cgroup::open(&container.cgroup()) {
        Ok(group) => Ok(group.set(&new)?),
        Err(CgroupError::Missing(_)) if new.is_none() => Ok(()),
        Err(CgroupError::Missing(_)) => {
            let group = Cgroup::create(&new)?;
            let moved = move_all(container, &group);
            let ended = handle.wait(std::time::Duration::ZERO).unwrap_or(false);
            if moved.is_err() || ended {
                // What cannot be removed still has processes; the container's end
                // removes it.
                let _ = group.remove();
            }
            if ended { Ok(()) } else { moved }
        }
        Err(error) => Err(error.into()),
    }
}

/// Moves the container's processes into the group: the first one and all that
/// descend from it. A child of a moved process is born in the group, so this
/// comes to an end.
fn move_all(container: &Container, group: &Cgroup) -> Result<(), ContainerError> {
    let state = container.recorded()?;
    let Some(first) = state.process.and_then(|process| u32::try_from(process.pid).ok()) else {
        return Ok(());
    };
    let mut moved = BTreeSet::new();
    loop {
        let family = family(first, &parents()?);
        let new: Vec<u32> = family.difference(&moved).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            match group.add(pid) {
                // It ended meanwhile.
                Err(CgroupError::Io { source, .. })
                    if source.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
            moved.insert(pid);
        }
    }
}

/// Every process of the machine with its parent.
fn parents() -> Result<BTreeMap<u32, u32>, ContainerError> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").at("read", "/proc")? {
        let entry = entry.at("read", "/proc")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that ended meanwhile has no file.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// A process and its descendants.
fn family(first: u32, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([first]);
    loop {
        let children = parents.iter().filter(|(_, parent)| found.contains(parent));
        let before = found.len();
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

/// Removes the group of a container that has ended, if it had one.
pub(super) fn drop_group(container: &Container) -> Result<(), ContainerError> {
    // `update` may have given it limits after its start.
    let container = Container::open(container.path.clone())?;
    if !container.config.grouped {
        return Ok(());
    }
    match Cgroup::open(&container.cgroup()) {
        Ok(group) => Ok(group.remove()?),
        Err(CgroupError::Missing(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants() {
        let parents = BTreeMap::from([(1, 0), (5, 1), (3, 5), (9, 3), (7, 1), (8, 7)]);
        assert_eq!(family(5, &parents), BTreeSet::from([3, 5, 9]));
        assert_eq!(family(42, &parents), BTreeSet::from([42]));
    }
}
