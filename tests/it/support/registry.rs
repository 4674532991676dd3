//! A real registry: Debian's docker-registry on a free port of this machine.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Runs until it is dropped; its content goes with it.
pub(crate) struct TestRegistry {
    /// `127.0.0.1:PORT`, as references write it.
    pub(crate) addr: String,
    child: Child,
    folder: tempfile::TempDir,
}

impl TestRegistry {
    /// Starts a registry, for anybody or for one user with a password.
    pub(crate) fn start(auth: Option<(&str, &str)>) -> Self {
        Self::configured("", |folder| {
            let Some((user, password)) = auth else { return String::new() };
            let table = tool("htpasswd", "apache2-utils", &["-Bbn", user, password]);
            let path = folder.join("htpasswd");
            std::fs::write(&path, table.stdout).unwrap();
            format!("auth: {{htpasswd: {{realm: test, path: \"{}\"}}}}\n", path.display())
        })
    }

    /// Starts a registry with more settings: below `http`, and at the top; the
    /// folder is there for files that those name.
    pub(crate) fn configured(http: &str, more: impl Fn(&Path) -> String) -> Self {
        Self::of("docker-registry".as_ref(), http, more)
    }

    /// As [`TestRegistry::configured`], at another address than the loopback's.
    pub(crate) fn configured_at(ip: &str, http: &str, more: impl Fn(&Path) -> String) -> Self {
        retried(|| Self::try_start("docker-registry".as_ref(), ip, http, &more))
    }

    /// As [`TestRegistry::configured`], of another program that reads the same settings.
    pub(crate) fn of(program: &Path, http: &str, more: impl Fn(&Path) -> String) -> Self {
        retried(|| Self::try_start(program, "127.0.0.1", http, &more))
    }

    fn try_start(
        program: &Path,
        ip: &str,
        http: &str,
        more: impl Fn(&Path) -> String,
    ) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let addr = free_address(ip);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: \"{addr}\"{http}}}\n\
             storage: {{filesystem: {{rootdirectory: \"{}\"}}, delete: {{enabled: true}}}}\n{}",
            folder.path().join("data").display(),
            more(folder.path())
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(program);
        // It would look for somebody to send traces to.
        command.arg("serve").arg(&path).env("OTEL_TRACES_EXPORTER", "none");
        let child = listening(&mut command, &addr)
            .unwrap_or_else(|error| missing("docker-registry", "docker-registry", &error))?;
        Some(Self { addr, child, folder })
    }

    /// Where the registry keeps its files.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Stops it and frees the address.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a server whose port another process may take between finding and using it.
pub(crate) fn retried<T>(start: impl Fn() -> Option<T>) -> T {
    (0..5).find_map(|_| start()).expect("a registry starts")
}

/// An address of this machine that nobody listens at.
pub(crate) fn free_address(ip: &str) -> String {
    let free = TcpListener::bind((ip, 0)).unwrap();
    free.local_addr().unwrap().to_string()
}

/// Starts a server and waits until it listens; none if it does not.
pub(crate) fn listening(command: &mut Command, addr: &str) -> std::io::Result<Option<Child>> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    for _ in 0..1200 {
        if TcpStream::connect(addr).is_ok() {
            return Ok(Some(child));
        }
        if child.try_wait()?.is_some() {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    let _ = child.kill();
    let _ = child.wait();
    Ok(None)
}

/// Runs a tool that must succeed.
pub(crate) fn tool(name: &str, package: &str, arguments: &[&str]) -> Output {
    let output = Command::new(name)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| missing(name, package, &error));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {errors}");
    output
}

fn missing(name: &str, package: &str, error: &std::io::Error) -> ! {
    panic!("cannot run `{name}`: {error}; this test needs it: apt-get install {package}")
}

/// Runs skopeo, which must succeed.
pub(crate) fn skopeo(arguments: &[&str]) -> String {
    let all = [&["--insecure-policy"], arguments].concat();
    String::from_utf8(tool("skopeo", "skopeo", &all).stdout).unwrap()
}

/// Copies an image with skopeo between places of which none has TLS.
pub(crate) fn skopeo_copy(options: &[&str], from: &str, to: &str) {
    let copy = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&copy[..], options, &[from, to]].concat());
}

/// Runs crane, which must succeed, without credentials of whoever runs the tests.
pub(crate) fn crane(program: &Path, home: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .arg("--insecure")
        .env("DOCKER_CONFIG", home)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "crane {arguments:?}: {errors}");
    output.stdout
}

/// A folder as an OCI layout that skopeo reads and writes.
pub(crate) fn oci(folder: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", folder.display())
}

/// A key and a certificate for this machine, signed by nobody else.
pub(crate) fn certificate(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    let (key_text, certificate_text) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let files = ["-keyout", key_text, "-out", certificate_text];
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"];
    tool(
        "openssl",
        "openssl",
        &[&request[..], &["/CN=localhost", "-addext", names], &files].concat(),
    );
    (key, certificate)
}
