//! What a stack of layers amounts to, from their indexes alone: no unpacking,
//! no mount, no privilege. Paths are resolved in it as in a root of its own.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::entry::{Entry, Kind, Name};
use super::index::LayerIndex;
use super::whiteout::{Whiteout, whiteout_of};

/// Where an entry's content stands: the layer (0 is the lowest) and the entry's
/// place in that layer's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Located {
    pub layer: usize,
    pub ordinal: usize,
}

/// What lies at a path. Hard links are resolved: the kind is the file's, and
/// names of one file have the same `content`.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub entry: Entry,
    pub content: Located,
    /// A folder that is named only as part of a path.
    pub implied: bool,
}

/// The merged tree of a stack of layers.
#[derive(Debug, Default)]
pub struct View {
    nodes: BTreeSet<Named>,
}

/// A node that is found by its name, which is kept once.
#[derive(Debug)]
struct Named(Box<Node>);

impl Borrow<Name> for Named {
    fn borrow(&self) -> &Name {
        &self.0.entry.name
    }
}
impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.entry.name == other.0.entry.name
    }
}
impl Eq for Named {}
impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Named {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.entry.name.cmp(&other.0.entry.name)
    }
}

/// Why a stack of layers cannot be merged, or a path not be resolved.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ViewError {
    #[error("layer {layer}: `{}` is a malformed whiteout", name.display())]
    Whiteout { layer: usize, name: Name },
    #[error("layer {layer}: hard link `{}` points to `{}`, which is no file", name.display(), target.display())]
    Hardlink { layer: usize, name: Name, target: Name },
    #[error("layer {layer}: `{}` lies below something that is no folder", name.display())]
    NoFolder { layer: usize, name: Name },
    #[error("`{}`: too many symbolic links", .0.display())]
    Links(Name),
    #[error("`{}` is not a folder", .0.display())]
    NotADirectory(Name),
}

/// As many as the kernel follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;

impl View {
    /// Merges layers, the lowest first.
    ///
    /// # Errors
    /// If a layer contradicts itself or those below it.
    pub fn new(layers: &[Arc<LayerIndex>]) -> Result<Self, ViewError> {
        let mut view = Self::default();
        for (number, layer) in layers.iter().enumerate() {
            view.apply(number, layer)?;
        }
        Ok(view)
    }

    /// The tree of entries as they are: names that would be whiteouts in a layer
    /// are ordinary ones, and a hard link's owner and mode are those of its file.
    ///
    /// # Errors
    /// If an entry lies below something that is no folder.
    pub fn plain(entries: impl IntoIterator<Item = Entry>) -> Result<Self, ViewError> {
        Self::numbered(entries.into_iter().enumerate())
    }

    /// As [`View::plain`], with the entries' places in their archive.
    ///
    /// # Errors
    /// As there.
    pub fn numbered(entries: impl IntoIterator<Item = (usize, Entry)>) -> Result<Self, ViewError> {
        let mut view = Self::default();
        let (places, mut entries): (Vec<usize>, Vec<Entry>) = entries.into_iter().unzip();
        last_word(&mut entries);
        for (ordinal, entry) in places.into_iter().zip(entries) {
            view.put(0, ordinal, entry)?;
        }
        Ok(view)
    }

    /// Puts one more layer on top; `layer` is its number, counted from the lowest.
    pub(crate) fn apply(&mut self, layer: usize, index: &LayerIndex) -> Result<(), ViewError> {
        // Whiteouts speak of lower layers only, wherever they stand in the archive.
        for entry in index.iter() {
            match whiteout_of(&entry.name) {
                None => (),
                Some(Whiteout::Gone(name)) => self.remove(&name, true),
                Some(Whiteout::Opaque(folder)) => self.remove(&folder, false),
                Some(Whiteout::Malformed) => {
                    return Err(ViewError::Whiteout { layer, name: entry.name });
                }
            }
        }
        for (ordinal, entry) in index.iter().enumerate() {
            if whiteout_of(&entry.name).is_some() {
                continue;
            }
            self.put(layer, ordinal, entry)?;
        }
        Ok(())
    }

    /// Adds an entry; a hard link becomes one more name of its file.
    fn put(&mut self, layer: usize, ordinal: usize, entry: Entry) -> Result<(), ViewError> {
        let node = match &entry.kind {
            Kind::Hardlink { target } => {
                let known = self.get(target).filter(|node| node.entry.kind != Kind::Dir);
                let known = known.ok_or_else(|| ViewError::Hardlink {
                    layer,
                    name: entry.name.clone(),
                    target: target.clone(),
                })?;
                let mut linked = Node::clone(known);
                linked.entry.name = entry.name;
                linked
            }
            _ => Node { entry, content: Located { layer, ordinal }, implied: false },
        };
        self.insert(layer, node)
    }

    fn insert(&mut self, layer: usize, node: Node) -> Result<(), ViewError> {
        let name = node.entry.name.clone();
        let mut parent = name.parent();
        while let Some(folder) = parent {
            match self.get(&folder) {
                Some(above) if above.entry.kind == Kind::Dir => break,
                // Each layer is unpacked for itself: a folder that it only implies
                // hides whatever lies there in lower layers.
                Some(above) if above.content.layer != layer => {
                    self.imply(folder.clone(), &node);
                }
                // Extractors differ in whether they follow a link here; nobody means it.
                Some(_) => return Err(ViewError::NoFolder { layer, name }),
                // Some archives leave folders out.
                None if folder.is_root() => break,
                None => self.imply(folder.clone(), &node),
            }
            parent = folder.parent();
        }
        if node.entry.kind != Kind::Dir {
            self.remove(&name, false);
        }
        self.nodes.replace(Named(Box::new(node)));
        Ok(())
    }

    /// Makes a folder that an archive names only as part of a path.
    fn imply(&mut self, folder: Name, inside: &Node) {
        let entry = Entry::dir(folder, inside.entry.mtime);
        let node = Node { entry, content: inside.content, implied: true };
        self.nodes.replace(Named(Box::new(node)));
    }

    /// Removes what is below a name, and with `itself` the name too.
    fn remove(&mut self, name: &Name, itself: bool) {
        let below: Vec<Name> = self.below(name).map(|node| node.entry.name.clone()).collect();
        for gone in below {
            self.nodes.remove(&gone);
        }
        if itself {
            self.nodes.remove(name);
        }
    }

    /// What lies at a name, links not followed.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Node> {
        self.nodes.get(name).map(|named| named.0.as_ref())
    }

    /// True for the root, and for names where a folder lies.
    #[must_use]
    pub fn is_dir(&self, name: &Name) -> bool {
        name.is_root() || self.get(name).is_some_and(|node| node.entry.kind == Kind::Dir)
    }

    /// Everything below a folder, at any depth, sorted; not the folder itself.
    pub fn below<'a>(&'a self, folder: &Name) -> impl Iterator<Item = &'a Node> + use<'a> {
        let start = if folder.is_root() { Name::root() } else { folder.join(b"") };
        let prefix = start.as_bytes().to_vec();
        self.nodes
            .range(start..)
            .map(|named| named.0.as_ref())
            .take_while(move |node| node.entry.name.as_bytes().starts_with(&prefix))
            .filter(|node| !node.entry.name.is_root())
    }

    /// What lies directly in a folder, sorted.
    pub fn children<'a>(&'a self, folder: &Name) -> impl Iterator<Item = &'a Node> + use<'a> {
        let depth = folder.parts().count() + 1;
        self.below(folder).filter(move |node| node.entry.name.parts().count() == depth)
    }

    /// Follows links in a path and `..`; see [`resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, path: &[u8], last: bool) -> Result<Name, ViewError> {
        resolve(path, last, |name| self.get(name).map(|node| Cow::Borrowed(&node.entry.kind)))
    }
}

/// Follows links in a path and `..` as a process would whose root is that of a tree;
/// `kind` says what lies at a name of it. Components that do not exist are kept as they
/// are: the result is where the path would be made. With `last`, a link at the end is
/// followed too.
///
/// # Errors
/// If links go in circles, or the path leads through something that is no folder.
pub fn resolve<'k>(
    path: &[u8],
    last: bool,
    kind: impl Fn(&Name) -> Option<Cow<'k, Kind>>,
) -> Result<Name, ViewError> {
    let mut at = Name::root();
    let mut rest: Vec<Vec<u8>> = split(path);
    let mut links = 0;
    let whole = || Name::clean(path).unwrap_or_default();
    while let Some(part) = rest.pop() {
        if part == b".." {
            at = at.parent().unwrap_or_default();
            continue;
        }
        let next = at.join(&part);
        match kind(&next).as_deref() {
            Some(Kind::Symlink { target }) if last || !rest.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(ViewError::Links(whole()));
                }
                if target.0.starts_with(b"/") {
                    at = Name::root();
                }
                rest.extend(split(&target.0));
            }
            Some(Kind::Dir) | None => at = next,
            Some(_) if rest.is_empty() => at = next,
            Some(_) => return Err(ViewError::NotADirectory(next)),
        }
    }
    Ok(at)
}

/// Gives files the owner and mode that their last hard link states, as whoever unpacks
/// entry by entry does.
fn last_word(entries: &mut [Entry]) {
    let mut files: HashMap<Name, usize> = HashMap::new();
    for at in 0..entries.len() {
        let Kind::Hardlink { target } = &entries[at].kind else {
            files.insert(entries[at].name.clone(), at);
            continue;
        };
        if let Some(&file) = files.get(target) {
            files.insert(entries[at].name.clone(), file);
            let Entry { uid, gid, mode, .. } = entries[at];
            entries[file] = Entry { uid, gid, mode, ..entries[file].clone() };
        }
    }
}

/// The components of a path, the first one last.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let ordinary = |part: &&[u8]| !part.is_empty() && *part != b".";
    path.split(|&c| c == b'/').filter(ordinary).rev().map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::RawBytes;

    fn name(text: &str) -> Name {
        Name::clean(text.as_bytes()).unwrap()
    }

    /// `dir/`, `file`, `link -> target`, `hard = target`.
    fn layer(lines: &[&str]) -> Arc<LayerIndex> {
        let entry = |line: &&str| {
            let dir = |text: &str| Entry::dir(name(text), 0);
            if let Some((link, target)) = line.split_once(" -> ") {
                Entry { kind: Kind::Symlink { target: RawBytes(target.into()) }, ..dir(link) }
            } else if let Some((link, target)) = line.split_once(" = ") {
                Entry { kind: Kind::Hardlink { target: name(target) }, ..dir(link) }
            } else if line.ends_with('/') {
                dir(line)
            } else {
                Entry { kind: Kind::File { size: 1 }, ..dir(line) }
            }
        };
        Arc::new(lines.iter().map(entry).collect())
    }

    fn names(view: &View) -> String {
        let all: Vec<String> =
            view.below(&Name::root()).map(|n| n.entry.name.display().into_owned()).collect();
        all.join(" ")
    }

    #[test]
    fn merging() {
        let of = |layers: &[&[&str]]| {
            let layers: Vec<_> = layers.iter().map(|lines| layer(lines)).collect();
            View::new(&layers).map(|view| names(&view))
        };
        assert_eq!(of(&[&["a/", "a/x", "b"], &["a/.wh.x", "a/y"]]).unwrap(), "a a/y b");
        assert_eq!(
            of(&[&["a/", "a/x", "ab"], &["a/", "a/y", "a/.wh..wh..opq"]]).unwrap(),
            "a a/y ab"
        );
        assert_eq!(of(&[&["a/", "a/x"], &["a"]]).unwrap(), "a", "a file hides a folder");
        assert_eq!(of(&[&["a"], &["a/", "a/x"]]).unwrap(), "a a/x");
        assert_eq!(of(&[&["a/b/c"]]).unwrap(), "a a/b a/b/c", "folders left out");
        assert_eq!(of(&[&["a/", "a/x"], &[".wh.a"]]).unwrap(), "");
        assert_eq!(of(&[&["a/", "a/x"], &[".wh.a", "a/", "a/y"]]).unwrap(), "a a/y");
        assert_eq!(of(&[&["a -> /etc"], &["a/x"]]).unwrap(), "a a/x", "an implied folder hides");
        assert!(matches!(of(&[&["a -> /etc", "a/x"]]), Err(ViewError::NoFolder { .. })));
        assert!(matches!(of(&[&["a = nowhere"]]), Err(ViewError::Hardlink { .. })));
        assert!(matches!(of(&[&["a/.wh.."]]), Err(ViewError::Whiteout { .. })));
    }

    #[test]
    fn hard_links_share_content() {
        let view = View::new(&[layer(&["f", "g = f"]), layer(&["h = f"])]).unwrap();
        let at = |text: &str| view.get(&name(text)).unwrap().content;
        assert_eq!(at("f"), at("g"));
        assert_eq!(at("f"), at("h"));
    }

    #[test]
    fn resolving() {
        let view = View::new(&[layer(&[
            "bin -> usr/bin",
            "usr/",
            "usr/bin/",
            "usr/bin/sh",
            "up -> ../../usr",
            "abs -> /usr/bin",
            "loop -> loop",
            "file",
            "usr/back -> ..",
        ])])
        .unwrap();
        let at = |path: &str| view.resolve(path.as_bytes(), true).map(String::from);
        assert_eq!(at("/bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(at("up/bin").unwrap(), "usr/bin");
        assert_eq!(at("abs/new/x").unwrap(), "usr/bin/new/x");
        assert_eq!(at("../../etc").unwrap(), "etc");
        assert_eq!(at("usr/back/file").unwrap(), "file");
        assert_eq!(at("/").unwrap(), "");
        assert_eq!(String::from(view.resolve(b"bin", false).unwrap()), "bin");
        assert!(matches!(at("loop/x"), Err(ViewError::Links(_))));
        assert!(matches!(at("file/x"), Err(ViewError::NotADirectory(_))));
        assert_eq!(at("file").unwrap(), "file");
    }
}
