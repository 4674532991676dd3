//! Logs and events: asked for when something is wrong, to say why.
//!
//! Both are best effort (events expire and are merged, logs may need a right
//! that applying does not), so nothing here fails: what cannot be had is left
//! out.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, LogParams};

use super::trouble::Trouble;
use super::{Cause, Cluster};

/// An explanation is not worth waiting longer for.
const WAIT: Duration = Duration::from_secs(5);
/// Lines of a log that are shown.
const LINES: i64 = 10;

/// The trouble's cause, with the log of the container or the runtime's own words.
pub(super) async fn cause(trouble: Trouble, on: &Cluster, namespace: &str) -> Cause {
    let Trouble { mut cause, pod, ran, .. } = trouble;
    if ran && let Some(container) = cause.container.clone() {
        cause.log = log(on, namespace, &pod, &container).await;
        if cause.log.iter().any(|line| line.to_lowercase().contains("exec format error")) {
            cause.hint = Some(
                "the program is for another platform than the node's: build the image with --platform"
                    .into(),
            );
        }
    }
    // Older kubelets repeat only the image's name between two tries.
    if cause.reason == "ImagePullBackOff" && !cause.message.contains("ErrImagePull:") {
        let events = events(on, namespace, &pod).await;
        let told = events.iter().rev().filter(|event| event.reason.as_deref() == Some("Failed"));
        let mut told = told.filter_map(|event| event.message.clone());
        if let Some(message) = told.find(|message| message.starts_with("Failed to pull image")) {
            cause.message = message;
        }
    }
    cause
}

/// The last lines of the container that ended: the previous one, if it was
/// started again since.
async fn log(on: &Cluster, namespace: &str, pod: &str, container: &str) -> Vec<String> {
    let pods: Api<Pod> = Api::namespaced(on.client(), namespace);
    for previous in [true, false] {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            previous,
            tail_lines: Some(LINES),
            limit_bytes: Some(16 * 1024),
            ..Default::default()
        };
        if let Ok(Ok(text)) = tokio::time::timeout(WAIT, pods.logs(pod, &parameters)).await
            && is_log(&text)
        {
            return text.lines().map(printable).collect();
        }
    }
    Vec::new()
}

/// False for nothing, and for what a kubelet answers, with status 200, about a
/// container that it has cleared away.
fn is_log(text: &str) -> bool {
    !text.trim().is_empty() && !text.starts_with("unable to retrieve container logs for ")
}

/// A program's output goes to a terminal: nothing in it may steer that.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control() || *c == '\t').take(400).collect()
}

/// A pod's events, oldest first.
pub(super) async fn events(on: &Cluster, namespace: &str, pod: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(on.client(), namespace);
    let fields = format!("involvedObject.kind=Pod,involvedObject.name={pod}");
    let asked = tokio::time::timeout(WAIT, api.list(&ListParams::default().fields(&fields))).await;
    let mut events = match asked {
        Ok(Ok(list)) => list.items,
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    events.sort_by_key(time);
    events
}

fn time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    series
        .map(|time| time.0)
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// What keeps a pod from starting that shows in no status: a volume that cannot
/// be mounted, a network that cannot be made. Any later progress outdates it.
pub(super) fn blocked(events: &[Event]) -> Option<(String, String)> {
    let mut found = None;
    for event in events {
        match event.reason.as_deref().unwrap_or_default() {
            reason @ ("FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox") => {
                found = Some((reason.to_owned(), event.message.clone().unwrap_or_default()));
            }
            "Pulling" | "Pulled" | "Created" | "Started" => found = None,
            _ => {}
        }
    }
    found
}

/// The newest warning: why a running pod is not ready, for one.
pub(super) fn warning(events: &[Event]) -> Option<(String, String)> {
    let newest = events.iter().rev().find(|event| event.type_.as_deref() == Some("Warning"))?;
    Some((newest.reason.clone().unwrap_or_default(), newest.message.clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, reason: &str, at: i64) -> Event {
        Event {
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            message: Some(format!("{reason} at {at}")),
            event_time: Timestamp::from_second(at)
                .ok()
                .map(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime),
            ..Default::default()
        }
    }

    #[test]
    fn what_events_say() {
        let mount = event("Warning", "FailedMount", 5);
        let pulling = event("Normal", "Pulling", 7);
        assert_eq!(
            blocked(&[event("Normal", "Scheduled", 1), mount.clone()]).unwrap().0,
            "FailedMount"
        );
        assert_eq!(blocked(&[mount.clone(), pulling.clone()]), None, "it was mounted after all");
        assert_eq!(warning(&[mount.clone(), pulling]).unwrap().1, "FailedMount at 5");
        assert_eq!(warning(&[]), None);
        assert!(time(&mount) > time(&event("Warning", "x", 4)));
    }

    #[test]
    fn what_is_no_log() {
        for (text, log) in [
            ("", false),
            (" \n", false),
            ("unable to retrieve container logs for containerd://36ac42", false),
            ("starting\nunable to retrieve container logs for x\n", true),
        ] {
            assert_eq!(is_log(text), log, "{text:?}");
        }
    }

    #[test]
    fn logs_do_not_steer_terminals() {
        assert_eq!(printable("a\u{1b}[2Jb\tc\r"), "a[2Jb\tc");
    }
}
