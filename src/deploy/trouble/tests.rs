use serde_json::Value;

use super::*;

fn pod(name: &str) -> Pod {
    let path = format!("{}/testdata/deploy/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The haste, what is said, and whether a log is worth asking for.
#[test]
fn what_pods_tell() {
    for (name, haste, reason, said, log) in [
        ("pod-image-absent", Haste::Now, "ErrImagePull", "not found", false),
        ("pod-image-absent-later", Haste::Now, "ImagePullBackOff", "not found", false),
        ("pod-other-platform", Haste::Now, "ImagePullBackOff", "no match for platform", false),
        ("pod-login-needed", Haste::Now, "ImagePullBackOff", "401 Unauthorized", false),
        ("pod-registry-away", Haste::Patience, "ErrImagePull", "connection refused", false),
        ("pod-config-missing", Haste::Soon, "CreateContainerConfigError", "\"absent\"", false),
        ("pod-crash", Haste::Patience, "the container ended", "exit code 3, restarted 2", true),
        ("pod-crash-restarted", Haste::Patience, "the container ended", "exit code 3", true),
        ("pod-oom", Haste::Patience, "OOMKilled", "memory", true),
        ("pod-start-error", Haste::Patience, "RunContainerError", "no such file", false),
        ("pod-unschedulable", Haste::Patience, "Unschedulable", "Insufficient cpu", false),
        ("pod-starting", Haste::Events, "ContainerCreating", "", false),
        ("pod-init-crash", Haste::Patience, "the container ended", "exit code 1", true),
    ] {
        let trouble = of(&pod(name), &Before::default()).unwrap_or_else(|| panic!("{name}: none"));
        assert_eq!((trouble.haste, trouble.cause.reason.as_str()), (haste, reason), "{name}");
        assert!(trouble.cause.message.contains(said), "{name}: {}", trouble.cause.message);
        assert_eq!(trouble.ran, log, "{name}");
    }
    for name in ["pod-ready", "pod-not-ready"] {
        assert_eq!(of(&pod(name), &Before::default()), None, "{name}");
    }
}

#[test]
fn init_containers_come_first() {
    let trouble = of(&pod("pod-init-crash"), &Before::default()).unwrap();
    assert_eq!(trouble.cause.container.as_deref(), Some("migrate"));
}

#[test]
fn restarts_of_others_are_not_ours() {
    let mut before = Before::default();
    before.restarts.insert("main".into(), 2);
    before.containers.insert("main".into(), "containerd://old".into());
    let mut crashed = pod("pod-crash-restarted");
    assert_eq!(of(&crashed, &before), None, "both restarts were before the change");
    let statuses = crashed.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
    statuses[0].restart_count += 2;
    assert!(of(&crashed, &before).is_some());
}

#[test]
fn pulls() {
    for (message, haste) in [
        ("no match for platform in manifest: not found", Haste::Now),
        ("failed to resolve reference \"r/a:b\": r/a:b: not found", Haste::Now),
        ("manifest unknown", Haste::Now),
        ("pull access denied, repository does not exist", Haste::Now),
        ("unexpected status from HEAD request: 403 Forbidden", Haste::Now),
        ("unexpected status: 500 Internal Server Error", Haste::Patience),
        ("dial tcp 10.0.0.1:443: i/o timeout", Haste::Patience),
        ("lookup registry.test: no such host", Haste::Patience),
        ("x509: certificate signed by unknown authority", Haste::Patience),
        ("Back-off pulling image \"r/a401:403\"", Haste::Patience),
    ] {
        assert_eq!(pull(message).0, haste, "{message}");
    }
}

#[test]
fn a_pod_without_status_is_only_young() {
    let young: Pod = serde_json::from_value(serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": Value::Null
    }))
    .unwrap();
    assert_eq!(of(&young, &Before::default()), None);
}
