//! A cluster whose node is this machine: what is deployed really runs. And kiln
//! inside a cluster, which it knows by the files that a pod has.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{GREETING, Parts, context, get, parts, traces};
use crate::deploy::world::{self, world};
use crate::support::kiln::{Kiln, Output, program};
use crate::support::{root_only, skip};

/// A cluster with this machine as its node; ends when it is dropped.
struct Node {
    kube: PathBuf,
    kubeconfig: PathBuf,
    supervisor: Child,
}

impl Node {
    fn start() -> Result<Self, String> {
        let kube = world::kube()?;
        let mut supervisor = Command::new(&kube)
            .args(["up", "--node", "--attached"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", kube.display()))?;
        let mut path = String::new();
        let out = supervisor.stdout.take().ok_or("no output")?;
        BufReader::new(out).read_line(&mut path).map_err(|error| error.to_string())?;
        let node = Self { kube, kubeconfig: path.trim().into(), supervisor };
        if path.is_empty() {
            Err("the cluster with a node does not start".into())
        } else {
            Ok(node)
        }
    }

    #[track_caller]
    fn kubectl(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.kube);
        command.arg("kubectl").arg("--kubeconfig").arg(&self.kubeconfig).args(args);
        world::run(&mut command).unwrap_or_else(|why| panic!("kubectl {args:?}: {why}"))
    }

    fn deploy(&self, kiln: &Kiln, name: &str, image: &str, more: &str) -> Output {
        let line = format!("deploy --name {name} --image {image} --timeout 180s {more}");
        let call = kiln.args(line.split_whitespace());
        call.env("KUBECONFIG", &self.kubeconfig).run()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of its input is its signal.
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

#[test]
fn pods_that_really_run() {
    if !rustix::process::geteuid().is_root() {
        return root_only("this machine is made a node");
    }
    let Some(parts) = parts() else { return };
    let node = match Node::start() {
        Ok(node) => node,
        Err(why) => return skip(&why),
    };
    let kiln = parts.kiln();
    served(&parts, &kiln, &node);
    without_a_registry(&kiln, &node);
    // A crash is believed after several of them, half a minute each.
    std::thread::scope(|scope| {
        scope.spawn(|| crashing(&parts, &kiln, &node, "deployment"));
        scope.spawn(|| crashing(&parts, &kiln, &node, "pod"));
        scope.spawn(|| for_another_machine(&parts, &kiln, &node));
    });
    traces::none(&kiln);
}

fn served(parts: &Parts, kiln: &Kiln, node: &Node) {
    let hello = parts.hello();
    let done = node.deploy(kiln, "hello", &hello, "--port 8080 --replicas 2").success().text();
    assert!(done.starts_with("deployment/hello created, running\n"), "{done}");
    let pinned = done.lines().last().unwrap();
    let pods = node.kubectl(&["get", "pods", "-l", "app=hello", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert_eq!(pod["spec"]["containers"][0]["image"], pinned);
        let address = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap());
        let answer = get(&address);
        assert!(answer.contains(GREETING), "{answer}");
    }
    let done = node.deploy(kiln, "one", &hello, "--kind pod --port 8080").success().text();
    assert!(done.starts_with("pod/one created, running\n"), "{done}");
    let pod = node.kubectl(&["get", "pod", "one", "-o", "json"]);
    let pod: Value = serde_json::from_str(&pod).unwrap();
    assert!(get(&format!("{}:8080", pod["status"]["podIP"].as_str().unwrap())).contains(GREETING));
}

/// The image goes from the store to the node.
fn without_a_registry(kiln: &Kiln, node: &Node) {
    let folder = context(kiln, "own", "FROM busybox\nCMD [\"sleep\", \"1000\"]\n");
    let up = |more: &[&str]| {
        let call =
            kiln.args([&["up", "-t", "own", "--timeout", "180s"], more, &[&folder]].concat());
        call.env("KUBECONFIG", &node.kubeconfig).run()
    };
    let done = up(&[]).success();
    let lines = done.text();
    let pinned = lines.lines().last().unwrap().to_owned();
    assert!(lines.contains(&format!("\nserving {pinned}\ndeployment/own created, running\n")));
    let (addr, _) = pinned.split_once("/own@sha256:").unwrap();
    let done = done.says(&format!("`kiln serve --addr {addr}` goes on"));
    done.says("\"GET /v2/own/manifests/sha256:");
    assert!(std::net::TcpStream::connect(addr).is_err(), "{addr}");
    let pods = node.kubectl(&["get", "pods", "-l", "app=own", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(pods["items"][0]["spec"]["containers"][0]["image"], pinned);
    up(&["--serve", "0.0.0.0:0"]).failure(2).says("which is no address of a machine");
    kiln.fails(2, "up -t a.example/own --serve 127.0.0.1:0").says("is pushed, and not served");
}

fn crashing(parts: &Parts, kiln: &Kiln, node: &Node, kind: &str) {
    let text = "FROM busybox\nCMD echo starting; echo no configuration, giving up >&2; exit 3\n";
    let (folder, name) = (context(kiln, kind, text), parts.own(&format!("crash-{kind}")));
    kiln.args(["build", "--push", "-t", &name, &folder]).run().success();
    // The cluster counts it as available for the moment that it runs.
    let failed = node.deploy(kiln, "crash", &name, &format!("--kind {kind}")).failure(1);
    let failed = failed.says(&format!("the rollout of {kind}/crash failed"));
    let failed = failed.says("container crash: the container ended: exit code 3");
    failed.says("| starting").says("| no configuration, giving up");
}

fn for_another_machine(parts: &Parts, kiln: &Kiln, node: &Node) {
    // The other platform's image has a text where this one's has a shell.
    let text = "FROM busybox\nCMD [\"/bin/sh\"]\n";
    let (folder, name) = (context(kiln, "other", text), parts.own("other"));
    let other = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    kiln.args(["build", "--push", "--platform", other, "-t", &name, &folder]).run().success();
    let failed = node.deploy(kiln, "other", &name, "").failure(1);
    let failed = failed.says("the rollout of deployment/other failed");
    failed.says("the program is for another platform than the node's").says("--platform");
}

/// In a pod there is no kubeconfig but two variables, a token and an authority.
/// They lie in a mount namespace of the test's own.
#[test]
fn inside_a_cluster() {
    let Some(parts) = parts() else { return };
    let Some(world) = world() else { return };
    let kiln = parts.kiln();
    let image = format!("{}/library/busybox", parts.open);
    let space = world.namespace("inside");
    world.kubectl(&["create", "serviceaccount", "robot", "-n", &space]);
    let account = format!("--serviceaccount={space}:robot");
    world.kubectl(&["create", "rolebinding", "r", "--clusterrole=edit", &account, "-n", &space]);
    let token = world.kubectl(&["create", "token", "robot", "-n", &space]);
    let authority = world.object(&space, "configmap/kube-root-ca.crt");
    let folder = kiln.path("account");
    std::fs::create_dir(&folder).unwrap();
    for (file, text) in [
        ("token", token.trim()),
        ("ca.crt", authority["data"]["ca.crt"].as_str().unwrap()),
        ("namespace", &space),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let server = ["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"];
    let server = world.kubectl(&server);
    let (host, port) = server.strip_prefix("https://").unwrap().split_once(':').unwrap();

    let script = "mount -t tmpfs none /run
        mkdir -p /run/secrets/kubernetes.io
        cp -R \"$1\" /run/secrets/kubernetes.io/serviceaccount
        [ /var/run/secrets -ef /run/secrets ]
        shift
        exec \"$@\"";
    let mut call = kiln.program("unshare");
    if !rustix::process::geteuid().is_root() {
        call.command.arg("--map-root-user");
    }
    call.command.args(["--mount", "sh", "-euc", script, "sh"]).arg(&folder).arg(program());
    call.command.args(["deploy", "--name", "inside", "--image", &image]);
    let call = call.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port);
    let done = call.run().success().text();
    assert!(done.starts_with("deployment/inside created, running\n"), "{done}");
    let object = world.object(&space, "deployment/inside");
    assert_eq!(object["status"]["availableReplicas"], 1);
    traces::none(&kiln);
}
