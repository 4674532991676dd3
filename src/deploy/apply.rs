//! Handing one object to the cluster by server-side apply.
//!
//! The object is looked at first: what it was decides what a status read later
//! can prove (see [`Before`]), and whether a Pod has to be replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use kube::{Error, ResourceExt};
use tokio::time::Instant;

use super::manifest::Document;
use super::{
    Cluster, DeployError, DeployRequest, FIELD_MANAGER, FieldConflict, Kind, Object, Outcome,
    Simple, Workload,
};

/// What was there before, as far as it could be mistaken for the new.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Before {
    /// `lastUpdateTime` of a missed progress deadline that speaks of an older
    /// template and stays until the first progress.
    pub(super) stale_deadline: Option<Time>,
    /// A Pod's containers whose image changes in place: the id of what ran.
    pub(super) containers: BTreeMap<String, String>,
    /// Restarts of a Pod's containers that were not ours.
    pub(super) restarts: BTreeMap<String, i32>,
}

/// An object that the cluster took.
#[derive(Debug, Clone)]
pub(super) struct Handed {
    pub(super) object: Object,
    pub(super) outcome: Outcome,
    pub(super) resource: ApiResource,
    pub(super) generation: Option<i64>,
    pub(super) before: Before,
}

impl Handed {
    pub(super) fn api(&self, on: &Cluster) -> Api<DynamicObject> {
        api(on, &self.resource, self.object.namespace.as_deref())
    }
}

fn api(on: &Cluster, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(on.client(), namespace, resource),
        None => Api::all_with(on.client(), resource),
    }
}

/// Applies one document.
pub(super) async fn apply(
    document: &Document,
    ask: &DeployRequest,
    on: &Cluster,
    deadline: Instant,
) -> Result<Handed, DeployError> {
    let mut object = document.object();
    let (resource, scope) = resolve(document, &object, on).await?;
    object.namespace = match scope {
        Scope::Cluster => None,
        Scope::Namespaced => Some(namespace(&object, ask, on)?),
    };
    let api = api(on, &resource, object.namespace.as_deref());
    let seeing = format!("see {object}");
    let mut old = on.answer(&seeing, api.get_opt(&object.name)).await?;
    let pod = resource.group.is_empty() && resource.kind == "Pod";

    if pod && let Some(existing) = &old {
        let phase = existing.data["status"]["phase"].as_str().unwrap_or_default().to_owned();
        let leaving = existing.metadata.deletion_timestamp.is_some();
        let ended = matches!(phase.as_str(), "Succeeded" | "Failed");
        if ended && !ask.replace && !leaving {
            return Err(DeployError::PodEnded { object, phase });
        }
        if (ended || leaving) && !ask.dry_run {
            remove(&api, &object, existing, on, deadline).await?;
            old = None;
        }
    }

    let kept = old.as_ref().and_then(|old| keep_replicas(document, ask, old));
    let document = kept.as_ref().unwrap_or(document);
    let first = patch(document, &object, &api, ask, on).await;
    let new = match (first, &old) {
        (Err(DeployError::PodImmutable { .. }), Some(existing)) if ask.replace && !ask.dry_run => {
            remove(&api, &object, existing, on, deadline).await?;
            old = None;
            patch(document, &object, &api, ask, on).await?
        }
        (answer, _) => answer?,
    };
    let outcome = match &old {
        None => Outcome::Created,
        Some(old) if same(old, &new) => Outcome::Unchanged,
        Some(_) => Outcome::Changed,
    };
    let before = old.map(|old| before(&old, &new)).unwrap_or_default();
    Ok(Handed { object, outcome, resource, generation: new.metadata.generation, before })
}

/// The document with the replicas that kiln gave a Deployment before, where the
/// request leaves them to the cluster: a field that its only owner applies no
/// more falls back to its default, which is one.
fn keep_replicas(
    document: &Document,
    ask: &DeployRequest,
    old: &DynamicObject,
) -> Option<Document> {
    let Workload::Simple(Simple { kind: Kind::Deployment, replicas: None, .. }) = &ask.workload
    else {
        return None;
    };
    let owners: Vec<&str> = old
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref();
            fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
        })
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    if owners != [FIELD_MANAGER] {
        return None;
    }
    let mut kept = document.clone();
    kept.value["spec"]["replicas"] = old.data["spec"].get("replicas")?.clone();
    Some(kept)
}

/// The resource behind a kind. A definition applied a moment ago takes a while
/// to be served, so a kind outside the built-in groups is asked for again.
async fn resolve(
    document: &Document,
    object: &Object,
    on: &Cluster,
) -> Result<(ApiResource, Scope), DeployError> {
    let (group, version) = object.api_version.split_once('/').unwrap_or(("", &object.api_version));
    let kind = GroupVersionKind::gvk(group, version, &object.kind);
    let doing = format!("look up {} of {}", object.kind, object.api_version);
    let tries = if group.contains('.') && !group.ends_with(".k8s.io") { 6 } else { 1 };
    for attempt in 0..tries {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let asked = async {
            match discovery::pinned_kind(&on.client(), &kind).await {
                Ok((resource, abilities)) => Ok(Some((resource, abilities.scope))),
                Err(Error::Discovery(_)) => Ok(None),
                Err(Error::Api(status)) if status.code == 404 => Ok(None),
                Err(other) => Err(other),
            }
        };
        if let Some(found) = on.answer(&doing, asked).await? {
            return Ok(found);
        }
    }
    Err(DeployError::UnknownKind {
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
        file: document.file.clone(),
        document: document.number,
    })
}

fn namespace(object: &Object, ask: &DeployRequest, on: &Cluster) -> Result<String, DeployError> {
    match (&object.namespace, &ask.namespace) {
        (Some(written), Some(asked)) if written != asked => Err(DeployError::NamespaceDiffers {
            object: Box::new(object.clone()),
            written: written.clone(),
            asked: asked.clone(),
        }),
        (Some(one), _) | (None, Some(one)) => Ok(one.clone()),
        (None, None) => Ok(on.namespace().to_owned()),
    }
}

async fn patch(
    document: &Document,
    object: &Object,
    api: &Api<DynamicObject>,
    ask: &DeployRequest,
    on: &Cluster,
) -> Result<DynamicObject, DeployError> {
    let parameters = PatchParams {
        dry_run: ask.dry_run,
        force: ask.force_conflicts,
        field_manager: Some(FIELD_MANAGER.into()),
        field_validation: Some(kube::api::ValidationDirective::Strict),
    };
    let request = async {
        match api.patch(&object.name, &parameters, &Patch::Apply(&document.value)).await {
            Err(Error::Api(status)) => Ok(Err(status)),
            other => other.map(Ok),
        }
    };
    let status = match on.answer(&format!("apply {object}"), request).await? {
        Ok(new) => return Ok(new),
        Err(status) => status,
    };
    Err(refusal(object, on, *status))
}

/// A refused apply in kiln's words.
fn refusal(object: &Object, on: &Cluster, status: kube::core::Status) -> DeployError {
    let object = object.clone();
    let details = status.details.as_ref();
    let causes = details.map(|details| details.causes.as_slice()).unwrap_or_default();
    let fields: Vec<FieldConflict> = causes
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| FieldConflict { manager: manager(&cause.message), field: cause.field.clone() })
        .collect();
    let missing_namespace =
        status.code == 404 && details.is_some_and(|details| details.kind == "namespaces");
    match (status.code, &object.namespace) {
        (409, _) if !fields.is_empty() => DeployError::Conflict { object, fields },
        (404, Some(namespace)) if missing_namespace => {
            DeployError::NamespaceMissing { namespace: namespace.clone(), object }
        }
        (422, _)
            if object.kind == "Pod" && status.message.contains("pod updates may not change") =>
        {
            // The API server appends the whole difference of both pods.
            let why = status.message.lines().next().unwrap_or_default();
            let why = why.rsplit_once("Forbidden: ").map_or(why, |(_, why)| why);
            DeployError::PodImmutable { object, why: why.trim().to_owned() }
        }
        (401 | 403, _) => {
            let doing = format!("apply {object}");
            super::cluster::trouble(on.address(), &doing, Error::Api(Box::new(status)))
        }
        // A wrong type or an unknown field is a 500 in a server-side apply.
        (400 | 404 | 409 | 422 | 500, _) => {
            DeployError::Refused { object, why: status.message.trim().to_owned() }
        }
        (code, _) => DeployError::Api {
            doing: format!("apply {object}"),
            why: format!("the server answers {code}: {}", status.message.trim()),
        },
    }
}

/// The name in `conflict with "kubectl" with subresource "scale" using apps/v1`.
fn manager(message: &str) -> String {
    message.split('"').nth(1).unwrap_or(message).to_owned()
}

/// Deletes a Pod and waits until its name is free.
async fn remove(
    api: &Api<DynamicObject>,
    object: &Object,
    existing: &DynamicObject,
    on: &Cluster,
    deadline: Instant,
) -> Result<(), DeployError> {
    let uid = existing.uid();
    if existing.metadata.deletion_timestamp.is_none() {
        let only_this = kube::api::Preconditions { uid: uid.clone(), resource_version: None };
        let parameters = DeleteParams::default().preconditions(only_this);
        let request = async {
            match api.delete(&object.name, &parameters).await {
                Err(Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(|_| ()),
            }
        };
        on.answer(&format!("delete {object}"), request).await?;
    }
    loop {
        let now = on.answer(&format!("see {object}"), api.get_opt(&object.name)).await?;
        if now.is_none_or(|now| now.uid() != uid) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(DeployError::Api {
                doing: format!("replace {object}"),
                why: "the old pod has not ended in time".into(),
            });
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Whether applying changed nothing. A dry run keeps the version of what is there.
fn same(old: &DynamicObject, new: &DynamicObject) -> bool {
    old.resource_version() == new.resource_version()
        && old.data == new.data
        && old.metadata.labels == new.metadata.labels
        && old.metadata.annotations == new.metadata.annotations
}

fn before(old: &DynamicObject, new: &DynamicObject) -> Before {
    let changed = old.metadata.generation != new.metadata.generation;
    if !changed {
        return Before::default();
    }
    let mut before = Before::default();
    if let Ok(old) = old.clone().try_parse::<Deployment>() {
        before.stale_deadline =
            super::rollout::missed_deadline(&old).and_then(|c| c.last_update_time.clone());
    }
    if let (Ok(old), Ok(new)) = (old.clone().try_parse::<Pod>(), new.clone().try_parse::<Pod>()) {
        let image_of = |pod: &Pod, name: &str| -> Option<String> {
            let spec = pod.spec.as_ref()?;
            spec.containers.iter().find(|c| c.name == name)?.image.clone()
        };
        let statuses = old.status.as_ref().and_then(|status| status.container_statuses.clone());
        for status in statuses.into_iter().flatten() {
            if image_of(&old, &status.name) == image_of(&new, &status.name) {
                continue;
            }
            before.restarts.insert(status.name.clone(), status.restart_count);
            before.containers.insert(status.name, status.container_id.unwrap_or_default());
        }
    }
    before
}
