//! Where a build's `RUN`s are run: opened by the first, for all of them.

use crate::progress::Progress;
use crate::sandbox::{Held, Limits, Sandbox, SandboxError, Tier};

#[derive(Debug)]
pub(super) struct Room {
    pub sandbox: Sandbox,
    pub held: Held,
}

impl Room {
    /// Finds the sandbox, and what of the limits can be held in it; says what it came to.
    pub(super) fn open(
        force: Option<Tier>,
        limits: &Limits,
        progress: &Progress,
    ) -> Result<Self, SandboxError> {
        let sandbox = Sandbox::open(force)?;
        for line in sandbox.choice() {
            progress.detail(line);
        }
        let held = sandbox.held(limits)?;
        for line in &held.lacking {
            progress.warn(line.as_str());
        }
        Ok(Self { sandbox, held })
    }
}
