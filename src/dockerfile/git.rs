//! Git repositories as sources of `ADD` and as build contexts: how their URLs are read.
//!
//! As BuildKit's frontend reads them: `https://host/repo.git#REF:FOLDER`, also with
//! `git://`, `ssh://` and `user@host:path`, and with the queries that say the same and
//! more (`?ref=…&subdir=…`). An HTTP URL is a repository's if its path ends in `.git`.

use std::fmt;

/// What is wanted of which repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// What git is given: without password, query and fragment.
    pub remote: String,
    pub transport: Transport,
    /// With its port, if the URL has one.
    pub host: String,
    /// The user and password of an HTTP URL that has both.
    pub login: Option<Login>,
    /// A branch, a tag, or a commit's whole hash; none for the default branch.
    pub reference: Option<String>,
    /// The first digits of the commit that it must be, or all of them.
    pub checksum: Option<String>,
    /// A clean path below the repository's root; empty for all of it.
    pub subdir: String,
    pub keep_git_dir: Option<bool>,
    pub submodules: Option<bool>,
    /// The checksum is what is fetched, whatever the reference is now.
    pub by_commit: bool,
    pub time: GitTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Http,
    Git,
    Ssh,
}

/// Which time the files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GitTime {
    #[default]
    Checkout,
    Commit,
}

/// Has no `Debug` text.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// Why the URL of a repository makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitSourceError {
    #[error("`{0}` is not known in the query of a git URL")]
    UnknownQuery(String),
    #[error("`{0}` has no value in the query of the git URL")]
    NoValue(String),
    #[error("`{0}` is there twice in the query of the git URL")]
    Twice(String),
    #[error("`{name}` cannot be `{value}` in the query of a git URL")]
    BadValue { name: &'static str, value: String },
    #[error("{what} conflicts: the git URL says both `{one}` and `{other}`")]
    Conflict { what: &'static str, one: String, other: String },
    #[error("`{0}` cannot be the name of a git ref")]
    Reference(String),
    #[error("`{0}` cannot be a git server's user or host")]
    Host(String),
    #[error("the git URL has a control character")]
    Control,
}

/// For people: what is wanted, without a password.
impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote)?;
        if self.reference.is_some() || !self.subdir.is_empty() {
            write!(f, "#{}", self.reference.as_deref().unwrap_or_default())?;
        }
        if !self.subdir.is_empty() {
            write!(f, ":{}", self.subdir)?;
        }
        for (name, set) in [("keep-git-dir", self.keep_git_dir), ("submodules", self.submodules)] {
            if let Some(set) = set {
                write!(f, " {name}={set}")?;
            }
        }
        self.checksum.as_ref().map_or(Ok(()), |checksum| write!(f, " checksum={checksum}"))
    }
}

/// A URL that may be a repository's, taken apart.
struct Parts<'a> {
    transport: Transport,
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl GitSource {
    /// Reads a source of `ADD`; none if it is no repository.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, GitSourceError>> {
        if text.starts_with("./") || text.starts_with("../") {
            return None;
        }
        let parts = match url(text) {
            Some(parts) => parts,
            None => scp(text)?,
        };
        let is_http = parts.transport == Transport::Http;
        if is_http && !decoded(parts.path, false).is_some_and(|path| path.ends_with(".git")) {
            return None;
        }
        Some(Self::of(&parts))
    }

    /// Reads a build context, which may leave `https://` out before `github.com/`.
    #[must_use]
    pub fn parse_context(text: &str) -> Option<Result<Self, GitSourceError>> {
        if text.starts_with("github.com/") {
            return Some(Self::of(&url(&format!("https://{text}"))?));
        }
        Self::parse(text)
    }

    /// Reads what git is given, as [`GitSource::remote`] has it.
    ///
    /// # Errors
    /// If it names no server.
    pub fn of_remote(remote: &str) -> Result<Self, GitSourceError> {
        match url(remote).or_else(|| scp(remote)) {
            Some(parts) => Self::of(&parts),
            None => Err(GitSourceError::Host(remote.to_owned())),
        }
    }

    /// The same source with a commit that it must be.
    ///
    /// # Errors
    /// If the URL has another one.
    pub fn with_checksum(mut self, checksum: &str) -> Result<Self, GitSourceError> {
        if let Some(own) = self.checksum.filter(|own| own != checksum) {
            let (one, other) = (own, checksum.to_owned());
            return Err(GitSourceError::Conflict { what: "the checksum", one, other });
        }
        self.checksum = Some(checksum.to_owned());
        Ok(self)
    }

    /// True if a checksum can be one: hexadecimal digits.
    #[must_use]
    pub fn is_checksum(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit())
    }

    /// True for the whole hash of an object, as git writes it.
    #[must_use]
    pub fn is_commit(text: &str) -> bool {
        matches!(text.len(), 40 | 64)
            && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    }

    fn of(parts: &Parts<'_>) -> Result<Self, GitSourceError> {
        let Parts { transport, scheme, user, host, path, query, fragment } = parts;
        if [user.unwrap_or_default(), host].iter().any(|word| word.starts_with('-')) {
            return Err(GitSourceError::Host(format!("{}@{host}", user.unwrap_or_default())));
        }
        let mut login = None;
        let mut name = user.map(str::to_owned);
        if let Some((user, password)) = user.and_then(|user| user.split_once(':')) {
            name = None;
            let text = |text: &str| decoded(text, false).unwrap_or_else(|| text.to_owned());
            login = Some(Login { user: text(user), password: text(password) });
            if *transport != Transport::Http {
                // ssh asks for no password, and this is the name that it is to log in with.
                (name, login) = (Some(user.to_owned()), None);
            }
        }
        let user = name.map(|name| format!("{name}@")).unwrap_or_default();
        let remote = match scheme.as_str() {
            "" => format!("{user}{host}:{path}"),
            scheme => format!("{scheme}://{user}{host}{path}"),
        };
        let mut source = Self {
            remote,
            transport: *transport,
            host: (*host).to_owned(),
            login,
            reference: None,
            checksum: None,
            subdir: String::new(),
            keep_git_dir: None,
            submodules: None,
            by_commit: false,
            time: GitTime::default(),
        };
        if let Some(fragment) = fragment {
            let fragment = decoded(fragment, false).unwrap_or_else(|| (*fragment).to_owned());
            let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
            source.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
            source.subdir = clean(subdir);
        }
        if let Some(query) = query {
            source.query(query)?;
        }
        let control = |text: &str| text.chars().any(char::is_control);
        if control(&source.remote) || control(&source.subdir) {
            return Err(GitSourceError::Control);
        }
        match &source.reference {
            Some(name) if name.starts_with('-') || control(name) => {
                Err(GitSourceError::Reference(name.escape_debug().to_string()))
            }
            Some(_) | None => Ok(source),
        }
    }

    fn query(&mut self, query: &str) -> Result<(), GitSourceError> {
        let (mut tag, mut branch) = (None, None);
        let mut seen: Vec<String> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (decoded(name, true), decoded(value, true)) else {
                continue;
            };
            if seen.contains(&name) {
                return Err(GitSourceError::Twice(name));
            }
            seen.push(name.clone());
            let flag = |name: &'static str| match value.as_str() {
                "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
                _ => Err(GitSourceError::BadValue { name, value: value.clone() }),
            };
            let given = || match value.as_str() {
                "" => Err(GitSourceError::NoValue(name.clone())),
                value => Ok(value.to_owned()),
            };
            match name.as_str() {
                "ref" => self.refer(given()?)?,
                "tag" => tag = Some(given()?),
                "branch" => branch = Some(given()?),
                "subdir" => {
                    let subdir = clean(&given()?);
                    if !self.subdir.is_empty() && self.subdir != subdir {
                        let (one, other) = (self.subdir.clone(), subdir);
                        return Err(GitSourceError::Conflict { what: "the folder", one, other });
                    }
                    self.subdir = subdir;
                }
                "checksum" | "commit" => *self = self.clone().with_checksum(&given()?)?,
                "keep-git-dir" => self.keep_git_dir = Some(flag("keep-git-dir")?),
                "submodules" => self.submodules = Some(flag("submodules")?),
                "fetch-by-commit" => self.by_commit = flag("fetch-by-commit")?,
                "mtime" => {
                    self.time = match given()?.as_str() {
                        "checkout" => GitTime::Checkout,
                        "commit" => GitTime::Commit,
                        _ => return Err(GitSourceError::BadValue { name: "mtime", value }),
                    }
                }
                _ => return Err(GitSourceError::UnknownQuery(name)),
            }
        }
        let below = |folder: &str, name: String| match name.starts_with(folder) {
            true => name,
            false => format!("{folder}{name}"),
        };
        if let (Some(tag), Some(branch)) = (&tag, &branch) {
            let (one, other) = (tag.clone(), branch.clone());
            return Err(GitSourceError::Conflict { what: "tag and branch", one, other });
        }
        tag.map_or(Ok(()), |tag| self.refer(below("refs/tags/", tag)))?;
        branch.map_or(Ok(()), |branch| self.refer(below("refs/heads/", branch)))
    }

    fn refer(&mut self, name: String) -> Result<(), GitSourceError> {
        match &self.reference {
            Some(known) if *known != name => {
                let (one, other) = (known.clone(), name);
                Err(GitSourceError::Conflict { what: "the ref", one, other })
            }
            Some(_) | None => {
                self.reference = Some(name);
                Ok(())
            }
        }
    }
}

/// A URL with one of git's schemes.
fn url(text: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let transport = match scheme.as_str() {
        "http" | "https" => Transport::Http,
        "git" => Transport::Git,
        "ssh" => Transport::Ssh,
        _ => return None,
    };
    let (rest, query, fragment) = cut(rest);
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    Some(Parts { transport, scheme, user, host, path, query, fragment })
}

/// `user@host:path`, as git takes it.
fn scp(text: &str) -> Option<Parts<'_>> {
    let (user, rest) = text.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if !word(user, "-_") || !word(host, "-.") {
        return None;
    }
    let (path, query, fragment) = cut(rest);
    let (transport, scheme, user) = (Transport::Ssh, String::new(), Some(user));
    Some(Parts { transport, scheme, user, host, path, query, fragment })
}

/// What stands before, behind `?`, and behind `#`.
fn cut(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (text, fragment) = match text.split_once('#') {
        Some((text, fragment)) => (text, Some(fragment)),
        None => (text, None),
    };
    match text.split_once('?') {
        Some((text, query)) => (text, Some(query), fragment),
        None => (text, None, fragment),
    }
}

/// `%20` and the like read; in a query, `+` is a space. None if it is malformed.
fn decoded(text: &str, query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A path that cannot lead out.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => (),
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
