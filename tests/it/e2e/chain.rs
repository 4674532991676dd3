//! From a Dockerfile to a rollout, each joint seen by somebody else.

use serde_json::Value;

use super::{
    GREETING, Parts, Port8080, context, free_port, get, namespace, parts, testdata, traces,
};
use crate::deploy::world::{World, world};
use crate::support::kiln::{Kiln, Output};
use crate::support::registry::{oci, skopeo};

#[test]
fn from_a_dockerfile_to_a_rollout() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    let name = format!("{}/chain/hello-{}", parts.closed, std::process::id());

    let built = kiln.args(["build", "-t", &name, &testdata("hello-go")]).run().success().text();
    let digest = built.trim();
    let refused = kiln.fails(1, &format!("push {name}")).says("asks for a login");
    refused.says(&format!("kiln login {}", parts.closed));
    parts.log_in(&kiln);
    let pinned = format!("{name}@{digest}");
    assert_eq!(kiln.ok(&format!("push {name}")).text().trim(), pinned);
    read_back(&parts, &kiln, &name, digest);

    run(&kiln, &name);
    traces::none(&kiln);

    let Some(world) = world() else { return };
    let space = namespace(world, "chain", &parts.closed, &parts.user, &parts.password);
    let ask = Deploy { world, kiln: &kiln, space: &space };
    ask.of_flags(&name, &pinned);
    ask.of_files(&name, &pinned);
    ask.up(&name, digest);
    traces::none(&kiln);
}

/// What others find in the registry is what kiln has in its store.
fn read_back(parts: &Parts, kiln: &Kiln, name: &str, digest: &str) {
    // They log in with what `kiln login` kept.
    let auth = kiln.path(".docker/config.json");
    let auth = ["--authfile", auth.to_str().unwrap()];
    let remote = format!("docker://{name}");
    let inspect = [&["inspect", "--tls-verify=false"], &auth[..]].concat();
    let seen: Value = serde_json::from_str(&skopeo(&[&inspect[..], &[&remote]].concat())).unwrap();
    assert_eq!(seen["Digest"], digest);

    let ours = kiln.ok(&format!("inspect {name}")).json();
    let id = ours[0]["images"][0]["configDigest"].as_str().unwrap();
    let blob = |digest: &str| kiln.store_path().join("blobs/sha256").join(&digest[7..]);
    let config = skopeo(&[&inspect[..], &["--config", "--raw", &remote]].concat());
    assert_eq!(config.trim_end().as_bytes(), std::fs::read(blob(id)).unwrap().trim_ascii_end());
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["./main"]));
    assert_eq!(config["config"]["WorkingDir"], "/app");
    assert!(config["config"]["ExposedPorts"]["8080/tcp"].is_object());

    // A copy checks every layer against its digest.
    let layout = kiln.path("copy");
    let copy = ["copy", "--quiet", "--src-tls-verify=false"];
    skopeo(&[&copy[..], &auth, &[&remote, &oci(&layout, "x")]].concat());
    assert!(layout.join("blobs/sha256").join(&digest[7..]).is_file());

    if let Some(crane) = kiln::env::text("KILN_TEST_CRANE") {
        let call = |args: &[&str]| {
            let config = kiln.path(".docker");
            let mut call = kiln.program(&crane).env("DOCKER_CONFIG", config);
            call.command.args(args);
            call.run().success().text()
        };
        assert_eq!(call(&["digest", "--insecure", name]).trim(), digest);
        let said: Value = serde_json::from_str(&call(&["config", "--insecure", name])).unwrap();
        assert_eq!(said, config);
        // Each layer is checked as it comes. (`validate` reads none with zstd.)
        let layout = kiln.path("pulled");
        call(&["pull", "--insecure", "--format", "oci", name, layout.to_str().unwrap()]);
        assert!(layout.join("blobs/sha256").join(&digest[7..]).is_file());
    }
    assert_ne!(parts.closed, parts.open);
}

/// `run`, `ps`, `update`, `logs`, `stop`, `rm`.
fn run(kiln: &Kiln, name: &str) {
    let port = Port8080::take();
    let (address, published) = if port.free {
        ("127.0.0.1:8080".to_owned(), String::new())
    } else {
        let free = free_port();
        (format!("127.0.0.1:{free}"), format!("-p {free}:8080"))
    };
    let started = kiln.ok(&format!("run -d --name hello {published} {name}"));
    assert_eq!(started.text().trim(), "hello");
    let answer = get(&address);
    assert!(answer.contains(GREETING), "{answer}");

    let listed = kiln.ok("ps --json").json();
    assert_eq!(listed[0]["name"], "hello", "{listed}");
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let table = kiln.ok("ps").text();
    assert!(table.contains("running") && table.contains(name), "{table}");

    update(kiln, &id);
    let logs = kiln.ok("logs hello").stderr;
    assert!(logs.contains("listening on :8080") && logs.contains("GET /"), "{logs}");
    kiln.fails(1, "rm hello").says("is running");

    assert_eq!(kiln.ok("stop hello").text().trim(), "hello");
    kiln.ok("logs hello").says("bye");
    let table = kiln.ok("ps -a").text();
    assert!(table.contains("exited (0)"), "{table}");
    assert!(!kiln.ok("ps").text().contains("hello"));
    traces::no_group(&id);
    kiln.ok("rm hello");
    assert!(!kiln.ok("ps -a").text().contains("hello"));
}

/// New limits of a running container, as the kernel has them; or what to do
/// where kiln may not set any.
fn update(kiln: &Kiln, id: &str) {
    let updated = kiln.args(["update", "--memory", "64m", "--cpus", "0.5", "hello"]).run();
    if updated.code != Some(0) {
        let why = updated.failure(1).says("limits on").says("may not be written").stderr;
        assert!(why.contains("chown") || why.contains("Delegate=yes"), "{why}");
        assert!(!rustix::process::geteuid().is_root() || !writable(), "{why}");
        traces::no_group(id);
        return;
    }
    let groups = traces::groups(id);
    let read =
        |file: &str| groups.iter().find_map(|at| std::fs::read_to_string(at.join(file)).ok());
    let memory = read("memory.max").or_else(|| read("memory.limit_in_bytes")).unwrap();
    assert_eq!(memory.trim(), (64 << 20).to_string());
    let cpus = match read("cpu.max") {
        Some(both) => both.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<f64>>(),
        None => ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
            .map(|file| read(file).unwrap().trim().parse().unwrap())
            .to_vec(),
    };
    assert!((cpus[0] / cpus[1] - 0.5).abs() < 1e-6, "{cpus:?}");
    assert!(!read("cgroup.procs").unwrap().is_empty(), "the limits hold for nobody");
}

/// True if root can make control groups here at all.
fn writable() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(2);
        words.next().is_some_and(|kind| kind.starts_with("cgroup"))
            && words.next().is_some_and(|options| options.split(',').any(|one| one == "rw"))
    })
}

struct Deploy<'a> {
    world: &'a World,
    kiln: &'a Kiln,
    space: &'a str,
}

impl Deploy<'_> {
    fn call(&self, line: &str) -> Output {
        let (space, line) = (["-n", self.space], line.split_whitespace());
        let call = self.kiln.args(line.chain(space));
        call.env("KUBECONFIG", &self.world.kubeconfig).run().success()
    }

    /// A Deployment and a Pod that kiln makes.
    fn of_flags(&self, name: &str, pinned: &str) {
        let done =
            self.call(&format!("deploy --name hello --image {name} --port 8080 --replicas 2"));
        assert_eq!(done.text(), format!("deployment/hello created, running\n{pinned}\n"));
        let object = self.world.object(self.space, "deployment/hello");
        assert_eq!(object["apiVersion"], "apps/v1");
        assert_eq!(object["spec"]["replicas"], 2);
        assert_eq!(object["status"]["availableReplicas"], 2);
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], pinned);
        assert_eq!(container["ports"][0]["containerPort"], 8080);
        let again =
            self.call(&format!("deploy --name hello --image {name} --port 8080 --replicas 2"));
        assert!(again.text().starts_with("deployment/hello unchanged"), "{}", again.text());

        let done = self.call(&format!("deploy --kind pod --name one --image {name} --port 8080"));
        assert_eq!(done.text(), format!("pod/one created, running\n{pinned}\n"));
        let object = self.world.object(self.space, "pod/one");
        assert_eq!(object["spec"]["containers"][0]["image"], pinned);
        assert_eq!(object["spec"]["containers"][0]["ports"][0]["containerPort"], 8080);
        assert_eq!(object["status"]["containerStatuses"][0]["ready"], true);
    }

    /// Files of objects that name the image.
    fn of_files(&self, name: &str, pinned: &str) {
        for file in ["deployment", "pod"] {
            let text =
                std::fs::read_to_string(testdata(&format!("hello-k8s/{file}.yaml"))).unwrap();
            let text = text.replace("image: hello\n", &format!("image: {name}\n"));
            let text = text.replace("name: hello\n  labels", "name: filed\n  labels");
            std::fs::write(self.kiln.path("k8s.yaml"), text).unwrap();
            let done = self.call(&format!("deploy -f k8s.yaml --image {name}"));
            assert_eq!(done.text(), format!("{file}/filed created, running\n{pinned}\n"));
        }
        let object = self.world.object(self.space, "deployment/filed");
        assert_eq!(object["kind"], "Deployment");
        assert_eq!(object["apiVersion"], "apps/v1");
        assert_eq!(object["spec"]["replicas"], 2);
        assert_eq!(object["status"]["availableReplicas"], 2);
        assert_eq!(object["spec"]["selector"]["matchLabels"]["app"], "hello");
        let template = &object["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["app"], "hello");
        assert_eq!(template["spec"]["containers"][0]["image"], pinned);
        assert_eq!(template["spec"]["containers"][0]["ports"][0]["containerPort"], 8080);
        let pod = self.world.object(self.space, "pod/filed");
        assert_eq!(pod["spec"]["containers"][0]["image"], pinned);
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["containerPort"], 8080);
    }

    /// The three joints in one command; the steps come from the cache.
    fn up(&self, name: &str, digest: &str) {
        let folder = testdata("hello-go");
        let again = format!("up -t {name} --name hello --port 8080 {folder}");
        let done = self.call(&again).text();
        let lines: Vec<&str> = done.lines().collect();
        let pinned = format!("{name}@{digest}");
        let (built, pushed) = (format!("built {digest}"), format!("pushed {pinned}"));
        assert_eq!(lines, [&built, &pushed, "deployment/hello unchanged, running", &pinned]);

        // Another image under the same name is another rollout, of as many pods as
        // somebody else has made it since.
        let scale = ["scale", "deployment/hello", "--replicas=3", "-n", self.space];
        self.world.kubectl(&scale);
        let dockerfile = format!("FROM {name}\nENV CHANGED=1\n");
        let folder = context(self.kiln, "changed", &dockerfile);
        let call = format!("up --pull -t {name} --name hello --port 8080 {folder}");
        let done = self.call(&call).text();
        let lines: Vec<&str> = done.lines().collect();
        let built = lines[0].strip_prefix("built ").unwrap();
        assert_ne!(built, digest);
        assert_eq!(lines[2], "deployment/hello changed, running");
        assert_eq!(lines[3], format!("{name}@{built}"));
        let object = self.world.object(self.space, "deployment/hello");
        assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], lines[3]);
        assert_eq!(object["status"]["updatedReplicas"], 3, "replicas that nobody named stay");
    }
}
