//! `kiln serve`: the store as a registry, to kiln, skopeo, crane and docker-registry, and to
//! clients that no honest tool is.

mod conformance;
mod guards;
mod hostile;
mod pulls;
mod pushes;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use super::*;
use crate::support::kiln::Kiln;

/// A server that runs until it is dropped.
struct Serving {
    addr: String,
    child: Child,
    /// Where its stderr goes.
    log: std::path::PathBuf,
    _stdout: BufReader<ChildStdout>,
}

impl Serving {
    /// Serves a home's store on a free port.
    fn start(kiln: &Kiln, flags: &[&str]) -> Self {
        Self::on(kiln, "127.0.0.1:0", flags)
    }

    fn on(kiln: &Kiln, addr: &str, flags: &[&str]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = kiln.path(format!("serve-{number}.log"));
        let mut call = kiln.args([&["serve", "--addr", addr], flags].concat());
        call.command.stderr(Stdio::from(std::fs::File::create(&log).unwrap()));
        let mut child = call.command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim().to_owned();
        if addr.is_empty() {
            let _ = child.wait();
            panic!("it does not serve: {}", std::fs::read_to_string(&log).unwrap());
        }
        Self { addr, child, log, _stdout: stdout }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Ends it as one does; gives what it said.
    fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        let log = self.said();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A number of `/proc/PID/status`, in KiB.
    fn memory(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn get(&self, path: &str) -> Reply {
        ask(&self.addr, "GET", path, &[], b"")
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        ask(&self.addr, method, path, headers, body)
    }

    /// A reference to something here.
    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.addr)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer as it came.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        self
    }

    /// Refused with a code of the spec, and words.
    #[track_caller]
    fn refused(self, status: u16, code: &str, says: &str) -> Self {
        let reply = self.is(status);
        let error = &reply.json()["errors"][0];
        assert_eq!(error["code"], code);
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        reply
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn connect(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    stream
}

fn head_of(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + &format!("Content-Length: {length}\r\n\r\n")
}

/// One request on a connection of its own.
fn ask(addr: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut stream = connect(addr);
    stream.write_all(head_of(method, path, headers, body.len()).as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    reply(stream)
}

/// Reads an answer to the end of the connection.
fn reply(mut stream: impl std::io::Read) -> Reply {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: bytes.split_off(end + 4) }
}

/// Puts a blob as a client does that sends it whole.
#[track_caller]
fn put_blob(serving: &Serving, path: &str, bytes: &[u8]) -> BlobDigest {
    let digest = BlobDigest::of(bytes);
    let at = format!("/v2/{path}/blobs/uploads/?digest={digest}");
    serving.ask("POST", &at, &[], bytes).is(201);
    digest
}

/// A manifest of a config and layers that are of types of their own.
fn artifact(config: &[u8], layers: &[&[u8]], more: &str) -> String {
    let at = |kind: &str, bytes: &[u8]| {
        let (digest, size) = (BlobDigest::of(bytes), bytes.len());
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
    };
    let layers: Vec<String> = layers.iter().map(|layer| at("application/x-layer", layer)).collect();
    let kind = MediaType::OciManifest;
    let config = at("application/x-config", config);
    let layers = layers.join(",");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layers}]{more}}}"#
    )
}

const MANIFEST: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");
const INDEX: (&str, &str) = ("Content-Type", "application/vnd.oci.image.index.v1+json");
