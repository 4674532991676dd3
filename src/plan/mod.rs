//! From a Dockerfile to the steps that build it.
//!
//! [`plan`] takes a parsed file, what is asked of it, and the base images that
//! are known; it gives the images that it needs to know ([`Planned::Missing`])
//! or the whole [`Plan`]: the steps that the target needs, in an order in which
//! they can run, and the finished image config. It opens no file and no socket,
//! and one request has one plan.
//!
//! The meaning is that of the Dockerfile reference and, where that is silent,
//! of BuildKit's frontend: what `FROM`, `ARG` and `ENV` let which word see, how
//! stages inherit, what the history says. As there, of an `ENV` and an `ARG` of
//! one name the later holds for steps; the config has the `ENV`. Differences: paths
//! of steps are always made clean; `RUN` keeps its variables in a step's name, and has
//! `SOURCE_DATE_EPOCH` if anybody set it, declared or not; only needed images are asked for.

mod bases;
mod config;
mod error;
mod graph;
mod history;
mod instruction;
mod key;
mod mount;
mod names;
mod op;
mod outline;
mod path;
mod print;
mod rules;
mod run;
mod scope;
mod stage;
#[cfg(test)]
mod tests;
mod time;
mod transfer;
mod triggers;

pub use error::PlanError;
pub use graph::{
    Base, BaseRequest, Bases, Graph, NamedContext, Plan, PlanRequest, Planned, Step, StepId,
};
pub use history::note_normalized;
pub use key::{CacheKey, FORMAT, InputKey};
pub use op::{
    BaseImage, BaseOp, CacheMount, Content, CopyFrom, CopyHints, CopyOp, CopySource, MountSource,
    Op, Proxies, RemoteSource, RunHints, RunMount, RunOp, Script, SecretMount, SshMount, WorkdirOp,
};
pub use outline::{Outline, OutlineArg, OutlineUse};
pub use scope::is_proxy;
pub use time::{CONTEXT, asks_for_times};

use std::borrow::Cow;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::lint::{self, Settings};

use bases::Layout;
use scope::Globals;
use stage::Walk;
use triggers::Triggers;

/// Plans the build of one target for one platform. `file` must be free of
/// errors: what the parser left out is not missed here.
///
/// # Errors
/// If the file or the request makes no sense once variables are filled in, or
/// asks for what kiln does not build.
pub fn plan(file: &Dockerfile, ask: &PlanRequest, bases: &Bases) -> Result<Planned, PlanError> {
    let lint = Settings::of(file, &ask.build_args)
        .map_err(|said| PlanError { diagnostics: vec![said] })?;
    let mut said = lint::syntax(file, true, &lint);
    rules::defaults(file, ask, &lint, &mut said);
    let mut globals = Globals::new(file, ask, &ask.build_args, &mut said);
    let timed = time::timed(file, ask, &mut globals, &mut said)
        .map_err(|wrong| PlanError { diagnostics: vec![wrong] })?;
    let ask: &PlanRequest = &timed;
    // Triggers of what a stage starts from may need further stages and images.
    let mut whole = Cow::Borrowed(file);
    stage::replaced(&mut whole, ask);
    let mut triggers = Triggers::default();
    let layout = loop {
        let before = said.len();
        let Some(layout) = Layout::new(&whole, ask, &globals, &lint, &mut said) else {
            return Err(PlanError { diagnostics: said });
        };
        if said.iter().any(Diagnostic::is_error) {
            return Err(PlanError { diagnostics: said });
        }
        match triggers.adopt(&mut whole, &layout, bases) {
            Ok(false) => break layout,
            Ok(true) => said.truncate(before),
            Err(wrong) => {
                said.extend(wrong);
                return Err(PlanError { diagnostics: said });
            }
        }
    };
    let file: &Dockerfile = &whole;
    let missing = layout.missing(bases);
    if !missing.is_empty() {
        return Ok(Planned::Missing(missing));
    }
    let mut walk = Walk::new(file, ask, &globals, bases, &layout, &triggers, &lint);
    let state = walk.run();
    // Before what is wrong: that may come of a guess.
    if !walk.doubts.is_empty() {
        return Ok(Planned::Missing(walk.doubts));
    }
    said.append(&mut walk.out);
    said.extend(scope::unused(file, ask));
    let Some(state) = state else {
        said.sort_by_key(|said| said.span.start);
        return Err(PlanError { diagnostics: said });
    };
    if !state.platform.satisfies(&ask.platform) {
        let (is, asked) = (&state.platform, &ask.platform);
        said.push(
            Diagnostic::warning(
                file.stages[layout.target].from.span,
                format!("the image will say {asked}, and what it starts from is for {is}"),
            )
            .hint("leave --platform out of the FROM of the stage that becomes the image"),
        );
    }
    said.sort_by_key(|said| said.span.start);
    let mut config = state.config;
    config::finish(&mut config, ask);
    Ok(Planned::Ready(Plan {
        platform: ask.platform.clone(),
        steps: walk.steps,
        result: state.root,
        config,
        warnings: said,
        outline: outline::of(file, &globals, &layout, &walk.uses),
    }))
}
