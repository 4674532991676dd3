//! When two steps have the same result.
//!
//! | goes in | because |
//! | --- | --- |
//! | [`FORMAT`] | another kiln may run, pack or hash steps otherwise |
//! | the kind of operation and its fields | they say what is done |
//! | each input's diff IDs | what a root holds, however it came about |
//! | a digest of the chosen files (context), and of each file that was fetched | names, modes and content, computed by the build |
//! | of a git repository, the commit and what is taken of it | they name the files; the `.git` folder has the ref and the remote too |
//! | the epoch | the times in the layer |
//! | for `RUN`: a heredoc that is run as a program | its text is not in the arguments |
//! | for `RUN`: its network, `--security`, host name and names of hosts, and each mount's kind, place and settings | what the process can see |
//! | for `RUN`: a digest of the files that a mount takes from the context; the root it takes others from | as for a copy |
//! | for `RUN`: that its layer is normalized, and by which rules | they take out of it what is found |
//! | for `RUN`: the platform | the same files, run on another processor |
//!
//! | stays out | because |
//! | --- | --- |
//! | hints: places in the file, proxies | nothing of the result is held to depend on them |
//! | whether the machine has a network, as with `--offline` | the key has what is asked for, so that a build without a network finds the steps of one that had it. What a `RUN` makes that has found none is recorded apart (`build/record.rs`) |
//! | what a cache holds and how it is shared, a secret's value, what an agent knows | a step that depends on them has no result that could be named |
//! | the root below a `COPY --link` | the layer is made as if there were none: see [`Step::stands_alone`] |
//! | the step's name, number and stage | names |
//! | where a file or a commit was fetched from | what was found there counts |
//! | how an input came about, its name and its compression | only what it holds counts |
//! | metadata: `LABEL`, `CMD`, `EXPOSE`, … | they make no step |
//! | user, working folder, environment, for steps other than `RUN` | they read none of it but what their fields have |
//!
//! Values are length-prefixed, so that no two lists of values are one text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};
use crate::dockerfile::{Chmod, RunNetwork};

use super::graph::Step;
use super::op::{CopyFrom, MountSource, Op, RunMount};

/// Raised when what a step with given fields makes, or how it is hashed, changes.
pub const FORMAT: u64 = 3;

/// Raised when the rules of `--normalize` change.
const NORMALIZE: u64 = 1;

/// What a step's result depends on, in one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(pub Digest);

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an input holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKey {
    /// A root, by its layers, the lowest first.
    Rootfs(Vec<DiffId>),
    /// The files that were chosen from a source, with all that is copied of them;
    /// or a file that was fetched; or what names the files of a git repository.
    Context(Digest),
}

impl Step {
    /// True if the step's layer does not depend on what it stands on: its first
    /// input is an empty root then.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        matches!(&self.op, Op::Copy(copy) if copy.link)
    }

    /// The step's key. `inputs` are its inputs in order, and after them, for a
    /// copy from the context, the files of the context. A copy from a root may
    /// name the chosen files in place of the whole root.
    #[must_use]
    pub fn key(&self, inputs: &[InputKey]) -> CacheKey {
        let mut to = Encoder::default();
        to.number(FORMAT);
        to.text(&self.epoch.to_string());
        match &self.op {
            Op::Base(_) => to.text("base"),
            Op::Run(run) => {
                to.text("run");
                to.list(&run.argv);
                to.number(run.env.len() as u64);
                for (name, value) in &run.env {
                    to.text(name);
                    to.text(value);
                }
                to.text(&run.user);
                to.text(&run.cwd);
                to.text(&run.platform.to_string());
                to.maybe(run.script.as_ref().map(|script| script.path.as_str()));
                to.maybe(run.script.as_ref().map(|script| script.text.as_str()));
                to.text(match run.network {
                    RunNetwork::Default => "default",
                    RunNetwork::None => "none",
                    RunNetwork::Host => "host",
                });
                to.text(if run.insecure { "insecure" } else { "sandbox" });
                to.number(run.hosts.len() as u64);
                for (name, address) in &run.hosts {
                    to.text(name);
                    to.text(&address.to_string());
                }
                to.maybe(run.hostname.as_deref());
                to.number(run.mounts.len() as u64);
                run.mounts.iter().for_each(|mount| to.mount(mount));
                // Those that are not keep the keys that they had before there was such.
                if run.normalize {
                    to.text("normalize");
                    to.number(NORMALIZE);
                }
            }
            Op::Copy(copy) => {
                to.text("copy");
                match copy.from {
                    CopyFrom::Context | CopyFrom::Named(_) => to.text("context"),
                    CopyFrom::Input(index) => {
                        to.text("input");
                        to.number(index as u64);
                    }
                }
                to.number(copy.sources.len() as u64);
                for source in &copy.sources {
                    to.text(&source.path);
                    to.maybe(source.below.as_deref());
                }
                to.number(copy.remotes.len() as u64);
                for remote in &copy.remotes {
                    to.text(&remote.name);
                }
                to.number(copy.contents.len() as u64);
                for content in &copy.contents {
                    to.text(&content.name);
                    to.text(&content.text);
                }
                to.text(&copy.destination);
                to.list(&copy.excludes);
                to.maybe(copy.owner.as_deref());
                to.maybe(copy.mode.as_ref().map(Chmod::to_string).as_deref());
                to.number(u64::from(copy.unpack));
                let unpacked = copy.remotes.iter().filter(|remote| remote.unpack).count();
                // Those that have none of it keep the keys that they had before there was.
                if copy.repositories.len() + unpacked > 0 {
                    to.text("elsewhere");
                    to.number(copy.repositories.len() as u64);
                    for remote in &copy.remotes {
                        to.number(u64::from(remote.unpack));
                    }
                }
            }
            Op::Workdir(workdir) => {
                to.text("workdir");
                to.text(&workdir.path);
                to.maybe(workdir.owner.as_deref());
            }
        }
        to.number(inputs.len() as u64);
        for input in inputs {
            match input {
                InputKey::Rootfs(layers) => {
                    to.text("rootfs");
                    to.number(layers.len() as u64);
                    for layer in layers {
                        to.text(&layer.to_string());
                    }
                }
                InputKey::Context(files) => {
                    to.text("files");
                    to.text(&files.to_string());
                }
            }
        }
        CacheKey(Digest::of(&to.0))
    }
}

#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn source(&mut self, source: &MountSource) {
        match source.from {
            CopyFrom::Context | CopyFrom::Named(_) => self.text("context"),
            CopyFrom::Input(index) => {
                self.text("input");
                self.number(index as u64);
            }
        }
        self.text(&source.path);
    }

    /// Never what a cache, a secret or an agent holds.
    fn mount(&mut self, mount: &RunMount) {
        match mount {
            RunMount::Bind { source, target, read_only } => {
                self.text("bind");
                self.source(source);
                self.text(target);
                self.number(u64::from(*read_only));
            }
            RunMount::Cache(cache) => {
                self.text("cache");
                self.text(&cache.target);
                self.text(&cache.id);
                self.number(u64::from(cache.seed.is_some()));
                cache.seed.iter().for_each(|seed| self.source(seed));
                self.number(cache.mode.into());
                self.number(cache.owner.0.into());
                self.number(cache.owner.1.into());
                self.number(u64::from(cache.read_only));
            }
            RunMount::Tmpfs { target, size, read_only } => {
                self.text("tmpfs");
                self.text(target);
                self.maybe(size.map(|size| size.to_string()).as_deref());
                self.number(u64::from(*read_only));
            }
            RunMount::Secret(secret) => {
                self.text("secret");
                self.text(&secret.id);
                self.maybe(secret.target.as_deref());
                self.maybe(secret.env.as_deref());
                self.number(secret.mode.into());
                self.number(secret.owner.0.into());
                self.number(secret.owner.1.into());
            }
            RunMount::Ssh(ssh) => {
                self.text("ssh");
                self.text(&ssh.id);
                self.text(&ssh.target);
            }
        }
    }

    fn number(&mut self, number: u64) {
        self.0.extend(number.to_be_bytes());
    }
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }
    fn list(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
    }
    fn maybe(&mut self, text: Option<&str>) {
        self.number(u64::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }
}
