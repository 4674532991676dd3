//! The files of an image, in an order that reads each layer once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{OutputError, Split, Work};
use crate::image::AnyImage;
use crate::layer::{Entry, Kind, Located, Name, Node};
use crate::rootfs::Rootfs;
use crate::store::Store;

/// Calls `each` for everything in an image but its root: folders first, a file
/// before further names of it.
///
/// # Errors
/// If a layer is absent or damaged, a name that is not to be split is there twice,
/// or what `each` returns.
pub(super) fn walk(
    image: &AnyImage,
    split: Split,
    store: &Store,
    work: &Work<'_>,
    mut each: impl FnMut(&Entry, &mut dyn Read) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let several = image.images().len() > 1;
    let split = match split {
        Split::Several => matches!(image, AnyImage::Index { .. }),
        Split::Always => true,
        Split::Never => false,
    };
    // Whose each name is, where platforms share a folder.
    let mut owners: BTreeMap<Name, String> = BTreeMap::new();
    for one in image.images() {
        let platform = one.platform().to_string();
        let prefix = if split {
            Name::clean(platform.replace('/', "_").as_bytes()).unwrap_or_default()
        } else {
            Name::root()
        };
        let rootfs = Rootfs::open(store, one.layers())?;
        if !prefix.is_root() {
            each(&Entry::dir(prefix.clone(), 0), &mut io::empty())?;
        }
        if split || !several {
            files(&rootfs, &prefix, store, work, &mut each)?;
            continue;
        }
        let mut alone = |entry: &Entry, content: &mut dyn Read| match owners
            .insert(entry.name.clone(), platform.clone())
        {
            None => each(entry, content),
            Some(_) if entry.kind == Kind::Dir => Ok(()),
            Some(other) => Err(OutputError::Twice {
                name: entry.name.display().into_owned(),
                one: other,
                other: platform.clone(),
            }),
        };
        files(&rootfs, &prefix, store, work, &mut alone)?;
    }
    Ok(())
}

fn files(
    rootfs: &Rootfs,
    prefix: &Name,
    store: &Store,
    work: &Work<'_>,
    each: &mut impl FnMut(&Entry, &mut dyn Read) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let named =
        |node: &Node| Entry { name: prefix.join_name(&node.entry.name), ..node.entry.clone() };
    let mut first: BTreeMap<Located, Entry> = BTreeMap::new();
    let mut links = Vec::new();
    for node in rootfs.view().below(&Name::root()) {
        let entry = named(node);
        if entry.kind == Kind::Dir {
            each(&entry, &mut io::empty())?;
        } else if let Some(known) = first.get(&node.content) {
            let kind = Kind::Hardlink { target: known.name.clone() };
            links.push(Entry { kind, xattrs: BTreeMap::new(), ..entry });
        } else {
            first.insert(node.content, entry);
        }
    }
    work.expect(first.values().map(Entry::size).sum());
    let (with, without): (BTreeMap<_, _>, BTreeMap<_, _>) =
        first.into_iter().partition(|(_, entry)| entry.size() > 0);
    for entry in without.values() {
        each(entry, &mut io::empty())?;
    }
    // What fails here is told apart from what the layers' reader finds.
    let failed = RefCell::new(None);
    let read = rootfs.contents(store, &with, |entry, content| {
        let mut watched = Watched { content, work, failed: &failed };
        each(entry, &mut watched).map_err(|error| {
            failed.borrow_mut().get_or_insert(error);
            io::Error::other("stopped")
        })
    });
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    read?;
    links.iter().try_for_each(|link| each(link, &mut io::empty()))
}

/// Counts what passes, and ends it when the work is to stop.
struct Watched<'a, 'w> {
    content: &'a mut dyn Read,
    work: &'a Work<'w>,
    failed: &'a RefCell<Option<OutputError>>,
}

impl Read for Watched<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buf)?;
        self.work.moved(n as u64).map_err(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            io::Error::other("stopped")
        })?;
        Ok(n)
    }
}
