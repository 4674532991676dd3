//! `EXPOSE`: ports that a container of the image listens on.

use std::net::IpAddr;
use std::str::FromStr;

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    pub span: Span,
    pub text: String,
    /// Each may expand to several words, and each of these is [`Ports`].
    pub ports: Vec<Spanned<String>>,
}

impl Expose {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        st.no_flags(out)?;
        let ports: Vec<_> = st.blank_separated().iter().map(|word| st.spanned(word)).collect();
        if ports.is_empty() {
            out.push(st.lacks("a port").hint("write EXPOSE 8080 or EXPOSE 53/udp"));
            return None;
        }
        Some(Self { span: st.span(), text: st.text(), ports })
    }
}

/// A port or a range of them, as an expanded word of `EXPOSE` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

/// Why a word names no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no port: a number up to 65535 or a range, perhaps with /tcp, /udp or /sctp")]
pub struct PortError(String);

impl Ports {
    /// The ports as an image's config names them: `8080/tcp`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

impl FromStr for Ports {
    type Err = PortError;

    fn from_str(word: &str) -> Result<Self, PortError> {
        let refuse = || PortError(word.to_owned());
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, word),
        };
        let (port, protocol) = port.split_once('/').unwrap_or((port, ""));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => "tcp",
            "udp" => "udp",
            "sctp" => "sctp",
            _ => return Err(refuse()),
        };
        let number = |text: &str| text.parse::<u16>().map_err(|_| refuse());
        let range = |text: &str| match text.split_once('-') {
            Some((first, last)) if number(first)? <= number(last)? => {
                Ok((number(first)?, number(last)?))
            }
            Some(_) => Err(refuse()),
            None => Ok((number(text)?, number(text)?)),
        };
        let (first, last) = range(port)?;
        // An address and a port of the host mean nothing here, and must be right.
        if let Some(host) = host {
            let (address, port) = host.rsplit_once(':').unwrap_or(("", host));
            let (from, to) = if port.is_empty() { (first, last) } else { range(port)? };
            let bare = address.strip_prefix('[').and_then(|bare| bare.strip_suffix(']'));
            let known = address.is_empty() || bare.unwrap_or(address).parse::<IpAddr>().is_ok();
            if !known || (first != last && to - from != last - first) {
                return Err(refuse());
            }
        }
        Ok(Self { first, last, protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let names = |word: &str| word.parse::<Ports>().map(|ports| ports.names().collect());
        let cases: [(&str, &[&str]); 7] = [
            ("8080", &["8080/tcp"]),
            ("53/UDP", &["53/udp"]),
            ("80/", &["80/tcp"]),
            ("8000-8002/sctp", &["8000/sctp", "8001/sctp", "8002/sctp"]),
            ("127.0.0.1:80:8080", &["8080/tcp"]),
            ("[::1]::80/udp", &["80/udp"]),
            ("8000-8010:80", &["80/tcp"]),
        ];
        for (word, want) in cases {
            let want: Vec<String> = want.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(names(word), Ok(want), "{word}");
        }
        for word in [
            "",
            "/tcp",
            "http",
            "70000",
            "2-1",
            "80/icmp",
            "-1",
            "1-",
            "80 81",
            "x:80",
            "x:1:80",
            "1-3:80-81",
            "80:",
        ] {
            assert!(names(word).is_err(), "{word}");
        }
    }
}
