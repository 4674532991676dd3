//! `kiln.lock`: what builds take from outside, and which content that was.
//!
//! A [`Lock`] is a set of [`Entry`]s, each under the [`Key`] by which a build asks for it:
//! a base image for a platform, a URL, a git ref. As a text it is TOML, a table for each
//! entry and a line for each field, sorted, so that the difference of two says what has
//! moved; the same set has one text. Whatever is read is checked, and no text with
//! credentials in an address is taken or written.

mod change;
mod text;

pub use change::Change;
pub use text::without_user;

use std::collections::BTreeMap;
use std::fmt;

use crate::digest::BlobDigest;
use crate::platform::Platform;
use crate::reference::Reference;

/// The file's usual name.
pub const FILE: &str = "kiln.lock";

/// What a build asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// An image as its full name has it, whatever it was called in the Dockerfile.
    Base { reference: Reference, platform: Platform },
    /// Without user and password.
    Url(String),
    Git {
        /// Without password; of an HTTP URL, without user.
        remote: String,
        /// As it was asked for; none for the default branch.
        reference: Option<String>,
    },
}

/// An input and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Base(Base),
    Url(Url),
    Git(Git),
}

/// A base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub reference: Reference,
    pub platform: Platform,
    /// The platform's manifest.
    pub digest: BlobDigest,
    /// The index that lists it, where there is one that is known.
    pub index: Option<BlobDigest>,
}

/// A file of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub url: String,
    pub digest: BlobDigest,
    pub size: u64,
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    pub remote: String,
    pub reference: Option<String>,
    /// What the ref is in full, as `refs/heads/main`; or the hash that was asked for.
    pub name: String,
    /// The commit, or the annotated tag that points to it.
    pub object: String,
    pub commit: String,
}

impl Entry {
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Base(Base { reference, platform, .. }) => {
                Key::Base { reference: reference.clone(), platform: platform.clone() }
            }
            Self::Url(Url { url, .. }) => Key::Url(url.clone()),
            Self::Git(Git { remote, reference, .. }) => {
                Key::Git { remote: remote.clone(), reference: reference.clone() }
            }
        }
    }

    /// What it is held to: a digest, or a commit's hash.
    #[must_use]
    pub fn pin(&self) -> String {
        match self {
            Self::Base(base) => base.digest.to_string(),
            Self::Url(url) => url.digest.to_string(),
            Self::Git(git) => git.commit.clone(),
        }
    }
}

impl Key {
    /// The word for its kind, as the file's tables are called.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Base { .. } => "base",
            Self::Url(_) => "url",
            Self::Git { .. } => "git",
        }
    }
}

/// For people, without the query of a URL, which may have secrets.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base { reference, platform } => {
                write!(f, "{} for {platform}", reference.familiar())
            }
            Self::Url(url) => match url.split_once('?') {
                Some((path, _)) => write!(f, "{path}?…"),
                None => f.write_str(url),
            },
            Self::Git { remote, reference: None } => f.write_str(remote),
            Self::Git { remote, reference: Some(name) } => write!(f, "{remote}#{name}"),
        }
    }
}

/// A set of inputs with their contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock(BTreeMap<Key, Entry>);

impl Lock {
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.0.get(key)
    }

    #[must_use]
    pub fn base(&self, reference: &Reference, platform: &Platform) -> Option<&Base> {
        let (reference, platform) = (reference.clone(), platform.clone());
        match self.get(&Key::Base { reference, platform })? {
            Entry::Base(base) => Some(base),
            Entry::Url(_) | Entry::Git(_) => None,
        }
    }

    #[must_use]
    pub fn url(&self, url: &str) -> Option<&Url> {
        match self.get(&Key::Url(url.to_owned()))? {
            Entry::Url(url) => Some(url),
            Entry::Base(_) | Entry::Git(_) => None,
        }
    }

    #[must_use]
    pub fn git(&self, remote: &str, reference: Option<&str>) -> Option<&Git> {
        let (remote, reference) = (remote.to_owned(), reference.map(str::to_owned));
        match self.get(&Key::Git { remote, reference })? {
            Entry::Git(git) => Some(git),
            Entry::Base(_) | Entry::Url(_) => None,
        }
    }

    /// The platforms that an image is known for.
    #[must_use]
    pub fn platforms(&self, of: &Reference) -> Vec<Platform> {
        let platform = |key: &Key| match key {
            Key::Base { reference, platform } if reference == of => Some(platform.clone()),
            _ => None,
        };
        self.0.keys().filter_map(platform).collect()
    }

    /// Puts an entry in the place of what was known of its key.
    pub fn insert(&mut self, entry: Entry) {
        self.0.insert(entry.key(), entry);
    }

    pub fn remove(&mut self, key: &Key) -> Option<Entry> {
        self.0.remove(key)
    }

    /// Takes over what another has; of the same key, the other's.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// In order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Entry> for Lock {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        Self(entries.into_iter().map(|entry| (entry.key(), entry)).collect())
    }
}
