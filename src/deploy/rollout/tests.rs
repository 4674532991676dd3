use serde_json::{Value, json};

use super::*;

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/testdata/deploy/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// As an item of a list has it: without its kind.
fn tracked(mut value: Value) -> Tracked {
    let mut take =
        |key| value.as_object_mut().unwrap().remove(key).unwrap().as_str().unwrap().to_owned();
    let of = Object {
        api_version: take("apiVersion"),
        kind: take("kind"),
        name: value["metadata"]["name"].as_str().unwrap().to_owned(),
        namespace: None,
    };
    Tracked::read(&of, serde_json::from_value(value).unwrap()).unwrap()
}

/// A Deployment that is done, with some fields put differently.
fn deployment_with(changes: &[(&str, Value)]) -> Tracked {
    let mut value: Value = read("deployment-done");
    for (path, new) in changes {
        let (parent, key) = path.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = new.clone();
    }
    tracked(value)
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Done => "done".into(),
        Verdict::Waiting(state) => state.clone(),
        Verdict::Failed(cause) => format!("failed: {}", cause.reason),
        Verdict::Late(cause) => format!("late: {}", cause.reason),
    }
}

fn condition(kind: &str, status: &str, reason: &str, time: &str) -> Value {
    json!([{"type": kind, "status": status, "reason": reason, "message": "m", "lastUpdateTime": time}])
}

#[test]
fn deployments() {
    let late =
        || condition("Progressing", "False", "ProgressDeadlineExceeded", "2026-01-01T00:00:00Z");
    let quota = || condition("ReplicaFailure", "True", "FailedCreate", "2026-01-01T00:00:00Z");
    for (changes, expected) in [
        (vec![], "done"),
        (vec![("/status", json!({}))], "the change has not been noticed yet"),
        (vec![("/status/observedGeneration", json!(1))], "the change has not been noticed yet"),
        (
            vec![("/status/updatedReplicas", json!(1))],
            "1 of 2 updated, 2 available, 1 old still there",
        ),
        (vec![("/status/replicas", json!(3))], "2 of 2 updated, 2 available, 1 old still there"),
        (vec![("/status/availableReplicas", json!(1))], "2 of 2 updated, 1 available"),
        (vec![("/spec/replicas", json!(3))], "2 of 3 updated, 2 available"),
        (vec![("/spec/replicas", json!(0)), ("/status", json!({"observedGeneration": 2}))], "done"),
        (vec![("/status/conditions", quota())], "failed: FailedCreate"),
        (
            vec![("/status/updatedReplicas", json!(1)), ("/status/conditions", late())],
            "late: ProgressDeadlineExceeded",
        ),
        (
            vec![("/status/updatedReplicas", json!(1)), ("/spec/paused", json!(true))],
            "failed: Paused",
        ),
    ] {
        let verdict = deployment_with(&changes).judge("deployment/web", 2, &Before::default());
        assert_eq!(word(&verdict), expected, "{changes:?}");
    }
}

#[test]
fn a_missed_deadline_of_the_past_proves_nothing() {
    let late = |time: &str| condition("Progressing", "False", "ProgressDeadlineExceeded", time);
    let seen = |time: &str| {
        deployment_with(&[
            ("/status/updatedReplicas", json!(1)),
            ("/status/conditions", late(time)),
        ])
    };
    let Tracked::Deployment(old) = seen("2026-01-01T00:00:00Z") else { panic!("not a Deployment") };
    let stale_deadline = missed_deadline(&old).unwrap().last_update_time.clone();
    let before = Before { stale_deadline, ..Before::default() };
    let verdict = |time| word(&seen(time).judge("deployment/web", 2, &before));
    assert_eq!(verdict("2026-01-01T00:00:00Z"), "1 of 2 updated, 2 available, 1 old still there");
    assert_eq!(verdict("2026-01-01T00:10:01Z"), "late: ProgressDeadlineExceeded");
}

#[test]
fn only_pods_of_the_present_template_count() {
    let Tracked::Deployment(object) = deployment_with(&[]) else { panic!("not a Deployment") };
    let sets: Vec<ReplicaSet> = read("replicasets");
    let set = newest_set(&object, &sets).unwrap();
    let pods: Vec<Pod> = sets
        .iter()
        .map(|set| {
            let name = set.metadata.name.clone().unwrap();
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{name}-x"), "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "controller": true,
                    "uid": set.metadata.uid,
                }]},
            }))
            .unwrap()
        })
        .collect();
    let seen = Tracked::Deployment(object).newest(&sets, &pods);
    let names: Vec<_> = seen.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, [format!("{}-x", set.metadata.name.clone().unwrap())]);
    // A template that no set has yet: the old pods' troubles are not ours.
    let image = "/spec/template/spec/containers";
    let changed = deployment_with(&[(image, json!([{"name": "web", "image": "r/new:1"}]))]);
    assert!(changed.newest(&sets, &pods).is_empty());
}

#[test]
fn other_controllers() {
    let set = |status: Value, strategy: &str| {
        tracked(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "generation": 2},
            "spec": {"replicas": 2, "updateStrategy": {"type": strategy}}, "status": status,
        }))
    };
    let daemon = |status: Value| {
        tracked(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "log", "generation": 2},
            "spec": {}, "status": status,
        }))
    };
    let mixed = json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 1,
        "currentRevision": "a", "updateRevision": "b"});
    let same = json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2,
        "currentRevision": "b", "updateRevision": "b"});
    let spread = |updated: i32, available: i32| {
        json!({"observedGeneration": 2, "desiredNumberScheduled": 3,
            "updatedNumberScheduled": updated, "numberAvailable": available,
            "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": available})
    };
    for (object, expected) in [
        (set(same.clone(), "RollingUpdate"), "done"),
        (set(mixed.clone(), "RollingUpdate"), "1 of 2 updated, 2 ready"),
        (set(mixed, "OnDelete"), "failed: OnDelete"),
        (
            set(json!({"observedGeneration": 1}), "RollingUpdate"),
            "the change has not been noticed yet",
        ),
        (daemon(spread(3, 3)), "done"),
        (daemon(spread(2, 3)), "2 of 3 updated, 3 available"),
        (daemon(spread(3, 1)), "3 of 3 updated, 1 available"),
    ] {
        assert_eq!(word(&object.judge("x/y", 2, &Before::default())), expected);
    }
}

#[test]
fn bare_pods() {
    let seen = |phase: &str, ready: &str, id: &str| {
        tracked(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "generation": 1},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "main", "image": "i", "imageID": "i", "ready": true,
                    "restartCount": 0, "containerID": id}]},
        }))
    };
    let mut before = Before::default();
    before.containers.insert("main".into(), "containerd://old".into());
    for (object, before, expected) in [
        (seen("Running", "True", "containerd://old"), &Before::default(), "done"),
        (seen("Running", "False", "containerd://old"), &Before::default(), "running, not ready"),
        (seen("Succeeded", "False", ""), &Before::default(), "done"),
        (seen("Failed", "False", ""), &Before::default(), "failed: Failed"),
        (
            seen("Running", "True", "containerd://old"),
            &before,
            "the old container has not been replaced yet",
        ),
        (seen("Running", "True", "containerd://new"), &before, "done"),
    ] {
        assert_eq!(word(&object.judge("pod/a", 1, before)), expected);
    }
}
