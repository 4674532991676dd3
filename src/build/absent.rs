//! What a build without a network lacks: all of it, before anything is made.
//!
//! It is planned as for a build. An empty image stands for a base that is not here, so that
//! the rest is found out as well; what its `ONBUILD` would ask for is not.

use super::git::Git;
use super::planning::{plan_request, platforms};
use super::{BuildEnv, BuildError, BuildRequest, fetch, resolve, times};
use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::{self, Dockerfile, GitSource, RunNetwork};
use crate::layer::Layer;
use crate::plan::{
    self, Base, BaseRequest, Bases, CopyOp, Graph, Op, Plan, PlanRequest, Planned, RemoteSource,
};
use crate::platform::Platform;

const BRING: &str = "`kiln bundle -o inputs.tar` where there is a network packs all that the build \
                     takes, and `kiln build --offline --bundle inputs.tar` here takes it";

/// What a build of the request lacks that has to do without a network; nothing if there is
/// one, or if the Dockerfile is wrong.
///
/// # Errors
/// If the store cannot be read.
pub fn lacking(ask: &BuildRequest, env: &BuildEnv<'_>) -> Result<Vec<Diagnostic>, BuildError> {
    let (file, diagnostics) = dockerfile::parse(&ask.dockerfile);
    let wrong = diagnostics.iter().any(Diagnostic::is_error);
    if wrong { Ok(Vec::new()) } else { absent(ask, &file, env) }
}

/// As [`lacking`], of a file that is free of errors.
pub(super) fn absent(
    ask: &BuildRequest,
    file: &Dockerfile,
    env: &BuildEnv<'_>,
) -> Result<Vec<Diagnostic>, BuildError> {
    if !env.registries.is_offline() {
        return Ok(Vec::new());
    }
    let mut found = Found { ask, env, said: Vec::new() };
    found.request();
    let platforms = platforms(ask);
    let times = times::times(ask, file);
    let request = |platform: &Platform| PlanRequest {
        times: times.clone(),
        ..plan_request(ask, platform, platforms.len() > 1)
    };
    let requests: Vec<PlanRequest> = platforms.iter().map(request).collect();
    let plans = found.plan(file, &requests)?;
    for step in &Graph::of(&plans).steps {
        let span = step.span.unwrap_or_default();
        match &step.op {
            Op::Base(_) | Op::Workdir(_) => (),
            // Of a flag it was said.
            Op::Run(run) => {
                if run.network == RunNetwork::Host && ask.network != RunNetwork::Host {
                    let what = "offline, no RUN gets the host's network";
                    let hint = "leave --network=host out: the step then has loopback alone";
                    found.say(Diagnostic::error(span, what).hint(hint));
                }
            }
            Op::Copy(op) => found.copy(op, span)?,
        }
    }
    let mut said = found.said;
    said.sort_by_key(|said| said.span.start);
    Ok(said)
}

struct Found<'a> {
    ask: &'a BuildRequest,
    env: &'a BuildEnv<'a>,
    said: Vec<Diagnostic>,
}

impl Found<'_> {
    /// Several platforms have much in common.
    fn say(&mut self, one: Diagnostic) {
        if !self.said.contains(&one) {
            self.said.push(one);
        }
    }

    /// What no line of the file asks for.
    fn request(&mut self) {
        let flag = |what: &str, hint: &str| Diagnostic::error(Span::default(), what).hint(hint);
        if self.ask.pull {
            self.say(flag("offline, no registry is asked for newer bases", "leave --pull out"));
        }
        if self.ask.network == RunNetwork::Host {
            let hint = "leave --network=host out: a RUN then has loopback alone";
            self.say(flag("offline, no RUN gets the host's network", hint));
        }
        for name in self.env.cache.remote() {
            let what = format!("offline, no cache is taken from {}", name.familiar());
            let hint = "leave --cache-from out, or take it from a folder: type=local,src=FOLDER";
            self.say(flag(&what, hint));
        }
    }

    /// Plans with what is here. Where something is not, what is wrong with the plan may come
    /// of that; it is said all the same, as `kiln check` does.
    fn plan(
        &mut self,
        file: &Dockerfile,
        requests: &[PlanRequest],
    ) -> Result<Vec<Plan>, BuildError> {
        let mut bases = Bases::default();
        loop {
            let (mut plans, mut wrong) = (Vec::new(), Vec::new());
            let mut wanted: Vec<BaseRequest> = Vec::new();
            for request in requests {
                match plan::plan(file, request, &bases) {
                    Ok(Planned::Ready(plan)) => plans.push(plan),
                    Ok(Planned::Missing(more)) => wanted.extend(more),
                    Err(error) => wrong.extend(error.diagnostics),
                }
            }
            if wanted.is_empty() {
                wrong.into_iter().filter(Diagnostic::is_error).for_each(|one| self.say(one));
                return Ok(plans);
            }
            for want in &wanted {
                match resolve::at_hand(want, self.ask, self.env)? {
                    Some(base) => {
                        self.layers(want, &base);
                        bases.insert(want.reference.clone(), want.platform.clone(), base);
                    }
                    None => {
                        let name = want.reference.familiar();
                        let what = format!("base image {name} for {} is not here", want.platform);
                        let pull = format!(
                            "{BRING}; or `kiln pull` and `kiln save` there, `kiln load` here"
                        );
                        self.say(Diagnostic::error(want.span, what).hint(pull));
                        bases.give_up(want);
                    }
                }
            }
        }
    }

    /// A base that was only pushed onwards may be here in part.
    fn layers(&mut self, want: &BaseRequest, base: &Base) {
        let here = |layer: &&Layer| self.env.store.has_blob(&layer.digest, layer.size);
        let absent: Vec<String> = base
            .layers
            .iter()
            .filter(|layer| !here(layer))
            .map(|layer| layer.digest.to_string())
            .collect();
        if absent.is_empty() {
            return;
        }
        let what = format!(
            "base image {} for {} is here without {} of its {} layers: {}",
            want.reference.familiar(),
            want.platform,
            absent.len(),
            base.layers.len(),
            absent.join(", "),
        );
        self.say(Diagnostic::error(want.span, what).hint(BRING));
    }

    fn copy(&mut self, op: &CopyOp, span: Span) -> Result<(), BuildError> {
        for remote in &op.remotes {
            self.remote(remote, span)?;
        }
        for source in &op.repositories {
            self.repository(source, span);
        }
        Ok(())
    }

    fn remote(&mut self, source: &RemoteSource, span: Span) -> Result<(), BuildError> {
        if !fetch::at_hand(source, self.env.sources, self.env.store)? {
            let shown = fetch::shown(&source.url);
            let what = match source.checksum {
                None => format!("{shown} is not here"),
                Some(sum) => format!("{shown} is not here with the digest {sum}"),
            };
            self.say(Diagnostic::error(span, what).hint(BRING));
        }
        Ok(())
    }

    fn repository(&mut self, source: &GitSource, span: Span) {
        let BuildEnv { store, sources, progress, cancel, .. } = *self.env;
        let git = Git { store, given: &self.ask.given, sources, progress, cancel };
        let why = match git.lacking(source) {
            Ok(None) => return,
            Ok(Some(why)) => why,
            // Without the program, or as the source is written, nothing can be found out.
            Err(error) => error.to_string(),
        };
        let what = format!("repository {} is not here: {why}", source.remote);
        self.say(Diagnostic::error(span, what).hint(BRING));
    }
}
