//! Where a build's `RUN`s are run: opened by the first, for all of them.

use super::StepError;
use crate::progress::Progress;
use crate::rootfs;
use crate::sandbox::{Held, Limits, Sandbox, Tier};
use crate::store::Store;

#[derive(Debug)]
pub(super) struct Room {
    pub sandbox: Sandbox,
    pub held: Held,
}

impl Room {
    /// Finds the sandbox, and what of the limits can be held in it; says what it came to.
    pub(super) fn open(
        store: &Store,
        force: Option<Tier>,
        limits: &Limits,
        progress: &Progress,
    ) -> Result<Self, StepError> {
        let sandbox = Sandbox::open(force)?;
        for line in sandbox.choice() {
            progress.detail(line);
        }
        rootfs::settle(store, &sandbox)?;
        match sandbox.no_overlay() {
            None => progress.detail("storage: overlays on the store"),
            Some(why) => progress.detail(format!(
                "storage: each root is a plain folder that is compared before and after, since \
                 the store carries no overlay: {why}"
            )),
        }
        let held = sandbox.held(limits)?;
        for line in &held.lacking {
            progress.warn(line.as_str());
        }
        Ok(Self { sandbox, held })
    }
}
