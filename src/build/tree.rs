//! The files of a folder in little memory: 24 bytes and its own name for each, whatever
//! the length of its path.
//!
//! Folder by folder, the names of each sorted and together, level by level from the root.
//! So a folder is a range, and an item's number is its place; what is known of an item
//! besides is in lists of others, by that number. Read, the tree gives [`Node`]s, in the
//! order of whole paths, byte by byte, as a [`View`] does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::ops::Range;

use crate::layer::{Entry, Kind, Located, Name, Node, RawBytes, View, ViewError, resolve};

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Dir,
    /// A folder that is left out, and here only if something in it is not.
    Above,
    File,
    Symlink,
    Fifo,
    Char,
    Block,
    /// As BuildKit has it, an empty file: an image can hold no socket.
    Socket,
    /// Nothing after all.
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    /// Of a file its size, of a folder where its items are: the first, and how many.
    extent: u64,
    /// Where its name ends; it begins where that of the item before ends.
    end: u32,
    /// The folder's number, counted from 1; 0 is the root.
    parent: u32,
    /// The lower 12 bits.
    mode: u16,
    what: What,
}

/// A folder and what is in it, owned by root and without times.
#[derive(Debug, Default)]
pub(super) struct Tree {
    names: Vec<u8>,
    items: Vec<Item>,
    /// How many items the root has; they are the first.
    top: u32,
    /// The targets of symbolic links.
    targets: HashMap<u32, Box<[u8]>>,
    /// The numbers of devices.
    devices: HashMap<u32, (u32, u32)>,
    /// For files that have several names here, the first one's number.
    firsts: HashMap<u32, u32>,
}

/// An item to be added.
pub(super) struct New<'a> {
    pub(super) leaf: &'a [u8],
    pub(super) what: What,
    /// The lower 12 bits.
    pub(super) mode: u16,
    /// Of a file.
    pub(super) size: u64,
}

impl Tree {
    /// Adds the items of a folder, which must be sorted; the folder's number, or none for
    /// the root. Folders are to be filled in the order of their numbers. Gives the number of
    /// the first of the new ones.
    ///
    /// # Errors
    /// If there are too many of them for this machine.
    pub(super) fn fill<'a>(
        &mut self,
        folder: Option<u32>,
        new: impl Iterator<Item = New<'a>>,
    ) -> io::Result<u32> {
        let many = |_| io::Error::other("it has more than four thousand million files");
        let first = u32::try_from(self.items.len()).map_err(many)?;
        for one in new {
            self.names.extend_from_slice(one.leaf);
            self.items.push(Item {
                extent: one.size,
                end: u32::try_from(self.names.len()).map_err(many)?,
                parent: folder.map_or(0, |folder| folder + 1),
                mode: one.mode,
                what: one.what,
            });
        }
        // The folder above is counted in 32 bits too.
        let count = u32::try_from(self.items.len()).map_err(many)? - first;
        match folder {
            None => self.top = count,
            Some(folder) => {
                self.items[folder as usize].extent = u64::from(first) << 32 | u64::from(count);
            }
        }
        Ok(first)
    }

    /// Says where a symbolic link leads.
    pub(super) fn set_target(&mut self, at: u32, target: Box<[u8]>) {
        self.targets.insert(at, target);
    }

    /// Says which device it is.
    pub(super) fn set_device(&mut self, at: u32, number: (u32, u32)) {
        self.devices.insert(at, number);
    }

    /// Says that a file is one more name of another one, which may be itself.
    pub(super) fn link(&mut self, at: u32, first: u32) {
        self.firsts.insert(at, first);
        self.firsts.insert(first, first);
    }

    /// Ends the filling: folders that are here for what is in them go if nothing is.
    pub(super) fn settle(&mut self) {
        if self.items.iter().any(|item| item.what == What::Above) {
            let mut full = vec![false; self.items.len()];
            // What is in a folder stands behind it.
            for at in (0..self.items.len()).rev() {
                let item = &mut self.items[at];
                if item.what == What::Above {
                    item.what = if full[at] { What::Dir } else { What::Gone };
                }
                if item.what != What::Gone && item.parent > 0 {
                    full[item.parent as usize - 1] = true;
                }
            }
        }
        self.names.shrink_to_fit();
        self.items.shrink_to_fit();
    }

    pub(super) fn what(&self, at: u32) -> What {
        self.items[at as usize].what
    }

    pub(super) fn mode(&self, at: u32) -> u16 {
        self.items[at as usize].mode
    }

    /// The folder's number, none for the root.
    pub(super) fn parent(&self, at: u32) -> Option<u32> {
        self.items[at as usize].parent.checked_sub(1)
    }

    pub(super) fn leaf(&self, at: u32) -> &[u8] {
        let start = match at {
            0 => 0,
            at => self.items[at as usize - 1].end,
        };
        &self.names[start as usize..self.items[at as usize].end as usize]
    }

    pub(super) fn target(&self, at: u32) -> Option<&[u8]> {
        self.targets.get(&at).map(AsRef::as_ref)
    }

    pub(super) fn device(&self, at: u32) -> Option<(u32, u32)> {
        self.devices.get(&at).copied()
    }

    /// The number of the first name of a file.
    pub(super) fn first(&self, at: u32) -> u32 {
        self.firsts.get(&at).copied().unwrap_or(at)
    }

    /// Whether a file has several names here.
    pub(super) fn is_shared(&self, at: u32) -> bool {
        self.firsts.contains_key(&at)
    }

    /// The whole name of an item.
    pub(super) fn name(&self, at: u32) -> Name {
        let mut parts = vec![self.leaf(at)];
        let mut above = self.parent(at);
        while let Some(folder) = above {
            parts.push(self.leaf(folder));
            above = self.parent(folder);
        }
        parts.reverse();
        // Names of a folder are clean: no `..` among them, and no slash in them.
        Name::clean(&parts.join(&b'/')).unwrap_or_default()
    }

    fn range(&self, folder: Option<u32>) -> Range<u32> {
        match folder {
            None => 0..self.top,
            Some(at) => {
                let extent = self.items[at as usize].extent;
                let (first, count) = ((extent >> 32) as u32, extent as u32);
                first..first + count
            }
        }
    }

    /// The number of what lies at a name; the root has none.
    fn find(&self, name: &Name) -> Option<u32> {
        let mut found = None;
        for part in name.parts() {
            if found.is_some_and(|at| self.what(at) != What::Dir) {
                return None;
            }
            let range = self.range(found);
            let (mut low, mut high) = (range.start, range.end);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.leaf(middle) < part { low = middle + 1 } else { high = middle }
            }
            let there = low < range.end && self.leaf(low) == part;
            found = Some(low).filter(|at| there && self.what(*at) != What::Gone);
            found?;
        }
        found
    }

    fn kind(&self, at: u32) -> Kind {
        let number = || self.device(at).unwrap_or_default();
        match self.what(at) {
            What::Dir | What::Above | What::Gone => Kind::Dir,
            What::File => Kind::File { size: self.items[at as usize].extent },
            What::Socket => Kind::File { size: 0 },
            What::Symlink => {
                Kind::Symlink { target: RawBytes(self.target(at).unwrap_or_default().to_vec()) }
            }
            What::Fifo => Kind::Fifo,
            What::Char => {
                let (major, minor) = number();
                Kind::Char { major, minor }
            }
            What::Block => {
                let (major, minor) = number();
                Kind::Block { major, minor }
            }
        }
    }

    fn node(&self, at: u32, name: Name) -> Node {
        let entry =
            Entry { kind: self.kind(at), mode: self.mode(at).into(), ..Entry::dir(name, 0) };
        let content = Located { layer: 0, ordinal: self.first(at) as usize };
        Node { entry, content, implied: false }
    }

    /// Goes through everything below a folder.
    pub(super) fn walk(&self, folder: &Name) -> Walk<'_> {
        let at = self.find(folder).filter(|at| self.what(*at) == What::Dir);
        let range = if folder.is_root() || at.is_some() { self.range(at) } else { 0..0 };
        let path = folder.as_bytes().to_vec();
        let level = Level { next: range.start, end: range.end, path: path.len(), waiting: 0 };
        Walk { tree: self, path, levels: vec![level], waiting: Vec::new() }
    }
}

/// Goes through a tree in the order of whole paths.
pub(super) struct Walk<'t> {
    tree: &'t Tree,
    /// That of the last item.
    path: Vec<u8>,
    levels: Vec<Level>,
    /// Folders whose items are still to come: `a.b` stands before `a/x`.
    waiting: Vec<u32>,
}

/// A folder on the way.
struct Level {
    next: u32,
    end: u32,
    /// How long its path is.
    path: usize,
    /// How many folders waited before it.
    waiting: usize,
}

impl Walk<'_> {
    /// The number of the next item.
    pub(super) fn next(&mut self) -> Option<u32> {
        loop {
            let level = self.levels.last_mut()?;
            let next = (level.next < level.end).then_some(level.next);
            if self.waiting.len() > level.waiting
                && let Some(&folder) = self.waiting.last()
                && next.is_none_or(|next| {
                    let (leaf, other) = (self.tree.leaf(next), self.tree.leaf(folder));
                    // Whether the folder's name and a slash come before.
                    !leaf.starts_with(other) || leaf[other.len()] > b'/'
                })
            {
                self.waiting.pop();
                let length = level.path;
                self.enter(folder, length);
                let range = self.tree.range(Some(folder));
                self.levels.push(Level {
                    next: range.start,
                    end: range.end,
                    path: self.path.len(),
                    waiting: self.waiting.len(),
                });
                continue;
            }
            let Some(at) = next else {
                self.levels.pop();
                continue;
            };
            level.next += 1;
            let length = level.path;
            match self.tree.what(at) {
                What::Gone => continue,
                What::Dir => self.waiting.push(at),
                _ => (),
            }
            self.enter(at, length);
            return Some(at);
        }
    }

    fn enter(&mut self, at: u32, length: usize) {
        self.path.truncate(length);
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(self.tree.leaf(at));
    }

    /// The whole path of the item that came last.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }
}

/// What a context or a stack of layers has, to choose from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    Tree(&'a Tree),
    View(&'a View),
}

impl<'a> Seen<'a> {
    /// What lies at a name, links not followed.
    pub(super) fn get(self, name: &Name) -> Option<Cow<'a, Node>> {
        match self {
            Self::Tree(tree) => Some(Cow::Owned(tree.node(tree.find(name)?, name.clone()))),
            Self::View(view) => view.get(name).map(Cow::Borrowed),
        }
    }

    /// True for the root, and for names where a folder lies.
    pub(super) fn is_dir(self, name: &Name) -> bool {
        match self {
            Self::Tree(tree) => {
                name.is_root() || tree.find(name).is_some_and(|at| tree.what(at) == What::Dir)
            }
            Self::View(view) => view.is_dir(name),
        }
    }

    /// Everything below a folder, at any depth, sorted; not the folder itself.
    pub(super) fn below(self, folder: &Name) -> Box<dyn Iterator<Item = Cow<'a, Node>> + 'a> {
        match self {
            Self::Tree(tree) => {
                let mut walk = tree.walk(folder);
                Box::new(std::iter::from_fn(move || {
                    let at = walk.next()?;
                    let name = Name::clean(walk.path()).unwrap_or_default();
                    Some(Cow::Owned(tree.node(at, name)))
                }))
            }
            Self::View(view) => Box::new(view.below(folder).map(Cow::Borrowed)),
        }
    }

    /// As [`View::resolve`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn resolve(self, path: &[u8], last: bool) -> Result<Name, ViewError> {
        match self {
            Self::Tree(tree) => {
                resolve(path, last, |name| tree.find(name).map(|at| Cow::Owned(tree.kind(at))))
            }
            Self::View(view) => view.resolve(path, last),
        }
    }

    /// Whether a file of the tree may have several names in it.
    pub(super) fn is_shared(self, content: Located) -> bool {
        match self {
            Self::Tree(tree) => u32::try_from(content.ordinal).is_ok_and(|at| tree.is_shared(at)),
            Self::View(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::clean(text.as_bytes()).unwrap()
    }

    fn new(leaf: &str, what: What) -> New<'_> {
        New { leaf: leaf.as_bytes(), what, mode: 0o755, size: 0 }
    }

    /// A tree of paths, folders with a slash at their end.
    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        let mut folders = vec![(None, String::new())];
        while !folders.is_empty() {
            let mut deeper = Vec::new();
            for (folder, prefix) in folders {
                let mut items: Vec<(&str, What)> = paths
                    .iter()
                    .filter_map(|path| path.strip_prefix(&prefix).filter(|rest| !rest.is_empty()))
                    .filter_map(|rest| match rest.split_once('/') {
                        None => Some((rest, What::File)),
                        Some((leaf, "")) => Some((leaf, What::Dir)),
                        Some(_) => None,
                    })
                    .collect();
                items.sort_unstable_by_key(|(leaf, _)| *leaf);
                let new = items.iter().map(|(leaf, what)| new(leaf, *what));
                let first = tree.fill(folder, new).unwrap();
                let made = (first..).zip(&items).filter(|(_, (_, what))| *what == What::Dir);
                deeper.extend(made.map(|(at, (leaf, _))| (Some(at), format!("{prefix}{leaf}/"))));
            }
            folders = deeper;
        }
        tree.settle();
        tree
    }

    #[test]
    fn whole_paths_are_in_order() {
        let paths = [
            "a/",
            "a-/",
            "a--",
            "a-/x",
            "a.b",
            "a/x",
            "a/x/",
            "a/x!",
            "a/x/y",
            "a/x0",
            "a0",
            "b",
            "empty/",
            "a /",
            "a /\u{ff}",
        ];
        let paths: Vec<&str> = paths.iter().copied().filter(|path| *path != "a/x").collect();
        let tree = tree(&paths);
        let mut expected: Vec<&str> = paths.iter().map(|path| path.trim_end_matches('/')).collect();
        expected.sort_unstable();
        let all = |folder: &str| -> Vec<String> {
            let below = Seen::Tree(&tree).below(&name(folder));
            below.map(|node| node.entry.name.display().into_owned()).collect()
        };
        assert_eq!(all(""), expected);
        let below = expected.iter().filter(|path| path.starts_with("a/")).copied();
        assert_eq!(all("a"), below.collect::<Vec<_>>());
        assert_eq!((all("b"), all("empty"), all("none")), (vec![], vec![], vec![]));
        for path in expected {
            let at = tree.find(&name(path)).unwrap();
            assert_eq!(tree.name(at), name(path));
        }
        assert_eq!((tree.find(&name("b/x")), tree.find(&name("a/y"))), (None, None));
    }

    #[test]
    fn a_folder_above_is_there_for_what_is_in_it() {
        let mut tree = Tree::default();
        let top = [new("kept", What::Above), new("left", What::Above)];
        tree.fill(None, top.into_iter()).unwrap();
        tree.fill(Some(0), [new("file", What::File)].into_iter()).unwrap();
        tree.fill(Some(1), [new("deeper", What::Above)].into_iter()).unwrap();
        tree.fill(Some(3), std::iter::empty()).unwrap();
        tree.settle();
        let seen = Seen::Tree(&tree);
        let names: Vec<Name> =
            seen.below(&Name::root()).map(|node| node.entry.name.clone()).collect();
        assert_eq!(names, [name("kept"), name("kept/file")]);
        assert!(seen.is_dir(&name("kept")) && seen.get(&name("left")).is_none());
        assert!(seen.get(&name("left/deeper")).is_none());
    }

    #[test]
    fn an_item_is_small() {
        assert_eq!(std::mem::size_of::<Item>(), 24);
    }
}
