//! Docker's `config.json` and podman's `auth.json`, which share a form.
//!
//! Fields that kiln does not know are kept when it writes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Credentials, RegistryError, Secret, base64, canonical, server_key};
use crate::atomic::{self, AtPath as _};

/// No such file comes near it.
const LIMIT: u64 = 1 << 20;

/// A file of credentials.
pub(super) struct AuthFile {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl AuthFile {
    /// Reads a file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, RegistryError> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).at("read", path).map_err(Into::into),
        };
        let mut bytes = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut bytes).at("read", path)?;
        let wrong = |why: String| RegistryError::Config { path: path.into(), why };
        if bytes.len() as u64 > LIMIT {
            return Err(wrong(format!("it has more than {LIMIT} bytes")));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(Self { path: path.into(), fields: Map::new() }));
        }
        // The error names line and column, never the content.
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Some(Self { path: path.into(), fields })),
            Ok(_) => Err(wrong("it is JSON, but not an object".into())),
            Err(error) => Err(wrong(format!("it is no JSON: {error}"))),
        }
    }

    /// As [`AuthFile::read`]; a file that is absent is empty.
    pub(super) fn read_or_new(path: &Path) -> Result<Self, RegistryError> {
        Ok(Self::read(path)?.unwrap_or_else(|| Self { path: path.into(), fields: Map::new() }))
    }

    fn object(&self, name: &str) -> Option<&Map<String, Value>> {
        self.fields.get(name)?.as_object()
    }

    /// The credential helper for a registry: its own, else the one for all.
    pub(super) fn helper(&self, registry: &str) -> Option<String> {
        let own = self.object("credHelpers").and_then(|helpers| {
            helpers.iter().find(|(key, _)| canonical(key) == registry).map(|(_, name)| name)
        });
        let name = own.or_else(|| self.fields.get("credsStore"))?.as_str()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// The credentials written for a repository: those of the longest key that
    /// fits, as podman's file may name repositories and their parents.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credentials>, RegistryError> {
        let Some(auths) = self.object("auths") else { return Ok(None) };
        let mut wanted = format!("{registry}/{repository}");
        loop {
            for (key, entry) in auths {
                if canonical(key) == wanted
                    && let Some(credentials) = self.entry(key, entry)?
                {
                    return Ok(Some(credentials));
                }
            }
            match wanted.rfind('/') {
                Some(at) => wanted.truncate(at),
                None => return Ok(None),
            }
        }
    }

    fn entry(&self, key: &str, entry: &Value) -> Result<Option<Credentials>, RegistryError> {
        let text =
            |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let wrong = |why: &str| RegistryError::Config {
            path: self.path.clone(),
            why: format!("`auth` of `{key}` {why}"),
        };
        let (mut user, mut password) =
            (text("username").map(str::to_owned), text("password").map(str::to_owned));
        if let Some(auth) = text("auth") {
            let decoded = base64::decode(auth).ok_or_else(|| wrong("is not base64"))?;
            let decoded = String::from_utf8(decoded).map_err(|_| wrong("is not UTF-8"))?;
            let (name, secret) =
                decoded.split_once(':').ok_or_else(|| wrong("is not `user:password` in base64"))?;
            user = Some(name.to_owned());
            // Old versions of docker padded with NUL.
            password = Some(secret.trim_end_matches('\0').to_owned());
        }
        let user = user.unwrap_or_default();
        let secret = if let Some(token) = text("identitytoken") {
            Secret::Identity(token.to_owned())
        } else if let Some(token) = text("registrytoken") {
            Secret::Registry(token.to_owned())
        } else if let Some(password) = password {
            return Ok(Some(Credentials::password(user, password)));
        } else {
            // `{}`: a helper holds them.
            return Ok(None);
        };
        Ok(Some(Credentials { user, secret }))
    }

    /// Sets the entry of a registry, or of a repository there: its credentials, or `{}` if
    /// a helper has them.
    pub(super) fn set(&mut self, registry: &str, written: Option<&Credentials>) {
        let auth = |user: &str, secret: &str| base64::encode(format!("{user}:{secret}").as_bytes());
        let entry = match written.map(|one| (one.user.as_str(), &one.secret)) {
            Some((user, Secret::Password(password))) => json!({ "auth": auth(user, password) }),
            Some((user, Secret::Identity(token))) => {
                json!({ "auth": auth(user, ""), "identitytoken": token })
            }
            Some((user, Secret::Registry(token))) => {
                json!({ "auth": auth(user, ""), "registrytoken": token })
            }
            None => json!({}),
        };
        self.remove(registry);
        let auths = self.fields.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(server_key(registry), entry);
        }
    }

    /// Takes away every spelling of a registry; false if there was none.
    pub(super) fn remove(&mut self, registry: &str) -> bool {
        let Some(Value::Object(auths)) = self.fields.get_mut("auths") else { return false };
        let before = auths.len();
        auths.retain(|key, _| canonical(key) != registry);
        auths.len() != before
    }

    /// The keys that have an entry or a helper of their own, in one spelling each.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let names = ["auths", "credHelpers"].iter().filter_map(|name| self.object(name));
        names.flat_map(|object| object.keys().map(|key| canonical(key))).collect()
    }

    /// Writes the file whole, for its owner only. A symbolic link stays one.
    pub(super) fn write(&self) -> Result<(), RegistryError> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            atomic::private_folder(folder)?;
        }
        let mut bytes =
            serde_json::to_vec_pretty(&self.fields).map_err(io::Error::from).at("write", &path)?;
        bytes.push(b'\n');
        Ok(atomic::write(&path, &bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> AuthFile {
        let Value::Object(fields) = serde_json::from_str(text).unwrap() else { panic!() };
        AuthFile { path: "config.json".into(), fields }
    }

    #[test]
    fn lookups() {
        let file = file(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
                "registry.corp:5000": {"auth": "Y29ycDpwdzp3aXRoOmNvbG9ucw=="},
                "quay.io": {"auth": "cXVheTpwdw=="},
                "quay.io/team": {"auth": "dGVhbTpwdw=="},
                "https://token.corp": {"auth": "PHRva2VuPjo=", "identitytoken": "id"},
                "empty.corp": {},
                "http://plain.corp/v2/": {"username": "u", "password": "p"}
            }, "credHelpers": {"gcr.io": "gcloud"}}"#,
        );
        for (registry, repository, user) in [
            ("docker.io", "library/golang", Some("hub")),
            ("registry.corp:5000", "app", Some("corp")),
            ("registry.corp", "app", None),
            ("registry.corp:5001", "app", None),
            ("quay.io", "other/app", Some("quay")),
            ("quay.io", "team/app", Some("team")),
            ("quay.io", "teams/app", Some("quay")),
            ("token.corp", "a", Some("<token>")),
            ("empty.corp", "a", None),
            ("plain.corp", "a", Some("u")),
            ("evil.quay.io", "a", None),
        ] {
            let found = file.find(registry, repository).unwrap();
            assert_eq!(found.map(|c| c.user).as_deref(), user, "{registry}/{repository}");
        }
        let Some(Credentials { secret: Secret::Password(password), .. }) =
            file.find("registry.corp:5000", "x").unwrap()
        else {
            panic!("a password")
        };
        assert_eq!(password, "pw:with:colons");
        assert_eq!(file.helper("gcr.io").as_deref(), Some("gcloud"));
        assert_eq!(file.helper("docker.io"), None);
    }

    #[test]
    fn malformed_entries_are_named_but_not_shown() {
        let file = file(r#"{"auths": {"a": {"auth": "c2VjcmV0"}, "b": {"auth": "!secret!"}}}"#);
        for registry in ["a", "b"] {
            let text = file.find(registry, "x").unwrap_err().to_string();
            assert!(text.contains(&format!("`{registry}`")) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn unknown_fields_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        let mut file = AuthFile::read_or_new(&path).unwrap();
        file.fields.insert("psFormat".into(), json!("table"));
        file.set("docker.io", Some(&Credentials::password("me", "pw")));
        file.set("r:5000", Some(&Credentials::password("me", "pw2")));
        file.set("r:5000/team", Some(&Credentials::password("<token>", "id")));
        file.write().unwrap();
        let mut again = AuthFile::read(&path).unwrap().unwrap();
        assert_eq!(again.fields["psFormat"], "table");
        assert_eq!(again.fields["auths"]["https://index.docker.io/v1/"]["auth"], "bWU6cHc=");
        let token = again.find("r:5000", "team/app").unwrap().unwrap();
        assert!(matches!(token.secret, Secret::Identity(token) if token == "id"));
        assert_eq!(Vec::from_iter(again.keys()), ["docker.io", "r:5000", "r:5000/team"]);
        assert!(again.remove("r:5000") && !again.remove("r:5000"));
        assert!(again.find("r:5000", "team").unwrap().is_some());
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
