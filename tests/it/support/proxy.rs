//! A proxy before a registry that counts what goes through it.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Bytes of the request's body.
    pub(crate) sent: u64,
    /// Bytes of the answer's body.
    pub(crate) received: u64,
}

impl Seen {
    /// A request with a method whose path has a part.
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// Serves as long as the test runs.
pub(crate) struct Proxy {
    /// `127.0.0.1:PORT`, as references write it.
    pub(crate) addr: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What passes while a proxy's count was begun anew.
pub(crate) struct Counted(pub(crate) Vec<Seen>);

impl Proxy {
    /// Before a registry. The path `/sent` is the proxy's own: it is there once a blob was
    /// sent whole, so that a step can wait for that.
    pub(crate) fn before(registry: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, registry) = (Arc::clone(&seen), registry.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (log, registry) = (Arc::clone(&log), registry.clone());
                std::thread::spawn(move || relay(&client, &registry, &log));
            }
        });
        Self { addr, seen }
    }

    /// What went through since the last call. A connection's last answer is counted before
    /// it is given on, so that nothing is missing once the client has ended.
    pub(crate) fn take(&self) -> Counted {
        Counted(std::mem::take(&mut *self.seen.lock().unwrap()))
    }
}

impl Counted {
    /// Requests with a method whose path has a part.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.0.iter().filter(|seen| seen.is(method, part)).count()
    }

    /// Blobs that were fetched, with their sizes.
    pub(crate) fn fetched(&self) -> Vec<u64> {
        let got = |seen: &&Seen| seen.is("GET", "/blobs/") && seen.status == 200;
        self.0.iter().filter(got).map(|seen| seen.received).collect()
    }

    /// Blobs that were sent, with their sizes.
    pub(crate) fn sent(&self) -> Vec<u64> {
        let put = |seen: &&Seen| seen.is("PUT", "/blobs/uploads/") && seen.status == 201;
        self.0.iter().filter(put).map(|seen| seen.sent).collect()
    }

    /// Blobs that were mounted.
    pub(crate) fn mounted(&self) -> usize {
        let mount = |seen: &&Seen| seen.is("POST", "mount=") && seen.status == 201;
        self.0.iter().filter(mount).count()
    }

    /// Requests that change something.
    pub(crate) fn writes(&self) -> usize {
        ["POST", "PATCH", "PUT", "DELETE"].iter().map(|method| self.count(method, "")).sum()
    }
}

/// A message's head, and what it says of the body's length.
pub(crate) fn head(from: &mut impl std::io::BufRead) -> Option<(String, u64)> {
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let begun = text.len();
        if from.read_line(&mut text).ok()? == 0 {
            return None;
        }
        let line = text[begun..].trim_end().to_ascii_lowercase();
        assert!(!line.starts_with("transfer-encoding"), "the proxy knows no chunks");
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            return Some((text, length));
        }
    }
}

fn relay(client: &TcpStream, registry: &str, log: &Mutex<Vec<Seen>>) -> Option<()> {
    let server = TcpStream::connect(registry).ok()?;
    let (mut from, mut back) = (BufReader::new(client), BufReader::new(&server));
    let (mut to, mut answer) = (&server, client);
    // A TLS greeting: there is none here.
    if from.fill_buf().ok()?.first()? == &0x16 {
        return None;
    }
    loop {
        let (request, sent) = head(&mut from)?;
        let mut words = request.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        if path == "/sent" {
            let whole = |seen: &Seen| seen.is("PUT", "/blobs/uploads/") && seen.status == 201;
            let status =
                if log.lock().unwrap().iter().any(whole) { "200 OK" } else { "404 Not Found" };
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            answer.write_all(head.as_bytes()).ok()?;
            return None;
        }
        to.write_all(request.as_bytes()).ok()?;
        std::io::copy(&mut from.by_ref().take(sent), &mut to).ok()?;
        let (response, length) = head(&mut back)?;
        let status: u16 = response.split(' ').nth(1)?.parse().ok()?;
        let received = if method == "HEAD" || status == 204 { 0 } else { length };
        log.lock().unwrap().push(Seen { method, path, status, sent, received });
        answer.write_all(response.as_bytes()).ok()?;
        std::io::copy(&mut back.by_ref().take(received), &mut answer).ok()?;
    }
}
