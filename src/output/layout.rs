//! An OCI image layout (OCI image spec 1.1, image-layout.md) in a folder: made anew,
//! or added to.
//!
//! As BuildKit's `tar=false` does: an image's entry in `index.json` replaces the one
//! of the same name, all others stay. Its tag is its
//! `org.opencontainers.image.ref.name`, the whole name its
//! `io.containerd.image.name`; an image without a name is called `latest`. Blobs come
//! before the index that names them, and each appears whole.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use super::oci::{Blob, CONTAINERD_NAME, LAYOUT, REF_NAME};
use super::{Named, OutputError, Work, oci, sink, to_durable_file};
use crate::atomic::{AtPath as _, FileLock};
use crate::image::{Artifact, Descriptor, MediaType};
use crate::store::Store;

/// Writes images into a layout.
///
/// # Errors
/// If a layer is absent or damaged, the folder holds a layout that cannot be read,
/// or nothing can be written.
pub fn write_layout(
    images: &[Named],
    store: &Store,
    folder: &Path,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let mut blobs = Vec::new();
    let mut entries = Vec::new();
    for named in images {
        let root = oci::collect(named, store, &mut blobs)?;
        if named.names.is_empty() {
            entries.push(entry(&root, "latest", None));
        }
        for name in &named.names {
            entries.push(entry(&root, &name.selector(), Some(name.to_string())));
        }
    }
    write(&blobs, &entries, store, folder, work)
}

/// Writes an artifact into a layout, as its entry of a tag.
///
/// # Errors
/// As those of [`write_layout`].
pub fn write_artifact(
    artifact: &Artifact,
    tag: &str,
    store: &Store,
    folder: &Path,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let layer = |layer: &Descriptor| Blob { digest: layer.digest, size: layer.size, bytes: None };
    let mut blobs: Vec<Blob> = artifact.layers.iter().map(layer).collect();
    blobs.extend([&artifact.config, &artifact.manifest].map(Blob::of));
    let entry = entry(&artifact.manifest.descriptor(), tag, None);
    write(&blobs, &[entry], store, folder, work)
}

fn write(
    blobs: &[Blob],
    entries: &[Descriptor],
    store: &Store,
    folder: &Path,
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let place = folder.join("blobs/sha256");
    std::fs::create_dir_all(&place).at("create folder", &place)?;
    let lock_path = folder.join("index.json.lock");
    let lock = FileLock::exclusive_removable(&lock_path)?;
    let written = (|| {
        let mut index = Index::read(folder)?;
        work.expect(blobs.iter().map(|blob| blob.size).sum());
        for blob in blobs {
            work.check()?;
            let path = place.join(blob.digest.hex());
            // Of the right name and size: another build put it there.
            if path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == blob.size) {
                work.moved(blob.size)?;
                continue;
            }
            to_durable_file(&path, |to| match &blob.bytes {
                Some(bytes) => text(to, bytes).and_then(|()| work.moved(blob.size)),
                None => match sink::blob(to, store, &blob.digest, work)? {
                    copied if copied == blob.size => Ok(()),
                    copied => Err(OutputError::Write(std::io::Error::other(format!(
                        "{} has {copied} bytes, {} were expected",
                        blob.digest, blob.size
                    )))),
                },
            })?;
        }
        to_durable_file(&folder.join("oci-layout"), |to| text(to, LAYOUT.as_bytes()))?;
        for entry in entries {
            index.put(entry)?;
        }
        let bytes = serde_json::to_vec(&index.0).map_err(io::Error::from);
        to_durable_file(&folder.join("index.json"), |to| {
            text(to, &bytes.map_err(OutputError::Write)?)
        })
    })();
    lock.remove(&lock_path);
    written
}

fn text(to: &mut File, bytes: &[u8]) -> Result<(), OutputError> {
    to.write_all(bytes).map_err(OutputError::Write)
}

fn entry(root: &Descriptor, tag: &str, name: Option<String>) -> Descriptor {
    let mut entry = root.clone();
    entry.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    entry.annotations.extend(name.map(|name| (CONTAINERD_NAME.to_owned(), name)));
    entry
}

/// The layout's index as it is, with what kiln does not know.
struct Index(Value);

impl Index {
    fn read(folder: &Path) -> Result<Self, OutputError> {
        /// An index of names; what is larger is none.
        const MOST: u64 = 64 << 20;
        let wrong = |why: &str| OutputError::NotALayout {
            folder: folder.to_path_buf(),
            why: format!("its index.json {why}"),
        };
        let path = folder.join("index.json");
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self(json!({
                    "schemaVersion": 2,
                    "mediaType": MediaType::OciIndex,
                    "manifests": [],
                })));
            }
            Err(error) => return Err(Err::<(), _>(error).at("open", &path).unwrap_err().into()),
        };
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).at("read", &path)?;
        let index: Value = serde_json::from_slice(&bytes).map_err(|_| wrong("is no JSON"))?;
        if index["schemaVersion"] != 2 {
            return Err(wrong("has no schemaVersion 2"));
        }
        if !index["manifests"].is_array() {
            return Err(wrong("has no list of manifests"));
        }
        Ok(Self(index))
    }

    /// Adds an entry in place of the one of its name.
    fn put(&mut self, entry: &Descriptor) -> Result<(), OutputError> {
        let new = serde_json::to_value(entry).map_err(|error| OutputError::Write(error.into()))?;
        let name = |entry: &Value, key: &str| entry["annotations"][key].as_str().map(str::to_owned);
        if let Some(entries) = self.0["manifests"].as_array_mut() {
            let same = |other: &Value| {
                [REF_NAME, CONTAINERD_NAME].iter().all(|key| name(other, key) == name(&new, key))
            };
            entries.retain(|other| !same(other));
            entries.push(new);
        }
        Ok(())
    }
}
