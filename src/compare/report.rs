//! What a comparison found. As JSON (`kiln diff --format json`) the fields are these, in
//! camelCase; names and meanings stay, others may be added. What does not differ, or does
//! not apply, is left out.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::digest::{BlobDigest, DiffId};

/// All of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// True if the digests are the same; everything below is empty then.
    pub same: bool,
    pub a: Top,
    pub b: Top,
    /// Of the documents that the names point to: which kind they are, fields of an index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub index: Vec<FieldChange>,
    /// The images that differ, by platform.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageChange>,
}

/// What one side's name points to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// As it was given.
    pub name: String,
    pub digest: BlobDigest,
    pub media_type: String,
}

/// Whether something is on one side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only B has it.
    Added,
    /// Only A has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
    /// Of layers: the same tar, stored in other bytes or described otherwise.
    Repacked,
    /// Of layers: the same, at another place.
    Moved,
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// Of documents a path as `config.Env[PATH]` or `history[3].created`; of files an
    /// attribute: `type`, `mode`, `uid`, `gid`, `size`, `mtime`, `target`, `hardlink`,
    /// `device`, `xattr[NAME]`, `occurrences`, or, if no other differs, of the tar's header:
    /// `header.FIELD`, `pax[KEY]`, `longName`, `longLink`.
    pub field: String,
    /// A's value; left out if A has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<Value>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl FieldChange {
    pub(super) fn new(field: impl Into<String>, a: impl Into<Value>, b: impl Into<Value>) -> Self {
        let given = |value: Value| (!value.is_null()).then_some(value);
        Self { field: field.into(), a: given(a.into()), b: given(b.into()), note: None }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// One platform's image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageChange {
    pub platform: String,
    pub change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<BlobDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<BlobDigest>,
    /// Fields of the manifest, without those that layers and config imply.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifest: Vec<FieldChange>,
    /// Fields of the config, without `rootfs.diff_ids`, which the layers are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<FieldChange>,
    /// How many layers are the same in both.
    pub same_layers: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerChange>,
    /// With `--merged`: files of the trees that all layers make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree: Option<Files>,
}

/// A layer of one side.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerSide {
    /// Counted from 1, the lowest.
    pub number: usize,
    pub digest: BlobDigest,
    pub diff_id: DiffId,
    /// Bytes as stored.
    pub size: u64,
    /// The history's instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// A layer that has no twin, or is stored otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct LayerChange {
    pub change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<LayerSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<LayerSide>,
    /// Fields of its descriptor (`mediaType`, `annotations.KEY`, …), of how it is
    /// compressed (`compression`, `gzip.mtime`, `gzip.os`, `gzip.name`, `gzip.level`,
    /// `gzip.members`, `zstd.frames`, `zstd.blocks`, `size`, `offset`, …), and of its tar
    /// (`tar.order`, `tar.end`, `tar.other`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
}

/// Files that differ.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Files {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
    /// How many of the changed ones differ in what: `content`, an attribute, `header`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, usize>,
    /// The first of them: those whose content or presence differs come before those that
    /// differ in attributes, in times, in the tar's header alone; of a kind by name.
    pub files: Vec<FileChange>,
    /// How many are not listed.
    pub omitted: usize,
}

/// A file that differs.
#[derive(Debug, Clone, Serialize)]
pub struct FileChange {
    /// Without a leading slash; bytes that are no UTF-8, and `%`, as `%XX`.
    pub path: String,
    pub change: Change,
    /// `file`, `folder`, `symlink`, `hardlink`, `char`, `block`, `fifo`, `whiteout`, `opaque`;
    /// A's, if both have it.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Why files like this one differ, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
}

/// How two contents differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Content {
    /// `elf`, `ar`, `zip`, `tar`, `gzip`, `zstd`, `bzip2`, `xz`, `pyc`, `json`, `text` or
    /// `data`; `large` if it was not looked into, since the files that were fill 8 GiB.
    pub format: &'static str,
    /// The first byte that differs, from 0; left out if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many bytes differ, of contents of one length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What the format says differs: `section .text`, `member x.o date`, `python.mtime`, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// How many more fields there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
    /// Of texts: a unified diff's lines, the first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<String>,
    /// Of what is compressed: what differs inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<Box<Self>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
