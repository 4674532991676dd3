//! `login` and `logout`: credentials that later commands find.

use std::fmt;
use std::path::PathBuf;

use super::config::AuthFile;
use super::{Credentials, Keyring, Secret, canonical, helper, host_part, server_key};
use crate::net::escaped;
use crate::reference::Reference;
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

/// Credentials that are there, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    /// The user and where the credentials lie, in words.
    pub source: String,
}

/// A key of credentials as `login` takes it: `host`, `host:port`, either with a repository
/// or the beginning of one, or nothing for Docker Hub.
fn key(registry: &str) -> Result<String, RegistryError> {
    let key = canonical(registry.trim());
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-:[]_".contains(&c);
    let host = host_part(&key);
    let known = match key.strip_prefix(host).and_then(|rest| rest.strip_prefix('/')) {
        None => host.bytes().all(allowed),
        // A tag or a digest is none of it.
        Some(path) => {
            let whole: Option<Reference> = format!("host.example/{path}").parse().ok();
            whole.is_some_and(|whole| whole.repository() == path) && !host.is_empty()
        }
    };
    match key.as_str() {
        "" => Ok(crate::reference::DOCKER_HUB.to_owned()),
        key if known && host.bytes().all(allowed) => Ok(key.to_owned()),
        key => Err(RegistryError::NotAHost(escaped(key, 100))),
    }
}

/// Host and repository of a key; the latter may be empty.
fn parts(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or((key, ""))
}

impl Keyring {
    /// Reads the file that a login is written to.
    fn target_file(&self) -> Result<(PathBuf, Option<AuthFile>), RegistryError> {
        let target = self.target()?;
        let file = AuthFile::read(&target)?;
        Ok((target, file))
    }
}

/// Shows credentials to a registry and, if it accepts them, keeps them where
/// docker and podman find them too: for the whole registry, or for the repositories
/// below the one that is named, as podman does. A helper keeps whole registries only.
///
/// # Errors
/// If the registry refuses them, cannot be asked, or they cannot be written.
pub async fn login(
    registry: &str,
    credentials: &Credentials,
    at: &Registries,
) -> Result<Kept, RegistryError> {
    let key = key(registry)?;
    let (host, repository) = parts(&key);
    // Nobody but these credentials is tried.
    let insecure = at.insecure(host) || at.mirrors().insecure(&key)?;
    let options = Options {
        insecure: insecure.then(|| host.to_owned()).into_iter().collect(),
        credentials: vec![(host.to_owned(), credentials.clone())],
        cert_dir: at.cert_dir(),
        ..Options::default()
    };
    let alone = Registries::with(options, at.mirrors().clone(), at.is_offline());
    let place = Place::registry(host, insecure);
    let session = Session::open(&alone, &place, Action::Pull).await?;
    let ask = Ask::new(reqwest::Method::GET, session.url("")?, "the API");
    session.ask(&ask).await?;

    let target = at.keyring().target()?;
    let mut file = AuthFile::read_or_new(&target)?;
    let helper = file.helper(host).filter(|_| repository.is_empty());
    let kept = if let Some(name) = helper {
        let (Secret::Password(secret) | Secret::Identity(secret) | Secret::Registry(secret)) =
            &credentials.secret;
        helper::store(&name, &server_key(host), &credentials.user, secret).await?;
        file.set(&key, None);
        Kept::Helper(name)
    } else {
        file.set(&key, Some(credentials));
        Kept::File(target)
    };
    file.write()?;
    Ok(kept)
}

/// The credentials that commands would show to a registry, or to a repository there.
///
/// # Errors
/// If a file or a helper cannot be read.
pub async fn logged_in(registry: &str, at: &Registries) -> Result<Option<Login>, RegistryError> {
    let key = key(registry)?;
    let (host, repository) = parts(&key);
    let found = at.keyring().find(host, repository, false).await?;
    Ok(found.map(|found| Login { user: found.credentials.user, source: found.source }))
}

/// Forgets the credentials of a registry, or of a repository there; false if there were
/// none where a login would be kept.
///
/// # Errors
/// If they cannot be taken away.
pub async fn logout(registry: &str, at: &Registries) -> Result<bool, RegistryError> {
    let key = key(registry)?;
    let (_, Some(mut file)) = at.keyring().target_file()? else { return Ok(false) };
    let mut had = erase(&file, &key).await?;
    if file.remove(&key) {
        file.write()?;
        had = true;
    }
    Ok(had)
}

/// Has the helper for a key forget it; false if it knew nothing.
async fn erase(file: &AuthFile, key: &str) -> Result<bool, RegistryError> {
    match file.helper(key) {
        Some(name) if !key.contains('/') => helper::erase(&name, &server_key(key)).await,
        _ => Ok(false),
    }
}

/// Forgets all credentials that the file names where a login would be kept, and those
/// that helpers have for it. Gives the registries, and the file.
///
/// # Errors
/// If some cannot be taken away: those that are left are still named then.
pub async fn logout_all(at: &Registries) -> Result<(Vec<String>, PathBuf), RegistryError> {
    let (target, Some(mut file)) = at.keyring().target_file()? else {
        return Ok((Vec::new(), at.keyring().target()?));
    };
    let (mut gone, mut failed) = (Vec::new(), None);
    for key in file.keys() {
        match erase(&file, &key).await {
            Ok(had) => gone.extend((file.remove(&key) || had).then_some(key)),
            Err(error) => failed = Some(error),
        }
    }
    if !gone.is_empty() {
        file.write()?;
    }
    failed.map_or(Ok((gone, target)), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (text, expected) in [
            ("", Some("docker.io")),
            ("quay.io", Some("quay.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("127.0.0.1:5000", Some("127.0.0.1:5000")),
            ("[::1]:5000/team", Some("[::1]:5000/team")),
            ("Quay.io/team/app", Some("quay.io/team/app")),
            ("quay.io/team:1", None),
            ("quay.io/Team", None),
            ("quay.io/a/../b", None),
            ("user@quay.io", None),
            ("/team", None),
            ("a b", None),
        ] {
            assert_eq!(key(text).ok().as_deref(), expected, "{text}");
        }
    }
}
