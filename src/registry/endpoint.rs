//! Addresses: which scheme a host is spoken to in, and where an answer may send
//! kiln next.

use std::time::Duration;

use reqwest::{StatusCode, Url};

use super::{Registries, RegistryError};
use crate::net::{self, causes};
use crate::reference::DOCKER_HUB;

/// Where Docker Hub's API answers.
pub(super) const HUB_API: &str = "registry-1.docker.io";

/// Longest wait for a host that may speak plain HTTP to answer a TLS greeting.
const PROBE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// The base address of a registry. For hosts that may be spoken to without TLS
/// the first call finds out whether they have it; no credentials are in play.
pub(super) async fn base(
    at: &Registries,
    host: &str,
    insecure: bool,
) -> Result<Url, RegistryError> {
    if insecure {
        at.allow_plain(host);
    }
    let api = if host == DOCKER_HUB { HUB_API } else { host };
    let address = |scheme: Scheme| {
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let url = Url::parse(&format!("{scheme}://{api}/"));
        url.ok()
            .filter(|url| {
                url.host_str().is_some() && url.path() == "/" && url.query().is_none() && plain(url)
            })
            .ok_or_else(|| RegistryError::NotAHost(net::escaped(host, 100)))
    };
    let https = address(Scheme::Https)?;
    at.online(host)?;
    at.set_registry(&host_of(&https));
    if !at.plain_allowed(api) {
        return Ok(https);
    }
    if let Some(known) = at.scheme(api) {
        return address(known);
    }
    let http = address(Scheme::Http)?;
    // To this machine's own registries both ways are equally safe, and setting TLS up
    // takes longer than a small push.
    if net::is_loopback(api) && speaks_plainly(at, &http).await {
        at.set_scheme(api, Scheme::Http);
        return Ok(http);
    }
    let client = at.client_for(&https)?;
    let ping = https.join("v2/").map_err(|_| RegistryError::NotAHost(host.into()))?;
    let scheme = match tokio::time::timeout(PROBE, client.get(ping.clone()).send()).await {
        Ok(Ok(_)) => Scheme::Https,
        // A certificate that is not trusted is a reason to stop, not to go on in the clear,
        // and so is a server that does not like kiln's.
        Ok(Err(error)) if speaks_tls(at, &ping, &error) => {
            return Err(broken(at, &ping, host, "its certificate", error));
        }
        Ok(Err(_)) | Err(_) => Scheme::Http,
    };
    let base = match scheme {
        Scheme::Http => http,
        Scheme::Https => https,
    };
    // A host that answers neither is reported by the request that follows.
    at.set_scheme(api, scheme);
    Ok(base)
}

/// True if a registry answers at an address without TLS. A server that has it answers
/// such a request with a complaint (400) or a redirect, or hangs up; one that is silent
/// is given up later, by the request that follows.
async fn speaks_plainly(at: &Registries, http: &Url) -> bool {
    let (Ok(ping), Ok(client)) = (http.join("v2/"), at.client_for(http)) else { return false };
    match tokio::time::timeout(PROBE, client.get(ping).send()).await {
        Ok(Ok(answer)) => matches!(answer.status(), StatusCode::OK | StatusCode::UNAUTHORIZED),
        Ok(Err(_)) => false,
        Err(_) => true,
    }
}

/// True if an address has nothing but scheme, host, port, path and query.
fn plain(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
}

/// The address that `text` (a `Location`, a realm) names, seen from `from`, or
/// why kiln does not go there.
pub(super) fn follow(
    from: &Url,
    text: &str,
    plain_allowed: impl Fn(&str) -> bool,
) -> Result<Url, String> {
    let url = from.join(text).map_err(|error| format!("it is no address: {error}"))?;
    // What else there is may be a key to something.
    let shown = || {
        let place = format!("{}://{}{}", url.scheme(), host_of(&url), url.path());
        net::escaped(&place, 200)
    };
    if url.host_str().is_none_or(str::is_empty) || !plain(&url) {
        return Err(format!("`{}` is no plain address", shown()));
    }
    match (url.scheme(), from.scheme()) {
        ("https", _) => Ok(url),
        ("http", "https") => Err(format!("from https to plain http, `{}`", shown())),
        ("http", _) if same_origin(&url, from) || plain_allowed(&host_of(&url)) => Ok(url),
        ("http", _) => Err(format!("plain http to a host not named as insecure, `{}`", shown())),
        _ => Err(format!("`{}` is neither http nor https", shown())),
    }
}

/// Same scheme, host and port.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Host and port as references write them.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The error that a failed exchange means.
pub(super) fn broken(
    at: &Registries,
    url: &Url,
    host: &str,
    what: &str,
    error: reqwest::Error,
) -> RegistryError {
    use rustls::Error as Tls;
    let host = host.to_owned();
    let connect = error.is_connect();
    let proxy = at.proxy(url);
    let refused = refused_by_proxy(&error);
    let tls = tls_cause(&error).cloned();
    let why = causes(&error.without_url());
    if let Some(proxy) = &proxy
        && refused
    {
        return RegistryError::Proxy { host, proxy: proxy.clone(), words: String::new() };
    }
    match tls {
        Some(Tls::AlertReceived(alert)) if at.asked_for_certificate(url) => {
            at.certificate_wanted(url, host, format!("it says `{alert:?}`"))
        }
        // The first bytes were no TLS record: the other side speaks something else.
        Some(Tls::InvalidMessage(_)) => {
            let help = format!("if {host} is meant to be used without TLS, name it as insecure");
            RegistryError::Tls { host, why, plain: true, help }
        }
        Some(Tls::InvalidCertificate(fault)) => {
            let (why, help) = certificate(at, url, &host, &fault, why);
            RegistryError::Tls { host, why, plain: false, help }
        }
        Some(_) => {
            let help = format!("see what `openssl s_client -connect {}` says", dialled(url));
            RegistryError::Tls { host, why, plain: false, help }
        }
        // The alert that says so may be lost when the connection is reset.
        None if at.asked_for_certificate(url) && !at.has_answered(url) => {
            at.certificate_wanted(url, host, why)
        }
        None => {
            let why = match proxy {
                Some(proxy) => format!("{why} (through the proxy {proxy})"),
                None => why,
            };
            if connect {
                RegistryError::Unreachable { host, why }
            } else {
                RegistryError::Interrupted { host, what: what.into(), why }
            }
        }
    }
}

/// What is wrong with a server's certificate, and what to try.
fn certificate(
    at: &Registries,
    url: &Url,
    host: &str,
    fault: &rustls::CertificateError,
    otherwise: String,
) -> (String, String) {
    use rustls::CertificateError as Fault;
    let insecure = format!("or name {host} as insecure");
    match fault {
        Fault::UnknownIssuer => (
            "its certificate is signed by nobody that this machine trusts".into(),
            format!(
                "put the registry's root certificate into {} as ca.crt, or among the system's, \
                 {insecure}",
                at.folder_for(url).display()
            ),
        ),
        Fault::Expired | Fault::ExpiredContext { .. } => (
            format!("its certificate has expired{}", moments(fault)),
            format!("whoever runs {host} has to renew it; is this machine's clock right?"),
        ),
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => (
            format!("its certificate is not valid yet{}", moments(fault)),
            "is this machine's clock right?".into(),
        ),
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            let names = match fault {
                Fault::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                    net::escaped(&format!(", but for {}", presented.join(", ")), 300)
                }
                _ => String::new(),
            };
            (
                format!(
                    "its certificate is not for the name `{}`{names}",
                    url.host_str().unwrap_or_default()
                ),
                format!("use a name that the certificate is for, {insecure}"),
            )
        }
        _ => (
            otherwise,
            format!("whoever runs {host} has to give it a certificate that holds, {insecure}"),
        ),
    }
}

/// When a certificate's time is, if that is known.
fn moments(fault: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Fault;
    let day = |time: &rustls::pki_types::UnixTime| {
        let seconds = i64::try_from(time.as_secs()).ok()?;
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        Some(time.to_string())
    };
    let (bound, word) = match fault {
        Fault::ExpiredContext { not_after, .. } => (not_after, "until"),
        Fault::NotValidYetContext { not_before, .. } => (not_before, "from"),
        _ => return String::new(),
    };
    day(bound).map_or_else(String::new, |day| format!(" (it is valid {word} {day})"))
}

/// True if the other side spoke TLS and does not want to go on.
fn speaks_tls(at: &Registries, url: &Url, error: &reqwest::Error) -> bool {
    match tls_cause(error) {
        Some(rustls::Error::InvalidCertificate(_)) => true,
        _ => at.asked_for_certificate(url) || refused_by_proxy(error),
    }
}

/// True if a proxy wants to know who is there. The client's own type for it is private.
fn refused_by_proxy(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).contains("proxy authorization required")
}

/// Host and port, as `openssl` takes them.
fn dialled(url: &Url) -> String {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
    format!("{host}:{}", port.unwrap_or_default())
}

/// What TLS had to object, if it was TLS.
fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error's source is its content's source; the content is skipped.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref())
            && let Some(found) = tls_cause(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_21_where_an_answer_may_send_kiln() {
        let allowed = |host: &str| host.starts_with("127.0.0.1") || host == "lab:5000";
        for (from, to, expected) in [
            (
                "https://r/v2/a/blobs/uploads/",
                "/v2/a/blobs/uploads/1?s=2",
                Some("https://r/v2/a/blobs/uploads/1?s=2"),
            ),
            ("https://r/v2/a/", "https://cdn.example/x?sig=1", Some("https://cdn.example/x?sig=1")),
            ("https://r/v2/a/", "http://r/x", None),
            ("https://r:5000/v2/a/", "http://r:5000/x", None),
            ("https://r/v2/a/", "http://127.0.0.1:1/x", None),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:6000/t", Some("http://127.0.0.1:6000/t")),
            ("http://127.0.0.1:5000/", "http://other/t", None),
            ("http://127.0.0.1:5000/", "http://lab:5000/t", Some("http://lab:5000/t")),
            ("http://127.0.0.1:5000/", "https://other/t", Some("https://other/t")),
            ("https://r/", "file:///etc/passwd", None),
            ("https://r/", "https://user:pw@r/", None),
            ("https://r/", "uploads/1", Some("https://r/uploads/1")),
            ("https://r/", "https://", None),
            ("https://r/", "//cdn.example/x", Some("https://cdn.example/x")),
        ] {
            let url = follow(&Url::parse(from).unwrap(), to, allowed);
            assert_eq!(url.as_ref().ok().map(Url::as_str), expected, "{from} → {to}: {url:?}");
        }
    }

    #[test]
    fn rule_19_origin_is_scheme_host_and_port() {
        let base = Url::parse("https://r.example/").unwrap();
        for (other, same) in [
            ("https://r.example:443/x", true),
            ("http://r.example/", false),
            ("https://r.example:444/", false),
            ("https://sub.r.example/", false),
        ] {
            assert_eq!(same_origin(&Url::parse(other).unwrap(), &base), same, "{other}");
        }
    }

    #[tokio::test]
    async fn rule_20_plain_http_is_for_hosts_named_so() {
        let at = Registries::with(Default::default(), Default::default(), false);
        for (host, address) in [
            ("docker.io", "https://registry-1.docker.io/"),
            ("registry.example:5000", "https://registry.example:5000/"),
            // Nobody listens there.
            ("127.0.0.1:1", "http://127.0.0.1:1/"),
        ] {
            assert_eq!(base(&at, host, false).await.unwrap().as_str(), address);
        }
        for odd in ["", "a/b", "user@host", "host#x", "host?x", "[::1"] {
            assert!(base(&at, odd, false).await.is_err(), "{odd}");
        }
    }
}
