//! A container's folder: what lies in it, who holds it, and what that says
//! about the container.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::create::Config;
use super::error::ContainerError;
use super::request::Port;
use super::signal::Process;
use crate::atomic::{self, AtPath as _};
use crate::digest::Digest;
use crate::env;
use crate::store::Store;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not started yet, or being started.
    Created,
    Running,
    Exited,
    /// It was running when its monitor was killed or the machine went down:
    /// it is gone, and nobody saw how it ended.
    Lost,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Lost => "lost",
        })
    }
}

/// `state.json`. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub status: Status,
    /// The container's first process, in the numbers of the host.
    pub process: Option<Process>,
    pub started: Option<String>,
    pub finished: Option<String>,
    /// As a shell would show it: 128 and the signal's number if it was killed.
    pub exit_code: Option<i32>,
    /// A process was killed because the memory it is limited to was used up.
    #[serde(default)]
    pub out_of_memory: bool,
    /// What went wrong on kiln's side.
    pub error: Option<String>,
    /// The ports that are published, with the numbers the host chose.
    pub ports: Vec<Port>,
}

impl State {
    pub(super) fn created() -> Self {
        Self {
            status: Status::Created,
            process: None,
            started: None,
            finished: None,
            exit_code: None,
            out_of_memory: false,
            error: None,
            ports: Vec::new(),
        }
    }
}

/// The clock's time, for people: no layer, key or image holds it.
#[expect(clippy::disallowed_methods, reason = "when a container ran is a fact about the clock")]
pub(super) fn now() -> String {
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap_or_default();
    format!("{now:.9}")
}

/// The folder of all containers, made if it is absent.
pub(super) fn root(store: &Store) -> Result<PathBuf, ContainerError> {
    let path = env::path(env::STATE).unwrap_or_else(|| store.root().join("containers"));
    atomic::private_folder(&path)?;
    Ok(fs::canonicalize(&path).at("open", &path)?)
}

/// The records' area: folders of containers that do not lie in the store.
const STATES: &str = "states";

/// Has the store know that containers which stand on it lie in a folder.
pub(super) fn announce(store: &Store, root: &Path) -> Result<(), ContainerError> {
    let bytes = root.as_os_str().as_bytes();
    let key = Digest::of(bytes);
    if !root.starts_with(store.root()) && !store.has_record(STATES, &key) {
        store.set_record_bytes(STATES, &key, bytes)?;
    }
    Ok(())
}

/// All folders with containers that stand on the store.
pub(super) fn roots(store: &Store) -> Result<Vec<PathBuf>, ContainerError> {
    let mut roots = vec![root(store)?, store.root().join("containers")];
    roots.extend(store.records(STATES)?.into_iter().map(|bytes| OsString::from_vec(bytes).into()));
    roots.sort();
    roots.dedup();
    let mut there = Vec::with_capacity(roots.len());
    for root in roots {
        match root.metadata() {
            Ok(meta) if meta.is_dir() => there.push(root),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            // Containers that cannot be looked at may stand on the store all the same.
            Err(error) => return Err(error).at("read", &root)?,
        }
    }
    Ok(there)
}

/// The right to change a container; given back with the last copy of the
/// descriptor, also when its holder is killed.
#[derive(Debug)]
pub(super) struct Hold(pub(super) File);

/// One container on disk.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) path: PathBuf,
    pub(super) config: Config,
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ContainerError> {
    let bytes = fs::read(path).at("read", path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ContainerError::Damaged { path: path.into(), why: error.to_string() })
}

pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), ContainerError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(std::io::Error::from).at("write", path)?;
    Ok(atomic::write(path, &bytes)?)
}

impl Container {
    pub(super) fn open(path: PathBuf) -> Result<Self, ContainerError> {
        let config = read(&path.join("config.json"))?;
        Ok(Self { path, config })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn name(&self) -> String {
        self.config.name.clone()
    }

    /// The name of its cgroup, which it has if it has limits.
    pub(super) fn cgroup(&self) -> String {
        format!("kiln-{}", self.config.id)
    }

    /// What was written last.
    pub(super) fn recorded(&self) -> Result<State, ContainerError> {
        read(&self.file("state.json"))
    }

    pub(super) fn record(&self, state: &State) -> Result<(), ContainerError> {
        write(&self.file("state.json"), state)
    }

    pub(super) fn write_config(&self) -> Result<(), ContainerError> {
        write(&self.file("config.json"), &self.config)
    }

    /// What is true now: a container whose monitor is gone does not run.
    pub(super) fn state(&self) -> Result<State, ContainerError> {
        // The lock before the file: a monitor writes its last word while it holds it.
        let held = self.is_held()?;
        let mut state = self.recorded()?;
        if state.status == Status::Running && !held {
            // It may have ended between the two looks, and said so.
            state = self.recorded()?;
            if state.status == Status::Running {
                state.status = Status::Lost;
            }
        }
        Ok(state)
    }

    fn lock_file(&self) -> Result<File, ContainerError> {
        let path = self.file("lock");
        Ok(File::options().read(true).write(true).open(&path).at("open", &path)?)
    }

    /// Takes the container if nobody has it.
    pub(super) fn try_hold(&self) -> Result<Option<Hold>, ContainerError> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at("lock", self.file("lock"))?,
        }
    }

    /// Waits for the container to be free; an error if it is removed meanwhile.
    pub(super) fn hold_within(&self, limit: Duration) -> Result<Option<Hold>, ContainerError> {
        let until = Instant::now() + limit;
        loop {
            // Others look at the lock for a moment only; a monitor keeps it.
            if let Some(hold) = self.try_hold()? {
                if self.exists() {
                    return Ok(Some(hold));
                }
                return Err(ContainerError::NoContainer(self.name()));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether a monitor (or who starts one) has it. Looking takes the lock
    /// shared, so that two who look do not take each other for a monitor.
    pub(super) fn is_held(&self) -> Result<bool, ContainerError> {
        match self.lock_file()?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).at("lock", self.file("lock"))?,
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.file("config.json").exists()
    }
}

/// All containers, the oldest first. A folder that vanishes meanwhile is left out.
pub(super) fn all(store: &Store) -> Result<Vec<Container>, ContainerError> {
    all_in(&root(store)?)
}

pub(super) fn all_in(root: &Path) -> Result<Vec<Container>, ContainerError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).at("read", root)? {
        let path = entry.at("read", root)?.path();
        if path.join("config.json").exists() {
            match Container::open(path) {
                Ok(container) => found.push(container),
                Err(ContainerError::Io(error))
                    if error.source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    found.sort_by(|a, b| (&a.config.created, &a.config.id).cmp(&(&b.config.created, &b.config.id)));
    Ok(found)
}

/// The container of a name, of an ID, or of an ID's beginning.
pub(super) fn find(store: &Store, name: &str) -> Result<Container, ContainerError> {
    let mut all = all(store)?;
    let named = |container: &Container| container.config.name == name;
    let whole = |container: &Container| container.config.id == name;
    if let Some(at) = all.iter().position(named).or_else(|| all.iter().position(whole)) {
        return Ok(all.swap_remove(at));
    }
    all.retain(|container| !name.is_empty() && container.config.id.starts_with(name));
    match all.len() {
        0 => Err(ContainerError::NoContainer(name.into())),
        1 => Ok(all.swap_remove(0)),
        count => Err(ContainerError::Ambiguous { prefix: name.into(), count }),
    }
}
