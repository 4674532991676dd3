//! What the inputs of a build are held to, and what they turned out to be.
//!
//! Whatever comes from outside (bases, URLs, repositories, also as contexts) is looked up
//! here first, and noted here when it is known. A step's key is made of its inputs, so they
//! are found out even if every layer is known: what was noted is complete.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::diagnostic::{Diagnostic, Span};
use crate::digest::BlobDigest;
use crate::lock::{self, Entry, Key, Lock};
use crate::platform::Platform;
use crate::reference::Reference;

/// The inputs of one build, or of several that share a lock.
#[derive(Debug, Default)]
pub struct Sources {
    lock: Lock,
    rule: Rule,
    noted: Mutex<Noted>,
}

/// What the lock decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Rule {
    /// There is none.
    #[default]
    Free,
    /// What it has is taken; the rest is found out.
    Known,
    /// What it has is taken, and nothing else.
    Only,
}

#[derive(Debug, Default)]
struct Noted {
    used: Lock,
    refused: Vec<Unlocked>,
    /// Contexts that are not here.
    absent: Vec<Diagnostic>,
}

/// An input that the lock does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is not in the lock{}", other(platforms))]
pub struct Unlocked {
    pub key: Key,
    /// For which the lock has the image.
    pub platforms: Vec<Platform>,
    /// Where the Dockerfile asks for it; none for a context.
    pub span: Option<Span>,
}

impl Unlocked {
    /// As it is drawn.
    #[must_use]
    pub fn told(&self) -> Diagnostic {
        let hint = match self.platforms.as_slice() {
            [] => "`kiln lock` adds it, with the same --file, --target and --build-arg",
            _ => "`kiln lock --platform` with all platforms adds it",
        };
        Diagnostic::error(self.span.unwrap_or_default(), self.to_string()).hint(hint)
    }
}

fn other(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    if names.is_empty() { String::new() } else { format!(", only for {}", names.join(", ")) }
}

impl Sources {
    /// Takes what a lock has, and nothing else.
    #[must_use]
    pub fn locked(lock: Lock) -> Self {
        Self { lock, rule: Rule::Only, ..Self::default() }
    }

    /// Takes what a lock has, and finds out the rest.
    #[must_use]
    pub fn knowing(lock: Lock) -> Self {
        Self { lock, rule: Rule::Known, ..Self::default() }
    }

    /// What has been used so far.
    #[must_use]
    pub fn used(&self) -> Lock {
        self.noted().used.clone()
    }

    /// What the lock has of an image.
    pub(super) fn base(&self, reference: &Reference, of: &Platform) -> Option<&lock::Base> {
        self.lock.base(reference, of)
    }

    /// What the lock has of a file. Where the Dockerfile has come to state another digest, a
    /// lock that is being made has nothing.
    pub(super) fn url(&self, url: &str, stated: Option<BlobDigest>) -> Option<&lock::Url> {
        let known = |known: &&lock::Url| stated.is_none_or(|stated| stated == known.digest);
        self.lock.url(url).filter(|url| !self.fills() || known(url))
    }

    /// What the lock has of a ref; of `stated`, as of a file's digest.
    pub(super) fn git(
        &self,
        remote: &str,
        reference: Option<&str>,
        stated: Option<&str>,
    ) -> Option<&lock::Git> {
        let known = |git: &&lock::Git| {
            let stated = stated.map(str::to_ascii_lowercase).unwrap_or_default();
            [&git.object, &git.commit].iter().any(|hash| hash.starts_with(&stated))
        };
        self.lock.git(remote, reference).filter(|git| !self.fills() || known(git))
    }

    /// True if what the lock lacks is found out for the lock's sake.
    pub(super) fn fills(&self) -> bool {
        self.rule == Rule::Known
    }

    /// True if nothing is taken but what the lock has.
    pub(super) fn is_closed(&self) -> bool {
        self.rule == Rule::Only
    }

    /// Refuses what is not in the lock, if nothing else may be used.
    pub(super) fn allow(&self, key: Key, span: Option<Span>) -> Result<(), Box<Unlocked>> {
        if self.rule != Rule::Only || self.lock.get(&key).is_some() {
            return Ok(());
        }
        let platforms = match &key {
            Key::Base { reference, .. } => self.lock.platforms(reference),
            Key::Url(_) | Key::Git { .. } => Vec::new(),
        };
        Err(Box::new(Unlocked { key, platforms, span }))
    }

    pub(super) fn note(&self, entry: Entry) {
        self.noted().used.insert(entry);
    }

    /// Keeps a refusal, so that all of them are told at once.
    pub(super) fn refuse(&self, one: Unlocked) {
        let mut noted = self.noted();
        if !noted.refused.contains(&one) {
            noted.refused.push(one);
        }
    }

    /// What was refused, in the order of the Dockerfile.
    #[must_use]
    pub fn refused(&self) -> Vec<Unlocked> {
        let mut refused = self.noted().refused.clone();
        refused.sort_by_key(|one| one.span.map(|span| span.start));
        refused
    }

    /// Keeps that a context is not here, where there is no network to have it from; the build
    /// tells it with all else that it lacks.
    pub fn lack(&self, one: Diagnostic) {
        let mut noted = self.noted();
        if !noted.absent.contains(&one) {
            noted.absent.push(one);
        }
    }

    /// The contexts that are not here.
    #[must_use]
    pub fn absent(&self) -> Vec<Diagnostic> {
        self.noted().absent.clone()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
