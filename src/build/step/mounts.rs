//! `RUN --mount`: what is put into a step's root, and taken away again with it.
//!
//! Files of the context are mounted from a tree of kiln's own, in which they are
//! root's, as those that `COPY` brings: the folder of whoever builds is never in a
//! step's reach. What a step writes into files of another root or the context is
//! thrown away. Caches stay.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::context::Context;
use super::super::given::Secret;
use super::agent::Agent;
use super::lineage::Lineage;
use super::run::Surroundings;
use super::select::{Chosen, Origin};
use super::{Bench, StepError, copy, held};
use crate::atomic::{AtPath as _, FileLock, private_folder};
use crate::digest::Digest;
use crate::dockerfile::Sharing;
use crate::layer::{Compression, Layer, LayerForm};
use crate::net;
use crate::plan::{
    CacheMount, CopyFrom, CopyHints, CopyOp, CopySource, MountSource, RunMount, RunOp, SecretMount,
};
use crate::rootfs::{self, Rootfs};
use crate::sandbox::{Mount, MountKind, SandboxError, Tier};

/// The records' area: layers with files of the context, by what they hold.
const AREA: &str = "mount-sources";
/// What the files are called in such a layer.
const CONTENT: &str = "content";

/// What a step's mounts come to. Whatever serves them ends when it is dropped.
pub(super) struct Mounted {
    pub(super) mounts: Vec<Mount>,
    pub(super) env: Vec<(String, String)>,
    _agents: Vec<Agent>,
    _caches: Vec<FileLock>,
}

/// A digest of the files that a mount takes from the context.
pub(super) fn digest(
    bench: &Bench<'_>,
    context: &Context,
    source: &MountSource,
) -> Result<Digest, StepError> {
    let found = held::selection(context, &copy_of(source), bench.cancel);
    Ok(found.map_err(|error| missing(source, error))?.0)
}

/// The files that a mount takes from the context.
pub(super) fn chosen(context: &Context, source: &MountSource) -> Result<Vec<Chosen>, StepError> {
    let op = copy_of(source);
    Origin::Context(context).choose(&op).map_err(|error| missing(source, error))
}

pub(super) fn mounted(
    around: &Surroundings<'_>,
    op: &RunOp,
    work: &Path,
) -> Result<Mounted, StepError> {
    let given = around.bench.given;
    let (mut mounts, mut env) = (Vec::new(), Vec::new());
    let (mut agents, mut caches) = (Vec::new(), Vec::new());
    for (at, mount) in op.mounts.iter().enumerate() {
        let work = work.join(format!("mount-{at}"));
        private_folder(&work)?;
        let (target, what) = match mount {
            RunMount::Bind { source, target, read_only } => {
                let upper = work.join("upper");
                private_folder(&upper)?;
                // The root of what is mounted has its mode.
                fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
                    .at("change the mode of", &upper)?;
                (target.clone(), stack(around, source, &work, *read_only, false)?)
            }
            RunMount::Cache(cache) => {
                let (what, lock) = cached(around, cache)?;
                caches.push(lock);
                (cache.target.clone(), what)
            }
            RunMount::Tmpfs { target, size, read_only } => {
                let what = MountKind::Tmpfs { size: *size, mode: 0o1777, read_only: *read_only };
                (target.clone(), what)
            }
            RunMount::Secret(secret) => {
                let Some(bytes) = given.secrets.get(&secret.id).map(Secret::bytes) else {
                    if secret.required {
                        return Err(StepError::NoSecret { id: secret.id.clone() });
                    }
                    // Its variable is there and empty, as BuildKit has it.
                    env.extend(variable(secret, b"")?);
                    continue;
                };
                env.extend(variable(secret, bytes)?);
                let Some(target) = secret.target.clone() else { continue };
                let (mode, owner) = (secret.mode, secret.owner);
                (target, MountKind::Secret { content: bytes.to_vec(), mode, owner })
            }
            RunMount::Ssh(ssh) => {
                let Some(socket) = given.agents.get(&ssh.id) else {
                    if ssh.required {
                        return Err(StepError::NoAgent { id: ssh.id.clone() });
                    }
                    continue;
                };
                // The agent may ask whom it likes.
                net::pass("an ssh agent")?;
                let agent = Agent::listen(&work, "agent", socket)
                    .map_err(|source| StepError::Agent { id: ssh.id.clone(), source })?;
                if agents.is_empty() {
                    env.push(("SSH_AUTH_SOCK".to_owned(), ssh.target.clone()));
                }
                let source = agent.socket().to_owned();
                agents.push(agent);
                (ssh.target.clone(), MountKind::Bind { source, read_only: false })
            }
        };
        mounts.push(Mount { target: target.into(), what });
    }
    // A folder comes before what lies in it, however they were written.
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(Mounted { mounts, env, _agents: agents, _caches: caches })
}

fn variable(secret: &SecretMount, bytes: &[u8]) -> Result<Option<(String, String)>, StepError> {
    let Some(name) = &secret.env else { return Ok(None) };
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| StepError::SecretText { id: secret.id.clone() })?;
    Ok(Some((name.clone(), text.to_owned())))
}

/// Files of a source, stacked below `folder/upper`, which takes what is written.
fn stack(
    around: &Surroundings<'_>,
    source: &MountSource,
    folder: &Path,
    read_only: bool,
    keep: bool,
) -> Result<MountKind, StepError> {
    let Surroundings { bench, sandbox, .. } = around;
    let (layers, path) = match (bench.contexts.of(source.from), source.from) {
        (Some(context), _) => (vec![selection(around, context, source)?], CONTENT.to_owned()),
        (None, from) => {
            let at = input(from);
            let layers = around.inputs[at].clone();
            let rootfs = Rootfs::open(bench.store, &layers)?;
            let found = rootfs.view().resolve(source.path.as_bytes(), true)?;
            if !found.is_root() && rootfs.view().get(&found).is_none() {
                return Err(StepError::MountSource { path: source.path.clone() });
            }
            (layers, source.path.clone())
        }
    };
    let upper = folder.join("upper");
    let mut lowers = if keep && sandbox.is_plain() {
        filled(around, &layers, folder)?;
        Vec::new()
    } else {
        rootfs::stacked(bench.store, sandbox, &layers, &upper, bench.progress)?
    };
    if lowers.is_empty() && !sandbox.is_plain() {
        // An overlay needs one.
        let nothing = folder.join("nothing");
        private_folder(&nothing)?;
        lowers.push(nothing);
    }
    let work = folder.join("work");
    private_folder(&work)?;
    Ok(MountKind::Stack { lowers, upper, work, path: PathBuf::from(path), read_only, keep })
}

/// Fills the upper folder of a cache, once, with what the cache begins as.
fn filled(around: &Surroundings<'_>, layers: &[Layer], folder: &Path) -> Result<(), StepError> {
    let Surroundings { bench, sandbox, .. } = around;
    let done = folder.join("filled");
    if done.exists() {
        return Ok(());
    }
    let upper = folder.join("upper");
    rootfs::remove(sandbox, &upper)?;
    rootfs::make_folder(sandbox, &upper, 0o755, (0, 0))?;
    rootfs::stacked(bench.store, sandbox, layers, &upper, bench.progress)?;
    fs::write(&done, "").at("write", &done)?;
    Ok(())
}

/// A layer with files of the context and nothing else.
fn selection(
    around: &Surroundings<'_>,
    context: &Context,
    source: &MountSource,
) -> Result<Layer, StepError> {
    let Bench { store, cancel, .. } = around.bench;
    let op = copy_of(source);
    let (digest, found) =
        held::selection(context, &op, cancel).map_err(|error| missing(source, error))?;
    let key = Digest::of(format!("{digest} {}", around.epoch).as_bytes());
    // Its blob or its tree is enough; both are made from the same record.
    let there = |layer: &Layer| store.has_blob(&layer.digest, layer.size);
    let slot = store.slot(AREA, &key)?;
    if let Some(layer) = slot.read::<Layer>().filter(there) {
        return Ok(layer);
    }
    let form = Lineage::none(LayerForm::from(Compression::None));
    let nothing = Rootfs::open(store, &[])?;
    let origin = Origin::Context(context);
    let found = found.map_or_else(|| origin.choose(&op), Ok);
    let chosen = found.map_err(|error| missing(source, error))?;
    let chosen: Vec<_> = chosen.iter().collect();
    let layer =
        copy::run(store, cancel, &op, &origin, &chosen, &[], &nothing, around.epoch, &form)?;
    slot.write(&layer)?;
    Ok(layer)
}

/// Which of the step's inputs is meant; a context is none.
fn input(from: CopyFrom) -> usize {
    match from {
        CopyFrom::Input(at) => at,
        CopyFrom::Context | CopyFrom::Named(_) => 0,
    }
}

/// The copy that brings a source's files to one place.
fn copy_of(source: &MountSource) -> CopyOp {
    let mut path = String::new();
    for c in source.path.chars() {
        // It is a path and no pattern.
        if matches!(c, '*' | '?' | '[' | '\\') {
            path.push('\\');
        }
        path.push(c);
    }
    CopyOp {
        from: CopyFrom::Context,
        sources: vec![CopySource { path, below: None }],
        repositories: Vec::new(),
        remotes: Vec::new(),
        contents: Vec::new(),
        destination: format!("/{CONTENT}"),
        excludes: Vec::new(),
        owner: None,
        mode: None,
        unpack: false,
        link: true,
        hints: CopyHints::default(),
    }
}

fn missing(source: &MountSource, error: StepError) -> StepError {
    match error {
        StepError::SourceNotFound { .. } => StepError::MountSource { path: source.path.clone() },
        other => other,
    }
}

/// What a cache is known by that begins empty. One that begins with files of elsewhere
/// has no such name.
pub(in crate::build) fn name(mode: u32, owner: (u32, u32), id: &str) -> String {
    format!("{mode:o} {owner:?} {id}")
}

/// A cache's folder, and the right to use it.
fn cached(
    around: &Surroundings<'_>,
    cache: &CacheMount,
) -> Result<(MountKind, FileLock), StepError> {
    let Surroundings { bench, sandbox, .. } = around;
    let mut name = name(cache.mode, cache.owner, &cache.id);
    if let Some(seed) = &cache.seed {
        // Another beginning is another cache.
        let from = match bench.contexts.of(seed.from) {
            Some(context) => digest(bench, context, seed)?.to_string(),
            None => {
                let layers = around.inputs[input(seed.from)].iter();
                layers.map(|layer| layer.diff_id.to_string()).collect()
            }
        };
        name = format!("{from} {} {name}", seed.path);
    }
    let (id, lock) = acquire(around, cache, &name)?;
    let folder = bench.store.cache_folder(sandbox.kind(), &id)?;
    // Without mounts it was in the step's root, and has gone with it if all was killed.
    let content = if cache.seed.is_some() { "upper" } else { "fs" };
    if folder.is_dir() && !folder.join(content).exists() {
        rootfs::remove(sandbox, &folder)?;
    }
    if !bench.store.hold_folder(&folder) {
        let work = rootfs::Work::new(bench.store, sandbox, "cache")?;
        let new = work.path().join("new");
        private_folder(&new)?;
        rootfs::make_folder(sandbox, &new.join(content), cache.mode, cache.owner)?;
        let known = (bench.cached)(&Digest::of(name.as_bytes())).filter(|_| cache.seed.is_none());
        if let Some(layer) = known {
            let into = new.join(content);
            if let Err(error) = rootfs::unpack_into(bench.store, sandbox, &layer, &into) {
                if bench.cancel.is_cancelled() {
                    return Err(error.into());
                }
                // No build fails for what a cache of elsewhere holds.
                bench.progress.warn(format!("the cache `{}` begins empty: {error}", cache.id));
                rootfs::remove(sandbox, &into)?;
                rootfs::make_folder(sandbox, &into, cache.mode, cache.owner)?;
            }
        }
        // Two that share a new cache may both come here: the first one's stays.
        let renamed = fs::rename(&new, &folder).at("create", &folder);
        if !folder.is_dir() {
            renamed?;
        }
    }
    let what = match &cache.seed {
        Some(seed) => stack(around, seed, &folder, cache.read_only, true)?,
        None => MountKind::Bind { source: folder.join("fs"), read_only: cache.read_only },
    };
    Ok((what, lock))
}

/// Waits for a cache, or takes one of its kin that is free.
fn acquire(
    around: &Surroundings<'_>,
    cache: &CacheMount,
    name: &str,
) -> Result<(Digest, FileLock), StepError> {
    let Surroundings { bench, sandbox, .. } = around;
    // One overlay writes into a folder at a time, and without mounts a cache is moved.
    let alone =
        cache.sharing != Sharing::Shared || cache.seed.is_some() || sandbox.tier() == Tier::Chroot;
    let mut kin = 0_usize;
    loop {
        let id = match kin {
            0 => Digest::of(name.as_bytes()),
            kin => Digest::of(format!("{kin} {name}").as_bytes()),
        };
        if let Some(lock) = bench.store.try_cache(sandbox.kind(), &id, alone)? {
            return Ok((id, lock));
        }
        if bench.cancel.is_cancelled() {
            return Err(SandboxError::Cancelled.into());
        }
        if cache.sharing == Sharing::Private {
            kin += 1;
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
