//! The HTTP client that everything but the Kubernetes client goes out through.
//!
//! TLS is rustls with ring. Roots of trust are the system's; a machine without
//! any (an air-gapped or scratch one) gets Mozilla's list, so that the lack of
//! a bundle is met only by those who need another root. Names are resolved by
//! hickory-dns, never by the libc (a static binary cannot load its modules);
//! without a `resolv.conf` only `/etc/hosts` and `localhost` are known, since a
//! public name server was never asked for. `HTTP_PROXY`, `HTTPS_PROXY`,
//! `ALL_PROXY` and `NO_PROXY` are honoured as curl does, except that loopback
//! addresses are always spoken to directly.
//!
//! [`FileRequest`] alone is not of that client: it brings files to servers of this machine.
//!
//! The client follows no redirect and repeats nothing: who asks knows what it
//! may send where ([`crate::registry`]). Here are the limits for that:
//! [`Backoff`] for repeats, [`escaped`] for texts of servers.

mod backoff;
mod file;
mod resolve;
mod text;

pub use backoff::{Backoff, retry_after};
pub use file::{FileRequest, RequestError};
pub use text::escaped;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What kiln calls itself.
pub const USER_AGENT: &str = concat!("kiln/", env!("CARGO_PKG_VERSION"));

/// Longest wait for a connection.
pub const CONNECT: Duration = Duration::from_secs(30);
/// Longest wait without any progress: a response's head, the next piece of a body.
pub const IDLE: Duration = Duration::from_secs(60);

/// The client cannot be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ClientError(String);

/// Makes ring the process's TLS provider, once; later calls do nothing.
pub fn install_crypto() {
    // An error says that a provider is installed, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whom a client may talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// False accepts any certificate: for hosts the user named as insecure.
    pub verify: bool,
    /// True for loopback addresses, which no proxy can reach.
    pub direct: bool,
    /// True where nothing speaks TLS, no proxy either: no root certificates are read.
    pub plain: bool,
}

impl Trust {
    /// For an address.
    #[must_use]
    pub fn of(url: &reqwest::Url, verify: bool) -> Self {
        let direct = is_loopback(url.host_str().unwrap_or_default());
        Self { verify, direct, plain: direct && url.scheme() == "http" }
    }
}

/// The clients, made when first needed; one per kind, since connections are
/// pooled in them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    made: Arc<[OnceLock<Result<reqwest::Client, ClientError>>; 8]>,
}

impl Clients {
    /// The client for a kind of host.
    ///
    /// # Errors
    /// If it cannot be set up, as with a malformed proxy address.
    pub fn get(&self, trust: Trust) -> Result<reqwest::Client, ClientError> {
        let [verify, direct, plain] = [trust.verify, trust.direct, trust.plain].map(usize::from);
        let at = verify + 2 * direct + 4 * plain;
        self.made[at].get_or_init(|| build(trust)).clone()
    }
}

fn build(trust: Trust) -> Result<reqwest::Client, ClientError> {
    install_crypto();
    let base = || {
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT);
        let builder = match resolve::without_servers() {
            Some(hosts) => builder.no_hickory_dns().dns_resolver(hosts),
            None => builder.hickory_dns(true),
        };
        if trust.direct { builder.no_proxy() } else { builder }
    };
    if trust.plain {
        let none = base().tls_certs_only(std::iter::empty()).build();
        return none.map_err(|error| ClientError(causes(&error)));
    }
    if !trust.verify {
        return base()
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|error| ClientError(causes(&error)));
    }
    let system = match base().build() {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    let mut roots = Vec::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        roots.push(
            reqwest::Certificate::from_der(root).map_err(|error| ClientError(causes(&error)))?,
        );
    }
    // What was wrong first is the better message if both ways fail.
    base().tls_certs_only(roots).build().map_err(|_| ClientError(causes(&system)))
}

/// True for `localhost` and loopback addresses; `host` may carry a port.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A host without its port.
#[must_use]
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// An error with all its causes, which is where reqwest and hyper hide the reason.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Many wrap a cause and repeat its text.
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    escaped(&texts.join(": "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.example.com", "127.0.0.1.example.com:80", "10.0.0.1", "[::2]:5000"] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn every_kind_of_client_can_be_made() {
        let clients = Clients::default();
        for number in 0..8 {
            let [verify, direct, plain] = [1, 2, 4].map(|bit| number & bit != 0);
            clients.get(Trust { verify, direct, plain }).unwrap();
        }
    }
}
