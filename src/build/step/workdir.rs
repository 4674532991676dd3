//! `WORKDIR`: makes the folder where it does not exist.

use std::io;

use super::lineage::Lineage;
use super::{StepError, write_layer};
use crate::epoch::Epoch;
use crate::layer::{Entry, Layer};
use crate::plan::WorkdirOp;
use crate::rootfs::Rootfs;
use crate::store::Store;

pub(super) fn run(
    store: &Store,
    op: &WorkdirOp,
    onto: &Rootfs,
    epoch: Epoch,
    lineage: &Lineage<'_>,
) -> Result<Layer, StepError> {
    let view = onto.view();
    let target = view.resolve(op.path.as_bytes(), true)?;
    let mut missing = Vec::new();
    let mut at = target;
    while !view.is_dir(&at) {
        if view.get(&at).is_some() {
            return Err(StepError::NotAFolder { name: at });
        }
        missing.push(at.clone());
        at = at.parent().unwrap_or_default();
    }
    // The image's own folders above the new ones, the lowest first: whoever unpacks
    // the layer for itself would not know their mode and owner otherwise.
    let mut above = Vec::new();
    let mut known = Some(at).filter(|_| !missing.is_empty());
    while let Some(folder) = known.filter(|folder| !folder.is_root()) {
        above.extend(view.get(&folder).map(|node| node.entry.clone()));
        known = folder.parent();
    }
    for (depth, entry) in above.iter_mut().enumerate() {
        let time = if depth == 0 { epoch.seconds() } else { entry.mtime.min(epoch.seconds()) };
        entry.mtime = time;
    }
    let (uid, gid) = match &op.owner {
        Some(user) if !missing.is_empty() => onto.owner(store, user)?,
        _ => (0, 0),
    };
    write_layer(store, lineage, |writer| {
        let made = missing.into_iter().rev();
        let made = made.map(|name| Entry { uid, gid, ..Entry::dir(name, epoch.seconds()) });
        above
            .into_iter()
            .rev()
            .chain(made)
            .try_for_each(|entry| writer.entry(&entry, &mut io::empty()).map_err(StepError::Write))
    })
}
