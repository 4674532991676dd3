//! Deploying to a real API server, with real controllers.

#[path = "deploy_world.rs"]
pub(crate) mod world;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln::deploy::{Cluster, DeployError, Kind, Outcome, Simple, Workload, render, roll_out};
use kiln::diagnostic::Source;
use kiln::digest::{BlobDigest, Digest};
use kiln::progress::{Event, Progress};

use world::{asking, hello, world};

/// A progress that keeps its lines.
fn listening() -> (Progress, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&lines);
    let progress = Progress::new(move |event| match event {
        Event::Line { text, .. } | Event::Note(text) | Event::Warning(text) => {
            keep.lock().unwrap().push(text);
        }
        Event::Begin { .. }
        | Event::Transfer { .. }
        | Event::Resumed { .. }
        | Event::Waiting { .. }
        | Event::Bytes { .. }
        | Event::Causes { .. }
        | Event::End { .. }
        | Event::Totals(_)
        | Event::Transferred { .. } => {}
    });
    (progress, lines)
}

fn yaml(text: impl Into<Arc<str>>) -> Workload {
    Workload::Manifest(Source::new("k8s.yaml", text))
}

#[tokio::test]
async fn a_deployment_of_two_replicas_and_its_update() {
    let Some(world) = world() else { return };
    let space = world.namespace("replicas");
    let on = world.cluster().await;
    let first = world.push("hello", "first");
    let (progress, lines) = listening();

    let done = roll_out(&first, &hello(&space, &first), &on, &progress).await.unwrap();
    assert_eq!(done.applied.len(), 1);
    assert_eq!(done.applied[0].outcome, Outcome::Created);
    assert!(done.applied[0].rolled_out);
    let object = world.object(&space, "deployment/hello");
    assert_eq!(object["status"]["availableReplicas"], 2);
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], first.to_string());
    assert_eq!(container["ports"][0]["containerPort"], 8080);
    assert_eq!(container["env"][0]["value"], "yes");
    let said = lines.lock().unwrap().join("\n");
    assert!(said.contains("deployment/hello created"), "{said}");
    assert!(said.contains("deployment/hello: done"), "{said}");

    let again = roll_out(&first, &hello(&space, &first), &on, &progress).await.unwrap();
    assert_eq!(again.applied[0].outcome, Outcome::Unchanged);

    let second = world.push("hello", "second");
    assert_ne!(first, second);
    let changed = roll_out(&second, &hello(&space, &second), &on, &progress).await.unwrap();
    assert_eq!(changed.applied[0].outcome, Outcome::Changed);
    let pods = world.object(&space, "pods");
    let staying = pods["items"].as_array().unwrap().iter();
    let staying = staying.filter(|pod| pod["metadata"].get("deletionTimestamp").is_none());
    let images: Vec<_> = staying.map(|pod| pod["spec"]["containers"][0]["image"].clone()).collect();
    assert_eq!(images, [second.to_string(), second.to_string()]);
}

#[tokio::test]
async fn a_pod_and_the_change_of_its_image() {
    let Some(world) = world() else { return };
    let space = world.namespace("pod");
    let on = world.cluster().await;
    let (first, second) = (world.push("pod", "first"), world.push("pod", "second"));
    let simple = |port| Simple {
        name: "one".into(),
        kind: Kind::Pod,
        replicas: None,
        port,
        env: Vec::new(),
    };
    let ask = asking(&space, &first, Workload::Simple(simple(None)));
    let quiet = Progress::silent();

    let done = roll_out(&first, &ask, &on, &quiet).await.unwrap();
    assert_eq!(done.applied[0].outcome, Outcome::Created);
    let before = world.object(&space, "pod/one");
    assert_eq!(before["status"]["containerStatuses"][0]["ready"], true);

    // A pod's image may change; done is the new container, not the old one.
    let done = roll_out(&second, &ask, &on, &quiet).await.unwrap();
    assert_eq!(done.applied[0].outcome, Outcome::Changed);
    let after = world.object(&space, "pod/one");
    let id = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_ne!(id(&before), id(&after));
    assert_eq!(after["status"]["containerStatuses"][0]["image"], second.to_string());

    // Its port may not.
    let mut ask = asking(&space, &first, Workload::Simple(simple(Some(80))));
    let error = roll_out(&second, &ask, &on, &quiet).await.unwrap_err();
    assert!(matches!(error, DeployError::PodImmutable { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--replace"));
    ask.replace = true;
    let done = roll_out(&second, &ask, &on, &quiet).await.unwrap();
    assert_eq!(done.applied[0].outcome, Outcome::Created);
    let replaced = world.object(&space, "pod/one");
    assert_ne!(replaced["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(replaced["spec"]["containers"][0]["ports"][0]["containerPort"], 80);
}

#[tokio::test]
async fn a_manifest_gets_the_digest_and_keeps_the_rest() {
    let Some(world) = world() else { return };
    let space = world.namespace("manifest");
    let on = world.cluster().await;
    let image = world.push("team/app", "manifest");
    let name = world.image("team/app").name();
    let sidecar = world.push("sidecar", "manifest").to_string();
    let text = format!(
        r#"apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{level: "yes"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app, annotations: {{team: blue}}}}
spec:
  replicas: 1
  minReadySeconds: 1
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {{name: app, image: "{name}:whatever", args: ["-v"]}}
      - {{name: side, image: "{sidecar}"}}
---
apiVersion: v1
kind: Service
metadata: {{name: app}}
spec: {{selector: {{app: app}}, ports: [{{port: 80, targetPort: 8080}}]}}
"#
    );
    let ask = asking(&space, &image, yaml(text));
    let done = roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap();
    let paths: Vec<_> =
        done.applied.iter().map(|one| (one.object.path(), one.rolled_out)).collect();
    let expected =
        [("configmap/settings", false), ("deployment/app", true), ("service/app", false)];
    assert_eq!(paths, expected.map(|(path, waited)| (path.to_owned(), waited)));

    let object = world.object(&space, "deployment/app");
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!(spec["containers"][0]["image"], image.to_string());
    assert_eq!(spec["containers"][0]["args"][0], "-v");
    assert_eq!(spec["containers"][1]["image"], sidecar);
    assert_eq!(spec["terminationGracePeriodSeconds"], 5);
    assert_eq!(object["metadata"]["annotations"]["team"], "blue");
    assert_eq!(world.object(&space, "configmap/settings")["data"]["level"], "yes");

    // The text of a dry run is what kubectl would take for the same.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), render(&image, &ask).unwrap()).unwrap();
    let path = file.path().to_str().unwrap();
    let diff =
        world.kubectl(&["diff", "--server-side", "--field-manager=kiln", "-n", &space, "-f", path]);
    assert_eq!(diff, "");
}

#[tokio::test]
async fn an_image_that_is_not_there_fails_at_once() {
    let Some(world) = world() else { return };
    let space = world.namespace("absent");
    let on = world.cluster().await;
    let good = world.push("hello", "good");
    roll_out(&good, &hello(&space, &good), &on, &Progress::silent()).await.unwrap();

    let absent = world.image("hello").pin(BlobDigest(Digest::of(b"never pushed")));
    let (progress, lines) = listening();
    let error = roll_out(&absent, &hello(&space, &absent), &on, &progress).await.unwrap_err();
    let DeployError::Failed { cause, .. } = &error else { panic!("{error}") };
    assert!(matches!(cause.reason.as_str(), "ErrImagePull" | "ImagePullBackOff"), "{error}");
    assert!(cause.message.contains("not found"), "{error}");
    assert_eq!(cause.container.as_deref(), Some("hello"));
    assert!(error.to_string().contains("deployment/hello"), "{error}");
    assert!(error.hint().unwrap().contains("pushed"), "{:?}", error.hint());
    assert!(
        lines.lock().unwrap().join("\n").contains("ErrImagePull"),
        "it was said as it happened"
    );

    // The next good image mends it, whatever the pods of the bad one say.
    let better = world.push("hello", "better");
    roll_out(&better, &hello(&space, &better), &on, &Progress::silent()).await.unwrap();
}

#[tokio::test]
async fn a_crash_fails_after_patience() {
    let Some(world) = world() else { return };
    let space = world.namespace("crash");
    let on = world.cluster().await;
    let image = world.push("crash", "crash");
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: crash}}\nspec:\n  \
         selector: {{matchLabels: {{app: crash}}}}\n  template:\n    metadata: \
         {{labels: {{app: crash}}, annotations: {{kiln.test/exit-code: \"3\"}}}}\n    spec: \
         {{containers: [{{name: main, image: \"{}\"}}]}}\n",
        world.image("crash").name()
    );
    let mut ask = asking(&space, &image, yaml(text));
    ask.patience = Duration::from_secs(1);
    let error = roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, DeployError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("exit code 3"), "{error}");
    assert!(error.hint().unwrap().contains("kubectl rollout undo deployment/crash -n crash"));
}

#[tokio::test]
async fn pods_that_may_not_be_made_fail_at_once() {
    let Some(world) = world() else { return };
    let space = world.namespace("quota");
    world.kubectl(&["create", "quota", "none", "--hard=pods=0", "-n", &space]);
    let on = world.cluster().await;
    let image = world.push("hello", "quota");
    let error =
        roll_out(&image, &hello(&space, &image), &on, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("exceeded quota"), "{error}");
}

#[tokio::test]
async fn no_room_until_the_time_is_up() {
    let Some(world) = world() else { return };
    let space = world.namespace("room");
    let on = world.cluster().await;
    let image = world.push("big", "big");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: big}}\nspec: {{containers: [{{name: main, \
         image: \"{}\", resources: {{requests: {{cpu: 1000}}}}}}]}}\n",
        world.image("big").name()
    );
    let mut ask = asking(&space, &image, yaml(text));
    ask.timeout = Duration::from_secs(2);
    let error = roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, DeployError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("Insufficient cpu"), "{error}");
}

#[tokio::test]
async fn fields_of_others_are_named() {
    let Some(world) = world() else { return };
    let space = world.namespace("conflict");
    let on = world.cluster().await;
    let image = world.push("hello", "conflict");
    let mut ask = hello(&space, &image);
    roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap();
    world.kubectl(&["scale", "deployment/hello", "--replicas=3", "-n", &space]);

    let error = roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap_err();
    let DeployError::Conflict { fields, .. } = &error else { panic!("{error}") };
    assert_eq!(fields.len(), 1);
    assert_eq!(
        (fields[0].manager.as_str(), fields[0].field.as_str()),
        ("kubectl", ".spec.replicas")
    );
    assert!(error.hint().unwrap().contains("--force-conflicts"));

    ask.force_conflicts = true;
    roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap();
    assert_eq!(world.object(&space, "deployment/hello")["spec"]["replicas"], 2);
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let Some(world) = world() else { return };
    let space = world.namespace("refused");
    let on = world.cluster().await;
    let image = world.push("hello", "refused");
    let quiet = Progress::silent();

    let error = roll_out(&image, &hello("nowhere", &image), &on, &quiet).await.unwrap_err();
    assert!(matches!(error, DeployError::NamespaceMissing { .. }), "{error}");
    assert!(error.hint().unwrap().contains("kubectl create namespace nowhere"));

    let name = world.image("hello").name();
    let pod = format!("spec: {{containers: [{{name: a, image: \"{name}\"}}]}}\n");
    for (text, expected) in [
        (
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: a, image: \"{name}\", imagee: b}}]}}\n"
            ),
            "imagee",
        ),
        (format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: A_b}}\n{pod}"), "A_b"),
        (
            format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: other}}\n{pod}"),
            "`other`",
        ),
        (
            format!(
                "apiVersion: v1\nkind: Pdo\nmetadata: {{name: b}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n{pod}"
            ),
            "knows no Pdo of v1 (k8s.yaml, document 1)",
        ),
        (
            format!(
                "apiVersion: apps/v9\nkind: Deployment\nmetadata: {{name: b}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n{pod}"
            ),
            "knows no Deployment of apps/v9",
        ),
    ] {
        let ask = asking(&space, &image, yaml(text));
        let error = roll_out(&image, &ask, &on, &quiet).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_dry_run_keeps_nothing() {
    let Some(world) = world() else { return };
    let space = world.namespace("dry");
    let on = world.cluster().await;
    let image = world.push("hello", "dry");
    let mut ask = hello(&space, &image);
    ask.dry_run = true;
    let done = roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap();
    assert_eq!(done.applied[0].outcome, Outcome::Created);
    assert!(!done.applied[0].rolled_out);
    assert_eq!(world.kubectl(&["get", "deployments", "-n", &space, "-o", "name"]), "");
}

#[tokio::test]
async fn an_account_of_few_rights() {
    let Some(world) = world() else { return };
    let space = world.namespace("rights");
    world.kubectl(&["create", "serviceaccount", "robot", "-n", &space]);
    let token = world.kubectl(&["create", "token", "robot", "-n", &space]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::copy(&world.kubeconfig, &config).unwrap();
    let token = format!("--token={}", token.trim());
    world.kubectl_as(&config, &["config", "set-credentials", "robot", &token]);
    world
        .kubectl_as(&config, &["config", "set-context", "robot", "--cluster=kube", "--user=robot"]);
    let on = Cluster::connect(Some(&config), Some("robot")).await.unwrap();
    let image = world.push("hello", "rights");
    let ask = hello(&space, &image);

    let error = roll_out(&image, &ask, &on, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, DeployError::Forbidden { .. }), "{error}");
    assert!(error.to_string().contains("system:serviceaccount:rights:robot"), "{error}");

    // Without a look at pods it still sees the end.
    let verbs = "--verb=get,list,watch,create,patch";
    world.kubectl(&["create", "role", "deployer", verbs, "--resource=deployments", "-n", &space]);
    let robot = "--serviceaccount=rights:robot";
    world.kubectl(&["create", "rolebinding", "deployer", "--role=deployer", robot, "-n", &space]);
    let (progress, lines) = listening();
    roll_out(&image, &ask, &on, &progress).await.unwrap();
    let said = lines.lock().unwrap().join("\n");
    assert!(said.contains("not permitted to list the pods"), "{said}");

    let bad = folder.path().join("bad");
    std::fs::copy(&config, &bad).unwrap();
    world.kubectl_as(&bad, &["config", "set-credentials", "robot", "--token=nonsense"]);
    let error = Cluster::connect(Some(&bad), Some("robot")).await.unwrap_err();
    assert!(matches!(error, DeployError::Unauthorized { .. }), "{error}");
}

fn kubeconfig(server: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: \
         {{cluster: a, user: a}}}}]\nclusters: [{{name: a, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: a, user: {{}}}}]\n"
    );
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn clusters_that_do_not_answer() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Nobody listens; then somebody does, and never says a word.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = (mute.local_addr().unwrap(), mute);
    for (server, why) in [
        (format!("https://{closed}"), "refused"),
        (format!("https://{}", mute.0), ""),
        (format!("http://{}", mute.0), "no answer"),
        ("https://no-such-host.invalid:6443".into(), ""),
    ] {
        let file = kubeconfig(&server);
        let error = Cluster::connect(Some(file.path()), None).await.unwrap_err();
        let DeployError::Unreachable { address, why: told } = &error else { panic!("{error}") };
        assert_eq!(*address, server);
        assert!(told.to_lowercase().contains(why), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn kubeconfigs_that_do_not_serve() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = kubeconfig("https://127.0.0.1:1");
    let error = Cluster::connect(Some(file.path()), Some("b")).await.unwrap_err();
    assert!(matches!(error, DeployError::NoContext { .. }), "{error}");
    assert_eq!(error.hint().unwrap(), "it has: a");

    std::fs::write(file.path(), "clusters: [").unwrap();
    let error = Cluster::connect(Some(file.path()), None).await.unwrap_err();
    assert!(matches!(error, DeployError::Kubeconfig { .. }), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let error = Cluster::connect(Some(&folder.path().join("absent")), None).await.unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}
