//! Git repositories, for `ADD` and as contexts: fetched and checked out by the
//! machine's own `git`.
//!
//! A remote has one bare repository in the store, into which commits are fetched as
//! they are wanted; a commit that it has is never asked for again. The program runs
//! without any configuration of user or system, without hooks, prompts and helpers,
//! and over http, https, ssh and git alone. Secrets reach it in a file of its own,
//! never as arguments. A checkout is a folder that lives as long as its [`Checkout`];
//! its modes are those that git knows, whatever the caller's umask.

mod checkout;
mod command;
mod fetch;
mod head;
mod known;
mod pack;
mod refs;

use serde::{Deserialize, Serialize};

use crate::atomic::PathError;
use crate::digest::Digest;
use crate::dockerfile::GitSource;
use crate::net::Offline;
use crate::progress::Progress;
use crate::sandbox::Cancel;
use crate::store::{Store, StoreError};

use super::given::Given;
use super::sources::{Sources, Unlocked};

pub use checkout::Checkout;
pub(super) use fetch::{has_commit, name};
pub(super) use head::head_time;

/// Why files of a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("repositories are fetched by the program `git`, and this machine has none")]
    NoGit,
    #[error("cannot start `git`: {0}")]
    Start(std::io::Error),
    #[error("{url}: `git {what}` failed: {why}")]
    Failed { url: String, what: String, why: String },
    #[error("{url}: `git {what}` has said nothing for {seconds} s, and was stopped")]
    Silent { url: String, what: String, seconds: u64 },
    #[error("{url}: the repository does not contain ref `{reference}`")]
    NoRef { url: String, reference: String },
    #[error("{url}: expected checksum to match {expected}, got {found}")]
    Checksum { url: String, expected: String, found: String },
    #[error("invalid checksum `{0}`: a hex commit hash is expected for a git repository")]
    BadChecksum(String),
    #[error("{url}: fetch-by-commit needs the whole hash of a commit as its checksum")]
    ByCommit { url: String },
    #[error("{url}: the folder `{subdir}` cannot be taken: {why}")]
    Subdir { url: String, subdir: String, why: String },
    #[error("{url}: what git says of it makes no sense: {why}")]
    Nonsense { url: String, why: String },
    #[error("secret `{0}` cannot be the credentials of a git server: it is no line of text")]
    Secret(String),
    #[error("{url}: ssh agent `default` is required, and none was given")]
    NoAgent { url: String },
    #[error("{url}: the lock has commit {locked}, and {expected} is expected")]
    Locked { url: String, locked: String, expected: String },
    #[error(transparent)]
    Unlocked(#[from] Box<Unlocked>),
    /// Kiln works offline, and nobody has asked before what the ref is.
    #[error("{url}: what `{reference}` is was not asked before; {offline}")]
    Offline { url: String, reference: String, offline: Offline },
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] PathError),
}

/// What git is run with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Git<'a> {
    pub(super) store: &'a Store,
    pub(super) given: &'a Given,
    pub(super) sources: &'a Sources,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
}

/// What a source means now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resolved {
    /// `refs/heads/main`, or the hash that the source names.
    pub(super) reference: String,
    /// The commit, or the annotated tag that points to it.
    pub(super) object: String,
    /// The commit behind an annotated tag, as far as it is known.
    pub(super) commit: Option<String>,
}

impl Resolved {
    /// What the files of a checkout depend on. A tag that was moved to and fro gives
    /// the same files, and only with the `.git` folder is its name among them.
    pub(super) fn key(&self, source: &GitSource) -> Digest {
        let mut fields = vec!["git"];
        if keeps_git_dir(source) {
            fields.extend(["with .git", &self.object, &self.reference, &source.remote]);
        } else {
            fields.push(self.commit.as_deref().unwrap_or(&self.object));
        }
        fields.extend(["subdir", &source.subdir]);
        if source.submodules == Some(false) {
            fields.push("without submodules");
        }
        // None of them can have a line break.
        Digest::of(fields.join("\n").as_bytes())
    }
}

/// A part of a repository has no `.git` folder.
fn keeps_git_dir(source: &GitSource) -> bool {
    source.keep_git_dir == Some(true) && source.subdir.is_empty()
}
