//! The proxy that the environment names for an address.
//!
//! `HTTPS_PROXY` and `HTTP_PROXY` by the address's scheme, else `ALL_PROXY`; all of them in
//! capitals or not. `NO_PROXY` lists what is spoken to directly, as curl has it: domains with
//! all below them, addresses, networks (`10.0.0.0/8`), each with a port or without; `*` is
//! everything. Loopback addresses never go through a proxy. In a CGI program, where
//! `HTTP_PROXY` is a header of whoever calls, no proxy is used.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use super::{ClientError, is_loopback, without_port};
use crate::env;

/// A proxy, with the credentials for it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) url: Url,
    variable: &'static str,
}

impl fmt::Display for Proxy {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.url.host_str(), self.url.port_or_known_default());
        let (host, port) = (host.unwrap_or_default(), port.unwrap_or_default());
        write!(f, "{host}:{port} ({})", self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// What the environment says.
#[derive(Default)]
pub(super) struct Proxies {
    http: Option<(&'static str, String)>,
    https: Option<(&'static str, String)>,
    not: String,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("not", &self.not).finish_non_exhaustive()
    }
}

impl Proxies {
    pub(super) fn from_env() -> Self {
        if env::get(env::REQUEST_METHOD).is_some() {
            return Self::default();
        }
        let [http, https, not, all, ..] = env::PROXIES;
        let [.., http_small, https_small, not_small, all_small] = env::PROXIES;
        // What is no text is no address either, and is refused as such.
        let first = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|name| Some((*name, env::get(name)?.to_string_lossy().into_owned())))
        };
        Self {
            http: first(&[http, http_small, all, all_small]),
            https: first(&[https, https_small, all, all_small]),
            not: first(&[not, not_small]).map_or_else(String::new, |(_, value)| value),
        }
    }

    #[cfg(test)]
    pub(super) fn https(value: &str) -> Self {
        Self { https: Some(("HTTPS_PROXY", value.into())), ..Self::default() }
    }

    /// The proxy for an address; `None` if it is spoken to directly.
    pub(super) fn of(&self, url: &Url) -> Result<Option<Proxy>, ClientError> {
        let host = url.host_str().unwrap_or_default();
        let setting = if url.scheme() == "http" { &self.http } else { &self.https };
        let Some((variable, value)) = setting else { return Ok(None) };
        if is_loopback(host) || excepted(&self.not, host, url.port_or_known_default()) {
            return Ok(None);
        }
        // The value may hold a password: it is not shown.
        let wrong = |why: &str| ClientError(format!("{variable} {why}"));
        let text =
            if value.contains("://") { value.clone() } else { format!("http://{}", value.trim()) };
        let url: Url = text.trim().parse().map_err(|_| {
            wrong("is no address of a proxy: http://[USER:PASSWORD@]HOST:PORT is expected")
        })?;
        match url.scheme() {
            "http" | "https" => {}
            other => {
                let other = super::escaped(other, 20);
                return Err(wrong(&format!(
                    "names a proxy of the kind `{other}`; kiln speaks to http and https ones"
                )));
            }
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("names a proxy without a host"));
        }
        Ok(Some(Proxy { url, variable }))
    }
}

/// Whether a list excepts a host from the proxy.
fn excepted(list: &str, host: &str, port: Option<u16>) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    list.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        // The last group of a bare IPv6 address is no port.
        let bare = if entry.parse::<IpAddr>().is_ok() { entry } else { without_port(entry) };
        let only = entry.strip_prefix(bare).and_then(|rest| rest.strip_prefix(':'));
        if only.is_some_and(|only| only.parse().ok() != port) {
            return false;
        }
        let bare = bare.trim_matches(['[', ']']).to_ascii_lowercase();
        if let Some(address) = address {
            return within(&bare, address);
        }
        let domain = bare.strip_prefix('*').unwrap_or(&bare);
        let domain = domain.strip_prefix('.').unwrap_or(domain).trim_end_matches('.');
        !domain.is_empty()
            && host.strip_suffix(domain).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
    })
}

/// Whether an address is that of an entry, or in its network (RFC 4632).
fn within(entry: &str, address: IpAddr) -> bool {
    let (base, length) = match entry.split_once('/') {
        Some((base, length)) => (base, length.parse::<u32>().ok()),
        None => (entry, Some(128)),
    };
    let (Ok(base), Some(length)) = (base.parse::<IpAddr>(), length) else { return false };
    let same = |a: u128, b: u128, bits: u32| {
        let off = bits.saturating_sub(length);
        a.checked_shr(off) == b.checked_shr(off)
    };
    match (base, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions() {
        for (list, url, direct) in [
            ("", "https://a.example/", false),
            ("*", "https://a.example/", true),
            ("a.example", "https://a.example/", true),
            ("a.example", "https://b.a.example/", true),
            ("a.example", "https://ba.example/", false),
            (".example", "https://a.example/", true),
            ("*.a.example", "https://b.a.example/", true),
            ("A.Example.", "https://a.example/", true),
            ("a.example:5000", "https://a.example:5000/", true),
            ("a.example:5000", "https://a.example/", false),
            ("a.example:443", "https://a.example/", true),
            ("x, 10.0.0.0/8", "http://10.2.3.4:5000/", true),
            ("10.0.0.0/8", "http://11.2.3.4/", false),
            ("10.0.0.0/0", "http://11.2.3.4/", true),
            ("10.2.3.4", "http://10.2.3.4:80/", true),
            ("10.2.3.4:81", "http://10.2.3.4:80/", false),
            ("10.2.3.0/x", "http://10.2.3.4/", false),
            ("fd00::/8", "http://[fd00::1]/", true),
            ("[fd00::1]:80", "http://[fd00::1]/", true),
            ("fd00::/0", "http://[1::1]/", true),
            ("fd00::1", "http://[fd00::2]/", false),
            (",,", "http://a/", false),
        ] {
            let proxy = Some(("HTTP_PROXY", "http://me:pw@proxy:3128".to_owned()));
            let proxies = Proxies { http: proxy.clone(), https: proxy, not: list.into() };
            let found = proxies.of(&url.parse().unwrap()).unwrap();
            assert_eq!(found.is_none(), direct, "{list}: {url}");
        }
    }

    #[test]
    fn addresses_of_proxies() {
        let of = |value: &str, url: &str| {
            let https = Some(("HTTPS_PROXY", value.to_owned()));
            let proxies = Proxies { https, ..Proxies::default() };
            let found = proxies.of(&url.parse().unwrap());
            found.map(|found| found.map(|proxy| format!("{proxy} {proxy:?}")))
        };
        let shown = Some("p.corp:3128 (HTTPS_PROXY) Proxy(p.corp:3128 (HTTPS_PROXY))".to_owned());
        for value in ["p.corp:3128", "http://p.corp:3128/", "http://me:s3cret@p.corp:3128"] {
            assert_eq!(of(value, "https://r.example/").unwrap(), shown, "{value}");
        }
        assert_eq!(of("p.corp", "http://r.example/").unwrap(), None);
        assert_eq!(of("p.corp", "https://127.0.0.1:5000/").unwrap(), None);
        assert_eq!(of("::", "https://localhost/").unwrap(), None);
        for bad in ["socks5://me:s3cret@p:1", "me:s3cret@p:port", "http://", "http://me:s3cret@"] {
            let error = of(bad, "https://r.example/").unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("s3cret"), "{error}");
        }
    }
}
