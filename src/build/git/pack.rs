//! A commit as one file, to carry it to a machine that cannot fetch it.
//!
//! The file is a pack of the commit and its files, without what came before it. Its content
//! depends on the commit, and on the version of git that makes it. Whoever takes it believes
//! nothing: git hashes each object anew, and fetches the commit from there like from any
//! other place, so that it is whole or not there at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::checkout::{copied, is_file};
use super::command::{Place, Session};
use super::fetch::{exists, has, has_object, keep, kept, text};
use super::{Git, GitError, Resolved};
use crate::atomic::{AtPath as _, private_folder};
use crate::digest::BlobDigest;
use crate::dockerfile::GitSource;
use crate::store::Store;

/// A pack in the store.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Packed {
    pub(in super::super) digest: BlobDigest,
    pub(in super::super) size: u64,
    /// It has some, and they are not in the pack.
    pub(in super::super) has_submodules: bool,
}

impl Git<'_> {
    /// Gets a commit, and packs it into a blob of the store.
    pub(in super::super) fn pack(
        &self,
        source: &GitSource,
        wanted: &Resolved,
    ) -> Result<Packed, GitError> {
        let session = Session::new(*self, source)?;
        let bare = self.fetch(&session, source, wanted)?;
        let modules = ["ls-tree", "--name-only", &wanted.object, "--", ".gitmodules"];
        let modules = session.run(Place::Bare(&bare.path), &modules)?;
        let task = self.progress.task(format!("pack {source}"));
        let scratch = self.store.scratch("pack")?;
        let git_dir = scratch.path().join("git");
        new(&session, &git_dir, wanted)?;
        let place = Place::Bare(&git_dir);
        copied(&session, place, &bare, wanted)?;
        drop(bare);
        let pack = ["-c", "pack.threads=1", "repack", "-a", "-d", "-F", "-n", "-q"];
        session.run(place, &pack)?;
        let path = only_pack(&git_dir, source)?;
        let mut from = File::open(&path).at("open", &path)?;
        let mut to = self.store.writer()?;
        io::copy(&mut from, &mut to).at("copy", &path)?;
        let (digest, size) = to.commit(None)?;
        task.done();
        Ok(Packed { digest, size, has_submodules: !modules.is_empty() })
    }

    /// Takes a commit out of a pack of the store, unless it is here.
    pub(in super::super) fn unpack(
        &self,
        source: &GitSource,
        wanted: &Resolved,
        pack: &BlobDigest,
    ) -> Result<(), GitError> {
        let session = Session::new(*self, source)?;
        let bare = self.bare(&session, source, wanted)?;
        let there = Place::Bare(&bare.path);
        if has(&session, there, &wanted.object)? {
            return commit(&session, there, source, wanted).map(drop);
        }
        let scratch = self.store.scratch("pack")?;
        let git_dir = scratch.path().join("git");
        new(&session, &git_dir, wanted)?;
        let place = Place::Bare(&git_dir);
        let path = git_dir.join("objects/pack/pack-0.pack");
        private_folder(&git_dir.join("objects/pack"))?;
        let mut to = File::create(&path).at("create", &path)?;
        // Whose digest is compared at its end.
        io::copy(&mut self.store.open_blob(pack)?, &mut to).at("write", &path)?;
        session.run(place, &["index-pack", text(&path)?])?;
        let commit = commit(&session, place, source, wanted)?;
        let shallow = git_dir.join("shallow");
        fs::write(&shallow, commit).at("write", &shallow)?;
        session.run(place, &["update-ref", "refs/kiln/commit", &wanted.object])?;
        take(&session, there, (&git_dir, "refs/kiln/commit"), source, wanted)
    }

    /// Has another store have a commit, if this one has it.
    pub(in super::super) fn lend(
        &self,
        source: &GitSource,
        wanted: &Resolved,
        to: &Store,
    ) -> Result<(), GitError> {
        let object = wanted.object.as_str();
        if !has_object(source, object, self.store)? || has_object(source, object, to)? {
            return Ok(());
        }
        let session = Session::new(*self, source)?;
        let from = self.bare(&session, source, wanted)?;
        let bare = Git { store: to, ..*self }.bare(&session, source, wanted)?;
        let from = (from.path.as_path(), kept(object));
        take(&session, Place::Bare(&bare.path), (from.0, &from.1), source, wanted)
    }
}

/// Takes a commit out of another repository on this machine, by a ref that it has there.
fn take(
    session: &Session<'_>,
    to: Place<'_>,
    (from, name): (&Path, &str),
    source: &GitSource,
    wanted: &Resolved,
) -> Result<(), GitError> {
    let url = format!("file://{}", text(from)?);
    let refspec = format!("+{name}:{}", kept(&wanted.object));
    let allowed = "protocol.file.allow=always";
    let fetch = ["-c", allowed, "fetch", "--quiet", "--no-tags", "--depth=1", "--"];
    session.run(to, &[fetch.as_slice(), &[&url, &refspec]].concat())?;
    if !exists(session, to, &wanted.object)? {
        let why = format!("what was to have it has no `{}`", wanted.object);
        return Err(GitError::Nonsense { url: source.remote.clone(), why });
    }
    keep(session, to, &wanted.object)
}

/// A repository without anything.
fn new(session: &Session<'_>, git_dir: &Path, wanted: &Resolved) -> Result<(), GitError> {
    let format = super::fetch::format(wanted);
    let args = ["init", "--quiet", "--bare", format, "--", text(git_dir)?];
    session.run(Place::Nowhere, &args).map(drop)
}

/// The commit of an object, which is what it was said to be: steps are known by it.
fn commit(
    session: &Session<'_>,
    place: Place<'_>,
    source: &GitSource,
    wanted: &Resolved,
) -> Result<String, GitError> {
    let name = format!("{}^{{commit}}", wanted.object);
    let found = session.run(place, &["rev-parse", "--verify", "--end-of-options", &name])?;
    let found = String::from_utf8_lossy(&found).trim().to_owned();
    match &wanted.commit {
        // A lock may name a tag by its own hash, and know no commit.
        Some(said) if *said != found && *said != wanted.object => {
            let why = format!("{} is commit {found}, not {said}", wanted.object);
            Err(GitError::Nonsense { url: source.remote.clone(), why })
        }
        _ => Ok(found),
    }
}

fn only_pack(git_dir: &Path, source: &GitSource) -> Result<PathBuf, GitError> {
    let folder = git_dir.join("objects/pack");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).at("read", &folder)? {
        let path = entry.at("read", &folder)?.path();
        if path.extension().is_some_and(|ending| ending == "pack") && is_file(&path) {
            found.push(path);
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => {
            let why = "it does not become one pack".into();
            Err(GitError::Nonsense { url: source.remote.clone(), why })
        }
    }
}
