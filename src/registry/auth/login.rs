//! `login` and `logout`: credentials that later commands find.

use std::fmt;
use std::path::PathBuf;

use super::config::AuthFile;
use super::{Credentials, Secret, canonical, helper, server_key};
use crate::registry::mirror::Place;
use crate::registry::transport::{Action, Ask, Session};
use crate::registry::{Options, Registries, RegistryError};

/// Where a login's credentials are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Readable by whoever can read the file: base64 hides nothing.
    File(PathBuf),
    Helper(String),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Helper(name) => write!(f, "credential helper `{name}`"),
        }
    }
}

/// A registry's host as `login` takes it: `host`, `host:port`, or nothing for
/// Docker Hub.
fn host(registry: &str) -> Result<String, RegistryError> {
    let host = canonical(registry.trim());
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-:[]_".contains(&c);
    match host.as_str() {
        "" => Ok(crate::reference::DOCKER_HUB.to_owned()),
        host if host.bytes().all(allowed) => Ok(host.to_owned()),
        host => Err(RegistryError::NotAHost(crate::net::escaped(host, 100))),
    }
}

/// Shows credentials to a registry and, if it accepts them, keeps them where
/// docker and podman find them too.
///
/// # Errors
/// If the registry refuses them, cannot be asked, or they cannot be written.
pub async fn login(
    registry: &str,
    credentials: &Credentials,
    at: &Registries,
) -> Result<Kept, RegistryError> {
    let host = host(registry)?;
    // Nobody but these credentials is tried.
    let insecure = at.insecure(&host) || at.mirrors().insecure(&host)?;
    let options = Options {
        insecure: insecure.then(|| host.clone()).into_iter().collect(),
        credentials: vec![(host.clone(), credentials.clone())],
        cert_dir: at.cert_dir(),
        ..Options::default()
    };
    let alone = Registries::with(options, at.mirrors().clone(), at.is_offline());
    let place = Place::registry(&host, insecure);
    let session = Session::open(&alone, &place, Action::Pull).await?;
    let ask = Ask::new(reqwest::Method::GET, session.url("")?, "the API");
    session.ask(&ask).await?;

    let target = at.keyring().target()?;
    let mut file = AuthFile::read_or_new(&target)?;
    let secret = match &credentials.secret {
        Secret::Password(secret) | Secret::Identity(secret) | Secret::Registry(secret) => secret,
    };
    let kept = if let Some(name) = file.helper(&host) {
        helper::store(&name, &server_key(&host), &credentials.user, secret).await?;
        file.set(&host, None);
        Kept::Helper(name)
    } else {
        file.set(&host, Some((&credentials.user, secret)));
        Kept::File(target)
    };
    file.write()?;
    Ok(kept)
}

/// Forgets a registry's credentials; false if there were none.
///
/// # Errors
/// If they cannot be taken away.
pub async fn logout(registry: &str, at: &Registries) -> Result<bool, RegistryError> {
    let host = host(registry)?;
    let target = at.keyring().target()?;
    let Some(mut file) = AuthFile::read(&target)? else { return Ok(false) };
    let mut had = false;
    if let Some(name) = file.helper(&host) {
        had = helper::erase(&name, &server_key(&host)).await?;
    }
    if file.remove(&host) {
        file.write()?;
        had = true;
    }
    Ok(had)
}
