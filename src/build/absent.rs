//! What a build without a network lacks: all of it, before anything is made.
//!
//! It is planned as for a build. An empty image stands for a base that is not here, so that
//! the rest is found out as well; what its `ONBUILD` would ask for is not.
//!
//! Lacking is only what somebody reads. Each step is looked up first (`build/foresight.rs`): of
//! what one takes that is known, no more is needed than what names it, as the lock or the
//! store's memory has it; and of bases no layers but those that are read by steps which will
//! be made, and those of a result that is wanted whole.
//!
//! What the lock does not have is told in the same list.

use super::context::Contexts;
use super::foresight::{Foresight, Read};
use super::git::{Git, GitError};
use super::inputs::{self, Absent, refuse_unlocked};
use super::planning::{plan_request, platforms};
use super::{BuildEnv, BuildError, BuildRequest, fetch, resolve, times};
use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::{self, Dockerfile, GitSource, RunNetwork};
use crate::layer::Layer;
use crate::lock::{Entry, Key, Lock};
use crate::net;
use crate::plan::{
    self, BaseRequest, Bases, Graph, Op, Plan, PlanRequest, Planned, RemoteSource, RunMount, RunOp,
    Step,
};
use crate::platform::Platform;
use crate::store::Store;

const BRING: &str = "`kiln bundle -o inputs.tar` where there is a network packs all that the build \
                     takes, and `kiln build --offline --bundle inputs.tar` here takes it";

/// What a build of the request lacks that has to do without a network; nothing if there is
/// one, or if the Dockerfile is wrong. Belongs to the runtime that it is called in.
///
/// # Errors
/// If the store cannot be read.
pub async fn lacking(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
) -> Result<Vec<Diagnostic>, BuildError> {
    let (file, diagnostics) = dockerfile::parse(&ask.dockerfile);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Ok(Vec::new());
    }
    let contexts = super::contexts(ask, env.store, &std::sync::Arc::default())?;
    absent(ask, &file, env, &contexts).await
}

/// As [`lacking`], of a file that is free of errors.
pub(super) async fn absent(
    ask: &BuildRequest,
    file: &Dockerfile,
    env: &BuildEnv<'_>,
    contexts: &Contexts,
) -> Result<Vec<Diagnostic>, BuildError> {
    if !env.registries.is_offline() {
        return Ok(Vec::new());
    }
    if !ask.no_cache {
        env.cache.load(env).await?;
    }
    // A step's key may take the reading of many files.
    tokio::task::block_in_place(|| {
        let mut found = Found { ask, env, said: Vec::new() };
        found.request();
        let (graph, bases) = found.graph(file)?;
        let foresight = Foresight::of(ask, env, &graph, &bases, contexts)?;
        for step in foresight.made() {
            found.step(step)?;
        }
        found.layers(&foresight.read(ask.whole), &graph);
        Ok(found.all())
    })
}

/// As [`absent`], where it is only asked what the inputs are.
pub(super) fn absent_inputs(
    ask: &BuildRequest,
    file: &Dockerfile,
    env: &BuildEnv<'_>,
) -> Result<Vec<Diagnostic>, BuildError> {
    if !env.registries.is_offline() {
        return Ok(Vec::new());
    }
    let mut found = Found { ask, env, said: Vec::new() };
    let (graph, _) = found.graph(file)?;
    for step in &graph.steps {
        let (Op::Copy(op), span) = (&step.op, step.span.unwrap_or_default()) else { continue };
        // What a lock that is made anew knows of a file is not asked for.
        let known = |file: &&RemoteSource| {
            let sources = env.sources;
            sources.fills() && sources.url(&fetch::name(&file.url), file.checksum).is_some()
        };
        for file in op.remotes.iter().filter(|file| !known(file)) {
            found.remote(file, span)?;
        }
        op.repositories.iter().for_each(|source| found.repository(source, span));
    }
    Ok(found.all())
}

/// What the store lacks of all inputs of a lock, where there is no network to have them from.
///
/// # Errors
/// If the store cannot be read.
pub fn lacking_of(lock: &Lock, store: &Store) -> Result<Vec<Diagnostic>, BuildError> {
    let mut said = Vec::new();
    for entry in lock.entries().filter(|_| net::is_shut().is_some()) {
        let key = entry.key();
        let mut say = |what: &str| {
            let hint = "write the bundle where there is a network; or, with one, build here once";
            said.push(Diagnostic::error(Span::default(), format!("{key} {what}")).hint(hint));
        };
        match inputs::absent(entry, store)? {
            Some(Absent::Layers(layers)) => {
                let digests = layers.iter().map(|layer| layer.digest.to_string());
                let digests: Vec<String> = digests.collect();
                say(&format!("is here without its layers {}", digests.join(", ")));
            }
            Some(Absent::Documents | Absent::File | Absent::Commit) => {
                say(&format!("is not here: {}", entry.pin()));
            }
            None => (),
        }
        if let Entry::Base(base) = entry
            && let Some(index) = base.index.filter(|index| !store.hold_blob(index))
        {
            say(&format!("is here without the index that lists it, {index}"));
        }
    }
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

    /// All that is to be told, in the order of the Dockerfile.
    fn all(mut self) -> Vec<Diagnostic> {
        for one in self.env.sources.absent() {
            self.say(one);
        }
        for one in self.env.sources.refused() {
            self.say(one.told());
        }
        self.said.sort_by_key(|said| said.span.start);
        self.said
    }

    /// What no line of the file asks for.
    fn request(&mut self) {
        let flag = |what: &str, hint: &str| Diagnostic::error(Span::default(), what).hint(hint);
        // What the lock has is asked of nobody.
        if self.ask.pull && !self.env.sources.is_closed() {
            self.say(flag("offline, no registry is asked for newer bases", "leave --pull out"));
        }
        if self.ask.network == RunNetwork::Host {
            let hint = "leave --network=host out: a RUN then has loopback alone";
            self.say(flag("offline, no RUN gets the host's network", hint));
        }
        for name in self.env.cache.remote().filter(|_| !self.ask.no_cache) {
            let what = format!("offline, no cache is taken from {}", name.familiar());
            let hint = "leave --cache-from out, or take it from a folder: type=local,src=FOLDER";
            self.say(flag(&what, hint));
        }
    }

    /// What is to be done, of all platforms.
    fn graph(&mut self, file: &Dockerfile) -> Result<(Graph, Bases), BuildError> {
        let platforms = platforms(self.ask);
        let times = times::times(self.ask, file);
        let request = |platform: &Platform| PlanRequest {
            times: times.clone(),
            ..plan_request(self.ask, platform, platforms.len() > 1)
        };
        let requests: Vec<PlanRequest> = platforms.iter().map(request).collect();
        let mut bases = Bases::default();
        let plans = self.plan(file, &requests, &mut bases)?;
        refuse_unlocked(&plans, self.env);
        Ok((Graph::of(&plans), bases))
    }

    /// Plans with what is here. Where something is not, what is wrong with the plan may come
    /// of that; it is said all the same, as `kiln check` does.
    fn plan(
        &mut self,
        file: &Dockerfile,
        requests: &[PlanRequest],
        bases: &mut Bases,
    ) -> Result<Vec<Plan>, BuildError> {
        loop {
            let (mut plans, mut wrong) = (Vec::new(), Vec::new());
            let mut wanted: Vec<BaseRequest> = Vec::new();
            for request in requests {
                match plan::plan(file, request, bases) {
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
                if !resolve::is_allowed(want, self.ask, self.env)? {
                    bases.give_up(want);
                    continue;
                }
                match resolve::at_hand(want, self.ask, self.env)? {
                    Some(base) => {
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

    /// What a step takes that will be made.
    fn step(&mut self, step: &Step) -> Result<(), BuildError> {
        let span = step.span.unwrap_or_default();
        match &step.op {
            Op::Base(_) | Op::Workdir(_) => (),
            Op::Run(op) => self.run(op, span),
            Op::Copy(op) => {
                for remote in &op.remotes {
                    self.remote(remote, span)?;
                }
                for source in &op.repositories {
                    self.repository(source, span);
                    self.commit(source, span);
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, op: &RunOp, span: Span) {
        // Of a flag it was said.
        if op.network == RunNetwork::Host && self.ask.network != RunNetwork::Host {
            let what = "offline, no RUN gets the host's network";
            let hint = "leave --network=host out: the step then has loopback alone";
            self.say(Diagnostic::error(span, what).hint(hint));
        }
        for mount in &op.mounts {
            let RunMount::Ssh(ssh) = mount else { continue };
            if self.ask.given.agents.contains_key(&ssh.id) {
                let what = format!("offline, no RUN reaches the ssh agent `{}`", ssh.id);
                let hint = "leave --ssh out if the step can do without; or bring its layer here, \
                            with `kiln bundle --cache`";
                self.say(Diagnostic::error(ssh.span, what).hint(hint));
            }
        }
    }

    /// A base that was only pushed onwards may be here in part.
    fn layers(&mut self, read: &Read, graph: &Graph) {
        for (&id, layers) in read {
            let step = graph.step(id);
            let Op::Base(base) = &step.op else { continue };
            let Some(image) = &base.image else { continue };
            let here = |layer: &&Layer| self.env.store.has_blob(&layer.digest, layer.size);
            let absent = image.layers.iter().filter(|layer| layers.contains(&layer.digest));
            let absent: Vec<String> =
                absent.filter(|layer| !here(layer)).map(|layer| layer.digest.to_string()).collect();
            if absent.is_empty() {
                continue;
            }
            let what = format!(
                "base image {} for {} is here without {} of its {} layers: {}",
                image.reference.familiar(),
                image.platform,
                absent.len(),
                image.layers.len(),
                absent.join(", "),
            );
            self.say(Diagnostic::error(step.span.unwrap_or_default(), what).hint(BRING));
        }
    }

    fn remote(&mut self, source: &RemoteSource, span: Span) -> Result<(), BuildError> {
        let BuildEnv { store, sources, .. } = *self.env;
        // Of what the lock lacks it was said.
        let refused = sources.allow(Key::Url(fetch::name(&source.url)), None).is_err();
        if !refused && !fetch::at_hand(source, sources, store)? {
            let shown = fetch::shown(&source.url);
            let what = match source.checksum {
                None => format!("{shown} is not here"),
                Some(sum) => format!("{shown} is not here with the digest {sum}"),
            };
            self.say(Diagnostic::error(span, what).hint(BRING));
        }
        Ok(())
    }

    fn git(&self) -> Git<'_> {
        let BuildEnv { store, sources, progress, cancel, .. } = *self.env;
        Git { store, given: &self.ask.given, sources, progress, cancel }
    }

    fn repository(&mut self, source: &GitSource, span: Span) {
        let why = match self.git().resolve(source) {
            // Of what the lock lacks it was said.
            Ok(_) | Err(GitError::Unlocked(_)) => return,
            Err(GitError::Offline { reference, .. }) => {
                format!("it is not known which commit `{reference}` is")
            }
            // As the source is written, nothing can be found out.
            Err(error) => error.to_string(),
        };
        self.no_repository(source, &why, span);
    }

    fn commit(&mut self, source: &GitSource, span: Span) {
        match self.git().lacking(source) {
            Ok(None) => (),
            Ok(Some(why)) => self.no_repository(source, &why, span),
            Err(error) => self.no_repository(source, &error.to_string(), span),
        }
    }

    fn no_repository(&mut self, source: &GitSource, why: &str, span: Span) {
        let what = format!("repository {} is not here: {why}", source.remote);
        self.say(Diagnostic::error(span, what).hint(BRING));
    }
}
