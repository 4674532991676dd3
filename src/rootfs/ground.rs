//! What a process stands on: the root that a stack of layers becomes, by the storage
//! that the machine has, and the layer that what it changed becomes.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::mark::Marks;
use super::place::places;
use super::{Packed, Packing, RootfsError, Work, merge, pack, snapshot, unpacked};
use crate::atomic::{AtPath as _, private_folder};
use crate::digest::{DiffId, Digest};
use crate::layer::Layer;
use crate::progress::Progress;
use crate::sandbox::{Conditions, Root, Sandbox, record};
use crate::store::{Scratch, Store};

/// OVL_MAX_STACK of the kernel's fs/overlayfs.
const MAX_LOWERS: usize = 500;
/// As many as one page of mount options has names for.
const MAX_LOWERS_BEFORE_6_5: usize = 200;

/// Finds out what the store can carry. Before that, and where it can, roots are
/// overlays.
///
/// # Errors
/// If the store cannot be written, or no helper be had.
pub fn settle(store: &Store, sandbox: &Sandbox) -> Result<(), RootfsError> {
    let work = Work::new(store, sandbox, "probe")?;
    for name in ["lower", "upper", "work"] {
        private_folder(&work.path().join(name))?;
    }
    Ok(sandbox.try_store(work.path())?)
}

/// A plain root after its step: that of the step that comes next. It is the caller's to
/// [remove](super::remove) if none comes.
#[derive(Debug)]
pub struct Kept {
    stack: Vec<DiffId>,
    /// The tree of the topmost layer, which the root has not got its times from yet.
    tree: PathBuf,
    scratch: Scratch,
}

impl Kept {
    /// How many of these layers, from the lowest on, it amounts to; `None` if it has others.
    #[must_use]
    pub fn covers(&self, layers: &[Layer]) -> Option<usize> {
        let (below, above) = layers.split_at_checked(self.stack.len())?;
        let same = below.iter().map(|layer| &layer.diff_id).eq(&self.stack);
        // Of a layer that is there twice, a stack of trees has one.
        let distinct: BTreeSet<_> = above.iter().map(|layer| layer.diff_id).collect();
        (same && distinct.len() == above.len()).then_some(below.len())
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }
}

/// A root for one step, in a folder for its work.
#[derive(Debug)]
pub struct Ground<'a> {
    store: &'a Store,
    sandbox: &'a Sandbox,
    /// Below the upper folder, the topmost first.
    lowers: Vec<PathBuf>,
    folder: PathBuf,
    /// A plain root has more changed than its layer says.
    more: Cell<bool>,
}

impl<'a> Ground<'a> {
    /// Makes the root in `folder`, which exists. `mode` is the root's own. A plain one
    /// is taken over from the step before, if `kept` is its root, and what came since is
    /// added.
    ///
    /// # Errors
    /// If a layer cannot be unpacked, or the store not be written.
    pub fn new(
        store: &'a Store,
        sandbox: &'a Sandbox,
        layers: &[Layer],
        mode: u32,
        folder: &Path,
        kept: Option<Kept>,
        progress: &Progress,
    ) -> Result<Self, RootfsError> {
        let trees = unpacked(store, sandbox, layers, progress)?;
        let (lowers, folder) = (trees, folder.to_path_buf());
        let mut ground = Self { store, sandbox, lowers, folder, more: Cell::new(false) };
        private_folder(&ground.tree())?;
        open_folder(&ground.upper(), mode)?;
        private_folder(&ground.folder.join("work"))?;
        if sandbox.is_plain() {
            match kept {
                Some(kept) => ground.take(&kept, layers)?,
                None => {
                    let into = open_folder(&ground.root_folder(), mode)?;
                    copied(sandbox, &ground.lowers, &into, Some(ground.snapshot()))?;
                }
            }
            return Ok(ground);
        }
        ground.lowers = squashed(store, sandbox, ground.lowers)?;
        if ground.lowers.is_empty() {
            // An overlay needs one.
            ground.lowers.push(open_folder(&ground.folder.join("nothing"), 0o755)?);
        }
        Ok(ground)
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn upper(&self) -> PathBuf {
        self.tree().join("fs")
    }

    fn root_folder(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    /// What a plain root is, with what is known of it.
    fn lasting(&self) -> [PathBuf; 4] {
        let root = self.root_folder();
        let [list, handles] = [record::list_file(&root), record::handles_file(&root)];
        [root, self.snapshot(), list, handles]
    }

    /// What the process gets.
    #[must_use]
    pub fn root(&self) -> Root {
        let work = self.folder.join("work");
        if self.sandbox.is_plain() {
            return Root::Overlay { lowers: Vec::new(), upper: self.root_folder(), work };
        }
        Root::Overlay { lowers: self.lowers.clone(), upper: self.upper(), work }
    }

    fn take(&self, kept: &Kept, layers: &[Layer]) -> Result<(), RootfsError> {
        for to in self.lasting() {
            moved(&kept.path().join(to.file_name().unwrap_or_default()), &to)?;
        }
        let request = snapshot::Keep {
            root: self.root_folder(),
            snapshot: self.snapshot(),
            tree: kept.tree.clone(),
        };
        let () = self.sandbox.call("keep", &request)?;
        match layers.len() - kept.stack.len() {
            0 => Ok(()),
            new => {
                let new = self.lowers.get(..new).unwrap_or_default();
                copied(self.sandbox, new, &self.root_folder(), Some(self.snapshot()))
            }
        }
    }

    /// After [`Ground::pack`]: the root for a step on top of `layers`, this one's among
    /// them. Only a plain root can be used again, if it is what the layer made of it.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn keep(self, layers: &[Layer]) -> Result<Option<Kept>, RootfsError> {
        let Some(top) = layers.last().filter(|_| self.sandbox.is_plain() && !self.more.get())
        else {
            return Ok(None);
        };
        let scratch = self.store.scratch("kept")?;
        for from in self.lasting() {
            moved(&from, &scratch.path().join(from.file_name().unwrap_or_default()))?;
        }
        let tree = self.store.tree(self.sandbox.kind(), &top.diff_id).join("fs");
        let stack = layers.iter().map(|layer| layer.diff_id).collect();
        Ok(Some(Kept { stack, tree, scratch }))
    }

    /// Makes what has changed a layer.
    ///
    /// # Errors
    /// If something in it cannot be read, or the store not be written.
    pub fn pack(&self, how: Packing) -> Result<Packed, RootfsError> {
        if self.sandbox.is_plain() {
            let request = snapshot::Request {
                root: self.root_folder(),
                snapshot: self.snapshot(),
                upper: self.upper(),
                marks: Marks::of(self.sandbox),
            };
            self.more.set(self.sandbox.call("changes", &request)?);
        }
        pack(self.store, self.sandbox, &self.tree(), &self.lowers, how)
    }
}

/// What is not there need not be moved.
fn moved(from: &Path, to: &Path) -> Result<(), RootfsError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => Ok(done.at("rename", from)?),
    }
}

fn open_folder(path: &Path, mode: u32) -> Result<PathBuf, RootfsError> {
    private_folder(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("change the mode of", path)?;
    Ok(path.to_path_buf())
}

/// Copies what trees amount to into a folder, over what it has.
fn copied(
    sandbox: &Sandbox,
    trees: &[PathBuf],
    into: &Path,
    snapshot: Option<PathBuf>,
) -> Result<(), RootfsError> {
    let request = merge::Request {
        trees: trees.to_vec(),
        into: into.to_path_buf(),
        marks: Marks::of(sandbox),
        link: false,
        reversed: sandbox.conditions() == Conditions::Changed,
        snapshot,
    };
    let () = sandbox.call("merge", &request)?;
    Ok(())
}

/// The lower folders, the topmost first, of a stack that is mounted with `upper` as its
/// upper folder; none where overlays cannot be had, and then all is in `upper`, which
/// has to be empty.
///
/// # Errors
/// As [`unpacked`].
pub fn stacked(
    store: &Store,
    sandbox: &Sandbox,
    layers: &[Layer],
    upper: &Path,
    progress: &Progress,
) -> Result<Vec<PathBuf>, RootfsError> {
    let trees = unpacked(store, sandbox, layers, progress)?;
    if sandbox.is_plain() {
        copied(sandbox, &trees, upper, None)?;
        return Ok(Vec::new());
    }
    squashed(store, sandbox, trees)
}

/// As many folders as overlayfs stacks: beyond that the lowest become one.
fn squashed(
    store: &Store,
    sandbox: &Sandbox,
    mut trees: Vec<PathBuf>,
) -> Result<Vec<PathBuf>, RootfsError> {
    let limit = if has_lowerdir_plus() { MAX_LOWERS } else { MAX_LOWERS_BEFORE_6_5 };
    let low = trees.split_off(trees.len() - lowest(trees.len(), limit));
    if low.is_empty() {
        return Ok(trees);
    }
    let name = |tree: &PathBuf| tree.parent().and_then(Path::file_name).map(ToOwned::to_owned);
    let names: Vec<_> = low.iter().filter_map(name).collect();
    let id = squashed_id(&names);
    let folder = store.tree(sandbox.kind(), &id).join("fs");
    let slot = store.slot(&format!("tree-{}", sandbox.kind()), &id.0)?;
    if store.held_tree(sandbox.kind(), &id).is_none() {
        let work = Work::new(store, sandbox, "squash")?;
        let tree = work.path().join("tree");
        private_folder(&tree)?;
        let request = merge::Request {
            trees: low,
            into: open_folder(&tree.join("fs"), 0o755)?,
            marks: Marks::of(sandbox),
            link: true,
            reversed: false,
            snapshot: None,
        };
        let () = sandbox.call("merge", &request)?;
        store.adopt_tree(sandbox.kind(), &id, &tree)?;
    }
    drop(slot);
    trees.push(folder);
    Ok(trees)
}

fn squashed_id(names: &[OsString]) -> DiffId {
    DiffId(Digest::of(format!("squashed {names:?}").as_bytes()))
}

/// The trees that a stack of layers stands on, whatever the mapping, by the names that
/// [`Store::tree`] takes.
///
/// # Errors
/// If what is known of a layer cannot be read.
pub fn trees_of(store: &Store, layers: &[Layer]) -> Result<BTreeSet<DiffId>, RootfsError> {
    let mut names: Vec<DiffId> = Vec::new();
    for place in places(store, layers)?.iter().rev() {
        if !names.contains(&place.id) {
            names.push(place.id);
        }
    }
    let mut all: BTreeSet<DiffId> = names.iter().copied().collect();
    // The machine may have had another kernel.
    for limit in [MAX_LOWERS, MAX_LOWERS_BEFORE_6_5] {
        let low = names.len() - lowest(names.len(), limit);
        let low: Vec<OsString> = names[low..].iter().map(|id| id.hex().into()).collect();
        all.extend((!low.is_empty()).then(|| squashed_id(&low)));
    }
    Ok(all)
}

/// How many of the lowest are made one. In steps, so that the layers that come on top
/// find the same one.
fn lowest(count: usize, limit: usize) -> usize {
    let step = limit / 2;
    match count.checked_sub(limit) {
        None | Some(0) => 0,
        Some(over) => (over + 1).div_ceil(step) * step,
    }
}

/// Whether lower folders are given one by one.
fn has_lowerdir_plus() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 5),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::lowest;

    #[test]
    fn stacks_fit_and_squashing_goes_in_steps() {
        for limit in [200, 500] {
            for count in 0..3000 {
                let low = lowest(count, limit);
                assert!(low <= count, "{count}");
                let left = count - low + usize::from(low > 0);
                assert!(left <= limit, "{count}: {left}");
                assert_eq!(low == 0, count <= limit);
            }
            assert_eq!(lowest(limit + 1, limit), lowest(limit + limit / 2 - 1, limit));
        }
    }
}
