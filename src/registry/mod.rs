//! Registries: the OCI distribution API 1.1, as docker's registries speak it.
//!
//! [`pull`] fetches an image into a [`Store`](crate::store::Store), [`push`]
//! brings one to a registry, [`Uploads`] its layers while it is being built,
//! [`resolve`] reads its documents only; [`Origin`] and [`Target`] are for copies that
//! need no store. [`tags`], [`referrers`] and [`delete`] are about what is there. What arrives
//! is compared with its digest and size before it has a name; what was pushed is
//! read back before its digest is given out. Docker's media types are taken as
//! they are (lists, schema 2); schema 1 is refused.
//!
//! Of oci-client this module takes the wire's vocabulary: the error envelope
//! with its codes. Its client is not used, since it
//! reads error bodies without a limit, follows redirects to plain HTTP, drops
//! `Retry-After`, swallows what a token service says when it refuses, and cannot
//! renew a token or use an identity token; those are promises made here
//! (`transport.rs`, `authorize.rs`). A transfer that breaks off goes on where it was: downloads
//! within a process (`reading.rs`), uploads after a kill too, where the registry knows how far
//! they came (`upload.rs`). Not done yet: downloads that go on after a kill.

mod artifact;
mod auth;
mod authorize;
mod blob;
mod certs;
mod copy;
mod delete;
mod destination;
mod endpoint;
mod error;
mod manifest;
mod mirror;
mod origin;
mod pages;
mod pull;
mod push;
mod reading;
mod referrers;
mod tags;
mod transport;
mod upload;
mod uploads;
mod words;

pub use artifact::{lacking, push_artifact};
pub use auth::{Credentials, Kept, Login, logged_in, login, logout, logout_all};
pub use copy::{Content, Lacking, Origin, Target};
pub use delete::{Removal, delete};
pub use error::RegistryError;
pub use origin::{known_origins, pull_blob, pull_layers, remember_layers};
pub use pull::{
    Document, Resolved, Want, document, documents, pin, pull, pull_documents, resolve,
    resolve_known,
};
pub use push::push;
pub use referrers::referrers;
pub use tags::tags;
pub use uploads::Uploads;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::digest::BlobDigest;
use crate::net::{self, Clients};
use crate::progress::Progress;
use crate::reference::Reference;
use auth::{Keyring, Tokens};
use endpoint::Scheme;
use mirror::Mirrors;

/// Registries that take no chunks, or only ones of a few megabytes.
const WHOLE: [&str; 5] = ["ghcr.io", "gcr.io", "*.gcr.io", "*.pkg.dev", "*.amazonaws.com"];

/// What the user said about registries.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Hosts (`host` or `host:port`; a repository behind it does not matter) that may be
    /// spoken to over plain HTTP or with a certificate nobody vouches for.
    pub insecure: Vec<String>,
    /// Credentials and the registry they are for; no other gets to see them.
    pub credentials: Vec<(String, Credentials)>,
    /// A file of credentials used instead of the usual ones.
    pub auth_file: Option<PathBuf>,
    /// A `registries.conf` used instead of the usual one, without what lies beside that.
    pub registries_conf: Option<PathBuf>,
    /// Most bytes of a blob that one request brings; a larger blob goes in chunks of this
    /// size, unless the registry wants larger ones, or all at once. 64 MiB if unset.
    pub chunk: Option<NonZeroU64>,
    /// A folder of certificates (containers-certs.d(5)) for all registries, used instead of
    /// each one's own.
    pub cert_dir: Option<PathBuf>,
}

/// The way to all registries: settings, credentials, connections. Cheap to clone.
#[derive(Clone)]
pub struct Registries(Arc<Inner>);

struct Inner {
    offline: bool,
    clients: Clients,
    cert_dir: Option<PathBuf>,
    mirrors: Mirrors,
    keyring: Keyring,
    chunk: u64,
    tokens: Tokens,
    known: Mutex<Known>,
}

/// What was found out on the way.
#[derive(Default)]
struct Known {
    insecure: BTreeSet<String>,
    schemes: HashMap<String, Scheme>,
    hosts: certs::Hosts,
    /// Blobs that a repository (`host/repository`) was seen to have.
    held: HashSet<(String, BlobDigest)>,
    /// Repositories that a blob was sent to since the last push there.
    sent: HashSet<String>,
    /// Where waits between repeats are told.
    told: Option<Progress>,
    /// Registries that were seen to take no chunks.
    whole: HashSet<String>,
    /// Held while a layer is fetched: a step and an upload may want the same.
    fetching: HashMap<BlobDigest, Arc<tokio::sync::Mutex<()>>>,
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").field("offline", &self.0.offline).finish_non_exhaustive()
    }
}

impl Registries {
    /// Reads `registries.conf`; credentials are read when they are needed.
    ///
    /// # Errors
    /// If that file is malformed.
    pub fn load(options: Options) -> Result<Self, RegistryError> {
        let mirrors = Mirrors::load(options.registries_conf.clone())?;
        Ok(Self::with(options, mirrors, false))
    }

    /// Answers every wish for a registry with an error.
    #[must_use]
    pub fn offline() -> Self {
        Self::with(Options::default(), Mirrors::default(), true)
    }

    fn with(options: Options, mirrors: Mirrors, offline: bool) -> Self {
        let insecure =
            options.insecure.iter().map(|name| auth::host_of(name)).collect::<BTreeSet<_>>();
        Self(Arc::new(Inner {
            offline,
            clients: Clients::default(),
            cert_dir: options.cert_dir,
            mirrors,
            keyring: Keyring::new(options.credentials, options.auth_file),
            chunk: options.chunk.map_or(upload::CHUNK, NonZeroU64::get),
            tokens: Tokens::default(),
            known: Mutex::new(Known { insecure, ..Known::default() }),
        }))
    }

    /// True if nothing may be asked of a registry: of these, or because kiln works offline.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.0.offline || crate::net::is_shut().is_some()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves these maps whole.
        self.0.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn online(&self, host: &str) -> Result<(), RegistryError> {
        if self.is_offline() {
            return Err(RegistryError::Offline { host: host.into() });
        }
        Ok(())
    }

    fn mirrors(&self) -> &Mirrors {
        &self.0.mirrors
    }

    /// The name that a pull of a name is one of: what a short name means here.
    ///
    /// # Errors
    /// If it could mean several.
    pub fn meaning(&self, name: &Reference) -> Result<Reference, RegistryError> {
        self.mirrors().meaning(name)
    }

    fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// Whether a registry takes blobs in one request only: it is known for that, or was seen
    /// to be so.
    fn takes_whole(&self, host: &str) -> bool {
        let known = |name: &&str| match name.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => *name == host,
        };
        WHOLE.iter().any(known) || self.known().whole.contains(host)
    }

    fn set_whole(&self, host: &str) {
        self.known().whole.insert(host.to_owned());
    }

    /// Most bytes of a blob for one request.
    fn chunk(&self) -> u64 {
        self.0.chunk
    }

    fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Named as insecure by the user, on the command line or in registries.conf.
    fn insecure(&self, host: &str) -> bool {
        let known = self.known();
        known.insecure.contains(host) || known.insecure.contains(net::without_port(host))
    }

    fn allow_plain(&self, host: &str) {
        self.known().insecure.insert(host.to_owned());
    }

    fn plain_allowed(&self, host: &str) -> bool {
        net::is_loopback(host) || self.insecure(host)
    }

    fn scheme(&self, host: &str) -> Option<Scheme> {
        self.known().schemes.get(host).copied()
    }

    fn set_scheme(&self, host: &str, scheme: Scheme) {
        self.known().schemes.insert(host.to_owned(), scheme);
    }

    fn holds(&self, name: &str, digest: BlobDigest) -> bool {
        self.known().held.contains(&(name.to_owned(), digest))
    }

    fn set_held(&self, name: String, digest: BlobDigest) {
        self.known().held.insert((name, digest));
    }

    fn set_sent(&self, name: String) {
        self.known().sent.insert(name);
    }

    /// Whether a blob was sent to a repository since this was asked last.
    fn take_sent(&self, name: &str) -> bool {
        self.known().sent.remove(name)
    }

    fn fetching(&self, digest: BlobDigest) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.known().fetching.entry(digest).or_default())
    }

    /// From now on waits between repeats are told there; at first also what is odd about
    /// registries.conf.
    fn tell(&self, progress: &Progress) {
        if self.known().told.replace(progress.clone()).is_none() {
            for warning in self.mirrors().warnings() {
                progress.warn(warning);
            }
        }
    }

    /// Says why nothing is asked for a while; a wait below a second matters to few.
    fn say_waiting(&self, pause: Duration, why: &str) {
        let told = self.known().told.clone();
        let text = format!("waiting {:.1} s: {why}", pause.as_secs_f64());
        match told {
            Some(told) if pause >= Duration::from_secs(1) => told.note(text),
            Some(told) => told.detail(text),
            None => (),
        }
    }
}

/// A number of bytes for people.
pub(crate) fn size_text(bytes: u64) -> String {
    let mut whole = bytes;
    let mut tenths = 0;
    for unit in ["B", "kB", "MB", "GB"] {
        if whole < 1000 {
            return if unit == "B" {
                format!("{whole} B")
            } else {
                format!("{whole}.{tenths} {unit}")
            };
        }
        tenths = whole % 1000 / 100;
        whole /= 1000;
    }
    format!("{whole}.{tenths} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (u64::MAX, "18446744.0 TB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }

    /// Callers run pulls and pushes on worker threads.
    #[test]
    fn futures_can_move_between_threads() {
        fn sendable<T: Send>(_: T) {}
        let at = Registries::offline();
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(&folder.path().join("s")).unwrap();
        let name = "a".parse().unwrap();
        let progress = crate::progress::Progress::silent();
        sendable(pull(&name, &Want::All, &store, &at, &progress));
        sendable(pull_layers(Some(&name), &[], &store, &at, &progress));
        sendable(login("a", &Credentials::password("u", "p"), &at));
        let image = crate::image::assemble(
            crate::image::ImageConfig::scratch(&crate::platform::Platform::host()),
            &[],
        );
        let image = crate::image::AnyImage::Image(image.unwrap());
        sendable(push(&image, &name, &store, &at, &progress));
    }
}
