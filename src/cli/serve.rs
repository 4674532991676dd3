//! `kiln serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::json;

use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::{self, CliError};
use super::text;
use crate::serve::{self, Access, Logger, Options, Passwords, Server};

/// Serve the images of the store as a registry
///
/// Clients pull what has a name here, by that name: HOST:PORT/NAME. Once it listens, its
/// address is printed. It ends at SIGINT or SIGTERM, after what is running.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    pub addr: ListenAddress,

    /// Let clients push, and delete: what they push has the names that builds with this store
    /// look for first
    #[arg(long)]
    pub writable: bool,

    /// Certificates to speak TLS with, in PEM form, the server's own first
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Key of the certificate, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Let in only who has a name and a password in this file, as `htpasswd -B` writes it
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,

    /// Take passwords without TLS, where something else encrypts the connections
    #[arg(long, requires = "htpasswd")]
    pub allow_plain_passwords: bool,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Where to listen: an address with a port, or `localhost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Ok(addr) = text.parse() {
            return Ok(Self(addr));
        }
        let (host, port) = text.rsplit_once(':').ok_or("HOST:PORT is expected")?;
        let port = port.parse().map_err(|_| "a port is a number up to 65535")?;
        match host {
            "localhost" => Ok(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))),
            "" => Err("the host is absent: 127.0.0.1 is this machine alone, 0.0.0.0 any address"),
            _ => Err("the host is an IP address of this machine, or localhost"),
        }
    }
}

/// Serves until a signal comes.
///
/// # Errors
/// If the store cannot be read, or the address, the certificate or the passwords are none.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let addr = args.addr.0;
    let encrypted = args.tls_cert.is_some();
    let local = addr.ip().is_loopback();
    if args.htpasswd.is_some() && !encrypted && !local && !args.allow_plain_passwords {
        return Err(CliError::usage(format!(
            "passwords would pass over the network to {addr} unencrypted"
        ))
        .hint(
            "give --tls-cert and --tls-key; or --allow-plain-passwords if something else encrypts",
        ));
    }
    let progress = invocation.progress(args.progress.progress)?;
    let store = invocation.store()?;
    let passwords = args.htpasswd.as_deref().map(Passwords::read).transpose()?;
    if !encrypted && !local {
        progress.warn(format!(
            "what is served on {addr} is not encrypted, and clients may have to be told that \
             this registry is insecure; --tls-cert and --tls-key change that"
        ));
    }
    if args.writable && passwords.is_none() && !local {
        progress.warn(format!(
            "anybody who reaches {addr} may push and delete, and so decide what builds here \
             begin with: `FROM` looks in this store first; see --htpasswd"
        ));
    }
    for (name, count) in serve::lacking(store)? {
        let name = name.familiar();
        progress.warn(format!(
            "{count} layers of {name} are in another registry only and are not served; \
             `kiln save -o FILE {name}` brings them"
        ));
    }
    let logger: Logger = match invocation.is_quiet() {
        true => Arc::new(|_| ()),
        false if invocation.is_json() => {
            Arc::new(|access| report::say(&text::json(&object(access))))
        }
        false => {
            let progress = progress.clone();
            Arc::new(move |access| progress.note(access.to_string()))
        }
    };
    let options = Options {
        addr,
        writable: args.writable,
        only: None,
        tls: args.tls_cert.zip(args.tls_key),
        passwords,
        logger,
        progress,
    };
    let interrupt = invocation.interrupt()?.clone();
    invocation.runtime()?.block_on(async {
        let server = Server::bind(store, options).await?;
        invocation.print(server.address().to_string())?;
        server
            .run(async {
                interrupt.wait().await;
            })
            .await;
        Ok(())
    })
}

/// A request as `rawjson` shows it.
fn object(access: &Access) -> serde_json::Value {
    json!({"request": {
        "peer": access.peer.to_string(),
        "user": access.user,
        "method": access.method,
        "path": access.path,
        "status": access.status,
        "sent": access.sent,
        "received": access.received,
        "seconds": access.took.as_secs_f64(),
        "agent": access.agent,
        "broken": access.broken,
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:0", Some("127.0.0.1:0")),
            ("localhost:5000", Some("127.0.0.1:5000")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("0.0.0.0:80", Some("0.0.0.0:80")),
            (":5000", None),
            ("5000", None),
            ("example.com:5000", None),
            ("127.0.0.1:70000", None),
            ("", None),
        ] {
            let found = text.parse::<ListenAddress>().ok().map(|addr| addr.0.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
