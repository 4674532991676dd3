//! What is wrong with a pod, judged from its status alone.
//!
//! Reasons are the kubelet's and the scheduler's. What only somebody's edit can
//! mend fails at once; what may pass by itself has the caller's patience.
//! Containers are looked at in the order they start, init containers first.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::Cause;
use super::apply::Before;

/// How long a trouble may last until it is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Haste {
    /// Waiting cannot help.
    Now,
    /// A few seconds, for objects that come a moment later.
    Soon,
    /// It may pass: a registry that is away, a crash, no room.
    Patience,
    /// Nothing is wrong that the status shows; events may tell.
    Events,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) haste: Haste,
    pub(super) pod: String,
    pub(super) cause: Cause,
    /// Whether a container ran, so that its log may say more.
    pub(super) ran: bool,
}

/// The first trouble of a pod that is not ready.
pub(super) fn of(pod: &Pod, before: &Before) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let condition = |kind: &str| status.conditions.iter().flatten().find(|c| c.type_ == kind);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let found =
        |haste, container: Option<&str>, reason: &str, message: &str, hint: Option<&str>, ran| {
            Trouble {
                haste,
                pod: name.clone(),
                cause: Cause {
                    object: format!("pod/{name}"),
                    container: container.map(str::to_owned),
                    reason: reason.to_owned(),
                    message: message.trim().to_owned(),
                    log: Vec::new(),
                    hint: hint.map(str::to_owned),
                },
                ran,
            }
        };
    if condition("PodScheduled").is_some_and(|c| c.status == "False") {
        let c = condition("PodScheduled")?;
        let reason = c.reason.as_deref().unwrap_or("Unschedulable");
        let message = c.message.as_deref().unwrap_or_default();
        return Some(found(Haste::Patience, None, reason, message, None, false));
    }
    if condition("Ready").is_some_and(|c| c.status == "True") && before.containers.is_empty() {
        return None;
    }

    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    let mut starting = None;
    for container in containers {
        let name = Some(container.name.as_str());
        let restarts =
            container.restart_count - before.restarts.get(&container.name).copied().unwrap_or(0);
        let state = container.state.clone().unwrap_or_default();
        if let Some(waiting) = state.waiting {
            let reason = waiting.reason.unwrap_or_default();
            let message = waiting.message.unwrap_or_default();
            match waits(&reason, &message) {
                Some((haste, hint)) if reason != "CrashLoopBackOff" => {
                    return Some(found(haste, name, &reason, &message, hint, false));
                }
                Some(_) => return Some(crashed(container, &found)),
                None if restarts >= 2 => return Some(crashed(container, &found)),
                None => {
                    starting = starting.or_else(|| {
                        Some(found(Haste::Events, name, &reason, &message, None, false))
                    });
                }
            }
        } else if state.terminated.as_ref().is_some_and(|ended| ended.exit_code != 0)
            || (!container.ready && state.terminated.is_none() && restarts >= 2)
        {
            // An image changed in place ends the old container; that is no crash.
            let old = before.containers.get(&container.name);
            if old.is_none() || old != container.container_id.as_ref() {
                return Some(crashed(container, &found));
            }
        }
    }
    starting
}

type Found<'a> = dyn Fn(Haste, Option<&str>, &str, &str, Option<&str>, bool) -> Trouble + 'a;

/// A container that ended and is, or will be, started again.
fn crashed(container: &ContainerStatus, found: &Found<'_>) -> Trouble {
    let ended = container
        .state
        .as_ref()
        .and_then(|state| state.terminated.clone())
        .or_else(|| container.last_state.as_ref().and_then(|state| state.terminated.clone()));
    let name = Some(container.name.as_str());
    let Some(ended) = ended else {
        let message = format!("restarted {} times", container.restart_count);
        return found(Haste::Patience, name, "CrashLoopBackOff", &message, None, true);
    };
    let times = match container.restart_count {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        n => format!(", restarted {n} times"),
    };
    let exit = match (ended.exit_code, ended.signal) {
        (_, Some(signal)) if signal > 0 => format!("ended by signal {signal}"),
        (code, _) => format!("exit code {code}"),
    };
    match ended.reason.as_deref() {
        Some("OOMKilled") => {
            let message = format!("the container used more memory than its limit{times}");
            let hint = "raise resources.limits.memory, or make the program use less";
            found(Haste::Patience, name, "OOMKilled", &message, Some(hint), true)
        }
        Some("StartError") => {
            let message = ended.message.unwrap_or_default();
            found(Haste::Patience, name, "StartError", &message, Some(START), false)
        }
        Some("Error" | "Completed") | None => found(
            Haste::Patience,
            name,
            "the container ended",
            &format!("{exit}{times}"),
            None,
            true,
        ),
        Some(reason) => found(Haste::Patience, name, reason, &format!("{exit}{times}"), None, true),
    }
}

const START: &str = "check ENTRYPOINT and CMD: the program must be in the image and be executable";

/// What a waiting container's reason means; `None` is the usual way to start.
fn waits(reason: &str, message: &str) -> Option<(Haste, Option<&'static str>)> {
    Some(match reason {
        "" | "ContainerCreating" | "PodInitializing" => return None,
        "ErrImagePull" | "ImagePullBackOff" => pull(message),
        "InvalidImageName" => (Haste::Now, None),
        "ErrImageNeverPull" => {
            (Haste::Now, Some("the pod's imagePullPolicy is Never: set it to IfNotPresent"))
        }
        "CreateContainerConfigError" => {
            (Haste::Soon, Some("create the ConfigMap, Secret or key that is named"))
        }
        "RunContainerError" => (Haste::Patience, Some(START)),
        _ => (Haste::Patience, None),
    })
}

/// Why an image cannot be pulled. A missing platform ends in "not found" as
/// well, so it is looked for first.
fn pull(message: &str) -> (Haste, Option<&'static str>) {
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&[
        "no match for platform",
        "no matching manifest",
        "does not match the specified platform",
    ]) {
        (
            Haste::Now,
            Some("the image is not built for the node's platform: build it with --platform"),
        )
    } else if has(&[
        "401 unauthorized",
        "unauthorized:",
        "authentication required",
        "no basic auth",
    ]) {
        (
            Haste::Now,
            Some(
                "the cluster may not read the registry: add a pull secret to the pod's service account",
            ),
        )
    } else if has(&["403 forbidden", "denied", "authorization failed"]) {
        (Haste::Now, Some("the cluster's account may not read this repository"))
    } else if has(&["manifest unknown", "name unknown", "not found"]) {
        (
            Haste::Now,
            Some(
                "the registry that the cluster asks does not have this image: was it pushed there?",
            ),
        )
    } else if has(&["x509", "certificate", "tls:"]) {
        (Haste::Patience, Some("the nodes do not trust the registry's certificate"))
    } else if has(&["server gave http response to https client"]) {
        (
            Haste::Patience,
            Some(
                "the nodes ask the registry by HTTPS and it speaks HTTP: configure it as insecure there",
            ),
        )
    } else if has(&[
        "connection refused",
        "no such host",
        "timeout",
        "timed out",
        "no route to host",
    ]) {
        (
            Haste::Patience,
            Some(
                "the nodes do not reach the registry: its name or address must be valid there, not only here",
            ),
        )
    } else {
        (Haste::Patience, None)
    }
}

#[cfg(test)]
mod tests;
