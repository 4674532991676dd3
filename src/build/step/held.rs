//! What chosen files hold: a digest for the step's key, and the same content when it is
//! packed.
//!
//! A file is read twice, once for the key and once for the layer: what both readings are to
//! be is known only if they are compared. Hashing it again would cost as much as hashing the
//! layer does. So a file whose stamp was the walk's before and after it was hashed, and whose
//! last change was then older than a tick of any clock, is taken to be the same as long as
//! its stamp is, before and after it is read again: that is what the next build goes by,
//! too. Other files are hashed again. One that is small is read as a whole before anything
//! of it is written, so that it can be judged by its content if only its stamp has changed.
//!
//! The second reading is not done ahead: the first one has just brought the files into
//! memory, and the compressors have all cores busy.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, Read as _, Write as _};

use rayon::prelude::*;

use super::super::context::{Context, Opened};
use super::StepError;
use super::select::{Chosen, Origin};
use crate::atomic::AtPath as _;
use crate::digest::{Digest, Hashing};
use crate::layer::{Kind, Located, Name, Node};
use crate::plan::{CopyOp, CopySource};
use crate::sandbox::{Cancel, SandboxError};

/// Bytes of files that are read as a whole.
const SMALL: u64 = 64 << 10;

/// What a copy's sources come to: a digest of it, and what was chosen, unless the digest is
/// remembered.
pub(super) fn selection(
    context: &Context,
    op: &CopyOp,
    cancel: &Cancel,
) -> Result<(Digest, Option<Vec<Chosen>>), StepError> {
    let about = about(op);
    if let Some(answer) = context.answer(&about)? {
        return Ok((answer, None));
    }
    let origin = Origin::Context(context);
    let chosen = origin.choose(op)?;
    let (digest, sure) = digest(context, &chosen, cancel)?;
    if sure {
        context.keep_answer(&about, digest)?;
    }
    Ok((digest, Some(chosen)))
}

/// All of a copy that [`Origin::choose`] and [`digest`] depend on besides the files, and the
/// version of the two: it is to be counted on when what they give changes.
fn about(op: &CopyOp) -> Vec<u8> {
    let CopyOp {
        from: _,
        sources,
        repositories: _,
        remotes: _,
        contents: _,
        destination: _,
        excludes,
        owner: _,
        mode: _,
        unpack,
        link: _,
        hints: _,
    } = op;
    let mut text = b"copy 1\n".to_vec();
    let mut field = |bytes: &[u8]| {
        text.extend((bytes.len() as u64).to_be_bytes());
        text.extend(bytes);
    };
    field(&[u8::from(*unpack)]);
    field(&sources.len().to_be_bytes());
    for CopySource { path, below } in sources {
        field(path.as_bytes());
        field(&[u8::from(below.is_some())]);
        field(below.as_deref().unwrap_or_default().as_bytes());
    }
    for pattern in excludes {
        field(pattern.as_bytes());
    }
    text
}

/// A digest over everything that is copied of the chosen files: names, kinds,
/// modes, link targets, content. No time, no inode, no owner of the host. And whether
/// the files are all [sure](super::super::context::Hashed::sure).
fn digest(
    context: &Context,
    chosen: &[Chosen],
    cancel: &Cancel,
) -> Result<(Digest, bool), StepError> {
    let seen = context.seen()?;
    let mut sure = true;
    let mut to = io::BufWriter::with_capacity(1 << 16, Hashing::new(io::sink()));
    // Nothing that is written to is at fault: it is this process's memory.
    let mut field = |bytes: &[u8]| {
        let _ = to.write_all(&(bytes.len() as u64).to_be_bytes());
        let _ = to.write_all(bytes);
    };
    for one in chosen {
        field(&one.base);
        let at = one.archive.as_ref().map_or(&one.at, |archive| &archive.name);
        let nodes = || {
            let below = (one.is_dir && one.archive.is_none()).then(|| one.nodes(seen));
            seen.get(at).into_iter().chain(below.into_iter().flatten())
        };
        // Hashed in parallel first, then read from memory in order.
        let file = |node: &Node| match node.entry.kind {
            Kind::File { .. } => Some(u32::try_from(node.content.ordinal)),
            _ => None,
        };
        let files: Result<Vec<u32>, _> = nodes().filter_map(|node| file(&node)).collect();
        // A file of several names is read once.
        let mut files = files.unwrap_or_default();
        files.sort_unstable();
        files.dedup();
        let stop = || cancel.is_cancelled();
        files.into_par_iter().try_for_each(|number| {
            if stop() {
                return Err(SandboxError::Cancelled.into());
            }
            let at = Located { layer: 0, ordinal: number as usize };
            Ok::<_, StepError>(context.hashed(at, &stop).map(drop)?)
        })?;
        // The first names of files that have several.
        let mut firsts: HashMap<Located, Name> = HashMap::new();
        for node in nodes() {
            let name = &node.entry.name;
            field(name.below(at).unwrap_or_default().as_bytes());
            field(format!("{:o}", node.entry.mode).as_bytes());
            // Those of a folder of the host have none of this.
            if (node.entry.uid, node.entry.gid) != (0, 0) {
                field(format!("{}:{}", node.entry.uid, node.entry.gid).as_bytes());
            }
            for (name, value) in &node.entry.xattrs {
                field(format!("{name}=").as_bytes());
                field(&value.0);
            }
            match &node.entry.kind {
                Kind::Dir => field(b"dir"),
                Kind::File { .. } => {
                    if seen.is_shared(node.content) {
                        // One more name of a file becomes a hard link to the first one.
                        match firsts.entry(node.content) {
                            Slot::Occupied(first) => {
                                let first = first.get().below(at).unwrap_or_default();
                                field(&[b"hard ", first.as_bytes()].concat());
                                continue;
                            }
                            Slot::Vacant(slot) => drop(slot.insert(name.clone())),
                        }
                    }
                    let hashed = context.hashed(node.content, &|| false)?;
                    sure &= hashed.sure;
                    field(hashed.digest.to_string().as_bytes());
                }
                Kind::Symlink { target } => field(&[b"link ", target.0.as_slice()].concat()),
                Kind::Fifo => field(b"fifo"),
                Kind::Char { major, minor } => field(format!("char {major}:{minor}").as_bytes()),
                Kind::Block { major, minor } => field(format!("block {major}:{minor}").as_bytes()),
                // There are none.
                Kind::Hardlink { .. } => field(b"other"),
            }
        }
        if let Some(time) = context.time() {
            field(format!("time {time}").as_bytes());
        }
        field(b"end");
    }
    let hashing = to.into_inner().map_err(|error| StepError::Write(error.into_error()))?;
    let (_, digest, _) = hashing.finish();
    Ok((digest, sure))
}

/// Writes a file of the context, of the size that it had when it was walked: what is packed
/// must be what the key was made of. `scratch` is memory to be used again.
pub(super) fn packed(
    context: &Context,
    at: Located,
    size: u64,
    scratch: &mut Vec<u8>,
    write: impl FnOnce(&mut dyn io::Read) -> io::Result<()>,
) -> Result<(), StepError> {
    let hashed = context.hashed(at, &|| false)?;
    let opened = context.open(at)?;
    context.counters().packed();
    let changed = || Ok(StepError::Changed { name: context.name(at)? });
    if opened.size <= SMALL {
        scratch.resize(SMALL as usize + 1, 0);
        let content = match whole(&opened, scratch) {
            // What came behind it since is not asked for.
            Ok(count) => &scratch[..count.min(usize::try_from(size).unwrap_or(count))],
            Err(error) => return Err(failed(context, at, error)),
        };
        let same = hashed.sure && context.is_same(at, &opened)?;
        if !same && (content.len() as u64 != size || Digest::of(content) != hashed.digest) {
            return changed().and_then(Err);
        }
        return written(write(&mut &*content), &changed);
    }
    let mut watched = Watched { from: &opened.file, failed: None };
    if hashed.sure && context.is_same(at, &opened)? {
        let result = write(&mut watched);
        return match watched.failed {
            Some(error) => Err(failed(context, at, error)),
            None => {
                written(result, &changed)?;
                if context.is_same(at, &opened)? { Ok(()) } else { changed().and_then(Err) }
            }
        };
    }
    let mut through = Hashing::new(watched);
    let result = write(&mut through);
    let (watched, found, _) = through.finish();
    match watched.failed {
        Some(error) => Err(failed(context, at, error)),
        None => {
            written(result, &changed)?;
            if found == hashed.digest { Ok(()) } else { changed().and_then(Err) }
        }
    }
}

/// Reads a small file, and no more than there is room for.
fn whole(opened: &Opened, into: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    loop {
        let room = &mut into[count..];
        let length = room.len();
        let read = (&opened.file).read(room)?;
        count += read;
        if read == 0 || (read < length && count as u64 == opened.size) {
            return Ok(count);
        }
    }
}

fn failed(context: &Context, at: Located, error: io::Error) -> StepError {
    let name = context.name(at).unwrap_or_default();
    match Err::<(), _>(error).at("read", context.path(&name)) {
        Err(error) => StepError::Io(error),
        Ok(()) => StepError::Changed { name },
    }
}

/// How the writing of a file ended whose reading did not fail.
fn written(
    result: io::Result<()>,
    changed: &dyn Fn() -> Result<StepError, StepError>,
) -> Result<(), StepError> {
    match result {
        // Not the reader's: the file is shorter than it was, or the store is at fault.
        Err(error) if error.kind() == io::ErrorKind::Other => changed().and_then(Err),
        other => other.map_err(StepError::Write),
    }
}

/// Keeps a reader's own error: whoever copies from it cannot tell it from the
/// writer's.
struct Watched<R> {
    from: R,
    failed: Option<io::Error>,
}

impl<R: io::Read> io::Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.from.read(buf).inspect_err(|error| {
            self.failed = Some(io::Error::new(error.kind(), error.to_string()));
        })
    }
}
