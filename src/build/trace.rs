//! What the keys of a build's steps were made of, as it is remembered from one build of
//! the same Dockerfile and context to the next.
//!
//! One record has the fields of all steps (`traces`, by the build's identity, as JSON), and
//! short lists of files; a longer list has one of its own (`trace-files`, by the digest that
//! the step's key has of these files):
//! ```text
//! for each file: length of its name (u16), the name, mode (u32), kind (u8),
//!     beginning of the content's digest (u64); numbers little-endian
//! ```
//! No value of a variable is in it, and no secret: short digests of fields tell that one
//! changed. The store is its owner's alone, and has the layers that were made with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::step::traced::{File, Source};
use crate::digest::{DiffId, Digest};
use crate::plan::{self, CopyOp, Op, RunOp, Step};
use crate::store::{Store, StoreError};

/// The records' areas.
const AREA: &str = "traces";
const FILES: &str = "trace-files";
/// So many files are listed with the fields.
const SHORT: usize = 32;
/// Steps that a book may have; beyond, those that the last build did not have go.
const MAX_STEPS: usize = 1024;

/// A root that a step stands on or reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stack {
    /// The base image's name and manifest; none for `scratch`.
    pub(super) base: Option<(String, String)>,
    /// The lowest first, each by the beginning of its diff ID.
    pub(super) layers: Vec<u64>,
}

impl Stack {
    pub(super) fn new(base: Option<(String, String)>, layers: &[DiffId]) -> Self {
        Self { base, layers: layers.iter().map(|layer| short(&layer.0)).collect() }
    }
}

/// What a step takes besides roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) label: String,
    pub(super) digest: Digest,
    files: Names,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Names {
    Here(Vec<File>),
    /// In a record of their own.
    There,
    /// Not listed: no files of a context, or too many.
    Nowhere,
}

/// All that is remembered of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trace {
    pub(super) key: Digest,
    /// [`plan::FORMAT`].
    pub(super) format: u64,
    /// The fields of the instruction, and the beginnings of their digests.
    pub(super) fields: Vec<(String, u64)>,
    pub(super) stacks: Vec<Stack>,
    pub(super) sources: Vec<Listed>,
}

impl Trace {
    pub(super) fn new(key: Digest, step: &Step, stacks: Vec<Stack>, sources: &[Source]) -> Self {
        let listed = |source: &Source| Listed {
            label: source.label.clone(),
            digest: source.digest,
            files: match &source.files {
                Some(files) if files.len() <= SHORT => Names::Here(files.clone()),
                Some(_) => Names::There,
                None => Names::Nowhere,
            },
        };
        let sources = sources.iter().map(listed).collect();
        Self { key, format: plan::FORMAT, fields: fields(step), stacks, sources }
    }
}

impl Listed {
    /// The files, if they were listed and the list is still there.
    pub(super) fn files(&self, store: &Store) -> Option<Vec<File>> {
        match &self.files {
            Names::Here(files) => Some(files.clone()),
            Names::There => read(&std::fs::read(store.record_path(FILES, &self.digest)).ok()?),
            Names::Nowhere => None,
        }
    }

    /// True if its files were not listed because there are too many, or none.
    pub(super) fn is_nowhere(&self) -> bool {
        self.files == Names::Nowhere
    }
}

/// Remembers what files a source has, unless that is done with the fields.
pub(super) fn keep(store: &Store, source: &Source) -> Result<(), StoreError> {
    match &source.files {
        Some(files) if files.len() > SHORT && !store.has_record(FILES, &source.digest) => {
            store.set_record_bytes(FILES, &source.digest, &written(files))
        }
        Some(_) | None => Ok(()),
    }
}

/// The traces of a build's steps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Book {
    /// By the instruction's text in its stage.
    pub(super) steps: BTreeMap<String, Trace>,
    /// Which of them was where.
    pub(super) places: BTreeMap<String, String>,
}

impl Book {
    /// An empty one if there is none that can be read.
    pub(super) fn load(store: &Store, build: &Digest) -> Self {
        store.record(AREA, build).unwrap_or_default()
    }

    /// `seen` tells which steps the last build had.
    pub(super) fn save(
        &mut self,
        store: &Store,
        build: &Digest,
        seen: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        if self.steps.len() > MAX_STEPS {
            self.steps.retain(|text, _| seen(text));
            let steps = &self.steps;
            self.places.retain(|_, text| steps.contains_key(text));
        }
        // Serialising plain data of ours does not fail; an empty record is none.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        store.set_record_bytes(AREA, build, &bytes)
    }
}

fn written(files: &[File]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(files.len() * 48);
    for file in files {
        // No path is longer than the kernel takes.
        bytes.extend(u16::try_from(file.name.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(file.name.as_bytes());
        bytes.extend(file.mode.to_le_bytes());
        bytes.push(file.kind);
        bytes.extend(file.content.to_le_bytes());
    }
    bytes
}

fn read(mut rest: &[u8]) -> Option<Vec<File>> {
    let mut files = Vec::new();
    while !rest.is_empty() {
        files.push(file(&mut rest)?);
    }
    Some(files)
}

fn file(rest: &mut &[u8]) -> Option<File> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (first, after) = rest.split_first_chunk::<N>()?;
        *rest = after;
        Some(*first)
    }
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let (name, after) = rest.split_at_checked(length)?;
    *rest = after;
    let mode = u32::from_le_bytes(take(rest)?);
    let [kind] = take(rest)?;
    let content = u64::from_le_bytes(take(rest)?);
    Some(File { name: std::str::from_utf8(name).ok()?.to_owned(), mode, kind, content })
}

/// The beginning of a digest: enough to see that something changed.
fn short(digest: &Digest) -> u64 {
    digest.bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// The instruction's fields that are in its key, with what tells one value from another.
fn fields(step: &Step) -> Vec<(String, u64)> {
    let mut fields = vec![("SOURCE_DATE_EPOCH".to_owned(), text(&step.epoch.to_string()))];
    // A step that has one field and no input: its key has all of the field that counts.
    let mut field = |label: &str, op: Op| {
        let step = Step { op, epoch: crate::epoch::Epoch::DEFAULT, ..step.clone() };
        fields.push((label.to_owned(), short(&step.key(&[]).0)));
    };
    match &step.op {
        Op::Base(_) => {}
        Op::Run(run) => {
            let mut blank = run.clone();
            blank.argv.clear();
            blank.script = None;
            blank.mounts.clear();
            blank.network = crate::dockerfile::RunNetwork::Default;
            blank.insecure = false;
            blank.normalize = false;
            blank.hosts.clear();
            blank.hostname = None;
            blank.env.clear();
            blank.user.clear();
            blank.cwd.clear();
            let with = |change: &dyn Fn(&mut RunOp)| {
                let mut op = blank.clone();
                change(&mut op);
                Op::Run(op)
            };
            field(
                "the command",
                with(&|op| {
                    op.argv.clone_from(&run.argv);
                    op.script.clone_from(&run.script);
                }),
            );
            field("--mount", with(&|op| op.mounts.clone_from(&run.mounts)));
            field("--network", with(&|op| op.network = run.network));
            field("--security", with(&|op| op.insecure = run.insecure));
            field("--add-host", with(&|op| op.hosts.clone_from(&run.hosts)));
            field("the host name", with(&|op| op.hostname.clone_from(&run.hostname)));
            field("USER", with(&|op| op.user.clone_from(&run.user)));
            field("WORKDIR", with(&|op| op.cwd.clone_from(&run.cwd)));
            fields.push(("the platform".into(), text(&run.platform.to_string())));
            if run.normalize {
                fields.push(("--normalize".into(), 1));
            }
            for (name, value) in &run.env {
                fields.push((format!("${name}"), text(value)));
            }
        }
        Op::Copy(copy) => {
            let mut blank = copy.clone();
            blank.sources.clear();
            blank.repositories.clear();
            blank.remotes.clear();
            blank.contents.clear();
            blank.destination.clear();
            blank.excludes.clear();
            blank.owner = None;
            blank.mode = None;
            blank.unpack = false;
            let with = |change: &dyn Fn(&mut CopyOp)| {
                let mut op = blank.clone();
                change(&mut op);
                Op::Copy(op)
            };
            field(
                "the sources",
                with(&|op| {
                    op.sources.clone_from(&copy.sources);
                    op.repositories.clone_from(&copy.repositories);
                    op.remotes.clone_from(&copy.remotes);
                    op.unpack = copy.unpack;
                }),
            );
            field("the text", with(&|op| op.contents.clone_from(&copy.contents)));
            field("the destination", with(&|op| op.destination.clone_from(&copy.destination)));
            field("--exclude", with(&|op| op.excludes.clone_from(&copy.excludes)));
            field("--chown", with(&|op| op.owner.clone_from(&copy.owner)));
            field("--chmod", with(&|op| op.mode.clone_from(&copy.mode)));
            fields.push(("--link".into(), u64::from(copy.link)));
        }
        Op::Workdir(workdir) => {
            fields.push(("the path".into(), text(&workdir.path)));
            fields.push(("USER".into(), text(workdir.owner.as_deref().unwrap_or_default())));
        }
    }
    fields
}

fn text(text: &str) -> u64 {
    short(&Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_damage_is_nothing() {
        let file =
            |name: &str, content| File { name: name.into(), mode: 0o644, kind: b'f', content };
        let files = vec![file("a", 1), file("b/c", 2), file("ü", u64::MAX)];
        let bytes = written(&files);
        assert_eq!(read(&bytes), Some(files));
        assert_eq!(read(&[]), Some(Vec::new()));
        for at in 1..bytes.len() {
            assert!(read(&bytes[..at]).is_none_or(|files| files.len() < 3), "{at}");
        }
    }

    /// Long lists have a record of their own, short ones none; none is written twice.
    #[test]
    fn lists_are_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let files = |count: u64| -> Vec<File> {
            (0..count)
                .map(|n| File { name: n.to_string(), mode: 0o644, kind: b'f', content: n })
                .collect()
        };
        for (count, records) in [(SHORT as u64, 0), (SHORT as u64 + 1, 1)] {
            let digest = Digest::of(b"files");
            let source = Source { label: "x".into(), digest, files: Some(files(count)) };
            keep(&store, &source).unwrap();
            let listed = Listed {
                label: "x".into(),
                digest,
                files: if records == 0 { Names::Here(files(count)) } else { Names::There },
            };
            assert_eq!(listed.files(&store), Some(files(count)));
            assert_eq!(store.records(FILES).unwrap().len(), records);
            let before = store.record_path(FILES, &digest).metadata().map(|meta| meta.modified());
            keep(&store, &source).unwrap();
            let after = store.record_path(FILES, &digest).metadata().map(|meta| meta.modified());
            assert_eq!(before.ok().map(Result::unwrap), after.ok().map(Result::unwrap));
        }
    }
}
