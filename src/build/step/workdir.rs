//! `WORKDIR`: makes the folder where it does not exist.

use std::io;

use super::{StepError, write_layer};
use crate::epoch::Epoch;
use crate::layer::{Entry, Layer, LayerForm};
use crate::plan::WorkdirOp;
use crate::rootfs::Rootfs;
use crate::store::Store;

pub(super) fn run(
    store: &Store,
    op: &WorkdirOp,
    onto: &Rootfs,
    epoch: Epoch,
    form: LayerForm,
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
    let (uid, gid) = match &op.owner {
        Some(user) if !missing.is_empty() => {
            let ids = onto.account(store, user)?.ids;
            (ids.uid, ids.gid)
        }
        _ => (0, 0),
    };
    write_layer(store, form, |writer| {
        for name in missing.iter().rev() {
            let entry = Entry { uid, gid, ..Entry::dir(name.clone(), epoch.seconds()) };
            writer.entry(&entry, &mut io::empty()).map_err(StepError::Write)?;
        }
        Ok(())
    })
}
