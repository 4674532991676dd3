//! Who kiln is to a registry.
//!
//! Credentials are looked up only when a registry asks for them, and belong to
//! one host and port (in podman's file also to one repository). In order: those
//! given for the host on the command line; then, of the files, the first that
//! has any. The files are the one named by a flag or `REGISTRY_AUTH_FILE`,
//! else docker's `config.json` and podman's `auth.json` (containers-auth.json(5)).
//! In a file a credential helper comes before what is written there, as in docker;
//! what it says is kept for this process, until a registry refuses it.

mod base64;
mod cache;
mod challenge;
mod config;
mod helper;
mod login;
mod token;

pub(super) use cache::{How, Tokens, Way};
pub(super) use challenge::{Challenge, challenges};
pub use login::{Kept, Login, logged_in, login, logout, logout_all};
pub(super) use token::{TokenAsk, basic, request as request_token, scopes};

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use super::RegistryError;
use crate::env;
use crate::net::escaped;

/// The user's name in place of which a refresh token stands as the password
/// (docker-credential-helpers).
const TOKEN_USER: &str = "<token>";

/// Credentials for one registry; they have no text.
#[derive(Clone)]
pub struct Credentials {
    pub(super) user: String,
    pub(super) secret: Secret,
}

#[derive(Clone)]
pub(super) enum Secret {
    Password(String),
    /// An OAuth2 refresh token: good for the token service only.
    Identity(String),
    /// A bearer token as the registry itself takes it.
    Registry(String),
}

impl Credentials {
    /// User and password, or an access token in the password's place; of the user
    /// `<token>` it is a refresh token.
    #[must_use]
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        let (user, password) = (user.into(), password.into());
        let secret = match user.as_str() {
            TOKEN_USER => Secret::Identity(password),
            _ => Secret::Password(password),
        };
        Self { user, secret }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Where credentials are looked for.
#[derive(Default)]
pub(super) struct Keyring {
    given: Vec<(String, Credentials)>,
    /// The file named by the user, who then means no other.
    named: Option<PathBuf>,
    /// What helpers said, by their names and the servers'. Held while one is asked: whoever
    /// has to unlock something is asked once.
    helped: tokio::sync::Mutex<HashMap<(String, String), Option<Credentials>>>,
}

/// Credentials, and where they came from, for messages.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) credentials: Credentials,
    /// The user's name and the place, never the secret.
    pub(super) source: String,
    /// True if a helper said them some time ago: it may say others now.
    pub(super) kept: bool,
}

impl Found {
    fn new(credentials: Credentials, place: &str) -> Self {
        let source = format!("user `{}` from {place}", escaped(&credentials.user, 100));
        Self { credentials, source, kept: false }
    }
}

impl Keyring {
    pub(super) fn new(given: Vec<(String, Credentials)>, auth_file: Option<PathBuf>) -> Self {
        let given = given.into_iter().map(|(host, one)| (canonical(&host), one)).collect();
        let named = auth_file.or_else(|| env::path(env::REGISTRY_AUTH_FILE));
        Self { given, named, ..Self::default() }
    }

    fn files(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.named {
            return vec![named.clone()];
        }
        let runtime = env::path(env::XDG_RUNTIME_DIR).map(|dir| dir.join("containers"));
        // Where podman's login writes without one, as for root.
        let own = || format!("/run/containers/{}", rustix::process::getuid().as_raw()).into();
        let podman = runtime.unwrap_or_else(own).join("auth.json");
        let lasting = env::config_home().map(|home| home.join("containers/auth.json"));
        docker_config().into_iter().chain([podman]).chain(lasting).collect()
    }

    /// The file that a login is written to.
    fn target(&self) -> Result<PathBuf, RegistryError> {
        self.named.clone().or_else(docker_config).ok_or_else(|| RegistryError::Config {
            path: "config.json".into(),
            why: "neither DOCKER_CONFIG nor HOME says where it lies".into(),
        })
    }

    /// The credentials for a repository, if there are any. `anew`: helpers are asked
    /// again, whatever they said before.
    pub(super) async fn find(
        &self,
        host: &str,
        repository: &str,
        anew: bool,
    ) -> Result<Option<Found>, RegistryError> {
        let canonical = canonical(host);
        if let Some((_, credentials)) = self.given.iter().find(|(have, _)| *have == canonical) {
            return Ok(Some(Found::new(credentials.clone(), "the command line")));
        }
        for path in self.files() {
            let Some(file) = config::AuthFile::read(&path)? else { continue };
            if let Some(name) = file.helper(&canonical)
                && let Some(found) = self.helped(name, &canonical, anew).await?
            {
                return Ok(Some(found));
            }
            if let Some(credentials) = file.find(&canonical, repository)? {
                return Ok(Some(Found::new(credentials, &path.display().to_string())));
            }
        }
        Ok(None)
    }

    async fn helped(
        &self,
        name: String,
        canonical: &str,
        anew: bool,
    ) -> Result<Option<Found>, RegistryError> {
        let mut helped = self.helped.lock().await;
        let place = format!("credential helper `{}`", escaped(&name, 100));
        let key = (name, server_key(canonical));
        let (said, kept) = match helped.get(&key).filter(|_| !anew) {
            Some(said) => (said.clone(), true),
            None => {
                let said = helper::get(&key.0, &key.1).await?;
                helped.insert(key, said.clone());
                (said, false)
            }
        };
        Ok(said.map(|credentials| Found { kept, ..Found::new(credentials, &place) }))
    }
}

fn docker_config() -> Option<PathBuf> {
    env::path(env::DOCKER_CONFIG)
        .or_else(|| Some(env::path(env::HOME)?.join(".docker")))
        .map(|folder| folder.join("config.json"))
}

/// One spelling per registry: no scheme, no path that only means the API, and
/// one name for Docker Hub.
pub(super) fn canonical(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = match key.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (key, None),
    };
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    };
    path.map_or(host.clone(), |path| format!("{host}/{path}"))
}

/// The host of a canonical key that may name a repository, too.
fn host_part(canonical: &str) -> &str {
    canonical.split('/').next().unwrap_or_default()
}

/// The host in one spelling of what names a registry, or a repository there.
pub(super) fn host_of(key: &str) -> String {
    host_part(&canonical(key)).to_owned()
}

/// The key under which docker keeps a registry.
fn server_key(canonical: &str) -> String {
    if canonical == "docker.io" {
        "https://index.docker.io/v1/".to_owned()
    } else {
        canonical.to_owned()
    }
}
