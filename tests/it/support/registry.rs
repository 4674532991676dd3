//! A real registry: Debian's docker-registry on a free port of this machine.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
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
        // Another process may take the port between finding and using it.
        for _ in 0..5 {
            if let Some(started) = Self::try_start(auth) {
                return started;
            }
        }
        panic!("docker-registry does not start");
    }

    fn try_start(auth: Option<(&str, &str)>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = free.local_addr().unwrap().to_string();
        drop(free);
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: \"{addr}\"}}\n\
             storage: {{filesystem: {{rootdirectory: \"{}\"}}, delete: {{enabled: true}}}}\n",
            folder.path().join("data").display()
        );
        if let Some((user, password)) = auth {
            let table = tool("htpasswd", "apache2-utils", &["-Bbn", user, password]);
            let path = folder.path().join("htpasswd");
            std::fs::write(&path, table.stdout).unwrap();
            config +=
                &format!("auth: {{htpasswd: {{realm: test, path: \"{}\"}}}}\n", path.display());
        }
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| missing("docker-registry", "docker-registry", &error));
        for _ in 0..1200 {
            if TcpStream::connect(&addr).is_ok() {
                return Some(Self { addr, child, folder });
            }
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
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

/// A folder as an OCI layout that skopeo reads and writes.
pub(crate) fn oci(folder: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", folder.display())
}
