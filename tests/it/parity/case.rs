//! A case of the corpus: a folder, and its copy to build in.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::answer::Answer;
use crate::support::kiln::data;

pub(crate) struct Case {
    /// `AREA/NAME`.
    pub(crate) name: String,
    folder: PathBuf,
}

/// A place where kiln may differ, and why.
pub(super) struct Difference {
    pub(super) place: String,
    pub(super) reason: String,
    /// True once something differed there.
    pub(super) used: bool,
}

impl Difference {
    pub(super) fn covers(&self, place: &str) -> bool {
        match self.place.strip_suffix('*') {
            Some(start) => place.starts_with(start),
            None => self.place == place,
        }
    }
}

/// Every case, sorted by name.
pub(crate) fn all() -> Vec<Case> {
    let root = data().join("parity");
    let mut cases = Vec::new();
    for area in folders(&root) {
        for folder in folders(&area) {
            let name = folder.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            cases.push(Case { name, folder });
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.is_dir()).collect()
}

impl Case {
    /// A file of the case, if it has it.
    fn text(&self, name: &str) -> Option<String> {
        let path = self.folder.join(name);
        path.exists().then(|| fs::read_to_string(&path).unwrap())
    }

    /// Why only root can build it, if that is so.
    pub(super) fn root(&self) -> Option<String> {
        self.text("root").map(|text| text.trim().to_owned())
    }

    pub(super) fn differs(&self) -> Vec<Difference> {
        let text = self.text("differs").unwrap_or_default();
        let parts = text.lines().map(|line| line.split_once(": ").unwrap_or((line, "")));
        let differences = parts.map(|(place, reason)| Difference {
            place: place.to_owned(),
            reason: reason.to_owned(),
            used: false,
        });
        differences.collect()
    }

    /// True if a reason that must be given is not.
    pub(super) fn is_reasonless(&self) -> bool {
        self.root().is_some_and(|reason| reason.is_empty())
            || self.differs().iter().any(|difference| difference.reason.trim().is_empty())
    }

    pub(super) fn expected(&self) -> Option<Answer> {
        self.text("expected.json").map(|text| {
            Answer::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", self.name))
        })
    }

    pub(super) fn record(&self, answer: &Answer) {
        fs::write(self.folder.join("expected.json"), answer.to_string()).unwrap();
    }

    /// A copy to build in.
    pub(crate) fn fresh(&self) -> Fresh {
        let home = tempfile::Builder::new().prefix("kiln-parity-").tempdir().unwrap();
        let to = home.path().join("case");
        copy(&self.folder, &to);
        let context = to.join("context");
        if !context.exists() {
            fs::create_dir(&context).unwrap();
            fs::set_permissions(&context, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if to.join("prepare").exists() {
            let script = "umask 022; . ../prepare";
            let output = Command::new("sh")
                .args(["-eu", "-c", script])
                .env_clear()
                .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
                .env("LC_ALL", "C.UTF-8")
                .current_dir(&context)
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: prepare: {errors}", self.name);
        }
        let flags = self.text("flags").unwrap_or_default();
        let lines = flags.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut file = ["Dockerfile", "context/Dockerfile"]
            .into_iter()
            .find(|name| to.join(name).exists())
            .unwrap_or("Dockerfile")
            .to_owned();
        let mut flags = Vec::new();
        for line in lines {
            let end = line.find([' ', '=']);
            let (flag, value) = match end {
                Some(end) => (&line[..end], Some(line[end + 1..].to_owned())),
                None => (line, None),
            };
            match (flag, value) {
                ("-f" | "--file", Some(value)) => file = value,
                (flag, value) => flags.push((flag.to_owned(), value)),
            }
        }
        Fresh { name: self.name.clone(), home, file, flags }
    }
}

/// A prepared copy of a case.
pub(crate) struct Fresh {
    pub(crate) name: String,
    home: tempfile::TempDir,
    /// The Dockerfile, relative to the folder.
    pub(crate) file: String,
    /// The other flags, each with its value.
    pub(crate) flags: Vec<(String, Option<String>)>,
}

impl Fresh {
    /// Where the build runs.
    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("case")
    }

    /// Where the image goes.
    pub(super) fn archive(&self) -> PathBuf {
        self.home.path().join("image.tar")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // A case may close folders to their owner.
        let mut walk = vec![self.home.path().to_owned()];
        while let Some(folder) = walk.pop() {
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o755));
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    walk.push(entry.path());
                }
            }
        }
    }
}

/// Copies with modes that depend on nothing but the right to execute.
fn copy(from: &Path, to: &Path) {
    let meta = from.symlink_metadata().unwrap();
    if meta.is_symlink() {
        symlink(fs::read_link(from).unwrap(), to).unwrap();
        return;
    }
    if meta.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::write(to, fs::read(from).unwrap()).unwrap();
    }
    let runs = meta.is_dir() || meta.permissions().mode() & 0o100 != 0;
    let mode = if runs { 0o755 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).unwrap();
}
