//! What the files of a context hash to, remembered from one build to the next.
//!
//! A file is the one that was hashed if it has the same size, inode, and times of change
//! (content and status, in nanoseconds). Within the tick of a file system's clock a file can
//! change without that showing, so those that were changed shortly before they were looked
//! at are not remembered: git calls them racily clean, and reads them again too.
//!
//! The memory is one file of the store for each folder, with a digest over all of it: one
//! that is damaged is as good as none.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::layer::Name;
use crate::store::{Store, StoreError};

/// The record's area: by digest of the folder's path.
const AREA: &str = "context";
const HEADER: &[u8] = b"kiln context 1\n";
/// Seconds. FAT counts in twos, and no other file system is coarser.
const TICK: i64 = 2;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    const LENGTH: usize = 7 * 8;

    /// `None` for a file that was changed so lately that it may change once more unseen.
    /// `now` is a time before it was looked at, in seconds.
    pub(super) fn of(meta: &Metadata, now: i64) -> Option<Self> {
        let stamp = Self {
            size: meta.len(),
            device: meta.dev(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        (stamp.modified.0.max(stamp.changed.0) < now - TICK).then_some(stamp)
    }

    fn fields(&self) -> [[u8; 8]; 7] {
        let Self { size, device, inode, modified, changed } = self;
        [
            size.to_le_bytes(),
            device.to_le_bytes(),
            inode.to_le_bytes(),
            modified.0.to_le_bytes(),
            modified.1.to_le_bytes(),
            changed.0.to_le_bytes(),
            changed.1.to_le_bytes(),
        ]
    }

    fn read(bytes: &[u8; Self::LENGTH]) -> Self {
        let (fields, _) = bytes.as_chunks::<8>();
        let number = |at: usize| i64::from_le_bytes(fields[at]);
        Self {
            size: number(0).cast_unsigned(),
            device: number(1).cast_unsigned(),
            inode: number(2).cast_unsigned(),
            modified: (number(3), number(4)),
            changed: (number(5), number(6)),
        }
    }
}

/// The time by the clock, in seconds.
#[expect(clippy::disallowed_methods, reason = "compared with times of files, and in no output")]
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

/// Files by name, as they were when they were hashed.
pub(super) type Known = HashMap<Name, (Stamp, Digest)>;

fn key(folder: &Path) -> Digest {
    let whole = std::fs::canonicalize(folder);
    Digest::of(whole.as_deref().unwrap_or(folder).as_os_str().as_bytes())
}

/// Where the memory of a folder is.
pub(super) fn place(store: &Store, folder: &Path) -> PathBuf {
    store.record_path(AREA, &key(folder))
}

/// What is remembered at a place.
pub(super) fn load(place: &Path) -> Known {
    std::fs::read(place).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default()
}

/// Remembers a folder's files, and nothing else of it.
pub(super) fn save<'a>(
    store: &Store,
    folder: &Path,
    known: impl Iterator<Item = (&'a Name, &'a Stamp, &'a Digest)>,
) -> Result<(), StoreError> {
    let mut bytes = HEADER.to_vec();
    for (name, stamp, digest) in known {
        let name = name.as_bytes();
        // No path is longer than the kernel takes.
        bytes.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(name);
        stamp.fields().iter().for_each(|field| bytes.extend_from_slice(field));
        bytes.extend_from_slice(digest.bytes());
    }
    let seal = Digest::of(&bytes);
    bytes.extend_from_slice(seal.bytes());
    store.set_record_bytes(AREA, &key(folder), &bytes)
}

fn parse(bytes: &[u8]) -> Option<Known> {
    let (body, seal) = bytes.split_last_chunk::<32>()?;
    if Digest::of(body).bytes() != seal {
        return None;
    }
    let mut rest = body.strip_prefix(HEADER)?;
    let mut known = Known::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (stamp, after) = after.split_first_chunk::<{ Stamp::LENGTH }>()?;
        let (digest, after) = after.split_first_chunk::<32>()?;
        known.insert(Name::clean(name)?, (Stamp::read(stamp), Digest::from_bytes(*digest)));
        rest = after;
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::super::context::Context;
    use super::*;
    use crate::dockerfile::Ignore;

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        let meta = file.metadata().unwrap();
        let late = meta.ctime() + TICK + 1;
        let stamp = Stamp::of(&meta, late).unwrap();
        // Changed within the tick.
        assert_eq!(Stamp::of(&meta, late - 1), None);
        let name = |text: &str| Name::clean(text.as_bytes()).unwrap();
        let known: Known = [("a/b", "1"), ("c", "2")]
            .map(|(at, content)| (name(at), (stamp, Digest::of(content.as_bytes()))))
            .into();
        let all = known.iter().map(|(name, (stamp, digest))| (name, stamp, digest));
        save(&store, folder.path(), all).unwrap();
        let place = place(&store, folder.path());
        assert_eq!(load(&place), known);
        assert_eq!(load(&file), Known::new());
        let whole = std::fs::read(place).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(parse(&damaged), None, "{at}");
            assert_eq!(parse(&whole[..at]), None, "{at}");
        }
    }

    /// What is remembered is not read again; what was changed is, whatever its size and
    /// its time of change say.
    #[test]
    fn only_what_changed_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let root = folder.path().join("context");
        std::fs::create_dir(&root).unwrap();
        let files = ["same", "changed", "replaced"];
        for name in files {
            std::fs::write(root.join(name), b"before").unwrap();
        }
        let name = |text: &str| Name::clean(text.as_bytes()).unwrap();
        let open = || Context::new(root.clone(), Ignore::default()).remembered(&store);
        let hashed =
            |context: &Context| files.map(|file| context.digest(&name(file), &|| false).ok());
        // Too fresh to be remembered.
        let context = open();
        context.view().unwrap();
        hashed(&context);
        context.remember(&store).unwrap();
        assert_eq!(load(&place(&store, &root)), Known::new());
        std::thread::sleep(std::time::Duration::from_secs(u64::try_from(TICK).unwrap() + 1));
        let context = open();
        context.view().unwrap();
        let before = hashed(&context);
        context.remember(&store).unwrap();
        assert_eq!(load(&place(&store, &root)).len(), 3);

        let time = root.join("changed").metadata().unwrap().modified().unwrap();
        std::fs::write(root.join("changed"), b"behind").unwrap();
        std::fs::File::open(root.join("changed")).unwrap().set_modified(time).unwrap();
        std::fs::write(root.join("new"), b"behind").unwrap();
        std::fs::rename(root.join("new"), root.join("replaced")).unwrap();
        let context = open();
        context.view().unwrap();
        // Nobody can read it any more, and nobody has to.
        std::fs::remove_file(root.join("same")).unwrap();
        let after = hashed(&context);
        assert_eq!(after, [before[0], Some(Digest::of(b"behind")), Some(Digest::of(b"behind"))]);
    }
}
