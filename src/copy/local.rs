//! Places whose blobs lie in files of this machine: layouts, archives, the store.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use serde::Deserialize;

use super::CopyError;
use super::folder::Folder;
use crate::digest::BlobDigest;
use crate::image::{
    Descriptor, ImageError, Index, MAX_DOCUMENT, Manifest, Purpose, Raw, referrers_tag, strict_json,
};
use crate::net::escaped;
use crate::output::{CONTAINERD_NAME, Opened, REF_NAME, subject_of_list};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// Most entries of a layout that are looked into for what they refer to.
const LOOKED_INTO: usize = 1000;

/// A part of a file that holds a blob.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: File,
    pub(super) at: u64,
    pub(super) size: u64,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.size).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += n as u64;
        self.size -= n as u64;
        Ok(n)
    }
}

/// Where the blobs are.
enum Shelf<'a> {
    Folder(Folder),
    Archive(Opened),
    Store(&'a Store),
}

/// A place on this machine.
pub(super) struct Local<'a> {
    pub(super) place: String,
    shelf: Shelf<'a>,
    /// Of `index.json`; of the store, what is meant.
    entries: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

impl<'a> Local<'a> {
    pub(super) fn folder(place: String, folder: Folder) -> Result<Self, CopyError> {
        let marker = folder.document("oci-layout")?;
        let index = folder.document("index.json")?;
        Self::layout(place, Shelf::Folder(folder), marker, index)
    }

    pub(super) fn archive(place: String, archive: Opened) -> Result<Self, CopyError> {
        let document = |name: &str| match archive.find(name) {
            Some((_, size)) if size > MAX_DOCUMENT => {
                let why = format!("its {name} has {size} bytes");
                Err(CopyError::NotALayout { place: place.clone(), why })
            }
            Some((at, size)) => match part_of(&archive, at, size) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(source) => Err(unreadable(&place, source)),
            },
            None => Ok(None),
        };
        let (marker, index) = (document("oci-layout")?, document("index.json")?);
        Self::layout(place, Shelf::Archive(archive), marker, index)
    }

    /// What a name of the store points to.
    pub(super) fn store(place: String, store: &'a Store, at: Descriptor) -> Self {
        Self { place, shelf: Shelf::Store(store), entries: vec![at] }
    }

    fn layout(
        place: String,
        shelf: Shelf<'a>,
        marker: Option<Vec<u8>>,
        index: Option<Vec<u8>>,
    ) -> Result<Self, CopyError> {
        let wrong = |why: String| CopyError::NotALayout { place: place.clone(), why };
        let marker = marker.ok_or_else(|| wrong("it has no `oci-layout`".into()))?;
        let index = index.ok_or_else(|| wrong("it has no `index.json`".into()))?;
        let layout: Layout =
            strict_json("oci-layout", &marker).map_err(|error| wrong(error.to_string()))?;
        if layout.image_layout_version != "1.0.0" {
            let version = escaped(&layout.image_layout_version, 40);
            return Err(wrong(format!("it has version `{version}`, only 1.0.0 is known")));
        }
        let index = Index::read(&index).map_err(|error| wrong(escaped(&error.to_string(), 300)))?;
        Ok(Self { place, shelf, entries: index.manifests })
    }

    /// The entry of a name; without one, the only entry.
    pub(super) fn entry(&self, name: Option<&str>) -> Result<&Descriptor, CopyError> {
        let found: Vec<&Descriptor> = match name {
            Some(name) => self.entries.iter().filter(|entry| is_called(entry, name)).collect(),
            // Lists of referrers are entries too, and are nobody's image.
            None => self.entries.iter().filter(|entry| !is_list(entry)).collect(),
        };
        let first = found.first();
        match first {
            Some(first) if found.iter().all(|other| other.digest == first.digest) => Ok(first),
            Some(_) => Err(CopyError::Several { place: self.place.clone(), have: self.names() }),
            None => {
                let wanted = name.unwrap_or("of any name").to_owned();
                Err(CopyError::NoEntry { place: self.place.clone(), wanted, have: self.names() })
            }
        }
    }

    /// The names that images have, for messages.
    fn names(&self) -> Vec<String> {
        let named = self.entries.iter().filter(|entry| !is_list(entry));
        named.filter_map(|entry| Some(escaped(entry.annotations.get(REF_NAME)?, 200))).collect()
    }

    /// The names of all entries, as they are.
    pub(super) fn all_names(&self) -> impl Iterator<Item = &str> {
        let names = self.entries.iter().filter_map(|entry| entry.annotations.get(REF_NAME));
        names.map(String::as_str)
    }

    /// Where a blob lies.
    pub(super) fn part(&self, digest: &BlobDigest, size: u64) -> Result<Part, CopyError> {
        let absent = || CopyError::Absent { place: self.place.clone(), digest: *digest };
        let part = match &self.shelf {
            Shelf::Folder(folder) => {
                let file = folder.blob(digest)?.ok_or_else(absent)?;
                let size = file.metadata().map_err(|source| unreadable(&self.place, source))?.len();
                Part { file, at: 0, size }
            }
            Shelf::Archive(archive) => {
                let name = format!("blobs/sha256/{}", digest.hex());
                let (at, size) = archive.find(&name).ok_or_else(absent)?;
                let file = file_of(archive).map_err(|source| unreadable(&self.place, source))?;
                Part { file, at, size }
            }
            Shelf::Store(store) => {
                // No clean-up takes it away then.
                let _ = store.has_blob(digest, size);
                let (file, size) = store.open_unchecked(digest).map_err(|error| match error {
                    StoreError::NoBlob(_) => absent(),
                    other => other.into(),
                })?;
                Part { file, at: 0, size }
            }
        };
        if part.size != size {
            return Err(CopyError::Mismatch {
                place: self.place.clone(),
                what: format!("the size of {digest}"),
                expected: size.to_string(),
                found: part.size.to_string(),
            });
        }
        Ok(part)
    }

    /// A blob whole, verified.
    pub(super) fn bytes(&self, at: &Descriptor) -> Result<Vec<u8>, CopyError> {
        if at.size > MAX_DOCUMENT {
            let source = ImageError::TooLarge { what: "the document", size: at.size };
            return Err(self.wrong(at.digest, source));
        }
        let mut part = self.part(&at.digest, at.size)?;
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map_err(|source| unreadable(&self.place, source))?;
        let found = BlobDigest::of(&bytes);
        if found != at.digest {
            return Err(CopyError::Mismatch {
                place: self.place.clone(),
                what: format!("the digest of {}", at.digest),
                expected: at.digest.to_string(),
                found: found.to_string(),
            });
        }
        Ok(bytes)
    }

    /// The manifest or index that an entry describes.
    pub(super) fn document(&self, entry: &Descriptor) -> Result<Raw, CopyError> {
        let wrong = |source| self.wrong(entry.digest, source);
        let bytes = self.bytes(entry)?;
        if entry.media_type.is_index() {
            Index::read(&bytes).map_err(wrong)?;
        } else if entry.media_type.is_manifest() {
            Manifest::read(&bytes).map_err(wrong)?;
        } else {
            let why = format!("it is a `{}`", escaped(entry.media_type.as_str(), 100));
            return Err(wrong(ImageError::Malformed { what: "manifest", why }));
        }
        Ok(Raw::new(bytes, entry.media_type.clone()))
    }

    fn wrong(&self, digest: BlobDigest, source: ImageError) -> CopyError {
        CopyError::Document { place: self.place.clone(), digest, source }
    }

    /// What refers to a manifest: in the store what is attached to it, elsewhere by the list
    /// under the tag `sha256-HEX`, and entries that say so themselves.
    pub(super) fn referrers(&self, subject: BlobDigest) -> Result<Vec<Descriptor>, CopyError> {
        if let Shelf::Store(store) = &self.shelf {
            return Ok(store.referrers(&subject, None)?);
        }
        let mut found: Vec<Descriptor> = Vec::new();
        let mut add = |entry: Descriptor| {
            if found.iter().all(|other| other.digest != entry.digest) {
                found.push(entry);
            }
        };
        if let Some(list) = self.list(subject)? {
            list.manifests.into_iter().for_each(&mut add);
        }
        let documents =
            |entry: &&Descriptor| entry.media_type.is_manifest() || entry.media_type.is_index();
        for entry in self.entries.iter().filter(documents).take(LOOKED_INTO) {
            // What cannot be read refers to nothing; whoever copies it is told.
            let Ok(raw) = self.document(entry) else { continue };
            let Ok(purpose) = Purpose::read(&raw.bytes) else { continue };
            if purpose.subject.as_ref().is_some_and(|other| other.digest == subject) {
                add(purpose.entry(&raw));
            }
        }
        Ok(found)
    }

    /// What an entry with this tag for its name, or at the end of it, describes.
    pub(super) fn tagged(&self, tag: &str) -> Result<Option<Raw>, CopyError> {
        let has_tag = |entry: &&Descriptor| {
            let name = entry.annotations.get(REF_NAME);
            name.is_some_and(|name| name.strip_suffix(tag).is_some_and(is_before_tag))
        };
        self.entries.iter().find(has_tag).map(|entry| self.document(entry)).transpose()
    }

    /// The list of what refers to a manifest, as an entry names it.
    pub(super) fn list(&self, subject: BlobDigest) -> Result<Option<Index>, CopyError> {
        let tag = referrers_tag(subject);
        let named = |entry: &&Descriptor| entry.annotations.get(REF_NAME) == Some(&tag);
        let Some(entry) = self.entries.iter().find(named) else { return Ok(None) };
        if !entry.media_type.is_index() {
            return Ok(None);
        }
        let raw = self.document(entry)?;
        Index::read(&raw.bytes).map(Some).map_err(|source| self.wrong(entry.digest, source))
    }

    /// The store, if that is the place.
    pub(super) fn as_store(&self) -> Option<&'a Store> {
        match self.shelf {
            Shelf::Store(store) => Some(store),
            Shelf::Folder(_) | Shelf::Archive(_) => None,
        }
    }
}

/// The file of an archive that is one.
fn file_of(archive: &Opened) -> io::Result<File> {
    match archive.file() {
        Some(file) => file.try_clone(),
        None => Err(io::Error::other("it is in parts; put them together with cat")),
    }
}

fn part_of(archive: &Opened, at: u64, size: u64) -> io::Result<Vec<u8>> {
    let file = file_of(archive)?;
    let mut bytes = Vec::new();
    Part { file, at, size }.read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn unreadable(place: &str, source: io::Error) -> CopyError {
    CopyError::Read { place: place.into(), source }
}

/// True if an entry has a name, in either annotation; references are the same in any
/// spelling.
fn is_called(entry: &Descriptor, name: &str) -> bool {
    let meant = name.parse::<Reference>().ok();
    [REF_NAME, CONTAINERD_NAME].iter().filter_map(|key| entry.annotations.get(*key)).any(|own| {
        own == name
            || (own.contains(['/', ':'])
                && meant.is_some()
                && own.parse::<Reference>().ok() == meant)
    })
}

/// True for what stands before a tag: nothing, or a name and a colon.
fn is_before_tag(text: &str) -> bool {
    text.is_empty() || text.ends_with(':')
}

/// True for the entry of a list of referrers.
fn is_list(entry: &Descriptor) -> bool {
    subject_of_list(entry).is_some()
}
