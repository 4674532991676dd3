//! Which commit is meant, and its way into the store.

use std::path::{Path, PathBuf};

use super::command::{Place, Session};
use super::{Git, GitError, Resolved, refs};
use crate::atomic::AtPath as _;
use crate::digest::Digest;
use crate::dockerfile::{GitSource, Transport};
use crate::lock::{self, Entry, Key};
use crate::net;
use crate::store::{Slot, Store, StoreError};

/// The area of the locks: one for each remote.
const AREA: &str = "git";
/// Everything that the server names, for servers that give nothing else.
const ALL: [&str; 2] = ["+refs/heads/*:refs/kiln/heads/*", "+refs/tags/*:refs/kiln/tags/*"];

/// A remote's repository in the store, this one's alone as long as it lives.
pub(super) struct Bare<'a> {
    pub(super) path: PathBuf,
    _lock: Slot<'a>,
}

/// What a lock knows a source by: its remote and its ref. What is to be a commit is known by
/// that.
pub(in super::super) fn name(source: &GitSource) -> Result<(String, Option<String>), GitError> {
    let reference = match hash(source)? {
        Some(exact) => Some(exact.object),
        None => source.reference.clone(),
    };
    Ok((remote(source), reference))
}

/// A remote without what may be credentials; ssh asks for the user's name.
fn remote(source: &GitSource) -> String {
    match source.transport {
        Transport::Http => lock::without_user(&source.remote),
        Transport::Git | Transport::Ssh => source.remote.clone(),
    }
}

/// The commit that a source names by its whole hash, if it does.
fn hash(source: &GitSource) -> Result<Option<Resolved>, GitError> {
    let checksum = source.checksum.as_deref();
    if let Some(wrong) = checksum.filter(|text| !GitSource::is_checksum(text)) {
        return Err(GitError::BadChecksum(wrong.to_owned()));
    }
    let exact =
        |hash: &str| Resolved { reference: hash.to_owned(), object: hash.to_owned(), commit: None };
    match source.reference.as_deref() {
        Some(hash) if GitSource::is_commit(hash) => Ok(Some(exact(hash))),
        reference if source.by_commit => {
            let hash = checksum.filter(|hash| GitSource::is_commit(hash));
            let hash = hash.ok_or_else(|| GitError::ByCommit { url: source.remote.clone() })?;
            let named = |name: &str| match name.starts_with("refs/") {
                true => name.to_owned(),
                false => format!("refs/heads/{name}"),
            };
            let reference = reference.map_or(hash.to_owned(), named);
            Ok(Some(Resolved { reference, ..exact(hash) }))
        }
        _ => Ok(None),
    }
}

impl<'a> Git<'a> {
    /// Finds out which commit a source means. A whole hash is not asked for, nor what the
    /// lock has.
    pub(in super::super) fn resolve(&self, source: &GitSource) -> Result<Resolved, GitError> {
        let url = || source.remote.clone();
        let (remote, reference) = name(source)?;
        let key = Key::Git { remote: remote.clone(), reference: reference.clone() };
        self.sources.allow(key, None)?;
        let stated = source.checksum.as_deref();
        let locked = self.sources.git(&remote, reference.as_deref(), stated);
        let found = match (hash(source)?, locked) {
            (Some(exact), Some(locked)) if exact.object != locked.object => {
                let (locked, expected) = (locked.object.clone(), exact.object);
                return Err(GitError::Locked { url: url(), locked, expected });
            }
            (Some(exact), _) => exact,
            (None, Some(locked)) => Resolved {
                reference: locked.name.clone(),
                object: locked.object.clone(),
                commit: Some(locked.commit.clone()),
            },
            (None, None) => self.ask(source, source.reference.as_deref())?,
        };
        if let Some(expected) = stated {
            let start = expected.to_ascii_lowercase();
            let hashes = || [Some(&found.object), found.commit.as_ref()].into_iter().flatten();
            if !hashes().any(|hash| hash.starts_with(&start)) {
                let found: Vec<&str> = hashes().map(String::as_str).collect();
                let (expected, found) = (expected.to_owned(), found.join(" or "));
                return Err(GitError::Checksum { url: url(), expected, found });
            }
        }
        let Resolved { reference: name, object, commit } = found.clone();
        let commit = commit.unwrap_or_else(|| object.clone());
        self.sources.note(Entry::Git(lock::Git { remote, reference, name, object, commit }));
        Ok(found)
    }

    fn ask(&self, source: &GitSource, reference: Option<&str>) -> Result<Resolved, GitError> {
        if let Err(offline) = net::pass("asking") {
            let (url, reference) = (source.remote.clone(), reference.unwrap_or("HEAD"));
            return self.remembered(source).ok_or_else(|| GitError::Offline {
                url,
                reference: reference.to_owned(),
                offline,
            });
        }
        let task = self.progress.task(format!("resolve {source}"));
        let session = Session::new(*self, source)?;
        let patterns = refs::patterns(reference);
        let mut args = vec!["ls-remote", "--symref", "--", source.remote.as_str()];
        args.extend(patterns.iter().map(String::as_str));
        let answer = session.run(Place::Nowhere, &args)?;
        let found = refs::find(&String::from_utf8_lossy(&answer), reference);
        let found = found.ok_or_else(|| GitError::NoRef {
            url: source.remote.clone(),
            reference: reference.unwrap_or("HEAD").to_owned(),
        })?;
        self.remember(source, &found)?;
        task.done();
        Ok(found)
    }

    /// The store's repository of a remote, made if it is not there.
    pub(super) fn bare(
        &self,
        session: &Session<'_>,
        source: &GitSource,
        wanted: &Resolved,
    ) -> Result<Bare<'a>, GitError> {
        let key = repository(&remote(source), &wanted.object);
        let lock = self.store.slot(AREA, &key)?;
        let path = self.store.repositories()?.join(key.hex());
        let bare = Bare { path, _lock: lock };
        self.store.hold_folder(&bare.path);
        if !bare.path.join("HEAD").is_file() {
            let args = ["init", "--quiet", "--bare", format(wanted), "--", text(&bare.path)?];
            session.run(Place::Nowhere, &args)?;
        }
        Ok(bare)
    }

    /// Gets a commit into the store's repository of its remote.
    pub(super) fn fetch(
        &self,
        session: &Session<'_>,
        source: &GitSource,
        wanted: &Resolved,
    ) -> Result<Bare<'a>, GitError> {
        let bare = self.bare(session, source, wanted)?;
        let place = Place::Bare(&bare.path);
        let object = wanted.object.as_str();
        if has(session, place, object)? {
            return Ok(bare);
        }
        let task = self.progress.task(format!("fetch {source}"));
        // Left by a run that was killed: the lock above says that nobody else is there.
        let _ = std::fs::remove_file(bare.path.join("shallow.lock"));
        let kept = kept(object);
        let by_hash = format!("+{object}:{kept}");
        let by_name = format!("+{}:{kept}", wanted.reference);
        let (remote, reference) = name(source)?;
        // What the lock has may long have been moved away from.
        let by_commit =
            source.by_commit || self.sources.git(&remote, reference.as_deref(), None).is_some();
        let named = !by_commit && wanted.reference != wanted.object;
        let first = if named { &by_name } else { &by_hash };
        let shallow = ["fetch", "--progress", "--no-tags", "--depth=1", "--", &source.remote];
        let whole = ["fetch", "--progress", "--no-tags", "--prune", "--", &source.remote];
        let unshallow =
            ["fetch", "--progress", "--no-tags", "--prune", "--unshallow", "--", &source.remote];
        // The least first: servers differ in what they give. A ref that has moved
        // since it was asked for leaves its commit to the ones behind.
        let mut why = String::new();
        let ways = [
            (shallow.as_slice(), vec![first.as_str()]),
            (whole.as_slice(), vec![first.as_str()]),
            (shallow.as_slice(), vec![by_hash.as_str()]),
            (unshallow.as_slice(), ALL.to_vec()),
            (whole.as_slice(), ALL.to_vec()),
        ];
        for (number, (start, refs)) in ways.iter().enumerate() {
            let is_shallow = bare.path.join("shallow").is_file();
            // Asked for nothing new, or for what a repository that is whole refuses.
            if (number == 2 && !named) || (number == 3 && !is_shallow) {
                continue;
            }
            let args = [start, refs.as_slice()].concat();
            match session.attempt(place, &args)? {
                Ok(_) if exists(session, place, object)? => {
                    keep(session, place, object)?;
                    task.done();
                    return Ok(bare);
                }
                Ok(_) => why = format!("the server has no `{object}`"),
                // The first says best what is wrong with the server.
                Err(said) if number == 0 => {
                    let depth = said.contains("--depth") || said.contains("shallow");
                    let refused = said.contains("not our ref")
                        || said.contains("unadvertised")
                        || said.contains("couldn't find remote ref");
                    if !depth && !refused {
                        return Err(session.failed(&args, &said));
                    }
                    why = said;
                }
                Err(said) => why = said,
            }
        }
        Err(session.failed(&["fetch"], &why))
    }
}

/// The option that says how a repository's objects are hashed.
pub(super) fn format(wanted: &Resolved) -> &'static str {
    if wanted.object.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" }
}

/// Notes that a commit is whole.
pub(super) fn keep(session: &Session<'_>, place: Place<'_>, object: &str) -> Result<(), GitError> {
    session.run(place, &["update-ref", &kept(object), object]).map(drop)
}

/// Whether the store has the commit of an entry of a lock, with all that belongs to it. The
/// program is not needed to know: a ref is a file, or a line of the packed ones.
pub(in super::super) fn has_commit(git: &lock::Git, store: &Store) -> Result<bool, StoreError> {
    has_kept(&git.remote, &git.object, store)
}

/// The same of a source.
pub(super) fn has_object(
    source: &GitSource,
    object: &str,
    store: &Store,
) -> Result<bool, StoreError> {
    has_kept(&remote(source), object, store)
}

fn has_kept(remote: &str, object: &str, store: &Store) -> Result<bool, StoreError> {
    let path = store.repositories()?.join(repository(remote, object).hex());
    store.hold_folder(&path);
    let name = kept(object);
    let packed = || std::fs::read_to_string(path.join("packed-refs")).unwrap_or_default();
    let is_packed = || packed().lines().any(|line| line.split(' ').nth(1) == Some(name.as_str()));
    Ok(path.join(&name).is_file() || is_packed())
}

/// What the repository of a remote is called in the store.
fn repository(remote: &str, object: &str) -> Digest {
    let sha256 = object.len() == 64;
    Digest::of(format!("{sha256} {remote}").as_bytes())
}

/// What names a commit that was fetched whole.
pub(super) fn kept(object: &str) -> String {
    format!("refs/kiln/commits/{object}")
}

/// True if a commit was fetched, with all that belongs to it.
pub(super) fn has(session: &Session<'_>, place: Place<'_>, object: &str) -> Result<bool, GitError> {
    Ok(session.attempt(place, &["show-ref", "--verify", "--quiet", &kept(object)])?.is_ok())
}

/// True if there is an object with a commit behind it.
pub(super) fn exists(
    session: &Session<'_>,
    place: Place<'_>,
    object: &str,
) -> Result<bool, GitError> {
    let commit = format!("{object}^{{commit}}");
    Ok(session.attempt(place, &["cat-file", "-e", &commit])?.is_ok())
}

/// A path as an argument; the store's own have nothing odd, whatever stands above.
pub(super) fn text(path: &Path) -> Result<&str, GitError> {
    let odd = || std::io::Error::other("git takes no name that is no text");
    Ok(path.to_str().ok_or_else(odd).at("use", path)?)
}
