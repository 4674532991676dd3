//! The HTTP client that everything but the Kubernetes client goes out through.
//!
//! TLS is rustls with ring (`tls.rs`). Roots of trust are the system's; a machine without
//! any (an air-gapped or scratch one) gets Mozilla's list, so that the lack of
//! a bundle is met only by those who need another root. A host may have roots and client
//! certificates of its own ([`Certs`]); each host has a client of its own, so that nothing
//! of one is shown to another. Names are resolved by
//! hickory-dns, never by the libc (a static binary cannot load its modules);
//! without a `resolv.conf` only `/etc/hosts` and `localhost` are known, since a
//! public name server was never asked for. `HTTP_PROXY`, `HTTPS_PROXY`,
//! `ALL_PROXY` and `NO_PROXY` are honoured as curl does, except that loopback
//! addresses are always spoken to directly (`proxy.rs`).
//!
//! [`FileRequest`] alone is not of that client: it brings files to servers of this machine.
//!
//! Nothing of it makes a socket, nor does any other part of kiln, while the door is shut
//! (`door.rs`): that is what `--offline` does.
//!
//! The client follows no redirect and repeats nothing: who asks knows what it
//! may send where ([`crate::registry`]). Here are the limits for that:
//! [`Backoff`] for repeats, [`escaped`] for texts of servers.

mod backoff;
mod certs;
mod door;
mod file;
mod proxy;
mod resolve;
mod text;
mod tls;

pub use backoff::{Backoff, retry_after};
pub use certs::{Certs, CertsError};
pub use door::{Offline, Word, is_shut, listen, local_address, pass, shut};
pub use file::{FileRequest, RequestError};
pub use text::{escaped, spelled};

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::Url;

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

/// How far a host is trusted.
#[derive(Debug, Clone)]
pub struct Trust {
    /// False accepts any certificate: for hosts the user named as insecure.
    pub verify: bool,
    /// What the host has of its own.
    pub certs: Option<Arc<Certs>>,
}

impl Default for Trust {
    fn default() -> Self {
        Self { verify: true, certs: None }
    }
}

/// What tells clients apart.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    tls: bool,
    /// Host and port; empty for what is spoken to in the clear on this machine.
    host: String,
    verify: bool,
    /// The folder of certificates, and whether kiln shows some.
    certs: Option<(PathBuf, bool)>,
}

#[derive(Debug, Clone)]
struct Made {
    client: reqwest::Client,
    /// True once the host wanted to see a certificate.
    asked: Arc<AtomicBool>,
}

type Slot = Arc<OnceLock<Result<Made, ClientError>>>;

#[derive(Debug, Default)]
struct Shared {
    made: Mutex<HashMap<Kind, Slot>>,
    roots: tls::Roots,
    proxies: OnceLock<proxy::Proxies>,
}

/// The clients, made when first needed; one per host and trust, since connections are
/// pooled in them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Shared>);

impl Clients {
    /// The client for an address.
    ///
    /// # Errors
    /// If it cannot be set up, as with a malformed proxy address.
    pub fn get(&self, url: &Url, trust: &Trust) -> Result<reqwest::Client, ClientError> {
        Ok(self.made(url, trust)?.client)
    }

    /// Whether the host of an address has wanted to see a client certificate.
    #[must_use]
    pub fn asked(&self, url: &Url, trust: &Trust) -> bool {
        self.made(url, trust).is_ok_and(|made| made.asked.load(Ordering::Relaxed))
    }

    /// The proxy that an address is reached through, in words without its password.
    #[must_use]
    pub fn proxy(&self, url: &Url) -> Option<String> {
        self.proxies().of(url).ok().flatten().map(|proxy| proxy.to_string())
    }

    fn proxies(&self) -> &proxy::Proxies {
        self.0.proxies.get_or_init(proxy::Proxies::from_env)
    }

    fn made(&self, url: &Url, trust: &Trust) -> Result<Made, ClientError> {
        let asked = || format!("asking {}", url.host_str().unwrap_or_default());
        door::pass(&asked()).map_err(|offline| ClientError(offline.to_string()))?;
        let tls = url.scheme() != "http";
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let kind = match !tls && is_loopback(host) {
            true => Kind { tls, host: String::new(), verify: true, certs: None },
            false => Kind {
                tls,
                host: format!("{host}:{port}"),
                verify: trust.verify,
                certs: trust.certs.as_ref().map(|it| (it.folder().to_owned(), it.has_pairs())),
            },
        };
        // A panic elsewhere leaves the map whole.
        let mut all = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(all.entry(kind).or_default());
        drop(all);
        slot.get_or_init(|| self.make(url, trust)).clone()
    }

    fn make(&self, url: &Url, trust: &Trust) -> Result<Made, ClientError> {
        install_crypto();
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .no_proxy();
        let builder = match resolve::without_servers() {
            Some(hosts) => builder.no_hickory_dns().dns_resolver(hosts),
            None => builder.hickory_dns(true),
        };
        let cannot = |error: reqwest::Error| ClientError(causes(&error.without_url()));
        let proxy = self.proxies().of(url)?;
        let own = trust.certs.as_ref().is_some_and(|certs| certs.has_pairs());
        if let Some(proxy) = proxy.as_ref().filter(|proxy| proxy.url.scheme() == "https")
            && url.scheme() != "http"
            && (own || !trust.verify)
        {
            let host = url.host_str().unwrap_or_default();
            return Err(ClientError(format!(
                "what holds for {host} alone (that its certificate is not looked at, or a client \
                 certificate) would hold for the proxy {proxy} too, as it speaks TLS: name one \
                 with http://"
            )));
        }
        let asked = Arc::new(AtomicBool::new(false));
        let builder = if url.scheme() != "http" {
            let certs = trust.certs.as_deref();
            builder.tls_backend_preconfigured(tls::config(
                trust.verify,
                certs,
                &self.0.roots,
                &asked,
            )?)
        } else if proxy.as_ref().is_some_and(|proxy| proxy.url.scheme() == "https") {
            builder.tls_backend_preconfigured(tls::config(true, None, &self.0.roots, &asked)?)
        } else {
            // Nothing here speaks TLS: no root certificates are read.
            builder.tls_certs_only(std::iter::empty())
        };
        let builder = match proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.url).map_err(cannot)?),
            None => builder,
        };
        Ok(Made { client: builder.build().map_err(cannot)?, asked })
    }
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
    fn a_proxy_with_tls_is_not_trusted_as_a_host_is() {
        for (verify, proxy, made) in [
            (true, "https://p.example", true),
            (false, "https://p.example", false),
            (false, "http://p.example", true),
        ] {
            let clients = Clients::default();
            clients.0.proxies.set(proxy::Proxies::https(proxy)).unwrap();
            let trust = Trust { verify, ..Trust::default() };
            let got = clients.get(&"https://r.example/".parse().unwrap(), &trust);
            assert_eq!(got.is_ok(), made, "{proxy}: {got:?}");
        }
    }

    #[test]
    fn a_client_for_each_host_and_trust() {
        let clients = Clients::default();
        for verify in [true, false] {
            for url in ["https://a.example/", "https://b.example/", "http://127.0.0.1:1/"] {
                let trust = Trust { verify, ..Trust::default() };
                clients.get(&url.parse().unwrap(), &trust).unwrap();
                clients.get(&url.parse().unwrap(), &trust).unwrap();
            }
        }
        assert_eq!(clients.0.made.lock().unwrap().len(), 5);
    }
}
