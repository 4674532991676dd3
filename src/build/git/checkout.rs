//! A commit's files in a folder.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::command::{Place, Session};
use super::fetch::{Bare, format, text};
use super::{Git, GitError, Resolved, keeps_git_dir};
use crate::atomic::{AtPath as _, private_folder};
use crate::dockerfile::{GitSource, GitTime};
use crate::store::Scratch;

/// A folder with a repository's files; gone with this value.
#[derive(Debug)]
pub struct Checkout {
    root: PathBuf,
    /// Whether the source asks for the commit's time.
    keeps_time: bool,
    committed: i64,
    _scratch: Scratch,
}

impl Checkout {
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The time that the files have, where it is not that of what is made of them.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        self.keeps_time.then_some(self.committed)
    }

    /// The commit's time, in seconds.
    #[must_use]
    pub fn committed(&self) -> i64 {
        self.committed
    }
}

impl Git<'_> {
    /// Checks a commit out, with its submodules.
    pub(in super::super) fn checkout(
        &self,
        source: &GitSource,
        wanted: &Resolved,
    ) -> Result<Checkout, GitError> {
        let session = Session::new(*self, source)?;
        let bare = self.fetch(&session, source, wanted)?;
        let scratch = self.store.scratch("checkout")?;
        let tree = scratch.path().join("tree");
        fs::create_dir(&tree).at("create", &tree)?;
        let keeps = keeps_git_dir(source);
        let git_dir = if keeps { tree.join(".git") } else { scratch.path().join("git") };
        let place = Place::Tree { git_dir: &git_dir, tree: &tree };
        session.run(place, &["init", "--quiet", format(wanted)])?;
        if keeps {
            copied(&session, place, &bare, wanted)?;
        } else {
            borrowed(&git_dir, &bare)?;
        }
        let commit = format!("{}^{{commit}}", wanted.object);
        let commit = session.run(place, &["rev-parse", "--verify", "--end-of-options", &commit])?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        if !GitSource::is_commit(&commit) {
            let why = format!("`{commit}` is no commit");
            return Err(GitError::Nonsense { url: source.remote.clone(), why });
        }
        // Relative URLs of submodules are relative to this.
        session.run(place, &["config", "remote.origin.url", &source.remote])?;
        if keeps {
            // What `git clone` writes: whoever has the folder can fetch more.
            let branches = "+refs/heads/*:refs/remotes/origin/*";
            session.run(place, &["config", "remote.origin.fetch", branches])?;
        }
        session.run(place, &["update-ref", "--no-deref", "HEAD", &commit])?;
        session.run(place, &["read-tree", &commit])?;
        session.run(place, &["checkout-index", "--all", "--force"])?;
        let committed = commit_time(&session, place, source, &commit)?;
        let keeps_time = match source.time {
            GitTime::Checkout => false,
            GitTime::Commit => true,
        };
        if source.submodules != Some(false) && is_file(&tree.join(".gitmodules")) {
            self.submodules(&session, place)?;
        }
        drop(bare);
        if keeps {
            tidy(&session, &git_dir, &tree)?;
        } else {
            unlink_submodules(&tree)?;
        }
        plain_modes(&tree)?;
        let root = below(&tree, source)?;
        Ok(Checkout { root, keeps_time, committed, _scratch: scratch })
    }

    fn submodules(&self, session: &Session<'_>, place: Place<'_>) -> Result<(), GitError> {
        let task = self.progress.task("fetch submodules");
        let args = ["submodule", "update", "--init", "--recursive", "--progress"];
        let shallow = [args.as_slice(), &["--depth=1"]].concat();
        if session.attempt(place, &shallow)?.is_err() {
            // Servers may not give parts of a history, or a commit that has no name.
            session.run(place, &args)?;
        }
        task.done();
        Ok(())
    }
}

/// Makes a repository use the objects of the store's, for as long as it is there.
fn borrowed(git_dir: &Path, bare: &Bare<'_>) -> Result<(), GitError> {
    let info = git_dir.join("objects/info");
    private_folder(&info)?;
    let path = info.join("alternates");
    let line = format!("{}\n", text(&bare.path.join("objects"))?);
    fs::write(&path, line).at("write", &path)?;
    // What the store has is cut off where this says.
    let (from, to) = (bare.path.join("shallow"), git_dir.join("shallow"));
    if from.is_file() {
        fs::copy(&from, &to).at("copy", &from)?;
    }
    Ok(())
}

/// Gives a repository a commit of its own, without what came before it.
pub(super) fn copied(
    session: &Session<'_>,
    place: Place<'_>,
    bare: &Bare<'_>,
    wanted: &Resolved,
) -> Result<(), GitError> {
    let name = match wanted.reference == wanted.object {
        // Named for the time being: what nothing names is not packed.
        true => "refs/kiln/commit",
        false => &wanted.reference,
    };
    let refspec = format!("+{}:{name}", wanted.object);
    let from = format!("file://{}", text(&bare.path)?);
    let args = [
        "-c",
        "protocol.file.allow=always",
        "fetch",
        "--quiet",
        "--no-tags",
        "--update-head-ok",
        "--depth=1",
        "--",
        &from,
        &refspec,
    ];
    session.run(place, &args).map(drop)
}

fn commit_time(
    session: &Session<'_>,
    place: Place<'_>,
    source: &GitSource,
    commit: &str,
) -> Result<i64, GitError> {
    let said = session.run(place, &["log", "-1", "--format=%ct", commit, "--"])?;
    let said = String::from_utf8_lossy(&said);
    said.trim().parse().map_err(|_| GitError::Nonsense {
        url: source.remote.clone(),
        why: format!("the commit's time is `{}`", said.trim()),
    })
}

/// Takes out of the `.git` folder whatever depends on when and where it was made.
fn tidy(session: &Session<'_>, git_dir: &Path, tree: &Path) -> Result<(), GitError> {
    let mut repositories = Vec::new();
    for found in walkdir::WalkDir::new(git_dir).sort_by_file_name() {
        let found = found.map_err(io::Error::from).at("read", git_dir)?;
        // A repository within `.git/modules`, or the folder itself.
        if found.file_name() == "HEAD" && found.path().with_file_name("objects").is_dir() {
            repositories.extend(found.path().parent().map(Path::to_owned));
        }
    }
    for repository in repositories {
        // The tree matters to no command here but has to exist.
        let place = Place::Tree { git_dir: &repository, tree };
        // As it is read anew, it has no times and no inodes of this machine.
        let index = repository.join("index");
        if is_file(&index) {
            fs::remove_file(&index).at("remove", &index)?;
            session.run(place, &["read-tree", "HEAD"])?;
        }
        let pack = ["-c", "pack.threads=1", "repack", "-a", "-d", "-F", "-n", "-q"];
        session.run(place, &pack)?;
        for name in ["FETCH_HEAD", "ORIG_HEAD", "refs/kiln"] {
            let path = repository.join(name);
            if path.is_dir() {
                fs::remove_dir_all(&path).at("remove", &path)?;
            } else if path.exists() {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        let logs = repository.join("logs");
        if logs.is_dir() {
            fs::remove_dir_all(&logs).at("remove", &logs)?;
        }
    }
    Ok(())
}

/// Removes the files that tie submodules to repositories which are not taken along.
fn unlink_submodules(tree: &Path) -> Result<(), GitError> {
    for found in walkdir::WalkDir::new(tree).min_depth(1) {
        let found = found.map_err(io::Error::from).at("read", tree)?;
        if found.file_name() == ".git" && found.file_type().is_file() {
            fs::remove_file(found.path()).at("remove", found.path())?;
        }
    }
    Ok(())
}

/// Gives everything the modes that git knows: its files can be run or not, and
/// everybody may read them.
fn plain_modes(tree: &Path) -> Result<(), GitError> {
    for found in walkdir::WalkDir::new(tree) {
        let found = found.map_err(io::Error::from).at("read", tree)?;
        if found.file_type().is_symlink() {
            continue;
        }
        let path = found.path();
        let old = fs::symlink_metadata(path).at("read", path)?.mode() & 0o7777;
        let others = old >> 6 & 0o5;
        let new = old & 0o700 | others << 3 | others;
        if new != old {
            fs::set_permissions(path, fs::Permissions::from_mode(new))
                .at("change the mode of", path)?;
        }
    }
    Ok(())
}

/// The folder that is wanted of a checkout; no link leads there.
fn below(tree: &Path, source: &GitSource) -> Result<PathBuf, GitError> {
    let mut at = tree.to_owned();
    for part in source.subdir.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        let why = match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => continue,
            Ok(_) => format!("`{part}` is not a folder"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("there is no `{part}`")
            }
            Err(error) => return Err(error).at("read", &at)?,
        };
        let (url, subdir) = (source.remote.clone(), source.subdir.clone());
        return Err(GitError::Subdir { url, subdir, why });
    }
    Ok(at)
}

pub(super) fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}
