//! The access log: what was asked, by whom, and what came of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::net::escaped;

/// Most characters of a path or a client's name that are shown.
const SHOWN: usize = 300;

/// One request that is over.
#[derive(Debug, Clone)]
pub struct Access {
    pub peer: SocketAddr,
    /// Who it was, if passwords are asked for and the right one was given.
    pub user: Option<String>,
    pub method: String,
    /// With the query; escaped and cut.
    pub path: String,
    pub status: u16,
    /// Bytes of the request's body that were read.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    pub took: Duration,
    /// What the client calls itself; escaped and cut.
    pub agent: String,
    /// The answer was not sent to its end.
    pub broken: bool,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, method, path, status, received, sent, .. } = self;
        let user = self.user.as_deref().unwrap_or("-");
        let seconds = self.took.as_secs_f64();
        write!(f, "{peer} {user} \"{method} {path}\" {status} {sent} {received} {seconds:.3}s")?;
        write!(f, " \"{}\"", self.agent)?;
        if self.broken { f.write_str(" broken off") } else { Ok(()) }
    }
}

/// Takes what there is to log.
pub type Logger = Arc<dyn Fn(&Access) + Send + Sync>;

/// A request under way; its line is written when it is dropped.
pub(super) struct Entry {
    access: Access,
    begun: Instant,
    /// What the answer's body has in all; none before there is an answer.
    whole: Option<u64>,
    logger: Logger,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.access.fmt(f)
    }
}

impl Entry {
    pub(super) fn new(
        peer: SocketAddr,
        method: &str,
        path: &str,
        agent: &str,
        logger: Logger,
    ) -> Self {
        let access = Access {
            peer,
            user: None,
            method: escaped(method, 20),
            path: escaped(path, SHOWN).replace('"', "%22"),
            // Of a request that was dropped before there was an answer.
            status: 499,
            received: 0,
            sent: 0,
            took: Duration::ZERO,
            agent: escaped(agent, SHOWN).replace('"', "'"),
            broken: false,
        };
        Self { access, begun: Instant::now(), whole: None, logger }
    }

    pub(super) fn set_user(&mut self, user: String) {
        self.access.user = Some(escaped(&user, 60));
    }

    /// There is an answer with a body of so many bytes.
    pub(super) fn answered(&mut self, status: StatusCode, received: u64, whole: Option<u64>) {
        self.access.status = status.as_u16();
        self.access.received = received;
        self.whole = whole;
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.access.sent += bytes as u64;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.access.took = self.begun.elapsed();
        self.access.broken = self.whole != Some(self.access.sent);
        (self.logger)(&self.access);
    }
}
