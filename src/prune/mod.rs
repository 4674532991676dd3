//! What the store holds, and taking away what nobody needs.
//!
//! An [`Inventory`] lists the store's entries with what they take, when they were used,
//! and who [needs](Need) them: an image's name, a container, a process that runs now, or
//! nobody. [`prune`] takes away of the rest what is asked for, least recently used first;
//! [`keep_below`] does so at a build's end where a limit is set.
//!
//! What goes together goes in this order: the records that name a blob, then the blob. So
//! whatever ends a clean-up in the middle leaves a store whose records are true, and a
//! record without its blob is one that is not there. Nothing here waits for the disk.

mod choose;
mod inventory;
mod limit;
mod needs;
mod sandboxed;

pub use choose::{Room, Selection};
pub use inventory::{Amount, Entry, Inventory, Kind, Need};
pub use limit::{Kept, LimitError, StoreLimit, When, keep_below};

use std::path::PathBuf;

use crate::atomic::PathError;
use crate::container::ContainerError;
use crate::rootfs::RootfsError;
use crate::store::{Clearing, Store, StoreError, Taken};
use inventory::Links;
use sandboxed::Helper;

/// What can go wrong with a clean-up, before it has begun.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Io(#[from] PathError),
}

/// What a clean-up did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What went, in this order.
    pub removed: Vec<Entry>,
    /// What the disk has got back.
    pub freed: Amount,
    /// What the store holds now.
    pub left: Amount,
    /// What should have gone and did not, and why.
    pub failed: Vec<(String, String)>,
}

/// Lists what the store holds. Nothing is changed by that but the estimate of its size,
/// no time of use either.
///
/// # Errors
/// If the store cannot be read.
pub fn inventory(store: &Store) -> Result<Inventory, PruneError> {
    let helper = Helper::default();
    let clearing = store.clearing()?;
    let inventory = Inventory::of(store, clearing.cutoff(), &helper)?;
    // The look at sessions that were killed is not to be lost.
    if store.usage().is_some() {
        store.set_usage(inventory.total.bytes, inventory.total.inodes)?;
    }
    Ok(inventory)
}

/// Takes away what is selected and not needed.
///
/// # Errors
/// If the store cannot be read. What cannot be removed is told in the result.
pub fn prune(store: &Store, selection: &Selection) -> Result<Pruned, PruneError> {
    run(store, |_| selection.clone())
}

/// As [`prune`]; what is selected depends on how much there is.
fn run(store: &Store, select: impl FnOnce(Amount) -> Selection) -> Result<Pruned, PruneError> {
    let helper = Helper::default();
    // Its begin comes before names and containers are read: what is in use then, and gets
    // a name and is left while they are read, is safe all the same.
    let mut clearing = store.clearing()?;
    // What killed processes left, as far as this process may remove it, went when the
    // store was opened.
    let mut failed = Vec::new();
    for stale in store.take_stale() {
        if let Err(why) = helper.remove(stale.path()) {
            failed.push((name_of(stale.path()), why));
        }
    }
    store.clear_locks();
    let inventory = Inventory::of(store, clearing.cutoff(), &helper)?;
    let selection = select(inventory.total);
    let mut pruned = clear(store, inventory, &selection, &mut clearing, &helper);
    pruned.failed.splice(0..0, failed);
    // The numbers are as good as new ones for whoever keeps an estimate.
    if store.usage().is_some() {
        store.set_usage(pruned.left.bytes, pruned.left.inodes)?;
    }
    Ok(pruned)
}

fn clear(
    store: &Store,
    inventory: Inventory,
    selection: &Selection,
    clearing: &mut Clearing<'_>,
    helper: &Helper,
) -> Pruned {
    let order = selection.order(&inventory.entries);
    let mut goal = selection.room.goal(inventory.total, store);
    let Inventory { entries, total, links, .. } = inventory;
    let mut pruned = Pruned { left: total, ..Pruned::default() };
    let mut links = Links::of(&links);
    let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    for at in order {
        if goal.as_mut().is_some_and(|goal| goal.is_reached(pruned.left)) {
            break;
        }
        let Some(entry) = entries[at].take() else { continue };
        match clearing.take(&entry.paths) {
            Ok(Taken::Gone) => {
                let freed = links.freed(&entry);
                pruned.freed = pruned.freed + freed;
                pruned.left = pruned.left - freed;
                pruned.removed.push(entry);
            }
            // It has come into use since.
            Ok(Taken::InUse) => {}
            Err(error) => pruned.failed.push((entry.id, error.to_string())),
        }
    }
    if let Some(trash) = clearing.trash()
        && let Err(why) = helper.remove_below(trash)
    {
        pruned.failed.push((format!("folders that were moved to {}", trash.display()), why));
    }
    pruned
}

fn name_of(path: &std::path::Path) -> String {
    path.file_name().map_or_else(PathBuf::new, PathBuf::from).display().to_string()
}
