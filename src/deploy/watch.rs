//! Waiting for one rollout: watches, the clock, and what is said meanwhile.
//!
//! The object, its replica sets and its pods are watched; each change, and each
//! second, the whole is judged anew from what is known (never from single
//! events, so that a lost connection loses nothing). Who may not list pods or
//! replica sets still gets a verdict, only without the pods' reasons.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject};
use kube::core::Selector;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Error, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::apply::Handed;
use super::rollout::{Tracked, Verdict};
use super::trouble::{self, Haste, Trouble};
use super::{Cause, Cluster, DeployError, DeployRequest, Outcome, explain};
use crate::progress::{Progress, Stream as Output, Task};

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// For objects that are made a moment after those that need them.
const SOON: Duration = Duration::from_secs(5);
/// How long what was changed must stay done. Without a probe the cluster counts a
/// program as ready once it was started, also one that ends at once; a kubelet
/// looks each second.
const SETTLED: Duration = Duration::from_secs(3);
/// How long the cluster may be out of sight.
const LOST: Duration = Duration::from_secs(60);

type Stream<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// Objects of one kind as the last events left them, by name.
struct Mirror<K> {
    stream: Stream<K>,
    known: BTreeMap<String, K>,
    /// A list that is being received anew.
    coming: BTreeMap<String, K>,
    /// Whether a list was received at all.
    listed: bool,
}

impl<K: Resource<DynamicType: Default> + Clone + DeserializeOwned + Debug + Send + 'static>
    Mirror<K>
{
    /// What carries these labels; nothing for ever if there are none to go by.
    fn of(api: Api<K>, labels: Option<&Selector>) -> Self {
        match labels {
            Some(labels) => Self::on(
                watcher(api, watcher::Config::default().labels_from(labels))
                    .default_backoff()
                    .boxed(),
            ),
            None => Self::on(stream::pending().boxed()),
        }
    }
}

impl<K: Resource> Mirror<K> {
    fn on(stream: Stream<K>) -> Self {
        Self { stream, known: BTreeMap::new(), coming: BTreeMap::new(), listed: false }
    }

    fn take(&mut self, event: Event<K>) {
        let name = |object: &K| object.meta().name.clone().unwrap_or_default();
        match event {
            Event::Init => self.coming.clear(),
            Event::InitApply(object) => {
                self.coming.insert(name(&object), object);
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.coming);
                self.listed = true;
            }
            Event::Apply(object) => {
                self.known.insert(name(&object), object);
            }
            Event::Delete(object) => {
                self.known.remove(&name(&object));
            }
        }
    }

    /// Takes what the watch said; an error that will not pass comes back.
    fn hear(
        &mut self,
        said: Option<watcher::Result<Event<K>>>,
        lost: &mut Option<Instant>,
    ) -> Option<Error> {
        match said {
            Some(Ok(event)) => {
                // A new list only begins here; whether it comes is not known yet.
                if !matches!(event, Event::Init) {
                    *lost = None;
                }
                self.take(event);
                None
            }
            // The watcher lists again by itself.
            Some(Err(watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion)) | None => {
                None
            }
            Some(Err(
                watcher::Error::InitialListFailed(error)
                | watcher::Error::WatchStartFailed(error)
                | watcher::Error::WatchFailed(error),
            )) => match error {
                Error::Api(status) if matches!(status.code, 401 | 403) => Some(Error::Api(status)),
                Error::Auth(error) => Some(Error::Auth(error)),
                _ => {
                    lost.get_or_insert_with(Instant::now);
                    None
                }
            },
        }
    }
}

/// Waits until the object serves what was applied.
pub(super) async fn until_done(
    handed: &Handed,
    ask: &DeployRequest,
    on: &Cluster,
    deadline: Instant,
    progress: &Progress,
) -> Result<(), DeployError> {
    let object = &handed.object;
    let path = object.path();
    let namespace = object.namespace.clone().unwrap_or_else(|| on.namespace().to_owned());
    let task = progress.task(format!("rollout of {path}"));
    let api = handed.api(on);
    let seeing = format!("watch {path}");

    let mut now = look(&api, handed, on).await?;
    let only = watcher::Config::default().fields(&format!("metadata.name={}", object.name));
    let mut main = Mirror::on(watcher(api.clone(), only).default_backoff().boxed());
    let labels: Option<Selector> = now.selector().and_then(|labels| labels.clone().try_into().ok());
    let has_sets = matches!(now, Tracked::Deployment(_));
    let mut sets: Mirror<ReplicaSet> =
        Mirror::of(Api::namespaced(on.client(), &namespace), labels.as_ref().filter(|_| has_sets));
    let mut pods: Mirror<Pod> =
        Mirror::of(Api::namespaced(on.client(), &namespace), labels.as_ref());

    let mut generation = handed.generation.unwrap_or(0);
    let mut said = Said::default();
    let mut clock = Clock::default();
    let mut lost = None;
    let mut done: Option<Instant> = None;
    loop {
        let seen = now.metadata().generation.unwrap_or(0);
        if seen > generation {
            generation = seen;
            progress
                .warn(format!("somebody else has changed {path}; its newest state is followed"));
        }
        let verdict = now.judge(&path, generation, &handed.before);
        let troubles = troubles(&now, sets.known.values(), pods.known.values(), handed);
        let worst = troubles.iter().min_by_key(|trouble| trouble.haste).cloned();
        let failed =
            |cause: Cause| DeployError::Failed { object: object.clone(), cause: Box::new(cause) };
        let state = match verdict {
            Verdict::Done => {
                let since = *done.get_or_insert_with(Instant::now);
                let stays = handed.outcome == Outcome::Unchanged || since.elapsed() >= SETTLED;
                if stays || Instant::now() >= deadline {
                    said.state(&task, &path, "done");
                    task.done();
                    return Ok(());
                }
                "runs".to_owned()
            }
            // A failed Pod says little itself; its container says more.
            Verdict::Failed(own) | Verdict::Late(own) => {
                let found = find(worst, &now, &pods, &sets, on, &namespace).await;
                return Err(failed(found.unwrap_or(*own)));
            }
            Verdict::Waiting(state) => {
                done = None;
                state
            }
        };
        said.state(&task, &path, &state);
        if let Some(trouble) = &worst
            && trouble.haste != Haste::Events
            && done.is_none()
        {
            said.trouble(&task, trouble);
        }
        if let Some(trouble) = clock.up(&troubles, ask.patience)
            && done.is_none()
        {
            if trouble.haste != Haste::Events {
                return Err(failed(explain::cause(trouble, on, &namespace).await));
            }
            let events = explain::events(on, &namespace, &trouble.pod).await;
            if let Some((reason, message)) = explain::blocked(&events) {
                return Err(failed(Cause { reason, message, ..trouble.cause }));
            }
        }
        if Instant::now() >= deadline && done.is_none() {
            let cause = find(worst, &now, &pods, &sets, on, &namespace).await.map(Box::new);
            return Err(DeployError::TimedOut {
                object: Box::new(object.clone()),
                after: ask.timeout,
                state,
                cause,
            });
        }
        if lost.is_some_and(|since: Instant| since.elapsed() >= LOST / 2) {
            match look(&api, handed, on).await {
                Ok(seen) => (now, lost) = (seen, None),
                Err(error @ DeployError::Unreachable { .. })
                    if lost.is_none_or(|since| since.elapsed() < LOST) =>
                {
                    said.state(&task, &path, &error.to_string());
                }
                Err(error) => return Err(error),
            }
        }

        let forbidden = tokio::select! {
            event = main.stream.next() => {
                let error = main.hear(event, &mut lost);
                if let Some(error) = error {
                    return Err(super::cluster::trouble(on.address(), &seeing, error));
                }
                false
            }
            event = sets.stream.next() => match sets.hear(event, &mut lost) {
                Some(_) => { sets = Mirror::on(stream::pending().boxed()); true }
                None => false,
            },
            event = pods.stream.next() => match pods.hear(event, &mut lost) {
                Some(_) => { pods = Mirror::on(stream::pending().boxed()); true }
                None => false,
            },
            () = tokio::time::sleep_until(deadline.min(Instant::now() + TICK)) => false,
        };
        if forbidden {
            progress.warn(format!(
                "not permitted to list the pods and replica sets of {path}: a failure is seen later, and \
                 without its reason"
            ));
        }
        now = newest(&main, now, handed)?;
    }
}

/// The object as the watch left it; gone is an error.
fn newest(
    main: &Mirror<DynamicObject>,
    now: Tracked,
    handed: &Handed,
) -> Result<Tracked, DeployError> {
    let deleted = || DeployError::Deleted { object: handed.object.clone() };
    let Some(object) = main.known.get(&handed.object.name) else {
        return if main.listed { Err(deleted()) } else { Ok(now) };
    };
    if object.metadata.uid != now.metadata().uid {
        return Err(deleted());
    }
    Ok(Tracked::read(&handed.object, object.clone()).unwrap_or(now))
}

async fn look(
    api: &Api<DynamicObject>,
    handed: &Handed,
    on: &Cluster,
) -> Result<Tracked, DeployError> {
    let doing = format!("see {}", handed.object);
    let seen = on.answer(&doing, api.get_opt(&handed.object.name)).await?;
    let seen = seen.ok_or_else(|| DeployError::Deleted { object: handed.object.clone() })?;
    Tracked::read(&handed.object, seen).ok_or_else(|| DeployError::Api {
        doing,
        why: "the answer is not an object of its kind".into(),
    })
}

fn troubles<'a>(
    now: &Tracked,
    sets: impl Iterator<Item = &'a ReplicaSet>,
    pods: impl Iterator<Item = &'a Pod>,
    handed: &Handed,
) -> Vec<Trouble> {
    if let Tracked::Pod(pod) = now {
        return trouble::of(pod, &handed.before).into_iter().collect();
    }
    let sets: Vec<ReplicaSet> = sets.cloned().collect();
    let pods: Vec<Pod> = pods.cloned().collect();
    let none = super::apply::Before::default();
    now.newest(&sets, &pods).into_iter().filter_map(|pod| trouble::of(pod, &none)).collect()
}

/// The best reason there is: the pods' trouble, else the newest warning of one.
async fn find(
    worst: Option<Trouble>,
    now: &Tracked,
    pods: &Mirror<Pod>,
    sets: &Mirror<ReplicaSet>,
    on: &Cluster,
    namespace: &str,
) -> Option<Cause> {
    let worst = worst.filter(|trouble| trouble.haste != Haste::Events);
    if let Some(trouble) = worst {
        return Some(explain::cause(trouble, on, namespace).await);
    }
    let sets: Vec<ReplicaSet> = sets.known.values().cloned().collect();
    let known: Vec<Pod> = pods.known.values().cloned().collect();
    let unready = now.newest(&sets, &known).into_iter().filter_map(|pod| pod.metadata.name.clone());
    let own = matches!(now, Tracked::Pod(_)).then(|| now.metadata().name.clone()).flatten();
    for pod in own.into_iter().chain(unready).take(5) {
        if let Some((reason, message)) =
            explain::warning(&explain::events(on, namespace, &pod).await)
        {
            let object = format!("pod/{pod}");
            return Some(Cause {
                object,
                container: None,
                reason,
                message,
                log: Vec::new(),
                hint: None,
            });
        }
    }
    None
}

/// Since when there has been trouble of each haste.
#[derive(Default)]
struct Clock {
    since: BTreeMap<Haste, Instant>,
}

impl Clock {
    /// The trouble whose time is up. Events are asked for again after the same
    /// time once more.
    fn up(&mut self, troubles: &[Trouble], patience: Duration) -> Option<Trouble> {
        self.since.retain(|haste, _| troubles.iter().any(|trouble| trouble.haste == *haste));
        let now = Instant::now();
        for trouble in troubles {
            let may = match trouble.haste {
                Haste::Now => Duration::ZERO,
                Haste::Soon => SOON.min(patience),
                Haste::Patience | Haste::Events => patience,
            };
            let since = self.since.entry(trouble.haste).or_insert(now);
            if now.duration_since(*since) >= may {
                *since = now;
                return Some(trouble.clone());
            }
        }
        None
    }
}

/// What was said last, so that it is said once.
#[derive(Default)]
struct Said {
    state: String,
    trouble: String,
}

impl Said {
    fn state(&mut self, task: &Task, path: &str, state: &str) {
        if self.state != state {
            state.clone_into(&mut self.state);
            task.line(Output::Stdout, format!("{path}: {state}"));
        }
    }

    fn trouble(&mut self, task: &Task, trouble: &Trouble) {
        let text = trouble.cause.to_string();
        if self.trouble != text {
            task.line(Output::Stdout, text.clone());
            self.trouble = text;
        }
    }
}
