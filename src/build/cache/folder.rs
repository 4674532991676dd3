//! Reading from the folder of an image layout (OCI image spec 1.1, image-layout.md) that
//! somebody else has written.
//!
//! Blobs are looked up by digests alone, only regular files are opened, and no link is
//! followed: what is read is within the folder, and has the digest it was looked up by.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{CacheError, LayoutEntry};
use crate::atomic::{AtPath as _, PathError};
use crate::digest::BlobDigest;
use crate::image::{Index, MAX_DOCUMENT, Manifest, MediaType, Raw};
use crate::layer::Layer;
use crate::registry::Document;
use crate::store::Store;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Most manifests that one entry may list.
const MANIFESTS: usize = 200;

/// The documents of an entry: one, or those that an index lists.
pub(super) fn documents(folder: &Path, entry: &LayoutEntry) -> Result<Vec<Document>, CacheError> {
    let absent = |what: String| CacheError::Absent { folder: folder.to_owned(), what };
    let root = match entry {
        LayoutEntry::Digest(digest) => *digest,
        LayoutEntry::Tag(tag) => {
            let path = folder.join("index.json");
            let bytes = match open(&path) {
                Ok(file) => bounded(file, &path)?,
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                    return Err(absent("index.json: it is no image layout".into()));
                }
                Err(error) => return Err(error.into()),
            };
            let index = Index::read(&bytes)?;
            let named = |name: &&String| *name == tag;
            let mut entries = index.manifests.iter();
            let found =
                entries.find(|entry| entry.annotations.get(REF_NAME).as_ref().is_some_and(named));
            found.ok_or_else(|| absent(format!("entry named `{tag}`")))?.digest
        }
    };
    let bytes = blob(folder, &root)?;
    let Ok(index) = Index::read(&bytes) else { return Ok(vec![document(folder, bytes)?]) };
    if index.manifests.len() > MANIFESTS {
        let why = format!("it lists more than {MANIFESTS} manifests");
        return Err(CacheError::Malformed(why));
    }
    let mut documents = Vec::new();
    for entry in index.manifests.iter().filter(|entry| entry.media_type.is_manifest()) {
        if entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown") {
            documents.push(document(folder, blob(folder, &entry.digest)?)?);
        }
    }
    Ok(documents)
}

fn document(folder: &Path, bytes: Vec<u8>) -> Result<Document, CacheError> {
    let manifest = Manifest::read(&bytes)?;
    let config = blob(folder, &manifest.config.digest)?;
    let media_type = manifest.media_type.clone().unwrap_or(MediaType::OciManifest);
    Ok(Document { raw: Raw::new(bytes, media_type), manifest, config })
}

/// Copies a layer into the store, which takes it only with its digest and size.
pub(super) fn copy(folder: &Path, layer: &Layer, into: &Store) -> Result<(), CacheError> {
    let path = path(folder, &layer.digest);
    // One byte more shows that it is too long.
    let mut from = open(&path)?.take(layer.size.saturating_add(1));
    let mut blob = into.writer()?;
    io::copy(&mut from, &mut blob).at("copy", &path)?;
    blob.commit(Some((&layer.digest, layer.size)))?;
    Ok(())
}

/// A document, verified.
fn blob(folder: &Path, digest: &BlobDigest) -> Result<Vec<u8>, CacheError> {
    let path = path(folder, digest);
    let bytes = bounded(open(&path)?, &path)?;
    let found = BlobDigest::of(&bytes);
    if found != *digest {
        let why = format!("what is stored as {digest} is {found}");
        return Err(CacheError::Malformed(why));
    }
    Ok(bytes)
}

fn path(folder: &Path, digest: &BlobDigest) -> std::path::PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

fn open(path: &Path) -> Result<File, PathError> {
    // A fifo is not waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).at("open", path)?;
    if !file.metadata().at("read", path)?.is_file() {
        return Err(io::Error::other("it is no regular file")).at("read", path);
    }
    Ok(file)
}

fn bounded(file: File, path: &Path) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::new();
    // What is longer is refused by whoever parses it.
    file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).at("read", path)?;
    Ok(bytes)
}
