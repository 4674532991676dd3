//! What the tests of deploying stand on: a real Kubernetes whose only node
//! pretends to run pods (tests/kube), and a real registry that it looks images
//! up in. Both are started once, and end with this process: they wait for the
//! end of a pipe that it holds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use kiln::deploy::{Cluster, DeployRequest, Kind, Simple, Workload};
use kiln::digest::{BlobDigest, Digest};
use kiln::reference::{Pinned, Reference};

use crate::support::skip;

pub(crate) struct World {
    kube: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    registry: String,
    // Their pipes keep both running.
    _cluster: Child,
    _registry: Child,
}

static WORLD: LazyLock<Result<World, String>> = LazyLock::new(|| {
    let _ = rustls::crypto::ring::default_provider().install_default();
    World::start()
});

/// The world, or `None` with the reason on stderr.
pub(crate) fn world() -> Option<&'static World> {
    match &*WORLD {
        Ok(world) => Some(world),
        Err(why) => {
            skip(&format!("no Kubernetes to test with: {why}"));
            None
        }
    }
}

/// The binary of tests/kube, if it was built.
pub(crate) fn kube() -> Result<PathBuf, String> {
    if let Some(path) = kiln::env::path("KILN_TEST_KUBE") {
        return Ok(path);
    }
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/build");
    Ok(run(Command::new(build).arg("--cached"))?.trim().into())
}

impl World {
    fn start() -> Result<Self, String> {
        let kube = kube()?;
        let (registry, child) = registry()?;
        let mut cluster = Command::new(&kube)
            .args(["up", "--pretend", "--attached"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", kube.display()))?;
        let mut path = String::new();
        let out = cluster.stdout.take().ok_or("no output")?;
        BufReader::new(out).read_line(&mut path).map_err(|error| error.to_string())?;
        if path.is_empty() {
            let status = cluster.wait().map_err(|error| error.to_string())?;
            return Err(format!("the Kubernetes for tests did not start: {status}"));
        }
        Ok(Self {
            kube,
            kubeconfig: path.trim().into(),
            registry,
            _cluster: cluster,
            _registry: child,
        })
    }

    /// What kubectl prints; it is made by the same Kubernetes.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_as(&self.kubeconfig, arguments)
    }

    pub(crate) fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.kube);
        command.arg("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments);
        run(&mut command).unwrap_or_else(|why| panic!("kubectl {arguments:?}: {why}"))
    }

    /// An object as the cluster has it.
    pub(crate) fn object(&self, namespace: &str, path: &str) -> serde_json::Value {
        let text = self.kubectl(&["get", path, "-n", namespace, "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }

    /// A namespace of the test's own.
    pub(crate) fn namespace(&self, name: &str) -> String {
        self.kubectl(&["create", "namespace", name]);
        // Pods can be made once their account is there.
        self.kubectl(&[
            "wait",
            "--for=create",
            "serviceaccount/default",
            "-n",
            name,
            "--timeout=60s",
        ]);
        name.to_owned()
    }

    pub(crate) async fn cluster(&self) -> Cluster {
        Cluster::connect(Some(&self.kubeconfig), None).await.unwrap()
    }

    /// The name of an image in this registry, without a tag.
    pub(crate) fn image(&self, name: &str) -> Reference {
        format!("{}/{name}", self.registry).parse().unwrap()
    }

    /// Pushes an image of no layers; `text` makes its digest.
    pub(crate) fn push(&self, name: &str, text: &str) -> Pinned {
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"text": text}},
            "rootfs": {"type": "layers", "diff_ids": []},
        })
        .to_string();
        let digest = Digest::of(config.as_bytes());
        let (_, location) = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), "", b"");
        let upload = location.unwrap();
        let upload = upload.split_once(&self.registry).map_or(upload.as_str(), |(_, path)| path);
        let joint = if upload.contains('?') { '&' } else { '?' };
        let to = format!("{upload}{joint}digest={digest}");
        let (status, _) = self.send("PUT", &to, "application/octet-stream", config.as_bytes());
        assert_eq!(status, 201);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind, "layers": [],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest.to_string(), "size": config.len()},
        })
        .to_string();
        let digest = Digest::of(manifest.as_bytes());
        let to = format!("/v2/{name}/manifests/{digest}");
        let (status, _) = self.send("PUT", &to, kind, manifest.as_bytes());
        assert_eq!(status, 201);
        self.image(name).pin(BlobDigest(digest))
    }

    /// One request by HTTP/1.1; the status and the Location of the answer.
    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Option<String>) {
        let mut stream = TcpStream::connect(&self.registry).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.registry,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
        (status, location.map(|text| text.trim().to_owned()))
    }
}

fn registry() -> Result<(String, Child), String> {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| error.to_string())?
        .port();
    let address = format!("127.0.0.1:{port}");
    let config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{inmemory: {{}}}}\nhttp: {{addr: \"{address}\"}}\n"
    );
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    std::fs::write(file.path(), config).map_err(|error| error.to_string())?;
    // The shell ends the registry when its own input ends.
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(
            "exec 3<&0; docker-registry serve \"$1\" </dev/null & p=$!; \
             { cat <&3 >/dev/null; kill $p; } & wait $p",
        )
        .arg("sh")
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    while TcpStream::connect(&address).is_err() {
        if child.try_wait().map_err(|error| error.to_string())?.is_some() {
            return Err("docker-registry does not start (Debian: docker-registry)".into());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok((address, child))
}

/// What a program prints that must succeed; else what it complains of.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// A Deployment of two replicas.
pub(crate) fn hello(namespace: &str, image: &Pinned) -> DeployRequest {
    let simple = Simple {
        name: "hello".into(),
        kind: Kind::Deployment,
        replicas: Some(2),
        port: Some(8080),
        env: vec![("GREETING".into(), "yes".into())],
    };
    asking(namespace, image, Workload::Simple(simple))
}

pub(crate) fn asking(namespace: &str, image: &Pinned, workload: Workload) -> DeployRequest {
    let namespace = Some(namespace.to_owned());
    DeployRequest { namespace, ..DeployRequest::new(workload, image.reference()) }
}
