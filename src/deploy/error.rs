//! Why a deployment did not come about.

use std::path::PathBuf;
use std::time::Duration;

use super::Object;
use crate::net::Offline;

/// A container's or pod's trouble, as the cluster tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `pod/hello-5f78b48898-bvh6l`, or the workload itself.
    pub object: String,
    pub container: Option<String>,
    /// The cluster's word: `ErrImagePull`, `CrashLoopBackOff`, `Unschedulable`.
    pub reason: String,
    /// The cluster's sentence.
    pub message: String,
    /// The last lines of the log of the container that ended.
    pub log: Vec<String>,
    pub hint: Option<String>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.object)?;
        if let Some(container) = &self.container {
            write!(f, ", container {container}")?;
        }
        write!(f, ": {}", self.reason)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for line in &self.log {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldConflict {
    pub manager: String,
    pub field: String,
}

impl std::fmt::Display for FieldConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} belongs to `{}`", self.field, self.manager)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(transparent)]
    Offline(#[from] Offline),

    #[error("cannot use the kubeconfig{}: {why}", at(.path.as_ref()))]
    Kubeconfig { path: Option<PathBuf>, why: String },

    #[error("there is no context `{name}` in the kubeconfig{}", at(.path.as_ref()))]
    NoContext { name: String, path: Option<PathBuf>, known: Vec<String> },

    #[error("no cluster is configured: {kubeconfig}; {in_cluster}")]
    NoCluster { kubeconfig: String, in_cluster: String },

    #[error("cannot reach the cluster at {address}: {why}")]
    Unreachable { address: String, why: String },

    #[error("the cluster at {address} does not accept the credentials: {why}")]
    Unauthorized { address: String, why: String },

    #[error("not permitted to {doing}: {why}")]
    Forbidden { doing: String, why: String },

    #[error("namespace `{namespace}` does not exist (needed for {object})")]
    NamespaceMissing { namespace: String, object: Object },

    #[error("{object} is in namespace `{written}`, but `{asked}` was asked for")]
    NamespaceDiffers { object: Box<Object>, written: String, asked: String },

    #[error("the cluster knows no {kind} of {api_version} ({file}, document {document})")]
    UnknownKind { api_version: String, kind: String, file: String, document: usize },

    #[error("{what} `{value}` is not valid: {why}")]
    Invalid { what: &'static str, value: String, why: &'static str },

    #[error("{file}, document {document}{}: {why}", .line.map_or(String::new(), |n| format!(", line {n}")))]
    Manifest { file: String, document: usize, line: Option<usize>, why: String },

    #[error("no container in {file} uses the image {wanted}; {}", found_images(.found))]
    ImageNotUsed { file: String, wanted: String, found: Vec<String> },

    #[error("{object} was not applied, others own its fields: {}", list(.fields))]
    Conflict { object: Object, fields: Vec<FieldConflict> },

    #[error("the cluster refuses {object}: {why}")]
    Refused { object: Object, why: String },

    #[error("{object} exists, and what is to change cannot be changed in a running pod: {why}")]
    PodImmutable { object: Object, why: String },

    #[error("{object} exists and has ended ({phase}); it will not start again")]
    PodEnded { object: Object, phase: String },

    #[error("{object} was deleted while its rollout was awaited")]
    Deleted { object: Object },

    #[error("the rollout of {object} failed: {cause}")]
    Failed { object: Object, cause: Box<Cause> },

    #[error("{object} was not rolled out within {}s ({state}){}", .after.as_secs(), because(.cause.as_deref()))]
    TimedOut { object: Box<Object>, after: Duration, state: String, cause: Option<Box<Cause>> },

    #[error("cannot {doing}: {why}")]
    Api { doing: String, why: String },
}

impl DeployError {
    /// What to try, if that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Kubeconfig { .. } => {
                Some("name another with --kubeconfig or the variable KUBECONFIG".into())
            }
            Self::NoContext { known, .. } if known.is_empty() => None,
            Self::NoContext { known, .. } => Some(format!("it has: {}", known.join(", "))),
            Self::NoCluster { .. } => Some(
                "name a kubeconfig with --kubeconfig or the variable KUBECONFIG, or run inside a pod"
                    .into(),
            ),
            Self::Unreachable { why, .. } => Some(unreachable_hint(why).into()),
            Self::Unauthorized { .. } => {
                Some("log in to the cluster again, or choose another --context".into())
            }
            Self::Forbidden { .. } => Some(
                "a rollout needs the rights get, list, watch and patch on what it applies, and list \
                 and watch on pods and replicasets"
                    .into(),
            ),
            Self::NamespaceMissing { namespace, .. } => Some(format!(
                "create it with `kubectl create namespace {namespace}`, or choose one with --namespace"
            )),
            Self::NamespaceDiffers { .. } => {
                Some("leave out --namespace, or remove the namespace from the manifest".into())
            }
            Self::UnknownKind { .. } => Some(
                "check apiVersion and kind; a custom resource needs its definition installed first"
                    .into(),
            ),
            Self::ImageNotUsed { wanted, .. } => Some(format!(
                "write `image: {wanted}` in the container that is to run it; the digest is put in its place"
            )),
            Self::Conflict { .. } => Some(
                "leave these fields out, or take them over with --force-conflicts".into(),
            ),
            Self::PodImmutable { object, .. } | Self::PodEnded { object, .. } => Some(format!(
                "replace it with --replace, or delete it first: kubectl delete {}{}",
                object.path(),
                object.namespace.as_ref().map_or(String::new(), |n| format!(" -n {n}")),
            )),
            Self::Failed { object, cause } => cause.hint.clone().or_else(|| undo(object)),
            Self::TimedOut { object, cause, .. } => {
                cause.as_ref().and_then(|cause| cause.hint.clone()).or_else(|| undo(object))
            }
            Self::Offline(_)
            | Self::Invalid { .. }
            | Self::Manifest { .. }
            | Self::Refused { .. }
            | Self::Deleted { .. }
            | Self::Api { .. } => None,
        }
    }
}

fn undo(object: &Object) -> Option<String> {
    let namespace = object.namespace.as_ref().map_or(String::new(), |n| format!(" -n {n}"));
    (object.kind != "Pod").then(|| {
        format!("to go back to what ran before: kubectl rollout undo {}{namespace}", object.path())
    })
}

fn unreachable_hint(why: &str) -> &'static str {
    let why = why.to_lowercase();
    if why.contains("certificate") || why.contains("tls") {
        "the server's certificate is not signed by the authority in the kubeconfig, or the address is \
         that of another server"
    } else if why.contains("lookup") || why.contains("dns") || why.contains("resolve") {
        "the name is not known here: check the address in the kubeconfig, VPN and DNS"
    } else {
        "check that the cluster runs, that a VPN or proxy leads to it, and that --context is the one \
         you mean"
    }
}

fn at(path: Option<&PathBuf>) -> String {
    path.map_or(String::new(), |path| format!(" {}", path.display()))
}

fn because(cause: Option<&Cause>) -> String {
    cause.map_or(String::new(), |cause| format!(": {cause}"))
}

fn list(fields: &[FieldConflict]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn found_images(found: &[String]) -> String {
    if found.is_empty() {
        "it names no image at all".into()
    } else {
        format!("it uses {}", found.join(", "))
    }
}
