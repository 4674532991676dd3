//! Names: the entries of `index.json`, each with the full reference as its
//! `org.opencontainers.image.ref.name`, so that skopeo and umoci find them.

use std::path::{Path, PathBuf};

use oci_spec::image::ANNOTATION_REF_NAME as REF_NAME;

use super::{Store, StoreError};
use crate::atomic::{self, AtPath as _, FileLock};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Index, MAX_DOCUMENT, MediaType};
use crate::reference::Reference;

/// Most bytes of `index.json` after a registry's push, the half of what can be read: whoever
/// may push leaves room for the names of builds and pulls here.
const PUSHED: u64 = MAX_DOCUMENT / 2;
/// Most digests of a repository that are kept after they lost their last tag.
const LEFT: usize = 256;
/// Annotation of such an entry: a number that grows, by which the oldest is known.
const LEFT_AT: &str = "kiln.left";

fn empty() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: Vec::new(),
        annotations: std::collections::BTreeMap::new(),
    }
}

/// Writes the index of a layout without images, unless somebody else just did.
pub(super) fn write_empty(root: &Path) -> Result<(), StoreError> {
    let _lock = FileLock::exclusive(&root.join("locks/index"))?;
    let path = root.join("index.json");
    if !path.exists() {
        let bytes =
            serde_json::to_vec(&empty()).map_err(std::io::Error::from).at("write", &path)?;
        atomic::write(&path, &bytes)?;
    }
    Ok(())
}

impl Store {
    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn index(&self) -> Result<Index, StoreError> {
        match std::fs::read(self.index_path()) {
            Ok(bytes) => Index::read(&bytes).map_err(StoreError::Index),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(empty()),
            Err(error) => Err(error).at("read", self.index_path()).map_err(Into::into),
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), StoreError> {
        self.change_within(MAX_DOCUMENT, edit)
    }

    /// Changes the entries, unless the document grows and is then larger than `most`: no
    /// command could read it, nor take a name away again.
    fn change_within(
        &self,
        most: u64,
        edit: impl FnOnce(&mut Vec<Descriptor>),
    ) -> Result<(), StoreError> {
        // What a name points to shall be there after a crash if the name is.
        self.unsynced.sync()?;
        let _lock = FileLock::exclusive(&self.root.join("locks/index"))?;
        let mut index = self.index()?;
        edit(&mut index.manifests);
        let path = self.index_path();
        let bytes = serde_json::to_vec(&index).map_err(std::io::Error::from).at("write", &path)?;
        // Mostly a build that changed nothing.
        let before = std::fs::read(&path).unwrap_or_default();
        if before == bytes {
            return Ok(());
        }
        let size = bytes.len() as u64;
        if size > most && bytes.len() > before.len() {
            return Err(StoreError::ManyNames { size, most });
        }
        atomic::write(&path, &bytes)?;
        Ok(())
    }

    /// All names with what they point to, sorted. Entries of other tools whose
    /// name is no reference are listed by [`Store::unnamed`].
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn names(&self) -> Result<Vec<(Reference, Descriptor)>, StoreError> {
        let entries = self.index()?.manifests.into_iter();
        let mut named: Vec<_> =
            entries.filter_map(|entry| Some((name_of(&entry)?, entry))).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(named)
    }

    /// Entries without a reference as their name.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn unnamed(&self) -> Result<Vec<Descriptor>, StoreError> {
        Ok(self.index()?.manifests.into_iter().filter(|entry| name_of(entry).is_none()).collect())
    }

    /// What a name points to. A reference with a digest and no tag of its own
    /// finds any entry of that repository's name with that digest.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn find(&self, name: &Reference) -> Result<Option<Descriptor>, StoreError> {
        let fits = |have: &Reference, entry: &Descriptor| match name.digest() {
            Some(digest) => have.name() == name.name() && entry.digest == digest,
            None => have == name,
        };
        Ok(self
            .names()?
            .into_iter()
            .find(|(have, entry)| fits(have, entry))
            .map(|(_, entry)| entry))
    }

    /// Points a name at a manifest or index, and away from what it named before.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn tag(&self, name: &Reference, target: Descriptor) -> Result<(), StoreError> {
        let mut entry = target;
        set_name(&mut entry, name);
        self.change(|entries| {
            entries.retain(|other| name_of(other).as_ref() != Some(name));
            entries.push(entry);
            sort(entries);
        })
    }

    /// Takes a name away; its blobs stay until a clean-up. False if there was none.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn untag(&self, name: &Reference) -> Result<bool, StoreError> {
        let mut found = false;
        self.change(|entries| {
            entries.retain(|entry| {
                let hit = name_of(entry).as_ref() == Some(name);
                found |= hit;
                !hit
            });
        })?;
        Ok(found)
    }

    /// The one manifest or index whose digest begins with these hex digits.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn find_id(&self, prefix: &str) -> Result<Option<Descriptor>, StoreError> {
        let prefix = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if prefix.len() < 6 || !prefix.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let fits = |entry: &Descriptor| entry.digest.hex().starts_with(prefix);
        let mut found: Vec<Descriptor> = self.index()?.manifests.into_iter().filter(fits).collect();
        found.dedup_by_key(|entry| entry.digest);
        Ok(if found.len() == 1 { found.pop() } else { None })
    }
}

/// What a repository's manifest is called that has no tag.
fn by_digest(repository: &Reference, digest: BlobDigest) -> Reference {
    repository.pin(digest).reference()
}

fn is_in(entry: &Descriptor, repository: &Reference) -> bool {
    name_of(entry).is_some_and(|name| {
        name.registry() == repository.registry() && name.repository() == repository.repository()
    })
}

fn set_name(entry: &mut Descriptor, name: &Reference) {
    entry.annotations = [(REF_NAME.to_owned(), name.to_string())].into();
}

fn sort(entries: &mut [Descriptor]) {
    entries.sort_by_key(|entry| entry.annotations.get(REF_NAME).cloned());
}

/// When an entry lost its tag; none if it has one, or was never to have one.
fn left_at(entry: &Descriptor) -> Option<u64> {
    entry.annotations.get(LEFT_AT)?.parse().ok()
}

/// Leaves a digest that loses a name in its repository, unless it has another one there.
/// Of those that were left so before, the oldest go when there are more than [`LEFT`].
fn keep_by_digest(entries: &mut Vec<Descriptor>, name: &Reference, lost: Descriptor) {
    if entries.iter().any(|entry| entry.digest == lost.digest && is_in(entry, name)) {
        return;
    }
    let of_here = entries.iter().filter(|entry| is_in(entry, name));
    let mut times: Vec<u64> = of_here.filter_map(left_at).collect();
    times.sort_unstable();
    let now = times.last().map_or(0, |last| last.saturating_add(1));
    if times.len() >= LEFT {
        let oldest = times[times.len() - LEFT];
        entries
            .retain(|entry| left_at(entry).is_none_or(|time| time > oldest) || !is_in(entry, name));
    }
    let mut entry = lost;
    let digest = entry.digest;
    set_name(&mut entry, &by_digest(name, digest));
    entry.annotations.insert(LEFT_AT.to_owned(), now.to_string());
    entries.push(entry);
}

/// Points a name at something, as [`Store::tag_keeping`] does.
fn tag_keeping(
    entries: &mut Vec<Descriptor>,
    name: &Reference,
    target: &Descriptor,
    listed: &[BlobDigest],
) {
    let has_tag = |entry: &Descriptor| name_of(entry).is_some_and(|n| n.tag().is_some());
    let mut lost = Vec::new();
    entries.retain(|entry| {
        if name_of(entry).as_ref() == Some(name) {
            lost.push(entry.clone());
            return false;
        }
        let covered =
            listed.contains(&entry.digest) || name.tag().is_some() && entry.digest == target.digest;
        !(covered && is_in(entry, name) && !has_tag(entry))
    });
    let mut entry = target.clone();
    set_name(&mut entry, name);
    // By a digest alone: a tag names it already.
    let named = name.tag().is_none()
        && entries.iter().any(|other| other.digest == entry.digest && is_in(other, name));
    if !named {
        entries.push(entry);
    }
    for lost in lost.into_iter().filter(|lost| lost.digest != target.digest) {
        keep_by_digest(entries, name, lost);
    }
    sort(entries);
}

/// Names as a registry has them: what was pushed stays, by its digest, when its tag goes
/// or moves, since somebody may have pinned it. Of what a repository's tags left behind it
/// is the last 256 that stay; what was pushed by its digest stays until it is deleted. The
/// index must stay below half of what can be read.
impl Store {
    /// Points a name at a manifest or index. What the name pointed to before is found by
    /// its digest from now on. `listed` are the manifests that an index lists: they need
    /// no names of their own.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn tag_keeping(
        &self,
        name: &Reference,
        target: &Descriptor,
        listed: &[BlobDigest],
    ) -> Result<(), StoreError> {
        self.change_within(PUSHED, |entries| tag_keeping(entries, name, target, listed))
    }

    /// Takes a name away; what it pointed to is found by its digest from now on. False if
    /// there was none.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn untag_keeping(&self, name: &Reference) -> Result<bool, StoreError> {
        let mut found = false;
        // It may grow a little: what deletes is not refused.
        self.change(|entries| {
            let at = entries.iter().position(|entry| name_of(entry).as_ref() == Some(name));
            if let Some(at) = at {
                found = true;
                let lost = entries.remove(at);
                keep_by_digest(entries, name, lost);
                sort(entries);
            }
        })?;
        Ok(found)
    }

    /// Takes all names away that a digest has in a repository; gives their number.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub fn forget(&self, repository: &Reference, digest: &BlobDigest) -> Result<usize, StoreError> {
        let mut count = 0;
        self.change(|entries| {
            let before = entries.len();
            entries.retain(|entry| !(entry.digest == *digest && is_in(entry, repository)));
            count = before - entries.len();
        })?;
        Ok(count)
    }

    /// Something that differs once names have changed: file, time, size. None if there is
    /// no index.
    #[must_use]
    pub fn names_state(&self) -> Option<(u64, std::time::SystemTime, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(self.index_path()).ok()?;
        Some((meta.ino(), meta.modified().ok()?, meta.len()))
    }
}

fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(REF_NAME)?.parse().ok()
}

impl Store {
    /// True if some name points to this digest.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn is_named(&self, digest: &BlobDigest) -> Result<bool, StoreError> {
        Ok(self.index()?.manifests.iter().any(|entry| entry.digest == *digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(bytes: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::OciManifest, BlobDigest::of(bytes), bytes.len() as u64)
    }

    /// What tags left behind is bounded; what was pushed without a tag is not among it.
    #[test]
    fn the_oldest_without_a_tag_go() {
        let tag: Reference = "app:1".parse().unwrap();
        let other: Reference = "other:1".parse().unwrap();
        let push = |number: usize| at(number.to_string().as_bytes());
        let mut entries = Vec::new();
        let pinned = at(b"pinned");
        tag_keeping(&mut entries, &tag.pin(pinned.digest).reference(), &pinned, &[]);
        for number in 0..2 {
            tag_keeping(&mut entries, &other, &push(number), &[]);
        }
        for number in 0..LEFT + 3 {
            tag_keeping(&mut entries, &tag, &push(number), &[]);
        }
        let has = |entries: &[Descriptor], number: usize| {
            entries.iter().any(|entry| entry.digest == push(number).digest && is_in(entry, &tag))
        };
        // One with the tag, the pinned one, and two of the other repository.
        assert_eq!(entries.len(), LEFT + 4);
        assert!(!has(&entries, 0) && !has(&entries, 1) && has(&entries, 2));
        // A tag makes it new, and a push by digest makes it stay.
        tag_keeping(&mut entries, &"app:2".parse().unwrap(), &push(2), &[]);
        tag_keeping(&mut entries, &tag.pin(push(3).digest).reference(), &push(3), &[]);
        for number in 0..LEFT * 2 {
            tag_keeping(&mut entries, &tag, &push(1000 + number), &[]);
        }
        assert!(has(&entries, 2) && has(&entries, 3) && !has(&entries, 4));
        assert!(entries.iter().any(|entry| entry.digest == pinned.digest));
    }

    #[test]
    fn an_index_that_nobody_could_read_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let fill = |most: u64| {
            let mut index = store.index().unwrap();
            let mut entry = at(b"x");
            entry.urls = vec!["x".repeat(usize::try_from(most).unwrap() - 1000)];
            set_name(&mut entry, &"large:1".parse().unwrap());
            index.manifests = vec![entry];
            std::fs::write(store.index_path(), serde_json::to_vec(&index).unwrap()).unwrap();
        };
        let name = |number: usize| format!("app:{number}").parse::<Reference>().unwrap();
        let full = |result: Result<(), StoreError>| match result {
            Ok(()) => false,
            Err(StoreError::ManyNames { size, most }) => size > most,
            Err(error) => panic!("{error}"),
        };
        fill(PUSHED);
        let refused =
            (0..20).find(|number| full(store.tag_keeping(&name(*number), &at(b"y"), &[])));
        let refused = refused.expect("no limit");
        assert!(refused > 0);
        assert_eq!(store.find(&name(refused)).unwrap(), None);
        assert!(!full(store.tag(&name(100), at(b"w"))), "the other half is for what is done here");
        assert!(full(store.tag_keeping(&name(100), &at(b"z"), &[])), "it leaves a digest");
        assert!(store.untag_keeping(&name(100)).unwrap(), "what deletes is done");
        assert_eq!(store.forget(&name(100), &at(b"w").digest).unwrap(), 1);
        fill(MAX_DOCUMENT);
        assert!((0..20).any(|number| full(store.tag(&name(number), at(b"y")))));
        assert!(
            store.untag(&name(0)).unwrap() && store.untag(&"large:1".parse().unwrap()).unwrap()
        );
        assert!(!full(store.tag_keeping(&name(100), &at(b"y"), &[])));
    }

    /// What a registry's names do when tags move and go.
    #[test]
    fn what_lost_its_tag_is_found_by_digest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (one, two, index) = (at(b"one"), at(b"two"), at(b"index"));
        let names = || -> Vec<String> {
            store.names().unwrap().iter().map(|(name, _)| name.familiar()).collect()
        };
        let tag: Reference = "app:1".parse().unwrap();
        let other: Reference = "app:2".parse().unwrap();
        let of = |one: &Descriptor| tag.pin(one.digest).reference();
        store.tag_keeping(&of(&one), &one, &[]).unwrap();
        assert_eq!(names(), [format!("app@{}", one.digest)]);
        store.tag_keeping(&tag, &one, &[]).unwrap();
        store.tag_keeping(&of(&one), &one, &[]).unwrap();
        assert_eq!(names(), ["app:1"], "a tag is name enough");
        store.tag_keeping(&tag, &two, &[]).unwrap();
        // Those without a tag come first.
        assert_eq!(names(), [format!("app@{}", one.digest), "app:1".to_owned()]);
        store.tag_keeping(&other, &index, &[one.digest]).unwrap();
        assert_eq!(names(), ["app:1", "app:2"], "an index lists it");
        assert!(store.untag_keeping(&tag).unwrap() && !store.untag_keeping(&tag).unwrap());
        assert_eq!(names(), [format!("app@{}", two.digest), "app:2".to_owned()]);
        // Another repository's names are its own.
        store.tag(&"quay.io/app:2".parse().unwrap(), index.clone()).unwrap();
        assert_eq!(store.forget(&tag, &index.digest).unwrap(), 1);
        assert_eq!(names(), [format!("app@{}", two.digest), "quay.io/app:2".to_owned()]);
    }
}
