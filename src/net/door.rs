//! The one door to the network, and whether it is shut.
//!
//! Every socket of a network family that kiln makes, and every program that it starts which
//! could make one, is asked for here first ([`pass`]). So the word of whoever wants to work
//! offline holds in parts that have never heard of it. It is said once, for the whole process,
//! before there is anything that could ask.
//!
//! Two make sockets of theirs and need no word: what brings up the loopback of a step's own
//! network, and what connects to the published ports of a container. Both are in a network
//! that leads nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::{fmt, io};

/// Who shut it.
static SHUT: OnceLock<Word> = OnceLock::new();

/// Whose word it is that kiln works offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Flag,
    Variable,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--offline"),
            Self::Variable => write!(f, "{}", crate::env::OFFLINE),
        }
    }
}

/// Something needs the network, which kiln was told to do without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} needs the network, and {by} says to work offline")]
pub struct Offline {
    pub what: String,
    pub by: Word,
}

impl From<Offline> for io::Error {
    fn from(offline: Offline) -> Self {
        Self::new(io::ErrorKind::NetworkDown, offline)
    }
}

/// Shuts the door, for as long as the process lives.
pub fn shut(by: Word) {
    // Whoever came first is the one to name.
    let _ = SHUT.set(by);
}

/// Whether it is shut, and by whom.
#[must_use]
pub fn is_shut() -> Option<Word> {
    SHUT.get().copied()
}

/// Lets by what needs the network, unless kiln works offline. `what` begins a sentence.
///
/// # Errors
/// If it does.
pub fn pass(what: &str) -> Result<(), Offline> {
    match is_shut() {
        None => Ok(()),
        Some(by) => Err(Offline { what: what.to_owned(), by }),
    }
}

/// The address of this machine that packets of a server come back to.
#[must_use]
pub fn local_address(server: SocketAddr) -> Option<IpAddr> {
    pass("looking up a route").ok()?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Nothing is sent: the kernel looks up its route.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Begins to listen.
///
/// # Errors
/// If the address is not to be had, or kiln works offline.
pub fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    pass("listening")?;
    std::net::TcpListener::bind(addr)
}
