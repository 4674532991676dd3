//! What can be had of a repository without asking its server.
//!
//! Commits are kept whole in the store; of a ref the store remembers what it was when the
//! server was last asked. Submodules are kept nowhere.

use super::command::{Place, Session};
use super::fetch::has_object;
use super::{Git, GitError, Resolved};
use crate::digest::Digest;
use crate::dockerfile::GitSource;

/// The records' area: what refs were.
const AREA: &str = "git-refs";

impl Git<'_> {
    /// What a source's ref was when the server was last asked.
    pub(super) fn remembered(&self, source: &GitSource) -> Option<Resolved> {
        self.store.record(AREA, &key(source))
    }

    pub(super) fn remember(&self, source: &GitSource, found: &Resolved) -> Result<(), GitError> {
        Ok(self.store.slot(AREA, &key(source))?.write(found)?)
    }

    /// Why the files of a source, of which it is known what it is, cannot be had without
    /// asking anybody; none if they can.
    pub(in super::super) fn lacking(&self, source: &GitSource) -> Result<Option<String>, GitError> {
        let wanted = match self.resolve(source) {
            // That is told already.
            Err(GitError::Offline { .. } | GitError::Unlocked(_)) => return Ok(None),
            resolved => resolved?,
        };
        let object = &wanted.object;
        if !has_object(source, object, self.store)? {
            return Ok(Some(format!("commit {object} is not in the store")));
        }
        if source.submodules == Some(false) {
            return Ok(None);
        }
        let session = Session::new(*self, source)?;
        let bare = self.bare(&session, source, &wanted)?;
        let modules = format!("{object}:.gitmodules");
        let found = session.attempt(Place::Bare(&bare.path), &["cat-file", "-e", &modules])?;
        Ok(found.is_ok().then(|| "its submodules are kept nowhere".to_owned()))
    }
}

fn key(source: &GitSource) -> Digest {
    let reference = source.reference.as_deref().unwrap_or("HEAD");
    // Neither can have a line break.
    Digest::of(format!("{}\n{reference}", source.remote).as_bytes())
}
