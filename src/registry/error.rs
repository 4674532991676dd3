//! What can go wrong with a registry, in words that say what, where and why.

use std::path::PathBuf;
use std::time::Duration;

use crate::atomic::PathError;
use crate::digest::BlobDigest;
use crate::image::ImageError;
use crate::net::{CertsError, ClientError};
use crate::platform::Platform;
use crate::store::StoreError;

/// What can go wrong with a registry. Texts that came from a server (`words`,
/// `why`) are escaped and cut before they get here.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{host} would have to be asked, but kiln works offline")]
    Offline { host: String },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("registry `{name}` is blocked by {}", path.display())]
    Blocked { name: String, path: PathBuf },
    #[error(
        "`{name}` is short for any of {}, which {} searches",
        .candidates.join(", "),
        path.display()
    )]
    Short { name: String, candidates: Vec<String>, path: PathBuf },
    #[error("cannot reach {host}: {why}")]
    Unreachable { host: String, why: String },
    #[error("no secure connection to {host}: {why}")]
    Tls {
        host: String,
        why: String,
        /// It does not speak TLS at all.
        plain: bool,
        /// What to try.
        help: String,
    },
    #[error(
        "{host} cannot be reached through the proxy {proxy}: the proxy asks for a login (407){}",
        said(words)
    )]
    Proxy { host: String, proxy: String, words: String },
    #[error(transparent)]
    Certs(#[from] CertsError),
    #[error("{source}; before that {}", .earlier.join("; "))]
    Everywhere {
        /// What mirrors had to say, in the order they were asked.
        earlier: Vec<String>,
        /// What the last place said.
        source: Box<RegistryError>,
    },
    #[error("{host} asks for a login for {what}{}; tried: {tried}", said(words))]
    Unauthorized { host: String, what: String, tried: String, words: String },
    #[error("{host} denies access to {what}{}; tried: {tried}", said(words))]
    Denied { host: String, what: String, tried: String, words: String },
    #[error("{host} has no repository `{repository}`{}", said(words))]
    NoRepository { host: String, repository: String, words: String },
    #[error("{host} has no {what}{}", said(words))]
    NotFound { host: String, what: String, words: String },
    #[error("{host} does not accept the name `{repository}`{}", said(words))]
    Name { host: String, repository: String, words: String },
    #[error("{host} limits requests: {what}{}{}", wish(retry_after), said(words))]
    TooManyRequests { host: String, what: String, retry_after: Option<Duration>, words: String },
    #[error("{host} answered {status} to {what}{}", said(words))]
    Refused { host: String, what: String, status: u16, words: String },
    #[error(
        "{host} does not delete {}{what}{}",
        if *tag { "the tag alone of " } else { "" },
        said(words)
    )]
    NoDeletion { host: String, what: String, tag: bool, words: String },
    #[error("{host} failed with {status} on {what}{}", said(words))]
    Server { host: String, what: String, status: u16, words: String },
    #[error("the transfer of {what} was interrupted ({host}): {why}")]
    Interrupted { host: String, what: String, why: String },
    #[error("{what} from {host} does not match: {expected} was expected, {found} came")]
    Mismatch { host: String, what: String, expected: String, found: String },
    #[error("{what} from {host} has more than {limit} bytes")]
    TooLarge { host: String, what: String, limit: u64 },
    #[error("{what}: {source}")]
    Document { what: String, source: ImageError },
    #[error("`{name}` has no image for {wanted}; it has {}", listed(.available))]
    Platform { name: String, wanted: Box<Platform>, available: Vec<String> },
    #[error("layer {digest} is to be fetched from addresses outside the registry")]
    ForeignLayer { digest: BlobDigest },
    #[error("`{name}` lists an index within an index ({digest})")]
    Nested { name: String, digest: BlobDigest },
    #[error("`{name}` lists {count} manifests, more than the {limit} that are fetched")]
    TooManyManifests { name: String, count: usize, limit: usize },
    #[error(
        "{host}: the token service {service} gives no token ({status}){}; tried: {tried}",
        said(words)
    )]
    Token { host: String, service: String, status: u16, tried: String, words: String },
    #[error("{host} does not follow the distribution API: {why}")]
    Protocol { host: String, why: String },
    #[error("{host} redirects {what} to where kiln does not follow: {why}")]
    Redirect { host: String, what: String, why: String },
    #[error("{}: {why}", path.display())]
    Config { path: PathBuf, why: String },
    #[error("credential helper `{name}`: {why}")]
    Helper { name: String, why: String },
    #[error("`{0}` is not a registry: host or host:port is expected")]
    NotAHost(String),
    #[error("layer {digest} is not in the store, and {} does not give it: {source}", .places.join(", "))]
    Partial {
        digest: BlobDigest,
        /// The repositories that were known to have it.
        places: Vec<String>,
        source: Box<RegistryError>,
    },
    #[error("the index lists {digest}, which is neither in the store nor in the registry")]
    Incomplete { digest: BlobDigest },
    #[error(transparent)]
    Io(#[from] PathError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" (it says: {words})") }
}

fn wish(after: &Option<Duration>) -> String {
    after.map_or_else(String::new, |wait| format!("; it asks to wait {} s", wait.as_secs()))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none that names a platform".to_owned() } else { names.join(", ") }
}

impl RegistryError {
    /// What the user could try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Offline { .. } => Some(
                "`kiln pull` and `kiln save` where there is a network, and `kiln load` here".to_owned(),
            ),
            Self::Unauthorized { host, .. } | Self::Denied { host, .. } => {
                Some(format!("log in with `kiln login {host}`, or check that the name is right"))
            }
            Self::Token { host, status: 400 | 401 | 403, .. } => {
                Some(format!("log in with `kiln login {host}`"))
            }
            Self::Tls { help, .. } => Some(help.clone()),
            Self::Short { name, .. } => Some(format!(
                "write the one that is meant in full, or name it for `{name}` under [aliases] of \
                 that file"
            )),
            Self::Proxy { .. } => Some(
                "give the proxy a user and a password in its variable: http://USER:PASSWORD@HOST:PORT"
                    .to_owned(),
            ),
            Self::Everywhere { source, .. } => source.hint(),
            Self::TooManyRequests { host, .. } => Some(format!(
                "wait, or log in with `kiln login {host}`: accounts have other limits"
            )),
            Self::NoDeletion { tag: true, .. } => Some(
                "many registries delete manifests only: --manifest removes the one that the tag \
                 means, and with it all of its tags"
                    .to_owned(),
            ),
            Self::NoDeletion { tag: false, .. } => Some(
                "deletion may be switched off there: docker's registry allows it with \
                 REGISTRY_STORAGE_DELETE_ENABLED=true, others in their settings"
                    .to_owned(),
            ),
            Self::ForeignLayer { .. } => {
                Some("push the image again with its layers in the registry".to_owned())
            }
            // That it may pass is the lesser part of it.
            Self::Partial { source, .. } => source.hint().filter(|_| !source.may_pass()).or_else(|| {
                Some(
                    "an image that was built with --push has its base's layers in the registry \
                     only; pull or build it again"
                        .to_owned(),
                )
            }),
            Self::Refused { status: 413, .. } => Some(
                "the registry, or a proxy before it, takes no requests of this size (layers go \
                 in chunks of 64 MiB, or whole where a registry wants that); its limit has to be \
                 raised"
                    .to_owned(),
            ),
            Self::Unreachable { host, .. } => Some(format!(
                "check the name and the port, and whether {host} is reached through a proxy \
                 (HTTPS_PROXY, NO_PROXY)"
            )),
            Self::Interrupted { host, .. } | Self::Server { host, status: 500 | 502..=504, .. } => {
                Some(format!(
                    "it was tried several times; try again when {host} and the network are well: \
                 what has arrived whole is not moved again"
                ))
            }
            Self::Store(StoreError::NoBlob(_)) => Some("pull the image first".to_owned()),
            _ => None,
        }
    }

    /// The registry that an answer, or the lack of one, came from.
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::Unreachable { host, .. }
            | Self::Tls { host, .. }
            | Self::Unauthorized { host, .. }
            | Self::Denied { host, .. }
            | Self::NoRepository { host, .. }
            | Self::NotFound { host, .. }
            | Self::TooManyRequests { host, .. }
            | Self::Refused { host, .. }
            | Self::Server { host, .. }
            | Self::Interrupted { host, .. }
            | Self::Mismatch { host, .. }
            | Self::Token { host, .. }
            | Self::Protocol { host, .. }
            | Self::Redirect { host, .. } => Some(host),
            _ => None,
        }
    }

    /// True if another source (a mirror, the registry behind it) may do better.
    pub(super) fn another_may(&self) -> bool {
        !matches!(
            self,
            Self::Offline { .. }
                | Self::Client(_)
                | Self::Certs(_)
                | Self::Short { .. }
                | Self::Platform { .. }
                | Self::Config { .. }
                | Self::Io(_)
                | Self::Store(_)
        )
    }

    /// True if the same request may succeed a little later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Interrupted { .. }
                | Self::Server { .. }
                | Self::Unreachable { .. }
                | Self::Token { status: 408 | 429 | 500 | 502..=504, .. }
        )
    }
}
