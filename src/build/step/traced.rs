//! What a step takes besides the roots that it stands on and reads, file by file: for
//! telling later why it was made again (`build/explain.rs`).

use serde::{Deserialize, Serialize};

use super::super::context::Context;
use super::select::{Chosen, Origin};
use super::{Bench, Prepared, StepError, mounts};
use crate::digest::Digest;
use crate::layer::{Kind, Node};
use crate::plan::{InputKey, Op};

/// A file as it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::build) struct File {
    /// In its context, as far as it is text.
    pub(in crate::build) name: String,
    pub(in crate::build) mode: u32,
    /// As `find -type` has it.
    pub(in crate::build) kind: u8,
    /// The beginning of a digest of its content, or of what its kind has instead.
    pub(in crate::build) content: u64,
}

/// One thing that a step takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::build) struct Source {
    /// For people; the same as long as the instruction is.
    pub(in crate::build) label: String,
    /// As in the step's key.
    pub(in crate::build) digest: Digest,
    /// None of what is not files of a context, and of too many of them.
    pub(in crate::build) files: Option<Vec<File>>,
}

/// More are not listed.
pub(in crate::build) const MAX_FILES: usize = 250_000;

impl Prepared<'_> {
    /// The keys of the roots, in the order of the step's inputs.
    pub(in crate::build) fn roots(&self) -> impl Iterator<Item = &[crate::digest::DiffId]> {
        self.keys.iter().filter_map(|key| match key {
            InputKey::Rootfs(layers) => Some(layers.as_slice()),
            InputKey::Context(_) => None,
        })
    }

    /// Everything else that is in the key. Nothing is read for it that was not read for
    /// the key.
    pub(in crate::build) fn sources(&self, bench: &Bench<'_>) -> Result<Vec<Source>, StepError> {
        let mut digests = self.keys.iter().filter_map(|key| match key {
            InputKey::Context(digest) => Some(*digest),
            InputKey::Rootfs(_) => None,
        });
        let mut sources = Vec::new();
        // In the order in which the keys were made.
        let mut add = |label: String, files: Option<Vec<File>>| {
            sources.extend(digests.next().map(|digest| Source { label, digest, files }));
        };
        match &self.step.op {
            Op::Copy(op) => {
                if let Some(context) = bench.contexts.of(op.from) {
                    let again = match self.chosen {
                        Some(_) => None,
                        None => Some(Origin::Context(context).choose(op)?),
                    };
                    let chosen = self.chosen.as_ref().or(again.as_ref());
                    let chosen = chosen.map_or(&[][..], Vec::as_slice);
                    add("the context".into(), files(context, chosen)?);
                }
                for source in &op.repositories {
                    add(format!("the commit of {source}"), None);
                }
                for remote in &op.remotes {
                    add(format!("the fetched file `{}`", remote.name), None);
                }
            }
            Op::Run(op) => {
                for source in op.mounts.iter().filter_map(|mount| mount.source()) {
                    if let Some(context) = bench.contexts.of(source.from) {
                        let chosen = mounts::chosen(context, source)?;
                        add(format!("the mount of `{}`", source.path), files(context, &chosen)?);
                    }
                }
            }
            Op::Base(_) | Op::Workdir(_) => {}
        }
        Ok(sources)
    }
}

/// The files that were chosen, less those of other places than the context.
fn files(context: &Context, chosen: &[Chosen]) -> Result<Option<Vec<File>>, StepError> {
    let origin = Origin::Context(context);
    let seen = origin.seen()?;
    let mut files = Vec::new();
    for one in chosen {
        let at = one.archive.as_ref().map_or(&one.at, |archive| &archive.name);
        let below = (one.is_dir && one.archive.is_none()).then(|| one.nodes(seen));
        for node in seen.get(at).into_iter().chain(below.into_iter().flatten()) {
            if files.len() == MAX_FILES {
                return Ok(None);
            }
            files.push(file(context, &node)?);
        }
    }
    Ok(Some(files))
}

fn file(context: &Context, node: &Node) -> Result<File, StepError> {
    let entry = &node.entry;
    let (kind, mut digest) = match &entry.kind {
        // It was hashed for the key, so that nothing is read here.
        Kind::File { .. } => (b'f', context.hashed(node.content, &|| false)?.digest),
        Kind::Dir => (b'd', Digest::of(b"")),
        Kind::Symlink { target } => (b'l', Digest::of(&target.0)),
        Kind::Fifo => (b'p', Digest::of(b"")),
        Kind::Char { major, minor } => (b'c', Digest::of(format!("{major}:{minor}").as_bytes())),
        Kind::Block { major, minor } => (b'b', Digest::of(format!("{major}:{minor}").as_bytes())),
        Kind::Hardlink { target } => (b'f', Digest::of(target.as_bytes())),
    };
    // Only archives' files have these.
    if (entry.uid, entry.gid) != (0, 0) || !entry.xattrs.is_empty() {
        let more = format!("{digest} {}:{} {:?}", entry.uid, entry.gid, entry.xattrs);
        digest = Digest::of(more.as_bytes());
    }
    let content = digest.bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    let name = String::from_utf8_lossy(entry.name.as_bytes()).into_owned();
    Ok(File { name, mode: entry.mode, kind, content })
}
