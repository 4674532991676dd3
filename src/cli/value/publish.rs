//! `-p [[ADDRESS:]HOST:]CONTAINER[/tcp|/udp]`.

use std::net::IpAddr;
use std::str::FromStr;

use super::ValueError;
use crate::container::{Port, Protocol};

/// A port of the container that the host's port leads to; on the command line
/// `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish(pub Port);

impl FromStr for Publish {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => {
                return Err(ValueError::new(format!("`{other}` is neither tcp nor udp")));
            }
        };
        let (front, container) = match ports.rsplit_once(':') {
            Some((front, container)) => (Some(front), container),
            None => (None, ports),
        };
        let container = port(container)?;
        let Some(front) = front else {
            return Ok(Self(Port { host_ip: None, host: 0, container, proto: protocol }));
        };
        let (address, host) = match front.rsplit_once(':') {
            Some((address, host)) => (Some(address_of(address)?), host),
            None => (None, front),
        };
        // 0 is any free port.
        let host = if host.is_empty() { 0 } else { port(host)? };
        Ok(Self(Port { host_ip: address, host, container, proto: protocol }))
    }
}

fn address_of(text: &str) -> Result<IpAddr, ValueError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| ValueError::new(format!("`{text}` is no IP address")))
}

fn port(text: &str) -> Result<u16, ValueError> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ValueError::new(format!(
            "`{text}` is no port from 1 to 65535; [[ADDRESS:]HOST:]CONTAINER[/udp] is expected"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let of = |text: &str| {
            let Publish(it) = text.parse().ok()?;
            Some((it.host_ip.map(|a| a.to_string()), it.host, it.container, it.proto))
        };
        let local = || Some("127.0.0.1".to_owned());
        assert_eq!(of("80"), Some((None, 0, 80, Protocol::Tcp)));
        assert_eq!(of("8080:80/udp"), Some((None, 8080, 80, Protocol::Udp)));
        assert_eq!(of("127.0.0.1:8080:80"), Some((local(), 8080, 80, Protocol::Tcp)));
        assert_eq!(of("127.0.0.1::80"), Some((local(), 0, 80, Protocol::Tcp)));
        assert_eq!(of("[::1]:1:2"), Some((Some("::1".into()), 1, 2, Protocol::Tcp)));
        for bad in ["", "0", "a:80", "80:", "70000", "80/sctp", "host:1:2", "1-3:1-3"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
