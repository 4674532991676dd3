//! What the store's names lead to, and which of them a path means.
//!
//! A path is first the repository that it is on kiln's command line. What that has not is
//! looked for in repositories of the same path in other registries: a tag there only if
//! exactly one digest has it. Manifests and blobs are found by following documents from
//! names, so that nothing leaves the store that no image with a name refers to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::answer::Refusal;
use super::path::{Named, path_of};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Linked, MediaType};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

type Names = Vec<(Reference, Descriptor)>;
type State = Option<(u64, SystemTime, u64)>;

/// Most bytes of links that are kept in memory, about.
const KEPT: usize = 4 << 20;

/// What is remembered of names and documents. Documents never change, names are read again
/// when their file has changed.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// The one name that counts, if not all do.
    only: Option<Reference>,
    names: Mutex<Option<(State, Arc<Names>)>>,
    links: Mutex<(HashMap<BlobDigest, Arc<Links>>, usize)>,
    /// One document is parsed at a time: they may be large.
    parsing: Mutex<()>,
}

/// Where a document leads.
#[derive(Debug)]
pub(super) struct Links {
    /// Manifests, if it is an index.
    manifests: Vec<(MediaType, BlobDigest, u64)>,
    /// Digest and size of config and layers, but for those that registries do not keep:
    /// nobody has looked whether who pushed them had them.
    pub(super) blobs: Vec<(BlobDigest, u64)>,
    pub(super) subject: Option<BlobDigest>,
}

/// The names that a path may mean.
#[derive(Debug)]
pub(super) struct Meant {
    /// Of the repository that the path is on the command line.
    exact: Names,
    /// Of others with the same path.
    others: Names,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    fn of(read: Linked) -> Self {
        let manifests = read.manifests.into_iter();
        let blobs = read.blobs.iter().filter(|blob| !blob.media_type.is_foreign());
        let mut manifests: Vec<_> =
            manifests.map(|at| (at.media_type, at.digest, at.size)).collect();
        // It may have got the memory of what was larger.
        manifests.shrink_to_fit();
        Self {
            manifests,
            blobs: blobs.map(|blob| (blob.digest, blob.size)).collect(),
            subject: read.subject.map(|subject| subject.digest),
        }
    }

    /// Manifests, if it is an index.
    pub(super) fn manifests(&self) -> impl DoubleEndedIterator<Item = Descriptor> {
        let all = self.manifests.iter();
        all.map(|(kind, digest, size)| Descriptor::new(kind.clone(), *digest, *size))
    }

    /// About how many bytes of memory it takes.
    fn cost(&self) -> usize {
        let kind = |kind: &MediaType| match kind {
            MediaType::Other(text) => text.len(),
            _ => 0,
        };
        let kinds: usize = self.manifests.iter().map(|(of, ..)| kind(of)).sum();
        let lists = size_of_val(&*self.manifests) + size_of_val(&*self.blobs);
        // An entry of the map, and what allocations cost.
        200 + kinds + lists
    }
}

impl Catalog {
    /// Of all names, or of one.
    pub(super) fn new(only: Option<Reference>) -> Self {
        Self { only, ..Self::default() }
    }

    /// All names that count, as they are now.
    pub(super) fn names(&self, store: &Store) -> Result<Arc<Names>, StoreError> {
        // Before the names: what changes meanwhile is seen the next time.
        let state = store.names_state();
        if let Some((known, names)) = &*lock(&self.names)
            && *known == state
            && state.is_some()
        {
            return Ok(Arc::clone(names));
        }
        let mut names = store.names()?;
        names.retain(|(name, _)| self.only.as_ref().is_none_or(|only| name == only));
        let names = Arc::new(names);
        *lock(&self.names) = Some((state, Arc::clone(&names)));
        Ok(names)
    }

    /// To be called when this process has changed names.
    pub(super) fn changed(&self) {
        *lock(&self.names) = None;
    }

    /// Where a document leads; none if it is absent or none.
    pub(super) fn links(
        &self,
        store: &Store,
        at: &Descriptor,
    ) -> Result<Option<Arc<Links>>, StoreError> {
        let known = || lock(&self.links).0.get(&at.digest).map(Arc::clone);
        if let Some(links) = known() {
            return Ok(Some(links));
        }
        let _one = lock(&self.parsing);
        if let Some(links) = known() {
            return Ok(Some(links));
        }
        let Some(read) = read(store, &at.digest, &at.media_type)? else { return Ok(None) };
        let links = Arc::new(Links::of(read));
        let cost = links.cost();
        let (all, sum) = &mut *lock(&self.links);
        if *sum + cost > KEPT {
            all.clear();
            *sum = 0;
        }
        if cost <= KEPT && all.insert(at.digest, Arc::clone(&links)).is_none() {
            *sum += cost;
        }
        Ok(Some(links))
    }

    /// Reads a document for what is not remembered of it. One at a time.
    pub(super) fn read(
        &self,
        store: &Store,
        at: &Descriptor,
    ) -> Result<Option<Linked>, StoreError> {
        let _one = lock(&self.parsing);
        read(store, &at.digest, &at.media_type)
    }

    /// The names that a path may mean.
    pub(super) fn meant(&self, store: &Store, named: &Named) -> Result<Meant, StoreError> {
        let names = self.names(store)?;
        let some = |fits: &dyn Fn(&Reference) -> bool| -> Names {
            names.iter().filter(|(name, _)| fits(name)).cloned().collect()
        };
        Ok(Meant {
            exact: some(&|name| named.is(name)),
            others: some(&|name| named.may_mean(name)),
        })
    }

    /// Follows documents from names, each once, until something is found.
    fn walk<T>(
        &self,
        store: &Store,
        names: &Names,
        mut visit: impl FnMut(&Reference, &Descriptor, Option<&Links>) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let mut seen = HashSet::new();
        // What is attached to a document belongs to the names that lead to that.
        let subjects: HashSet<BlobDigest> = match names.is_empty() {
            true => HashSet::new(),
            false => store.subjects()?.into_iter().collect(),
        };
        for (name, at) in names {
            let mut waiting = vec![at.clone()];
            while let Some(at) = waiting.pop() {
                if !seen.insert(at.digest) {
                    continue;
                }
                let links = self.links(store, &at)?;
                if let Some(found) = visit(name, &at, links.as_deref()) {
                    return Ok(Some(found));
                }
                waiting.extend(links.iter().flat_map(|links| links.manifests().rev()));
                if subjects.contains(&at.digest) {
                    waiting.extend(store.attached(&at.digest)?);
                }
            }
        }
        Ok(None)
    }

    /// The manifest or index with a digest, if a meant name leads to it, and that name.
    pub(super) fn manifest(
        &self,
        store: &Store,
        meant: &Meant,
        digest: &BlobDigest,
    ) -> Result<Option<(Reference, Descriptor)>, StoreError> {
        for names in [&meant.exact, &meant.others] {
            if let Some(found) = names.iter().find(|(_, at)| at.digest == *digest) {
                return Ok(Some(found.clone()));
            }
        }
        for names in [&meant.exact, &meant.others] {
            let found = self.walk(store, names, |name, at, _| {
                (at.digest == *digest).then(|| (name.clone(), at.clone()))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The size of a blob that a meant name leads to, and that name.
    pub(super) fn blob(
        &self,
        store: &Store,
        meant: &Meant,
        digest: &BlobDigest,
    ) -> Result<Option<(Reference, u64)>, StoreError> {
        for names in [&meant.exact, &meant.others] {
            let found = self.walk(store, names, |name, _, links| {
                let (_, size) = links?.blobs.iter().find(|(blob, _)| blob == digest)?;
                Some((name.clone(), *size))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The same for a blob of any image, whatever its name.
    pub(super) fn any_blob(
        &self,
        store: &Store,
        digest: &BlobDigest,
    ) -> Result<Option<u64>, StoreError> {
        let exact = self.names(store)?.as_ref().clone();
        let meant = Meant { exact, others: Vec::new() };
        Ok(self.blob(store, &meant, digest)?.map(|(_, size)| size))
    }

    /// Manifests that are about another one, by digest.
    pub(super) fn referrers(
        &self,
        store: &Store,
        meant: &Meant,
        subject: &BlobDigest,
    ) -> Result<BTreeMap<BlobDigest, Descriptor>, StoreError> {
        let mut found = BTreeMap::new();
        for names in [&meant.exact, &meant.others] {
            self.walk(store, names, |_, at, links| {
                if links.is_some_and(|links| links.subject == Some(*subject)) {
                    found.insert(at.digest, at.clone());
                }
                None::<()>
            })?;
        }
        Ok(found)
    }

    /// The paths of all repositories, sorted.
    pub(super) fn repositories(&self, store: &Store) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.names(store)?.iter().map(|(name, _)| path_of(name)).collect())
    }
}

/// What is no document leads nowhere, as one that is damaged.
fn read(
    store: &Store,
    digest: &BlobDigest,
    media_type: &MediaType,
) -> Result<Option<Linked>, StoreError> {
    match store.peek(digest) {
        Ok(bytes) => Ok(Linked::read(&bytes, media_type).ok()),
        Err(StoreError::NoBlob(_) | StoreError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Meant {
    /// Whether there is any such repository.
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.others.is_empty()
    }

    /// What a tag points to.
    pub(super) fn tag(&self, tag: &str) -> Result<Option<(Reference, Descriptor)>, Refusal> {
        let of = |names: &Names| -> Names {
            names.iter().filter(|(name, _)| name.tag() == Some(tag)).cloned().collect()
        };
        if let Some(found) = of(&self.exact).pop() {
            return Ok(Some(found));
        }
        let mut found = of(&self.others);
        let digests: BTreeSet<BlobDigest> = found.iter().map(|(_, at)| at.digest).collect();
        if digests.len() > 1 {
            let names: Vec<String> = found.iter().map(|(name, _)| name.familiar()).collect();
            return Err(Refusal::absent(
                "MANIFEST_UNKNOWN",
                format!(
                    "{} are different images; ask for one by its whole name, or with ?ns=HOST",
                    names.join(" and ")
                ),
            ));
        }
        Ok(found.pop())
    }

    /// The tags by which something is found, sorted.
    pub(super) fn tags(&self) -> BTreeSet<String> {
        let all = self.exact.iter().chain(&self.others);
        let tags: BTreeSet<&str> = all.filter_map(|(name, _)| name.tag()).collect();
        let found = tags.into_iter().filter(|tag| matches!(self.tag(tag), Ok(Some(_))));
        found.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(kind: &MediaType, entries: &[Descriptor]) -> Vec<u8> {
        let value = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind.as_str(), "manifests": entries,
        });
        value.to_string().into_bytes()
    }

    /// What is remembered has a bound, whatever the documents are.
    #[test]
    fn links_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let catalog = Catalog::default();
        let long = MediaType::from("x".repeat(KEPT / 8));
        for number in 0..20_u8 {
            let entry = Descriptor::new(long.clone(), BlobDigest::of(&[number]), 1);
            let bytes = list(&MediaType::OciIndex, &[entry]);
            let digest = store.put(&bytes).unwrap();
            let at = Descriptor::new(MediaType::OciIndex, digest, bytes.len() as u64);
            let links = catalog.links(&store, &at).unwrap().unwrap();
            assert_eq!(links.manifests().count(), 1);
            let (all, sum) = &*lock(&catalog.links);
            let costs: usize = all.values().map(|links| links.cost()).sum();
            assert!(*sum <= KEPT && costs == *sum && all.contains_key(&digest));
        }
        assert!(lock(&catalog.links).0.len() < 8);
    }

    #[test]
    fn one_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let names = ["app:1", "app:2", "quay.io/app:1"].map(|text| text.parse().unwrap());
        for name in &names {
            store
                .tag(name, Descriptor::new(MediaType::OciManifest, BlobDigest::of(b"x"), 1))
                .unwrap();
        }
        let count = |only: Option<&Reference>| {
            Catalog::new(only.cloned())
                .names(&store)
                .unwrap()
                .iter()
                .map(|(n, _)| n.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(count(Some(&names[0])), names[..1]);
        assert_eq!(count(None).len(), 3);
    }
}
