//! A pinned image becomes what a cluster runs.
//!
//! [`roll_out`] writes the objects (made from a few words, or read from a
//! manifest whose images are replaced by the digest), applies them in order by
//! server-side apply as field manager `kiln`, and waits until the new pods
//! serve, or says why they will not.
//!
//! Promised: only a digest reaches the cluster, never a tag; nothing but the
//! matching `image` fields of a manifest is changed; a rollout counts as done
//! only by the status of the very generation that was applied; it fails at once
//! when waiting cannot help. Not done: building, pushing, undoing a rollout,
//! creating namespaces, deleting what a manifest no longer has.
//!
//! - `object` makes Deployments and Pods from a few words
//! - `manifest` reads YAML and replaces images
//! - `cluster` finds and reaches the API server
//! - `apply` hands objects over
//! - `rollout` and `trouble` judge what was seen, without any I/O
//! - `watch` sees, and `explain` asks for logs and events

mod apply;
mod cluster;
mod error;
mod explain;
mod manifest;
mod object;
mod rollout;
mod trouble;
mod watch;

use std::time::Duration;

pub use cluster::Cluster;
pub use error::{Cause, DeployError, FieldConflict};

use crate::diagnostic::Source;
use crate::progress::Progress;
use crate::reference::{Pinned, Reference};

/// Who kiln is among the owners of fields.
pub const FIELD_MANAGER: &str = "kiln";

/// What a simple workload becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Deployment,
    Pod,
}

/// A workload told in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simple {
    pub name: String,
    pub kind: Kind,
    /// Left to the cluster where it is `None`: one at first, later what others
    /// (an autoscaler) make of it. Only a Deployment has replicas.
    pub replicas: Option<u32>,
    pub port: Option<u16>,
    pub env: Vec<(String, String)>,
}

/// What is to run the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workload {
    Simple(Simple),
    /// The text of a YAML file, of one or more documents.
    Manifest(Source),
}

/// How to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRequest {
    pub workload: Workload,
    /// What the manifest calls the image: every container whose image has this
    /// registry and repository, whatever its tag, gets the digest.
    pub image_name: Reference,
    /// Otherwise the manifest's, otherwise that of the kubeconfig's context.
    pub namespace: Option<String>,
    /// How long to wait for a rollout in all.
    pub timeout: Duration,
    /// How long a trouble that may pass (a crash, a registry that does not
    /// answer, no room) is watched before it counts as failure.
    pub patience: Duration,
    /// Take over fields that others own.
    pub force_conflicts: bool,
    /// Delete and make anew a Pod that cannot be changed as asked.
    pub replace: bool,
    /// Let the cluster check everything and keep nothing.
    pub dry_run: bool,
}

impl DeployRequest {
    /// A request with the usual waits: ten minutes, thirty seconds of patience.
    #[must_use]
    pub fn new(workload: Workload, image_name: Reference) -> Self {
        Self {
            workload,
            image_name,
            namespace: None,
            timeout: Duration::from_secs(600),
            patience: Duration::from_secs(30),
            force_conflicts: false,
            replace: false,
            dry_run: false,
        }
    }
}

/// Which object is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

impl Object {
    /// `deployment/hello`, as kubectl takes it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

/// What applying did to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Created,
    Changed,
    Unchanged,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
        })
    }
}

/// An object that the cluster took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub object: Object,
    pub outcome: Outcome,
    /// Whether its rollout was awaited and is done. Objects that have none, such
    /// as a Service, and all objects of a dry run, were only applied.
    pub rolled_out: bool,
}

/// What was deployed, in the order of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub image: Pinned,
    pub applied: Vec<Applied>,
}

/// The objects as they would be applied, as YAML documents. Asks no cluster.
pub fn render(image: &Pinned, ask: &DeployRequest) -> Result<String, DeployError> {
    let documents = documents(image, ask)?;
    let mut text = String::new();
    for (at, document) in documents.iter().enumerate() {
        let mut value = document.value.clone();
        if let Some(namespace) = &ask.namespace
            && matches!(ask.workload, Workload::Simple(_))
        {
            value["metadata"]["namespace"] = namespace.as_str().into();
        }
        if at > 0 {
            text.push_str("---\n");
        }
        text.push_str(&manifest::write(&value)?);
    }
    Ok(text)
}

/// Applies the workload with the image and waits until it serves.
pub async fn roll_out(
    image: &Pinned,
    ask: &DeployRequest,
    on: &Cluster,
    progress: &Progress,
) -> Result<Rollout, DeployError> {
    let documents = documents(image, ask)?;
    let deadline = tokio::time::Instant::now() + ask.timeout;
    let task = progress.task(format!("applying to {}", on.address()));
    let mut handed = Vec::with_capacity(documents.len());
    for document in &documents {
        let one = apply::apply(document, ask, on, deadline).await?;
        task.line(
            crate::progress::Stream::Stdout,
            format!(
                "{} {}{}",
                one.object,
                one.outcome,
                if ask.dry_run { " (dry run)" } else { "" }
            ),
        );
        handed.push(one);
    }
    task.done();

    let awaited: Vec<bool> =
        handed.iter().map(|one| !ask.dry_run && rollout::Tracked::of(&one.object)).collect();
    let waits = handed
        .iter()
        .zip(&awaited)
        .filter(|&(_, &wait)| wait)
        .map(|(one, _)| watch::until_done(one, ask, on, deadline, progress));
    futures_util::future::try_join_all(waits).await?;

    let applied = handed
        .into_iter()
        .zip(awaited)
        .map(|(one, rolled_out)| Applied { object: one.object, outcome: one.outcome, rolled_out })
        .collect();
    Ok(Rollout { image: image.clone(), applied })
}

fn documents(image: &Pinned, ask: &DeployRequest) -> Result<Vec<manifest::Document>, DeployError> {
    match &ask.workload {
        Workload::Simple(simple) => Ok(vec![object::make(simple, image)?]),
        Workload::Manifest(source) => {
            let mut documents = manifest::read(source)?;
            manifest::pin(&mut documents, source, &ask.image_name, image)?;
            Ok(documents)
        }
    }
}
