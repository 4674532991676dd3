//! What is copied to, each kind in its own way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::folder::Folder;
use super::local::{Local, unreadable};
use super::parcel::Parcel;
use super::source::{Source, with_work};
use super::tree::Tree;
use super::{AT_ONCE, CopyError, Env, blocking};
use crate::atomic::AtPath as _;
use crate::digest::{BlobDigest, Hashing};
use crate::image::{Annotations, AnyImage, Descriptor, Index, Raw, referrers_tag};
use crate::output::{self, Archive, CONTAINERD_NAME, LayoutWriter, Named, REF_NAME, Referrers};
use crate::platform::Platform;
use crate::progress::{Task, Way};
use crate::reference::{Pinned, Reference};
use crate::registry::{self, Content, RegistryError, Target};
use crate::store::Store;

/// Bytes that are moved at a time: between two, the work can be stopped.
const PIECE: usize = 256 << 10;

fn task(env: &Env<'_>, digest: BlobDigest) -> Task {
    env.progress.task(format!("copy sha256:{}", digest.short()))
}

/// A blob on its way to a registry.
fn transfer(env: &Env<'_>, blob: &Descriptor) -> Task {
    let size = registry::size_text(blob.size);
    let shown = format!("copy sha256:{} ({size})", blob.digest.short());
    env.progress.transfer(Way::Push, blob.digest, blob.size, shown)
}

/// Does something with every blob, a few at once; the first error ends all.
async fn each_blob(
    tree: &Tree,
    deed: impl AsyncFn(&Descriptor) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let deed = &deed;
    let all = futures_util::stream::iter(tree.blobs.values()).map(|blob| deed(blob));
    all.buffer_unordered(AT_ONCE).try_collect().await
}

/// To a registry: blobs, then documents, each after what it lists, the name last, and what
/// refers to the image after it.
pub(super) async fn to_registry(
    source: &Source<'_>,
    tree: &Tree,
    target: &Target,
    env: &Env<'_>,
) -> Result<Pinned, CopyError> {
    send_blobs(source, tree, target, env).await?;
    let mut pinned = None;
    for (at, raw) in tree.documents.iter().enumerate() {
        if at == tree.root {
            pinned = Some(target.name(raw).await?);
        } else {
            target.document(raw).await?;
        }
    }
    Ok(pinned.unwrap_or_else(|| target.pinned(tree.root())))
}

async fn send_blobs(
    source: &Source<'_>,
    tree: &Tree,
    target: &Target,
    env: &Env<'_>,
) -> Result<(), CopyError> {
    each_blob(tree, async |blob| match source {
        Source::Remote(origin) => {
            let task = transfer(env, blob);
            match target.lacks(blob, Some(origin), &task).await? {
                None => task.found(),
                Some(lacking) => {
                    target.send(blob, lacking, Content::Origin(origin), &task).await?;
                    task.done();
                }
            }
            Ok(())
        }
        Source::Local(local) => match local.as_store() {
            Some(store) => Ok(target.send_stored(blob, store, env.progress).await?),
            None => {
                let task = transfer(env, blob);
                match target.lacks(blob, None, &task).await? {
                    None => task.found(),
                    Some(lacking) => {
                        let part = local.part(&blob.digest, blob.size)?;
                        let (file, path) = (Arc::new(part.file), Path::new(&local.place));
                        let from = Content::File { file: &file, start: part.at, path };
                        target.send(blob, lacking, from, &task).await?;
                        task.done();
                    }
                }
                Ok(())
            }
        },
    })
    .await
}

/// What refers to documents that a registry has, without those that it lists already: it keeps
/// their parts as long as they are there. Gives their number.
pub(super) async fn referrers_to_registry(
    source: &Source<'_>,
    tree: &Tree,
    target: &Target,
    env: &Env<'_>,
) -> Result<usize, CopyError> {
    let mut listed = BTreeSet::new();
    for subject in tree.referrers.keys() {
        listed.extend(target.referrers(*subject).await?.into_iter().map(|entry| entry.digest));
    }
    let lacking = tree.without(source, &listed)?;
    send_blobs(source, &lacking, target, env).await?;
    for raw in &lacking.documents {
        target.document(raw).await?;
    }
    Ok(lacking.documents.len())
}

/// What refers to documents of the store, into the store.
pub(super) async fn referrers_to_store(
    source: &Source<'_>,
    tree: &Tree,
    env: &Env<'_>,
) -> Result<(), CopyError> {
    let store = env.store()?;
    stage(source, tree, store, env).await?;
    attach(tree, store)
}

/// Attaches what refers to others, whose blobs are in the store.
fn attach(tree: &Tree, store: &Store) -> Result<(), CopyError> {
    let referring: BTreeSet<BlobDigest> =
        tree.referrers.values().flatten().map(|entry| entry.digest).collect();
    for raw in tree.documents.iter().filter(|raw| referring.contains(&raw.digest)) {
        store.attach_document(raw)?;
    }
    Ok(())
}

/// Into a layout: what is not there of it, and then the entries that name it.
pub(super) async fn to_layout(
    source: &Source<'_>,
    tree: &Tree,
    folder: &Path,
    tag: Option<&str>,
    env: &Env<'_>,
) -> Result<(), CopyError> {
    let layout = LayoutWriter::open(folder)?;
    bring_stored(source, tree, env).await?;
    each_blob(tree, async |blob| {
        let task = task(env, blob.digest);
        if layout.has(&blob.digest, blob.size) {
            task.cached();
            return Ok(());
        }
        let mut file = layout.begin()?;
        let path = file.path().to_path_buf();
        match source {
            Source::Remote(origin) => {
                origin.to_file(blob, file.as_file_mut(), &path, &task).await?
            }
            Source::Local(local) => {
                let mut to = Hashing::new(file.as_file_mut());
                pour(local, blob, &task, |bytes| Ok(to.write_all(bytes).at("write", &path)?))
                    .await?;
                let (_, found, _) = to.finish();
                check(local, blob, BlobDigest(found))?;
            }
        }
        blocking(|| layout.keep(file, &blob.digest))?;
        task.done();
        Ok(())
    })
    .await?;
    for raw in &tree.documents {
        blocking(|| layout.document(raw))?;
    }
    // What is listed already is read and written while nobody else writes.
    let entries = |layout: &LayoutWriter| -> Result<Vec<Descriptor>, CopyError> {
        let here = Folder::open(folder)?;
        let mut entries = vec![entry(tree.root(), tag)];
        let made = lists(&tree.referrers, |subject| {
            let Some(at) = layout.named(&referrers_tag(subject))? else { return Ok(None) };
            here.index(&at).map(Some)
        })?;
        for (subject, list) in made {
            layout.document(&list)?;
            entries.push(entry(&list, Some(&referrers_tag(subject))));
        }
        Ok(entries)
    };
    blocking(|| layout.name(entries))?;
    Ok(())
}

/// Into the store, under a name.
pub(super) async fn to_store(
    source: &Source<'_>,
    tree: &Tree,
    name: &Reference,
    place: &str,
    env: &Env<'_>,
) -> Result<(), CopyError> {
    if let Some(odd) = &tree.odd {
        return Err(CopyError::Holds {
            place: place.into(),
            what: odd.clone(),
            instead: "kiln's store keeps images and indexes of images; registries, oci:DIR and \
                      oci-archive:FILE hold anything",
        });
    }
    let root = tree.root();
    if let Some(wanted) = name.digest().filter(|wanted| *wanted != root.digest) {
        let (place, found) = (place.to_owned(), root.digest);
        return Err(CopyError::OtherDigest { place, wanted, found });
    }
    let store = env.store()?;
    stage(source, tree, store, env).await?;
    // Documents agree with one another, or nothing gets a name.
    store.image(&root.descriptor())?;
    attach(tree, store)?;
    Ok(store.tag(name, root.descriptor())?)
}

/// Into an OCI archive, by way of the store: a tar states what it holds before it has it.
pub(super) async fn to_oci_archive(
    source: &Source<'_>,
    tree: Tree,
    file: &Path,
    tag: Option<&str>,
    env: &Env<'_>,
) -> Result<(), CopyError> {
    let store = env.store()?;
    let mut parcel = Parcel::default();
    parcel.add(source, tree, tag, env).await?;
    let contents = parcel.contents()?;
    with_work(&format!("write oci-archive:{}", file.display()), env, |work| {
        let fill = |to: &mut std::fs::File| output::write_contents(contents, store, to, work);
        Ok(output::to_file(file, fill)?)
    })
}

/// Into a docker archive, which has room for one platform's image.
pub(super) async fn to_docker_archive(
    source: &Source<'_>,
    tree: &Tree,
    file: &Path,
    name: Option<&Reference>,
    env: &Env<'_>,
) -> Result<(), CopyError> {
    let place = format!("docker-archive:{}", file.display());
    let root = tree.root();
    let what = match &tree.odd {
        Some(odd) => Some(odd.clone()),
        None if root.media_type.is_index() => Some("an index of several platforms".into()),
        None => None,
    };
    if let Some(what) = what {
        return Err(CopyError::Holds {
            place,
            what,
            instead: "it has room for one platform's image: choose one with --platform; \
                      oci-archive:FILE and oci:DIR hold anything",
        });
    }
    let store = env.store()?;
    stage(source, tree, store, env).await?;
    let image: AnyImage = store.image(&root.descriptor())?;
    let names = name.cloned().into_iter().collect();
    let images =
        [Named { names, image, annotations: Annotations::new(), referrers: Referrers::None }];
    with_work(&format!("write {place}"), env, |work| {
        let write = |to: &mut std::fs::File| {
            let host = Platform::host();
            output::write_archive(Archive::Docker, &images, &host, store, to, work)
        };
        Ok(output::to_file(file, write)?)
    })
}

/// Has the store hold all blobs and documents, without a name.
pub(super) async fn stage(
    source: &Source<'_>,
    tree: &Tree,
    store: &Store,
    env: &Env<'_>,
) -> Result<(), CopyError> {
    bring_stored(source, tree, env).await?;
    if source.as_store().is_none() {
        each_blob(tree, async |blob| match source {
            Source::Remote(origin) => Ok(origin.to_store(blob, store).await?),
            Source::Local(local) => {
                let task = task(env, blob.digest);
                if store.has_blob(&blob.digest, blob.size) {
                    task.cached();
                    return Ok(());
                }
                let mut to = store.writer()?;
                let path = store.blob_path(&blob.digest);
                pour(local, blob, &task, |bytes| Ok(to.write_all(bytes).at("write", &path)?))
                    .await?;
                blocking(|| to.commit(Some((&blob.digest, blob.size)))).map_err(
                    |error| match error {
                        crate::store::StoreError::Mismatch { expected, found, .. } => {
                            mismatch(local, blob, expected, found)
                        }
                        other => other.into(),
                    },
                )?;
                task.done();
                Ok(())
            }
        })
        .await?;
    }
    for raw in &tree.documents {
        store.put(&raw.bytes)?;
    }
    Ok(())
}

/// Fetches what the store lacks of an image of its own: the layers of a base may be in the
/// registry alone.
async fn bring_stored(source: &Source<'_>, tree: &Tree, env: &Env<'_>) -> Result<(), CopyError> {
    let Some(store) = source.as_store() else { return Ok(()) };
    for blob in tree.blobs.values() {
        if !store.has_blob(&blob.digest, blob.size) {
            let fetched =
                registry::pull_blob(blob.digest, blob.size, store, env.from, env.progress).await;
            match fetched {
                Err(RegistryError::Store(crate::store::StoreError::NoBlob(digest))) => {
                    return Err(CopyError::Absent { place: source.place(), digest });
                }
                fetched => fetched?,
            }
        }
    }
    Ok(())
}

/// Reads a blob of this machine piece by piece; the work can be given up between two.
async fn pour(
    local: &Local<'_>,
    blob: &Descriptor,
    task: &Task,
    mut to: impl FnMut(&[u8]) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let mut part = local.part(&blob.digest, blob.size)?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = blocking(|| {
            let count = part.read(&mut buffer).map_err(|error| unreadable(&local.place, error))?;
            to(&buffer[..count]).map(|()| count)
        })?;
        if count == 0 {
            return Ok(());
        }
        task.bytes(blob.size - part.size, Some(blob.size));
        tokio::task::yield_now().await;
    }
}

fn check(local: &Local<'_>, blob: &Descriptor, found: BlobDigest) -> Result<(), CopyError> {
    if found == blob.digest {
        return Ok(());
    }
    Err(mismatch(local, blob, blob.digest.to_string(), found.to_string()))
}

fn mismatch(local: &Local<'_>, blob: &Descriptor, expected: String, found: String) -> CopyError {
    let what = format!("the content of {}", blob.digest);
    CopyError::Mismatch { place: local.place.clone(), what, expected, found }
}

/// The entry of a layout's index: under a name, which for a whole reference is containerd's
/// and docker's too.
pub(super) fn entry(root: &Raw, tag: Option<&str>) -> Descriptor {
    let mut entry = root.descriptor();
    let Some(tag) = tag else { return entry };
    entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    if tag.contains(['/', ':'])
        && let Ok(name) = tag.parse::<Reference>()
    {
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
    }
    entry
}

/// The lists of what refers to each document, over those that are there already.
pub(super) fn lists(
    referrers: &BTreeMap<BlobDigest, Vec<Descriptor>>,
    before: impl Fn(BlobDigest) -> Result<Option<Index>, CopyError>,
) -> Result<BTreeMap<BlobDigest, Raw>, CopyError> {
    let mut made = BTreeMap::new();
    for (subject, entries) in referrers {
        made.insert(*subject, output::referrers_list(before(*subject)?, entries)?);
    }
    Ok(made)
}
