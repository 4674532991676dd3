//! Names on a machine that has no name server.
//!
//! Without a readable `/etc/resolv.conf` the resolver of the HTTP client would
//! ask a public one, which nobody asked for and which an isolated machine
//! waits for in vain. `localhost` and `/etc/hosts` still work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Knows what a hosts file says, and `localhost`.
#[derive(Debug)]
pub(super) struct Hosts(String);

/// The resolver for a machine without name servers; `None` if it has some.
pub(super) fn without_servers() -> Option<Hosts> {
    if std::fs::read("/etc/resolv.conf").is_ok() {
        return None;
    }
    Some(Hosts(std::fs::read_to_string(Path::new("/etc/hosts")).unwrap_or_default()))
}

impl Hosts {
    fn look_up(&self, wanted: &str) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for line in self.0.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            if words.any(|name| name.eq_ignore_ascii_case(wanted)) {
                found.push(address);
            }
        }
        let wanted = wanted.to_ascii_lowercase();
        // RFC 6761, 6.3.
        if found.is_empty() && (wanted == "localhost" || wanted.ends_with(".localhost")) {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        found
    }
}

impl Resolve for Hosts {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.look_up(name.as_str());
        Box::pin(async move {
            if found.is_empty() {
                return Err(format!(
                    "cannot resolve `{}`: there is no /etc/resolv.conf, and it is not in /etc/hosts",
                    name.as_str()
                )
                .into());
            }
            let addresses: Addrs =
                Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_file() {
        let hosts = Hosts("127.0.0.1 me # other\n10.1.2.3\tregistry.corp  reg\nbad line\n".into());
        assert_eq!(hosts.look_up("REG"), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        assert!(hosts.look_up("other").is_empty());
        assert_eq!(hosts.look_up("localhost").len(), 2);
        assert!(hosts.look_up("example.com").is_empty());
    }
}
