//! Where a build's `RUN`s are run: opened by the first, for all of them.

use std::sync::{Mutex, PoisonError};

use super::{BuildEnv, BuildRequest, StepError, again};
use crate::layer::Layer;
use crate::rootfs::{self, Kept};
use crate::sandbox::{Conditions, Held, Sandbox, Tier};

#[derive(Debug)]
pub(super) struct Room {
    pub sandbox: Sandbox,
    pub held: Held,
    /// Roots of finished steps, the last one at the end.
    kept: Mutex<Vec<Kept>>,
}

/// As many stages are under way at a time, mostly; each root is a whole copy.
const MAX_KEPT: usize = 2;

impl Room {
    /// Finds the sandbox, and what of the limits can be held in it; says what it came to.
    pub(super) fn open(env: &BuildEnv<'_>, ask: &BuildRequest) -> Result<Self, StepError> {
        let BuildEnv { store, progress, .. } = *env;
        let (sandbox, mut conditions) = again::sandbox(ask.sandbox, ask.insecure, ask.conditions)?;
        for line in sandbox.choice() {
            progress.detail(line);
        }
        if sandbox.tier() == Tier::Chroot {
            progress.warn(
                "steps run without namespaces here: processes and network are those of the \
                 container, and what is mounted read-only can be written",
            );
            progress.detail("a secret is a fifo in steps");
        }
        rootfs::settle(store, &sandbox)?;
        match sandbox.no_overlay() {
            None => progress.detail("storage: overlays on the store"),
            Some(why) => progress.detail(format!(
                "storage: each root is a plain folder that is compared before and after, since \
                 the store carries no overlay: {why}"
            )),
        }
        for note in sandbox.notes() {
            progress.detail(note);
        }
        if let Some(outcome) = env.outcome.filter(|_| ask.conditions == Conditions::Changed) {
            conditions.extend(again::surroundings(store, &sandbox));
            outcome.set_conditions(conditions);
        }
        let held = sandbox.held(&ask.limits)?;
        for line in &held.lacking {
            progress.warn(line.as_str());
        }
        Ok(Self { sandbox, held, kept: Mutex::default() })
    }

    /// The root of these layers, or of the lowest of them, if a step left it.
    pub(super) fn take(&self, layers: &[Layer]) -> Option<Kept> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let covers =
            all.iter().enumerate().filter_map(|(at, kept)| Some((kept.covers(layers)?, at)));
        let (_, at) = covers.max()?;
        Some(all.remove(at))
    }

    /// Keeps a root for the step that comes next.
    pub(super) fn keep(&self, kept: Kept) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(kept);
        let old = if all.len() > MAX_KEPT { Some(all.remove(0)) } else { None };
        drop(all);
        old.iter().for_each(|old| self.clear(old));
    }

    fn clear(&self, kept: &Kept) {
        // What stays is in `tmp/`, and the next build's to remove.
        let _ = rootfs::remove(&self.sandbox, kept.path());
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let all = std::mem::take(self.kept.get_mut().unwrap_or_else(PoisonError::into_inner));
        all.iter().for_each(|kept| self.clear(kept));
    }
}
