//! How far a rollout is, judged from the object alone.
//!
//! The rules are those of `kubectl rollout status`, with what it leaves out: a
//! refused creation of pods fails at once, and a missed deadline that was there
//! before the change proves nothing. Pods' own troubles are judged in `trouble`.

use k8s_openapi::api::apps::v1::{
    DaemonSet, Deployment, DeploymentCondition, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{DynamicObject, TypeMeta};

use super::apply::Before;
use super::{Cause, Object};

/// An object whose rollout can be awaited.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tracked {
    Deployment(Box<Deployment>),
    StatefulSet(Box<StatefulSet>),
    DaemonSet(Box<DaemonSet>),
    Pod(Box<Pod>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Done,
    /// Where it stands, for people: `1 of 2 updated, 0 available`.
    Waiting(String),
    /// Waiting cannot help.
    Failed(Box<Cause>),
    /// The cluster's own deadline has passed; the pods may tell why.
    Late(Box<Cause>),
}

impl Tracked {
    /// Whether objects of this kind have a rollout.
    pub(super) fn of(object: &Object) -> bool {
        matches!(
            (object.api_version.as_str(), object.kind.as_str()),
            ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet") | ("v1", "Pod")
        )
    }

    /// What was seen, typed; `None` if it is malformed. The items of a list do
    /// not say of what kind they are, so the caller does.
    pub(super) fn read(of: &Object, mut object: DynamicObject) -> Option<Self> {
        object.types =
            Some(TypeMeta { api_version: of.api_version.clone(), kind: of.kind.clone() });
        Some(match of.kind.as_str() {
            "Deployment" => Self::Deployment(Box::new(object.try_parse().ok()?)),
            "StatefulSet" => Self::StatefulSet(Box::new(object.try_parse().ok()?)),
            "DaemonSet" => Self::DaemonSet(Box::new(object.try_parse().ok()?)),
            "Pod" => Self::Pod(Box::new(object.try_parse().ok()?)),
            _ => return None,
        })
    }

    pub(super) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Deployment(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
            Self::DaemonSet(object) => &object.metadata,
            Self::Pod(object) => &object.metadata,
        }
    }

    /// What selects its pods; a bare Pod has none.
    pub(super) fn selector(&self) -> Option<&LabelSelector> {
        match self {
            Self::Deployment(object) => Some(&object.spec.selector),
            Self::StatefulSet(object) => Some(&object.spec.selector),
            Self::DaemonSet(object) => Some(&object.spec.selector),
            Self::Pod(_) => None,
        }
    }

    pub(super) fn judge(&self, path: &str, generation: i64, before: &Before) -> Verdict {
        let observed = match self {
            Self::Deployment(o) => o.status.as_ref().and_then(|s| s.observed_generation),
            Self::StatefulSet(o) => o.status.as_ref().and_then(|s| s.observed_generation),
            Self::DaemonSet(o) => o.status.as_ref().and_then(|s| s.observed_generation),
            // Older kubelets do not say; the containers' ids tell then.
            Self::Pod(o) => {
                o.status.as_ref().and_then(|s| s.observed_generation).or(Some(generation))
            }
        };
        if observed.is_none_or(|observed| observed < generation) {
            return Verdict::Waiting("the change has not been noticed yet".into());
        }
        match self {
            Self::Deployment(object) => deployment(object, path, before),
            Self::StatefulSet(object) => stateful_set(object, path),
            Self::DaemonSet(object) => daemon_set(object, path),
            Self::Pod(object) => pod(object, path, before),
        }
    }

    /// Which of the pods are made from the newest template.
    pub(super) fn newest<'a>(&self, sets: &[ReplicaSet], pods: &'a [Pod]) -> Vec<&'a Pod> {
        let label = |pod: &Pod, key: &str, value: Option<&String>| {
            value.is_some() && pod.metadata.labels.as_ref().and_then(|l| l.get(key)) == value
        };
        let made_by = |pod: &&'a Pod, owner: &ObjectMeta| {
            pod.metadata.deletion_timestamp.is_none() && owned(&pod.metadata, owner)
        };
        match self {
            Self::Deployment(object) => match newest_set(object, sets) {
                Some(set) => pods.iter().filter(|pod| made_by(pod, &set.metadata)).collect(),
                None => Vec::new(),
            },
            Self::StatefulSet(object) => {
                let revision = object.status.as_ref().and_then(|s| s.update_revision.as_ref());
                pods.iter()
                    .filter(|pod| made_by(pod, &object.metadata))
                    .filter(|pod| label(pod, "controller-revision-hash", revision))
                    .collect()
            }
            Self::DaemonSet(object) => {
                let key = "deprecated.daemonset.template.generation";
                let generation = object.metadata.annotations.as_ref().and_then(|a| a.get(key));
                pods.iter()
                    .filter(|pod| made_by(pod, &object.metadata))
                    .filter(|pod| label(pod, "pod-template-generation", generation))
                    .collect()
            }
            Self::Pod(_) => Vec::new(),
        }
    }
}

fn owned(object: &ObjectMeta, owner: &ObjectMeta) -> bool {
    owner.uid.is_some()
        && object
            .owner_references
            .iter()
            .flatten()
            .any(|one| one.controller == Some(true) && Some(&one.uid) == owner.uid.as_ref())
}

/// The replica set of the present template. The controller finds it the same
/// way: by the template, apart from the hash that it adds itself. The revision
/// number would lag behind for a moment, and name the old one.
fn newest_set<'a>(deployment: &Deployment, sets: &'a [ReplicaSet]) -> Option<&'a ReplicaSet> {
    let template = &deployment.spec.template;
    sets.iter()
        .filter(|set| owned(&set.metadata, &deployment.metadata))
        .filter(|set| {
            let own = set.spec.template.as_ref();
            own.is_some_and(|own| without_hash(own) == without_hash(template))
        })
        .min_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp))
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(metadata) = &mut template.metadata {
        if let Some(labels) = &mut metadata.labels {
            labels.remove("pod-template-hash");
        }
        metadata.creation_timestamp = None;
    }
    template
}

/// The condition that says that the progress deadline has passed.
pub(super) fn missed_deadline(deployment: &Deployment) -> Option<&DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| {
        condition.type_.as_deref() == Some("Progressing")
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    })
}

fn cause(path: &str, reason: &str, message: Option<&String>) -> Box<Cause> {
    Box::new(Cause {
        object: path.to_owned(),
        container: None,
        reason: reason.to_owned(),
        message: message.cloned().unwrap_or_default(),
        log: Vec::new(),
        hint: None,
    })
}

fn deployment(object: &Deployment, path: &str, before: &Before) -> Verdict {
    let wanted = object.spec.replicas.unwrap_or(1);
    let status = object.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or(0);
    let total = status.replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);

    let failure = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"))
        .filter(|condition| condition.status.as_deref() == Some("True"));
    if let Some(condition) = failure {
        let reason = condition.reason.as_deref().unwrap_or("ReplicaFailure");
        return Verdict::Failed(cause(path, reason, condition.message.as_ref()));
    }
    if let Some(condition) = missed_deadline(object)
        && (before.stale_deadline.is_none() || condition.last_update_time != before.stale_deadline)
    {
        return Verdict::Late(cause(path, "ProgressDeadlineExceeded", condition.message.as_ref()));
    }
    if updated >= wanted && total == updated && available >= updated {
        return Verdict::Done;
    }
    if object.spec.paused == Some(true) {
        let mut cause = cause(path, "Paused", None);
        cause.message = "the deployment is paused, so nothing will change".into();
        cause.hint = Some(format!("kubectl rollout resume {path}"));
        return Verdict::Failed(cause);
    }
    let old = total - updated;
    let leaving = if old > 0 { format!(", {old} old still there") } else { String::new() };
    Verdict::Waiting(format!("{updated} of {wanted} updated, {available} available{leaving}"))
}

fn on_delete(strategy: Option<&str>, path: &str) -> Option<Verdict> {
    if strategy != Some("OnDelete") {
        return None;
    }
    let mut cause = cause(path, "OnDelete", None);
    cause.message = "its pods are replaced only when somebody deletes them".into();
    Some(Verdict::Failed(cause))
}

fn stateful_set(object: &StatefulSet, path: &str) -> Verdict {
    let wanted = object.spec.replicas.unwrap_or(1);
    let strategy = object.spec.update_strategy.as_ref();
    let partition =
        strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.partition).unwrap_or(0);
    let Some(status) = &object.status else { return Verdict::Waiting("not begun".into()) };
    let updated = status.updated_replicas.unwrap_or(0);
    let ready = status.ready_replicas.unwrap_or(0);
    let same = status.current_revision == status.update_revision;
    let renewed = if partition > 0 { updated >= wanted - partition } else { same };
    if renewed && ready >= wanted {
        return Verdict::Done;
    }
    on_delete(strategy.and_then(|s| s.type_.as_deref()), path).filter(|_| !same).unwrap_or_else(
        || {
            let wanted_new = (wanted - partition).max(0);
            Verdict::Waiting(format!("{updated} of {wanted_new} updated, {ready} ready"))
        },
    )
}

fn daemon_set(object: &DaemonSet, path: &str) -> Verdict {
    let Some(status) = &object.status else { return Verdict::Waiting("not begun".into()) };
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let available = status.number_available.unwrap_or(0);
    if updated >= wanted && available >= wanted {
        return Verdict::Done;
    }
    let strategy = object.spec.update_strategy.as_ref();
    on_delete(strategy.and_then(|s| s.type_.as_deref()), path)
        .filter(|_| updated < wanted)
        .unwrap_or_else(|| {
            Verdict::Waiting(format!("{updated} of {wanted} updated, {available} available"))
        })
}

fn pod(object: &Pod, path: &str, before: &Before) -> Verdict {
    let status = object.status.clone().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or("Pending");
    match phase {
        "Succeeded" => return Verdict::Done,
        "Failed" => {
            let reason = status.reason.as_deref().unwrap_or("Failed");
            return Verdict::Failed(cause(path, reason, status.message.as_ref()));
        }
        _ => {}
    }
    // A container whose image changes in place is ready until it is stopped.
    let old = status.container_statuses.iter().flatten().any(|container| {
        before.containers.get(&container.name).is_some_and(|id| {
            container.container_id.as_ref().is_none_or(|now| now.is_empty() || now == id)
        })
    });
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    match (ready, old) {
        (true, false) => Verdict::Done,
        (_, true) => Verdict::Waiting("the old container has not been replaced yet".into()),
        (false, false) => Verdict::Waiting(format!("{}, not ready", phase.to_lowercase())),
    }
}

#[cfg(test)]
mod tests;
