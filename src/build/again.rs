//! A build made a second time to prove the first: in a store of its own, without a cache, and
//! under other conditions, as far as the machine lets them be changed.
//!
//! What comes of each step is noted in both ([`Outcome`]), so that the steps which came to
//! something else can be named, and not only the layers of the result that have it from them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::StepError;
use super::resolve::kept;
use crate::atomic::{AtPath as _, FileLock, private_folder};
use crate::diagnostic::Span;
use crate::digest::DiffId;
use crate::layer::Layer;
use crate::plan::{BaseImage, Graph, Op};
use crate::rootfs;
use crate::sandbox::{Conditions, Found, Sandbox, Tier};
use crate::store::{Scratch, Store, StoreError};

/// The host name of steps: the same on every machine, as programs write it into files.
const HOSTNAME: &str = "kiln";
/// That of a second build: such files are to be found.
const OTHER_HOSTNAME: &str = "kiln-again";

/// What was to be different for the steps, and whether it was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    pub what: &'static str,
    pub changed: bool,
    /// From what to what; or why it could not be.
    pub how: String,
}

/// What a build came to, step by step.
#[derive(Debug, Default)]
pub struct Outcome {
    steps: OnceLock<Vec<StepMade>>,
    bases: OnceLock<Vec<BaseImage>>,
    conditions: OnceLock<Vec<Condition>>,
}

/// A step in the order of the plan, after all that it stands on.
#[derive(Debug)]
struct StepMade {
    name: String,
    span: Option<Span>,
    inputs: Vec<usize>,
    layer: Option<DiffId>,
    runs: bool,
}

/// A step that came to something else, although what it stands on was the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Odd {
    /// As in `[build 2/4] RUN make`.
    pub name: String,
    pub span: Option<Span>,
}

impl Outcome {
    pub(super) fn note<'l>(&self, graph: &Graph, layer: impl Fn(usize) -> Option<&'l Layer>) {
        let steps = graph.steps.iter().enumerate().map(|(at, step)| StepMade {
            name: step.name.clone(),
            span: step.span,
            inputs: step.inputs.iter().map(|id| id.0).collect(),
            layer: layer(at).map(|layer| layer.diff_id),
            runs: matches!(step.op, Op::Run(_)),
        });
        let bases = graph.steps.iter().filter_map(|step| match &step.op {
            Op::Base(base) => base.image.clone(),
            Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => None,
        });
        // Of a build that is walked again for its cache, the first walk did not end.
        let _ = self.steps.set(steps.collect());
        let _ = self.bases.set(bases.collect());
    }

    pub(super) fn set_conditions(&self, conditions: Vec<Condition>) {
        let _ = self.conditions.set(conditions);
    }

    /// What was different for the steps that were run; nothing if none was.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        self.conditions.get().map_or(&[], Vec::as_slice)
    }

    /// True if the build has a `RUN`.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.steps.get().is_some_and(|steps| steps.iter().any(|step| step.runs))
    }

    /// The steps that another build of the same plan made otherwise, of those that stood on
    /// the same in both.
    #[must_use]
    pub fn odd(&self, other: &Self) -> Vec<Odd> {
        let (Some(own), Some(theirs)) = (self.steps.get(), other.steps.get()) else {
            return Vec::new();
        };
        let mut other = BTreeSet::new();
        let mut odd = Vec::new();
        for (at, (one, two)) in own.iter().zip(theirs).enumerate() {
            let told = one.inputs.iter().any(|input| other.contains(input));
            if one.layer != two.layer && !told {
                odd.push(Odd { name: one.name.clone(), span: one.span });
            }
            if told || one.layer != two.layer {
                other.insert(at);
            }
        }
        odd
    }

    /// Has another store have the bases that were used, with those of their layers that are
    /// here: the second build finds them by their digests.
    ///
    /// # Errors
    /// If a store cannot be read or written.
    pub fn lend_bases(&self, from: &Store, to: &Store) -> Result<(), StoreError> {
        for base in self.bases.get().into_iter().flatten() {
            if let Some(image) = kept(&base.digest, from) {
                to.keep_documents(&image)?;
            }
            for layer in &base.layers {
                to.take_blob(from, &layer.digest, layer.size)?;
            }
        }
        Ok(())
    }
}

/// The store of a second build. Dropped, it is gone.
#[derive(Debug)]
pub struct SecondStore {
    // In the order in which they are dropped.
    store: Store,
    _folder: Folder,
    _lock: Option<FileLock>,
    _scratch: Option<Scratch>,
}

/// What the folder of a second store is called, where somebody else has said in which folder.
const PREFIX: &str = "kiln-verify-";

impl SecondStore {
    /// In a folder, where it takes away what processes of this user left that were killed; or
    /// else beside a store, where the next clean-up does.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(beside: &Store, folder: Option<&Path>) -> Result<Self, StoreError> {
        let (folder, lock, scratch) = match folder {
            Some(folder) => {
                stale(folder).for_each(drop);
                let (folder, lock) = locked(folder)?;
                (folder, Some(lock), None)
            }
            None => {
                let scratch = beside.scratch("verify")?;
                (Folder(scratch.path().to_path_buf()), None, Some(scratch))
            }
        };
        let store = Store::open(&folder.0.join("store"))?;
        Ok(Self { store, _folder: folder, _lock: lock, _scratch: scratch })
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// A new folder below another. It has its name once it is locked: nobody takes it for one that
/// was left.
fn locked(below: &Path) -> Result<(Folder, FileLock), StoreError> {
    let made = tempfile::Builder::new().prefix(".kiln-").tempdir_in(below);
    let made = made.at("create a folder in", below)?;
    let lock = FileLock::exclusive(&made.path().join("lock"))?;
    let name = made.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = below.join(name.replacen(".kiln-", PREFIX, 1));
    std::fs::rename(made.path(), &path).at("rename", made.path())?;
    // Nothing of that name is there to be removed.
    drop(made.keep());
    Ok((Folder(path), lock))
}

/// What processes of this user left that are gone.
fn stale(below: &Path) -> impl Iterator<Item = Folder> {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::geteuid().as_raw();
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let meta = entry.metadata().ok()?;
        let ours = meta.is_dir() && meta.uid() == own;
        let named = ours && entry.file_name().to_string_lossy().starts_with(PREFIX);
        let free = named && FileLock::try_removable(&entry.path().join("lock")).is_some();
        free.then(|| Folder(entry.path()))
    })
}

/// A folder that goes with all that is in it, whoever owns that.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Unpacked files belong to the IDs of whatever tier has unpacked them.
        for tier in Tier::ALL {
            if std::fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            if let Ok(sandbox) = Sandbox::open(Some(tier)) {
                let _ = rootfs::remove(&sandbox, &self.0);
            }
        }
    }
}

/// The sandbox of a build and what is different in it; the usual one unless this is a second
/// build.
pub(super) fn sandbox(
    force: Option<Tier>,
    insecure: bool,
    conditions: Conditions,
) -> Result<(Sandbox, Vec<Condition>), StepError> {
    let usual = Sandbox::open(force)?;
    if conditions == Conditions::Usual {
        return Ok((usual, Vec::new()));
    }
    let first = usual.tier();
    drop(usual);
    let kept = if force.is_some() {
        Some("--sandbox says which it is")
    } else if insecure {
        Some("RUN --security=insecure is allowed, which has other rights in each tier")
    } else {
        None
    };
    let others = Tier::ALL.into_iter().filter(|tier| *tier > first && *tier != Tier::Chroot);
    let mut others = others.filter(|_| kept.is_none());
    let other = others.find_map(|tier| Sandbox::open_under(Some(tier), conditions).ok());
    let user = |changed, how: String| Condition { what: "user", changed, how };
    let (sandbox, user) = match other {
        Some(sandbox) => {
            let how = format!("sandbox {first}, then {}", sandbox.tier());
            (sandbox, user(true, how))
        }
        None => {
            let why = kept.unwrap_or("this machine grants no other tier of the sandbox");
            (Sandbox::open_under(Some(first), conditions)?, user(false, why.to_owned()))
        }
    };
    let (here, there) = (Found::here(), sandbox.found()?);
    let mut all = vec![user];
    all.push(match there.processors < here.processors {
        true => Condition {
            what: "processors",
            changed: true,
            how: format!("{}, then {}", here.processors, there.processors),
        },
        false => Condition {
            what: "processors",
            changed: false,
            how: format!("there is only {}", there.processors),
        },
    });
    all.push(match there.is_shifted(&here) {
        true => Condition {
            what: "clocks since boot",
            changed: true,
            how: format!("shifted by {} s", there.clock - here.clock),
        },
        false => Condition {
            what: "clocks since boot",
            changed: false,
            how: "no time namespace can be made here".to_owned(),
        },
    });
    Ok((sandbox, all))
}

/// What else is different for steps, once the sandbox knows its store: the name of the host,
/// and the order of names in folders.
pub(super) fn surroundings(store: &Store, sandbox: &Sandbox) -> Vec<Condition> {
    let name = match sandbox.names_host() {
        true => Condition {
            what: "host name",
            changed: true,
            how: format!("{HOSTNAME}, then {OTHER_HOSTNAME}"),
        },
        false => Condition {
            what: "host name",
            changed: false,
            how: "it is that of the container around".to_owned(),
        },
    };
    let what = "order of folders";
    let order = match is_ordered(store) {
        Ok(false) => Condition {
            what,
            changed: true,
            how: "roots are plain folders, filled from the last name to the first".to_owned(),
        },
        Ok(true) => Condition {
            what,
            changed: false,
            how: "the file system has an order of its own (only folders that several layers \
                  share may be listed otherwise); --verify=DIR with a folder on a tmpfs changes it"
                .to_owned(),
        },
        Err(error) => Condition { what, changed: false, how: error.to_string() },
    };
    vec![name, order]
}

/// Whether a folder of the store is listed alike whatever the order in which it was filled.
fn is_ordered(store: &Store) -> Result<bool, StoreError> {
    let scratch = store.scratch("order")?;
    let names: Vec<String> = (0..16).map(|at| format!("name-{at}")).collect();
    let list = |folder: &str, names: &mut dyn Iterator<Item = &String>| {
        let folder = scratch.path().join(folder);
        private_folder(&folder)?;
        for name in names {
            let path = folder.join(name);
            std::fs::write(&path, b"").at("write", &path)?;
        }
        let entries = std::fs::read_dir(&folder).at("read", &folder)?;
        let found: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        Ok::<_, StoreError>(found)
    };
    Ok(list("up", &mut names.iter())? == list("down", &mut names.iter().rev())?)
}

/// The host name of steps.
pub(super) fn hostname(sandbox: &Sandbox) -> &'static str {
    match sandbox.conditions() {
        Conditions::Usual => HOSTNAME,
        Conditions::Changed => OTHER_HOSTNAME,
    }
}
