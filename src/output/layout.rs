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
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::lists::{Attached, list_entry, referrers_list};
use super::oci::{Blob, CONTAINERD_NAME, LAYOUT, REF_NAME};
use super::{Named, OutputError, Referrers, Work, oci, sink, to_durable_file};
use crate::atomic::{self, AtPath as _, FileLock};
use crate::digest::BlobDigest;
use crate::image::{Artifact, Descriptor, ImageError, MAX_DOCUMENT, MediaType, Raw, referrers_tag};
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
    let mut attached = Attached::default();
    for named in images {
        let first = blobs.len();
        let root = oci::collect(named, store, &mut blobs)?;
        if named.names.is_empty() {
            entries.push(entry(&root, "latest", None));
        }
        for name in &named.names {
            entries.push(entry(&root, &name.selector(), Some(name.to_string())));
        }
        if named.referrers != Referrers::None {
            attached.add(&named.referrers, store, &mut blobs, first)?;
        }
    }
    write(&blobs, &entries, &attached, store, folder, work)
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
    write(&blobs, &[entry], &Attached::default(), store, folder, work)
}

fn write(
    blobs: &[Blob],
    entries: &[Descriptor],
    attached: &Attached,
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
        for entry in entries {
            index.put(entry)?;
        }
        // Others may have attached something to the same image.
        for (subject, entries) in attached.lists() {
            let list = referrers_list(index.list(&place, subject)?, entries)?;
            to_durable_file(&place.join(list.digest.hex()), |to| text(to, &list.bytes))?;
            index.put(&list_entry(&list, subject))?;
        }
        index.write(folder)
    })();
    lock.remove(&lock_path);
    written
}

/// A layout that gets blobs one by one, and then entries that name them. Blobs are whole and
/// on disk before they have their name; those that nothing names in the end are no part of
/// an image, and spare the next copy the work.
#[derive(Debug)]
pub struct LayoutWriter {
    folder: PathBuf,
    blobs: PathBuf,
}

impl LayoutWriter {
    /// Prepares a folder, and makes it if it is not there.
    ///
    /// # Errors
    /// If it holds something else, or cannot be written.
    pub fn open(folder: &Path) -> Result<Self, OutputError> {
        let filled = std::fs::read_dir(folder).ok().and_then(|mut all| all.next()).is_some();
        let begun = ["oci-layout", "index.json", "blobs"].iter().any(|n| folder.join(n).exists());
        if filled && !begun {
            let why = "it has other files, and no `oci-layout`".into();
            return Err(OutputError::NotALayout { folder: folder.into(), why });
        }
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).at("create folder", &blobs)?;
        Ok(Self { folder: folder.into(), blobs })
    }

    /// True if a blob of this name and size is there.
    #[must_use]
    pub fn has(&self, digest: &BlobDigest, size: u64) -> bool {
        let meta = self.blobs.join(digest.hex()).symlink_metadata();
        meta.is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// A file for a blob; dropped without [`LayoutWriter::keep`] it is gone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn begin(&self) -> Result<NamedTempFile, OutputError> {
        Ok(super::temporary(&self.blobs)?)
    }

    /// Gives a blob its name; that it has this digest is the caller's word.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn keep(&self, file: NamedTempFile, digest: &BlobDigest) -> Result<(), OutputError> {
        let path = self.blobs.join(digest.hex());
        file.as_file().sync_all().at("write", &path)?;
        file.persist(&path).map_err(|error| error.error).at("create", &path)?;
        Ok(())
    }

    /// Keeps a document.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn document(&self, raw: &Raw) -> Result<(), OutputError> {
        if self.has(&raw.digest, raw.bytes.len() as u64) {
            return Ok(());
        }
        let mut file = self.begin()?;
        text(file.as_file_mut(), &raw.bytes)?;
        self.keep(file, &raw.digest)
    }

    /// What an entry of this name points to.
    ///
    /// # Errors
    /// If the layout's index cannot be read.
    pub fn named(&self, name: &str) -> Result<Option<Descriptor>, OutputError> {
        let index = Index::read(&self.folder)?;
        let entries = index.0["manifests"].as_array().into_iter().flatten();
        let mut named = entries.filter(|entry| entry["annotations"][REF_NAME] == name);
        Ok(named.next().and_then(|entry| serde_json::from_value(entry.clone()).ok()))
    }

    /// Has entries name what is there then. An entry takes the place of those of its name, or
    /// if it has none, of those without a name for the same; all others stay. Nobody else
    /// writes the layout's index while the entries are made.
    ///
    /// # Errors
    /// If the layout's index cannot be read or written, or the entries not be made.
    pub fn name<E: From<OutputError>>(
        self,
        entries: impl FnOnce(&Self) -> Result<Vec<Descriptor>, E>,
    ) -> Result<(), E> {
        let lock_path = self.folder.join("index.json.lock");
        let lock = FileLock::exclusive_removable(&lock_path).map_err(OutputError::from)?;
        let written = entries(&self).and_then(|entries| Ok(self.put_in_place(&entries)?));
        lock.remove(&lock_path);
        written
    }

    fn put_in_place(&self, entries: &[Descriptor]) -> Result<(), OutputError> {
        atomic::sync_folder(&self.blobs)?;
        let mut index = Index::read(&self.folder)?;
        for entry in entries {
            let name = entry.annotations.get(REF_NAME).map(String::as_str);
            index.put_in_place(entry, |other| {
                let same = other["annotations"][REF_NAME].as_str() == name;
                same && (name.is_some() || other["digest"] == entry.digest.to_string())
            })?;
        }
        index.write(&self.folder)
    }
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

    fn write(&self, folder: &Path) -> Result<(), OutputError> {
        to_durable_file(&folder.join("oci-layout"), |to| text(to, LAYOUT.as_bytes()))?;
        let bytes = serde_json::to_vec(&self.0).map_err(io::Error::from);
        to_durable_file(&folder.join("index.json"), |to| {
            text(to, &bytes.map_err(OutputError::Write)?)
        })
    }

    /// The list of what refers to something, if there is one that can be read.
    fn list(
        &self,
        blobs: &Path,
        subject: &BlobDigest,
    ) -> Result<Option<crate::image::Index>, OutputError> {
        let tag = referrers_tag(*subject);
        let entries = self.0["manifests"].as_array().into_iter().flatten();
        let mut named = entries.filter(|entry| entry["annotations"][REF_NAME] == tag.as_str());
        let digest = named.next().and_then(|entry| entry["digest"].as_str()?.parse().ok());
        let Some(digest): Option<BlobDigest> = digest else { return Ok(None) };
        let path = blobs.join(digest.hex());
        let mut bytes = Vec::new();
        let file = File::open(&path).at("open", &path)?;
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).at("read", &path)?;
        let wrong = |source| OutputError::Document { name: tag.clone(), source };
        if BlobDigest::of(&bytes) != digest {
            let why = format!("it is not {digest}");
            return Err(wrong(ImageError::Malformed { what: "index", why }));
        }
        crate::image::Index::read(&bytes).map(Some).map_err(wrong)
    }

    /// Adds an entry in place of the one of its name.
    fn put(&mut self, entry: &Descriptor) -> Result<(), OutputError> {
        let name = |entry: &Value, key: &str| entry["annotations"][key].as_str().map(str::to_owned);
        let own = |key: &str| entry.annotations.get(key).cloned();
        self.put_in_place(entry, |other| {
            [REF_NAME, CONTAINERD_NAME].iter().all(|key| name(other, key) == own(key))
        })
    }

    /// Adds an entry in place of those that are the same.
    fn put_in_place(
        &mut self,
        entry: &Descriptor,
        same: impl Fn(&Value) -> bool,
    ) -> Result<(), OutputError> {
        let new = serde_json::to_value(entry).map_err(|error| OutputError::Write(error.into()))?;
        if let Some(entries) = self.0["manifests"].as_array_mut() {
            entries.retain(|other| !same(other));
            entries.push(new);
        }
        Ok(())
    }
}
