//! What a host's TLS goes by: the folder of certificates that is its own, and whether it
//! is shown kiln's.
//!
//! Of the folders that containers-certs.d(5) names, the user's, `/etc/containers/certs.d` and
//! `/etc/docker/certs.d`, the first that has one for the host (as references write it, with
//! its port) counts, alone. `--cert-dir` stands for all of them: its roots then count for
//! whoever is spoken to, but its client certificates are shown to registries only, and not to
//! where those redirect.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;

use super::endpoint::{HUB_API, host_of};
use super::{Registries, RegistryError};
use crate::env;
use crate::net::{Certs, Trust};
use crate::reference::DOCKER_HUB;

const SYSTEM: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// What was found out about hosts, by the name that [`host_of`] gives them.
#[derive(Default)]
pub(super) struct Hosts {
    certs: HashMap<String, Option<Arc<Certs>>>,
    /// Those that are registries themselves.
    registries: HashSet<String>,
    /// Those that have answered over TLS.
    answered: HashSet<String>,
}

impl Registries {
    pub(super) fn client_for(&self, url: &Url) -> Result<reqwest::Client, RegistryError> {
        Ok(self.0.clients.get(url, &self.trust(url)?)?)
    }

    pub(super) fn cert_dir(&self) -> Option<PathBuf> {
        self.0.cert_dir.clone()
    }

    /// Remembers that a host is a registry, to which kiln may show who it is.
    pub(super) fn set_registry(&self, host: &str) {
        self.known().hosts.registries.insert(host.to_owned());
    }

    pub(super) fn set_answered(&self, url: &Url) {
        if url.scheme() == "https" {
            self.known().hosts.answered.insert(host_of(url));
        }
    }

    pub(super) fn has_answered(&self, url: &Url) -> bool {
        self.known().hosts.answered.contains(&host_of(url))
    }

    pub(super) fn proxy(&self, url: &Url) -> Option<String> {
        self.0.clients.proxy(url)
    }

    pub(super) fn asked_for_certificate(&self, url: &Url) -> bool {
        url.scheme() == "https"
            && self.trust(url).is_ok_and(|trust| self.0.clients.asked(url, &trust))
    }

    /// The error of a host that wanted to see a certificate and did not like what it saw.
    pub(super) fn certificate_wanted(&self, url: &Url, host: String, why: String) -> RegistryError {
        let shown = self.trust(url).ok().and_then(|trust| trust.certs);
        let folder = self.folder_for(url);
        let (why, help) = match shown.filter(|certs| certs.has_pairs()) {
            Some(certs) => (
                format!(
                    "it does not take the client certificate of {}: {why}",
                    certs.folder().display()
                ),
                format!("is that certificate still valid, and signed by whom {host} trusts?"),
            ),
            None => (
                format!("it asks for a client certificate, and there is none: {why}"),
                format!(
                    "put the certificate and its key into {} as client.cert and client.key",
                    folder.display()
                ),
            ),
        };
        RegistryError::Tls { host, why, plain: false, help }
    }

    fn trust(&self, url: &Url) -> Result<Trust, RegistryError> {
        let verify = !self.insecure(&host_of(url));
        let certs = if url.scheme() == "https" { self.certs(url)? } else { None };
        Ok(Trust { verify, certs })
    }

    fn certs(&self, url: &Url) -> Result<Option<Arc<Certs>>, RegistryError> {
        let host = host_of(url);
        let shows = self.cert_dir().is_none() || self.known().hosts.registries.contains(&host);
        let key = if shows { host.clone() } else { String::new() };
        if let Some(found) = self.known().hosts.certs.get(&key) {
            return Ok(found.clone());
        }
        let found = match self.cert_dir() {
            Some(folder) => {
                let Some(certs) = Certs::read(&folder)? else {
                    let why = "there is no such folder that may be read".to_owned();
                    return Err(RegistryError::Config { path: folder, why });
                };
                Some(if shows { certs } else { certs.roots_only() })
            }
            None => of_host(&folders(), &host)?,
        };
        let found = found.map(Arc::new);
        self.known().hosts.certs.insert(key, found.clone());
        Ok(found)
    }

    /// Where the certificates for a host belong.
    pub(super) fn folder_for(&self, url: &Url) -> PathBuf {
        self.cert_dir().unwrap_or_else(|| {
            let own = folders().into_iter().next();
            own.unwrap_or_else(|| SYSTEM[0].into()).join(&names(&host_of(url))[0])
        })
    }
}

/// The folders that hold one for each host, the user's first.
fn folders() -> Vec<PathBuf> {
    let user = env::config_home().map(|home| home.join("containers/certs.d"));
    user.into_iter().chain(SYSTEM.map(PathBuf::from)).collect()
}

/// What a host's folder may be called.
fn names(host: &str) -> Vec<String> {
    // An address does not show the usual port; references do where it was written.
    let usual = |name: &str| vec![name.to_owned(), format!("{name}:443")];
    match host {
        HUB_API => usual(DOCKER_HUB),
        host if crate::net::without_port(host) == host => usual(host),
        host => vec![host.to_owned()],
    }
}

fn of_host(folders: &[PathBuf], host: &str) -> Result<Option<Certs>, RegistryError> {
    let names = names(host);
    let mut paths = folders.iter().flat_map(|folder: &PathBuf| {
        let at = |name: &String| Path::new(folder).join(name);
        names.iter().map(at)
    });
    paths.find_map(|path| Certs::read(&path).transpose()).transpose().map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_counts_alone() {
        let top = tempfile::tempdir().unwrap();
        let folders = ["user", "system", "docker"].map(|name| top.path().join(name));
        let made = |path: &str| std::fs::create_dir_all(top.path().join(path)).unwrap();
        for path in ["system/a:5000", "docker/a:5000", "docker/b:443", "user/docker.io"] {
            made(path);
        }
        for (host, folder) in [
            ("a:5000", Some("system/a:5000")),
            ("a", None),
            ("b", Some("docker/b:443")),
            ("b:444", None),
            (HUB_API, Some("user/docker.io")),
        ] {
            let found = of_host(&folders, host).unwrap();
            let found = found.map(|certs| certs.folder().to_owned());
            assert_eq!(found, folder.map(|folder| top.path().join(folder)), "{host}");
        }
    }
}
