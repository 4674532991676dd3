//! Who kiln is to a registry.
//!
//! Credentials are looked up only when a registry asks for them, and belong to
//! one host and port (in podman's file also to one repository). In order: those
//! given for the host on the command line; then, of the files, the first that
//! has any. The files are the one named by a flag or `REGISTRY_AUTH_FILE`,
//! else docker's `config.json` and podman's `auth.json`. In a file a credential
//! helper comes before what is written there, as in docker.

mod base64;
mod challenge;
mod config;
mod helper;
mod login;
mod token;

pub(super) use challenge::{Challenge, challenges};
pub use login::{Kept, login, logout};
pub(super) use token::{TokenAsk, basic, request as request_token, scopes};

use std::fmt;
use std::path::PathBuf;

use super::RegistryError;
use crate::env;

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
    /// User and password, or an access token in the password's place.
    #[must_use]
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), secret: Secret::Password(password.into()) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Where credentials are looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Keyring {
    given: Vec<(String, Credentials)>,
    /// The file named by the user, who then means no other.
    named: Option<PathBuf>,
}

/// Credentials, and where they came from, for messages.
pub(super) struct Found {
    pub(super) credentials: Credentials,
    pub(super) source: String,
}

impl Keyring {
    pub(super) fn new(given: Vec<(String, Credentials)>, auth_file: Option<PathBuf>) -> Self {
        let given = given.into_iter().map(|(host, one)| (canonical(&host), one)).collect();
        Self { given, named: auth_file.or_else(|| env::path(env::REGISTRY_AUTH_FILE)) }
    }

    fn files(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.named {
            return vec![named.clone()];
        }
        let podman = env::path(env::XDG_RUNTIME_DIR).map(|dir| dir.join("containers/auth.json"));
        docker_config().into_iter().chain(podman).collect()
    }

    /// The file that a login is written to.
    fn target(&self) -> Result<PathBuf, RegistryError> {
        self.named.clone().or_else(docker_config).ok_or_else(|| RegistryError::Config {
            path: "config.json".into(),
            why: "neither DOCKER_CONFIG nor HOME says where it lies".into(),
        })
    }

    /// The credentials for a repository, if there are any.
    pub(super) async fn find(
        &self,
        host: &str,
        repository: &str,
    ) -> Result<Option<Found>, RegistryError> {
        let canonical = canonical(host);
        if let Some((_, credentials)) = self.given.iter().find(|(have, _)| *have == canonical) {
            let source = format!("user `{}` from the command line", credentials.user);
            return Ok(Some(Found { credentials: credentials.clone(), source }));
        }
        for path in self.files() {
            let Some(file) = config::AuthFile::read(&path)? else { continue };
            if let Some(name) = file.helper(&canonical)
                && let Some(credentials) = helper::get(&name, &server_key(&canonical)).await?
            {
                let source = format!("user `{}` from credential helper `{name}`", credentials.user);
                return Ok(Some(Found { credentials, source }));
            }
            if let Some(credentials) = file.find(&canonical, repository)? {
                let source = format!("user `{}` from {}", credentials.user, path.display());
                return Ok(Some(Found { credentials, source }));
            }
        }
        Ok(None)
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

/// The key under which docker keeps a registry.
fn server_key(canonical: &str) -> String {
    if canonical == "docker.io" {
        "https://index.docker.io/v1/".to_owned()
    } else {
        canonical.to_owned()
    }
}
