//! Bytes from every source, past a registry that breaks off.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::super::mirror::Place;
use super::super::transport::{Action, Session};
use super::super::{Options, Registries, RegistryError};
use super::{Blob, Source, send};
use crate::digest::{BlobDigest, Digest};
use crate::progress::Progress;
use crate::store::Store;

const SIZE: usize = 50_000;
const CHUNK: usize = 20_000;

fn noise() -> Vec<u8> {
    let step = |state: u32| state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let states = std::iter::successors(Some(1), move |state| Some(step(*state)));
    states.take(SIZE).map(|state| state.to_be_bytes()[0]).collect()
}

/// What the two repositories do.
#[derive(Clone, Default)]
struct Ways {
    /// The blob as `src` gives it.
    gives: Vec<u8>,
    /// Bytes after which an answer of `src` ends.
    cut: Option<usize>,
    /// `src` gives no ranges.
    plain: bool,
    /// Requests with a body, counted from 0, that `dst` hears of and does not answer.
    deaf: Option<usize>,
}

#[derive(Default)]
struct Held {
    ways: Ways,
    session: Vec<u8>,
    bodies: Vec<usize>,
    /// Blobs of `dst` that are whole.
    blobs: HashMap<String, Vec<u8>>,
    /// Places that `src` was asked to begin at.
    begins: Vec<usize>,
}

struct Server {
    addr: String,
    held: Arc<Mutex<Held>>,
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl Held {
    fn answer(&mut self, method: &str, path: &str, range: Option<usize>, body: &[u8]) -> Vec<u8> {
        let at = |length: usize| format!("Location: /v2/dst/up\r\nRange: 0-{}", length.max(1) - 1);
        if !body.is_empty() {
            self.bodies.push(body.len());
            if self.ways.deaf.is_some_and(|number| number + 1 == self.bodies.len()) {
                return Vec::new();
            }
        }
        match (method, path.split('?').next().unwrap_or_default()) {
            ("GET", "/v2/") => answer("200 OK", b"{}"),
            ("GET", path) if path.starts_with("/v2/src/") => {
                let begin = range.filter(|_| !self.ways.plain).unwrap_or(0);
                self.begins.push(range.unwrap_or(0));
                let (all, rest) = (self.ways.gives.len(), &self.ways.gives[begin..]);
                let last = all - 1;
                let head = match begin {
                    0 => "200 OK".to_owned(),
                    _ => {
                        format!("206 Partial Content\r\nContent-Range: bytes {begin}-{last}/{all}")
                    }
                };
                let mut text = answer(&head, rest);
                if let Some(cut) = self.ways.cut.filter(|cut| *cut < rest.len()) {
                    text.truncate(text.len() - rest.len() + cut);
                }
                text
            }
            ("POST", _) => {
                self.session.clear();
                answer(&format!("202 Accepted\r\n{}", at(0)), b"")
            }
            ("GET", "/v2/dst/up") => {
                answer(&format!("204 No Content\r\n{}", at(self.session.len())), b"")
            }
            ("PATCH", "/v2/dst/up") => {
                self.session.extend_from_slice(body);
                answer(&format!("202 Accepted\r\n{}", at(self.session.len())), b"")
            }
            ("PUT", "/v2/dst/up") => {
                self.session.extend_from_slice(body);
                let bytes = std::mem::take(&mut self.session);
                let digest = BlobDigest::of(&bytes).to_string();
                if !path.ends_with(&digest.replace(':', "%3A")) {
                    return answer("400 Bad Request", b"the digest is another");
                }
                self.blobs.insert(digest, bytes);
                answer("201 Created", b"")
            }
            _ => answer("404 Not Found", b""),
        }
    }
}

fn serve(stream: &TcpStream, held: &Mutex<Held>) {
    let mut from = BufReader::new(stream);
    let (mut line, mut length, mut range) = (String::new(), 0, None);
    let Ok(1..) = from.read_line(&mut line) else { return };
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    loop {
        let mut line = String::new();
        let Ok(3..) = from.read_line(&mut line) else { break };
        let line = line.trim().to_ascii_lowercase();
        let value = |name: &str| line.strip_prefix(name).map(str::trim);
        if let Some(value) = value("content-length:") {
            length = value.parse().unwrap();
        }
        if let Some(value) = value("range: bytes=") {
            range = value.strip_suffix('-').map(|text| text.parse().unwrap());
        }
    }
    let mut body = vec![0; length];
    // A body that breaks off is not the registry's.
    if from.read_exact(&mut body).is_ok() {
        let said = held.lock().unwrap().answer(&method, &path, range, &body);
        let _ = (&*stream).write_all(&said);
    }
}

impl Server {
    fn start(ways: Ways) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let held = Arc::new(Mutex::new(Held { ways, ..Held::default() }));
        let of_thread = Arc::clone(&held);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let held = Arc::clone(&of_thread);
                // A source is asked while bytes of it are on their way.
                std::thread::spawn(move || serve(&stream, &held));
            }
        });
        Self { addr, held }
    }

    async fn session(&self, folder: &std::path::Path, repository: &str) -> Session {
        let conf = folder.join("registries.conf");
        std::fs::write(&conf, "").unwrap();
        let options = Options {
            chunk: NonZeroU64::new(CHUNK as u64),
            registries_conf: Some(conf),
            auth_file: Some(folder.join("auth.json")),
            ..Options::default()
        };
        let at = Registries::load(options).unwrap();
        let place = Place {
            host: self.addr.clone(),
            repository: repository.into(),
            insecure: false,
            blocked: None,
        };
        Session::open(&at, &place, Action::Push).await.unwrap()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }
}

/// Sends the blob from a source, with what the store remembers.
async fn bring(
    server: &Server,
    folder: &std::path::Path,
    source: Source<'_>,
    kept: Option<&Store>,
) -> Result<(), RegistryError> {
    let to = server.session(folder, "dst").await;
    let (digest, size) = (BlobDigest::of(&noise()), SIZE as u64);
    let task = Progress::silent().task("t");
    send(&to, &Blob { digest, size, source, kept }, None, "the blob", &task).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_goes_on_after_a_break() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    store.put(&noise()).unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, [b"before".as_slice(), &noise(), b"behind"].concat()).unwrap();
    let file = Arc::new(std::fs::File::open(&path).unwrap());
    let bytes = Bytes::from(noise());
    for name in ["memory", "store", "file", "remote", "remote, cut", "remote, plain"] {
        let ways = Ways {
            gives: noise(),
            cut: (name == "remote, cut").then_some(7_000),
            plain: name == "remote, plain",
            deaf: Some(1),
        };
        let server = Server::start(ways);
        let from = server.session(folder.path(), "src").await;
        let source = match name {
            "memory" => Source::Memory(&bytes),
            "store" => Source::Store(&store),
            "file" => Source::File { file: &file, start: 6, path: &path },
            _ => Source::Remote(&from),
        };
        bring(&server, folder.path(), source, None).await.unwrap();
        let held = server.held();
        assert_eq!(held.blobs.values().next(), Some(&noise()), "{name}");
        assert_eq!(held.bodies, [CHUNK, CHUNK, CHUNK, SIZE - 2 * CHUNK], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_registry_gives_is_proved_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = noise();
    wrong[SIZE - 1] ^= 1;
    let longer = [noise(), vec![0]].concat();
    for (name, gives) in [("wrong", wrong), ("longer", longer), ("shorter", noise()[1..].to_vec())]
    {
        let server = Server::start(Ways { gives, ..Ways::default() });
        let from = server.session(folder.path(), "src").await;
        let error = bring(&server, folder.path(), Source::Remote(&from), None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Mismatch { .. }), "{name}: {error}");
        // Not even the last bytes went out.
        let held = server.held();
        assert!(held.blobs.is_empty() && held.bodies.len() <= 2, "{name}: {:?}", held.bodies);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_sent_is_read_for_the_digest_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let digest = BlobDigest::of(&noise());
    for sent in [CHUNK, SIZE] {
        let mut wrong = noise();
        wrong[5] ^= 1;
        for (gives, right) in [(noise(), true), (wrong, false)] {
            let server = Server::start(Ways { gives, ..Ways::default() });
            let key = Digest::of(format!("{digest} {}/dst", server.addr).as_bytes());
            let place = format!(r#"{{"url":"http://{}/v2/dst/up"}}"#, server.addr);
            store.set_record_bytes("uploads", &key, place.as_bytes()).unwrap();
            server.held().session.extend_from_slice(&noise()[..sent]);
            let from = server.session(folder.path(), "src").await;
            let sending = bring(&server, folder.path(), Source::Remote(&from), Some(&store)).await;
            let held = server.held();
            assert_eq!(held.begins, [0], "{sent}");
            assert_eq!(sending.is_ok(), right, "{sent}: {sending:?}");
            assert_eq!(held.blobs.len(), usize::from(right), "{sent}");
            let bytes: usize = held.bodies.iter().sum();
            assert!(bytes <= SIZE - sent, "{sent}: {bytes}");
            assert!(!store.has_record("uploads", &key), "{sent}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_the_blob_is_to_blame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, noise()).unwrap();
    let file = Arc::new(std::fs::File::open(&path).unwrap());
    let server = Server::start(Ways::default());
    for (start, said) in [(0, None), (1, Some("cannot read"))] {
        let source = Source::File { file: &file, start, path: &path };
        let result = bring(&server, folder.path(), source, None).await;
        let found = result.err().map(|error| error.to_string());
        assert_eq!(found.is_some(), said.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(said.unwrap_or_default()));
    }
    std::fs::write(&path, vec![1; SIZE]).unwrap();
    let source = Source::File { file: &file, start: 0, path: &path };
    let error = bring(&server, folder.path(), source, None).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}
