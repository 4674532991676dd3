//! What a copy puts to which place, and how that becomes a layer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::io::{self, Read};

use super::StepError;
use super::held::packed;
use super::select::{Chosen, Origin};
use crate::digest::BlobDigest;
use crate::dockerfile::Chmod;
use crate::layer::{Entry, Kind, LayerWriter, Located, Name, Node};
use crate::plan::CopyOp;
use crate::rootfs::Rootfs;
use crate::sandbox::Cancel;
use crate::store::{BlobWriter, Store};

/// What goes to a place: an entry, and where its content is.
#[derive(Clone)]
pub(super) struct Out {
    pub(super) entry: Entry,
    pub(super) content: Content,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    None,
    /// A folder of the image below, listed because of what is put into it.
    Below,
    /// Of what is chosen: its number, and where the file is. Names of one file are one
    /// again where they are chosen together.
    Context(usize, Located),
    Layers(usize, Located),
    /// The number of the chosen archive, and the entry's place in it.
    Archive(usize, usize),
    /// A file that was fetched.
    Blob(BlobDigest),
    /// The number of a text of the Dockerfile.
    Text(usize),
}

/// Everything that goes to a place, by name.
#[derive(Default)]
pub(super) struct Outs {
    pub(super) map: BTreeMap<Name, Out>,
    pub(super) bulk: Option<Bulk>,
}

/// All that a folder of a context has, below a destination where nothing else is put: most
/// files of most builds. They are known from the folder, and no list is made of them.
pub(super) struct Bulk {
    pub(super) to: Name,
    /// The folder.
    pub(super) at: Name,
    /// Of what was chosen.
    pub(super) number: usize,
    pub(super) time: Option<i64>,
    pub(super) epoch: i64,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<Chmod>,
}

impl Bulk {
    /// What becomes of a node of the folder.
    pub(super) fn out(&self, node: &Node) -> Out {
        let rest = node.entry.name.below(&self.at).unwrap_or_default();
        let mut entry = Entry { name: self.to.join_name(&rest), ..node.entry.clone() };
        entry.mtime = self.time.map_or(self.epoch, |time| time.min(self.epoch));
        dress(&mut entry, self.owner, self.mode.as_ref());
        let content = match entry.kind {
            Kind::File { .. } => Content::Context(self.number, node.content),
            _ => Content::None,
        };
        Out { entry, content }
    }
}

/// Gives an entry the owner and mode that are asked for.
pub(super) fn dress(entry: &mut Entry, owner: Option<(u32, u32)>, mode: Option<&Chmod>) {
    if let Some((uid, gid)) = owner {
        (entry.uid, entry.gid) = (uid, gid);
    }
    if let Some(mode) = mode
        && !matches!(entry.kind, Kind::Symlink { .. })
    {
        entry.mode = mode.apply(entry.mode, entry.kind == Kind::Dir);
    }
}

impl Outs {
    /// Whether anything goes to a place in a folder.
    pub(super) fn has_below(&self, folder: &Name) -> bool {
        let mut behind = self.map.range(below(folder)..).map(|(name, _)| name);
        behind.find(|name| !name.is_root()).is_some_and(|name| name.below(folder).is_some())
    }

    /// All of it, sorted by name.
    fn all<'o>(
        &'o self,
        origin: &'o Origin<'o>,
        chosen: &'o [&Chosen],
    ) -> Result<Box<dyn Iterator<Item = Cow<'o, Out>> + 'o>, StepError> {
        let listed = |(_, out): (&'o Name, &'o Out)| Cow::Borrowed(out);
        let Some(bulk) = &self.bulk else { return Ok(Box::new(self.map.iter().map(listed))) };
        let one = chosen[bulk.number];
        let inside = one.nodes(one.seen(origin)?).map(|node| Cow::Owned(bulk.out(&node)));
        // Nothing else is in there.
        let start = below(&bulk.to);
        let before = self.map.range(..start.clone()).map(listed);
        let behind = self.map.range(start..).map(listed);
        Ok(Box::new(before.chain(inside).chain(behind)))
    }
}

/// Where the names in a folder begin: `a.b` stands between `a` and `a/x`.
fn below(folder: &Name) -> Name {
    if folder.is_root() { Name::root() } else { folder.join(b"") }
}

/// Content, as long as nobody wants the work to stop.
struct Wanted<'a> {
    content: &'a mut dyn Read,
    cancel: &'a Cancel,
}

impl Read for Wanted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.content.read(buf)
    }
}

pub(super) type Writer = LayerWriter<BlobWriter>;

/// Folders first, then what has no content, then files: those of an archive in its
/// own order, so that it is read once; further names of one file at the end.
pub(super) fn emit(
    store: &Store,
    cancel: &Cancel,
    op: &CopyOp,
    origin: &Origin<'_>,
    chosen: &[&Chosen],
    outs: &Outs,
    writer: &mut Writer,
) -> Result<(), StepError> {
    let full = |writer: &mut Writer, entry: &Entry, content: &mut dyn Read| {
        writer.entry(entry, &mut Wanted { content, cancel })
    };
    let write = |writer: &mut Writer, entry: &Entry| {
        writer.entry(entry, &mut io::empty()).map_err(StepError::Write)
    };
    let is_dir = |out: &Out| out.entry.kind == Kind::Dir;
    for out in outs.all(origin, chosen)?.filter(|out| is_dir(out)) {
        write(writer, &out.entry)?;
    }
    let rest = || Ok::<_, StepError>(outs.all(origin, chosen)?.filter(|out| !is_dir(out)));
    for out in rest()?.filter(|out| out.content == Content::None) {
        write(writer, &out.entry)?;
    }
    // The first names of those files that may have several.
    let mut files: BTreeMap<(usize, Located), Name> = BTreeMap::new();
    let mut layers: BTreeMap<(usize, Located), Cow<'_, Out>> = BTreeMap::new();
    let mut archives: BTreeMap<usize, BTreeMap<usize, Cow<'_, Out>>> = BTreeMap::new();
    // Also those without files: what they are must be what the key was made of.
    for (number, one) in chosen.iter().enumerate() {
        if one.archive.is_some() {
            archives.entry(number).or_default();
        }
    }
    let mut links: Vec<Entry> = Vec::new();
    let mut link = |entry: &Entry, first: &Name| {
        let kind = Kind::Hardlink { target: first.clone() };
        let name = entry.name.clone();
        links.push(Entry { name, kind, xattrs: BTreeMap::new(), ..*entry });
    };
    let mut scratch = Vec::new();
    for out in rest()? {
        match out.content {
            Content::None | Content::Below => (),
            Content::Blob(digest) => {
                let mut blob = store.open_blob(&digest)?;
                full(writer, &out.entry, &mut blob).map_err(StepError::Write)?;
            }
            Content::Text(number) => {
                let mut text = op.contents[number].text.as_bytes();
                full(writer, &out.entry, &mut text).map_err(StepError::Write)?;
            }
            Content::Context(number, at) => {
                let one = chosen[number];
                if one.seen(origin)?.is_shared(at) {
                    match files.entry((number, at)) {
                        Slot::Occupied(first) => {
                            link(&out.entry, first.get());
                            continue;
                        }
                        Slot::Vacant(slot) => drop(slot.insert(out.entry.name.clone())),
                    }
                }
                if let Some(context) = one.context(origin) {
                    packed(context, at, out.entry.size(), &mut scratch, |content| {
                        full(writer, &out.entry, content)
                    })?;
                }
            }
            Content::Layers(number, at) => match layers.entry((number, at)) {
                Slot::Occupied(first) => link(&out.entry, &first.get().entry.name),
                Slot::Vacant(slot) => drop(slot.insert(out)),
            },
            Content::Archive(number, ordinal) => {
                match archives.entry(number).or_default().entry(ordinal) {
                    Slot::Occupied(first) => link(&out.entry, &first.get().entry.name),
                    Slot::Vacant(slot) => drop(slot.insert(out)),
                }
            }
        }
    }
    if let Origin::Layers(rootfs) = origin {
        // Usually one pass: a file that is chosen twice is written twice, and read twice.
        let mut passes: Vec<BTreeMap<Located, &Entry>> = Vec::new();
        for ((_, at), out) in &layers {
            match passes.iter_mut().find(|pass| !pass.contains_key(at)) {
                Some(pass) => drop(pass.insert(*at, &out.entry)),
                None => passes.push(BTreeMap::from([(*at, &out.entry)])),
            }
        }
        for pass in &passes {
            layer_contents(store, rootfs, pass, |entry, content| full(writer, entry, content))?;
        }
    }
    for (number, wanted) in &archives {
        if let Some(archive) = &chosen[*number].archive {
            let context = chosen[*number].context(origin);
            archive.contents(context, wanted, |out, content| full(writer, &out.entry, content))?;
        }
    }
    links.iter().try_for_each(|link| write(writer, link))
}

/// Reads a rootfs's contents; see [`Rootfs::contents`].
fn layer_contents<T>(
    store: &Store,
    rootfs: &Rootfs,
    wanted: &BTreeMap<Located, T>,
    each: impl FnMut(&T, &mut dyn Read) -> io::Result<()>,
) -> Result<(), StepError> {
    Ok(rootfs.contents(store, wanted, each)?)
}
