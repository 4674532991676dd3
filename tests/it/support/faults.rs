//! A proxy before a registry that does to chosen requests what bad networks and tired servers
//! do, and counts what was sent.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::proxy::head;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The registry does not hear of it: the proxy answers with this status line, header line
    /// and body.
    Answer(&'static str, &'static str, &'static str),
    /// The registry hears of it, the client gets a reset for an answer.
    Lost,
    /// A reset in the middle of the request's body, of which the registry hears nothing, as
    /// behind front ends that take requests whole.
    Reset,
    /// The same, of which the registry has what came.
    ResetHalf,
    /// The answer ends in its middle.
    Cut,
    /// Silence, then the end of the connection.
    Silence,
    /// Silence until the client goes; the registry hears nothing of it.
    Hang,
    /// The same; the registry has half of the request's body.
    HangHalf,
}

/// Which requests are hit: of those with a method whose path has a part, those after the first
/// `skip`, and then whatever comes, `times` in all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    pub(crate) part: &'static str,
    pub(crate) skip: usize,
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

/// A request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Whether it was hit.
    pub(crate) hit: bool,
}

/// Serves as long as the test runs.
pub(crate) struct Faults {
    /// `127.0.0.1:PORT`, as references write it.
    pub(crate) addr: String,
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<String>,
    /// With the number of hits so far.
    rule: Mutex<(Option<Rule>, usize)>,
    asked: Mutex<Vec<Asked>>,
    sent: AtomicU64,
    /// Requests are given on once they are whole.
    whole: bool,
}

impl Faults {
    /// Before a registry; `whole` gives requests on once all of them has come.
    pub(crate) fn before(registry: &str, whole: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner {
            registry: Mutex::new(registry.to_owned()),
            rule: Mutex::default(),
            asked: Mutex::default(),
            sent: AtomicU64::new(0),
            whole,
        });
        let of_thread = Arc::clone(&inner);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let inner = Arc::clone(&of_thread);
                // What goes wrong on a connection shows at the client.
                std::thread::spawn(move || {
                    let _ = inner.relay(&client);
                });
            }
        });
        Self { addr, inner }
    }

    /// What to do from now on.
    pub(crate) fn set(&self, rule: Rule) {
        *self.inner.rule.lock().unwrap() = (Some(rule), 0);
    }

    /// The registry answers at another address.
    pub(crate) fn moved(&self, registry: &str) {
        registry.clone_into(&mut self.inner.registry.lock().unwrap());
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// Bytes of bodies that clients have sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.inner.sent.load(Ordering::SeqCst)
    }
}

/// Ends a connection as a crash does.
fn reset(client: &TcpStream) {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(client, linger).unwrap();
}

impl Inner {
    /// What becomes of the next request.
    fn fate(&self, method: &str, path: &str) -> Option<Fault> {
        let (rule, hits) = &mut *self.rule.lock().unwrap();
        let rule = rule.as_mut()?;
        if *hits == 0 {
            if method != rule.method || !path.contains(rule.part) {
                return None;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
        }
        (*hits < rule.times).then(|| {
            *hits += 1;
            rule.fault
        })
    }

    /// Gives bytes of a request's body on.
    fn body(&self, from: &mut impl Read, length: u64, to: &mut impl Write) -> Option<()> {
        let (mut left, mut piece) = (length, vec![0; 64 << 10]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let came = from.read(&mut piece[..most]).ok().filter(|came| *came > 0)?;
            self.sent.fetch_add(came as u64, Ordering::SeqCst);
            to.write_all(&piece[..came]).ok()?;
            left -= came as u64;
        }
        Some(())
    }

    /// Takes what a request's body still has, and waits until the client goes.
    fn swallow(&self, from: &mut impl Read, length: u64) {
        if self.body(from, length, &mut std::io::sink()).is_some() {
            let _ = std::io::copy(from, &mut std::io::sink());
        }
    }

    fn relay(&self, client: &TcpStream) -> Option<()> {
        let mut from = BufReader::new(client);
        // A TLS greeting: there is none here.
        if from.fill_buf().ok()?.first()? == &0x16 {
            return None;
        }
        let server = TcpStream::connect(&*self.registry.lock().unwrap()).ok()?;
        let mut back = BufReader::new(&server);
        let (mut to, mut answer) = (&server, client);
        loop {
            let (request, length) = head(&mut from)?;
            let mut words = request.split(' ').map(str::to_owned);
            let (method, path) = (words.next()?, words.next()?);
            let fault = self.fate(&method, &path);
            let hit = fault.is_some();
            self.asked.lock().unwrap().push(Asked { method: method.clone(), path, hit });
            match fault {
                Some(Fault::Answer(status, header, said)) => {
                    self.body(&mut from, length, &mut std::io::sink())?;
                    let length = said.len();
                    let said = if method == "HEAD" { "" } else { said };
                    let text = format!(
                        "HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {length}\r\n\r\n{said}"
                    );
                    answer.write_all(text.as_bytes()).ok()?;
                    continue;
                }
                Some(Fault::Silence) => {
                    std::thread::sleep(Duration::from_millis(300));
                    return None;
                }
                Some(Fault::Hang) => {
                    self.swallow(&mut from, length);
                    return None;
                }
                Some(Fault::HangHalf) => {
                    to.write_all(request.as_bytes()).ok()?;
                    self.body(&mut from, length / 2, &mut to)?;
                    self.swallow(&mut from, length - length / 2);
                    return None;
                }
                Some(Fault::Reset) => {
                    self.body(&mut from, length / 2, &mut std::io::sink())?;
                    reset(client);
                    return None;
                }
                Some(Fault::ResetHalf) => {
                    to.write_all(request.as_bytes()).ok()?;
                    self.body(&mut from, length / 2, &mut to)?;
                    // The registry sees that no more comes, and has what came when the client
                    // asks again.
                    let _ = server.shutdown(Shutdown::Write);
                    let _ = back.read_to_end(&mut Vec::new());
                    reset(client);
                    return None;
                }
                Some(Fault::Lost | Fault::Cut) | None => {}
            }
            if self.whole {
                let mut all = Vec::new();
                self.body(&mut from, length, &mut all)?;
                to.write_all(&[request.as_bytes(), &all].concat()).ok()?;
            } else {
                to.write_all(request.as_bytes()).ok()?;
                self.body(&mut from, length, &mut to)?;
            }
            let (response, length) = head(&mut back)?;
            let status: u16 = response.split(' ').nth(1)?.parse().ok()?;
            let length = if method == "HEAD" || status == 204 { 0 } else { length };
            match fault {
                Some(Fault::Lost) => {
                    std::io::copy(&mut back.by_ref().take(length), &mut std::io::sink()).ok()?;
                    reset(client);
                    return None;
                }
                Some(Fault::Cut) if length == 0 => {
                    answer.write_all(&response.as_bytes()[..response.len() / 2]).ok()?;
                    return None;
                }
                Some(Fault::Cut) => {
                    answer.write_all(response.as_bytes()).ok()?;
                    std::io::copy(&mut back.by_ref().take(length / 2), &mut answer).ok()?;
                    return None;
                }
                _ => {
                    answer.write_all(response.as_bytes()).ok()?;
                    std::io::copy(&mut back.by_ref().take(length), &mut answer).ok()?;
                }
            }
        }
    }
}
