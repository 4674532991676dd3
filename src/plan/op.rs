//! What a step does.
//!
//! The fields of an operation define its result and are hashed by
//! [`Step::key`](super::Step::key); what stands in `hints` is for messages, or
//! for the process alone, and never is.

use std::fmt;
use std::net::IpAddr;

use crate::diagnostic::Span;
use crate::digest::BlobDigest;
use crate::dockerfile::{Chmod, GitSource, RunNetwork, Sharing};
use crate::layer::Layer;
use crate::platform::Platform;
use crate::reference::Reference;

/// What a step does to the root it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Runs nothing: the root is the image's layers, or empty.
    Base(BaseOp),
    Run(RunOp),
    /// `COPY` and `ADD`.
    Copy(CopyOp),
    Workdir(WorkdirOp),
}

/// What a stage starts from, or an image that `COPY --from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseOp {
    /// None for `scratch`.
    pub image: Option<BaseImage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    pub reference: Reference,
    /// The manifest's.
    pub digest: BlobDigest,
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// The platform that was asked for.
    pub platform: Platform,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    /// Never empty. The shell form has the words of `SHELL` before it.
    pub argv: Vec<String>,
    /// A file that exists while the step runs.
    pub script: Option<Script>,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    pub network: RunNetwork,
    /// `--security=insecure`.
    pub insecure: bool,
    /// What every build leaves otherwise, and nothing needs, is taken out of the layer.
    pub normalize: bool,
    /// Names that `/etc/hosts` has besides the usual ones.
    pub hosts: Vec<(String, IpAddr)>,
    /// The machine's name as the step sees it, if whoever builds chose one.
    pub hostname: Option<String>,
    /// The whole environment but the hints, each name once: the image's `ENV`,
    /// then the arguments that are set. `HOME` is whoever runs it to find.
    pub env: Vec<(String, String)>,
    /// As `USER` has it, `name[:group]` or numbers; empty for root.
    pub user: String,
    /// Absolute and clean.
    pub cwd: String,
    /// Whose programs the root holds. Whether this machine can run them is not
    /// known here.
    pub platform: Platform,
    pub hints: RunHints,
}

/// A heredoc that is run as a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Absolute; a file of mode 0755 that cannot be changed.
    pub path: String,
    pub text: String,
}

/// Something put into a step's root while it runs; no layer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMount {
    /// Files of the context or of another root. What is written there is lost.
    Bind {
        source: MountSource,
        target: String,
        read_only: bool,
    },
    /// A folder that is kept between builds.
    Cache(CacheMount),
    /// A folder in memory; its size in bytes.
    Tmpfs {
        target: String,
        size: Option<u64>,
        read_only: bool,
    },
    Secret(SecretMount),
    Ssh(SshMount),
}

/// A clean path below a root, without a slash at either end; `.` is the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSource {
    pub from: CopyFrom,
    pub path: String,
    /// The flag's value.
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    pub target: String,
    /// The target where none is given.
    pub id: String,
    pub sharing: Sharing,
    /// What a new cache begins with.
    pub seed: Option<MountSource>,
    /// Of a new cache's folder.
    pub mode: u32,
    pub owner: (u32, u32),
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    pub id: String,
    /// The file that has it, if one does.
    pub target: Option<String>,
    /// The variable that has it, if one does.
    pub env: Option<String>,
    pub mode: u32,
    pub owner: (u32, u32),
    pub required: bool,
    pub span: Span,
}

/// A socket of an ssh agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMount {
    pub id: String,
    pub target: String,
    pub required: bool,
    pub span: Span,
}

impl RunMount {
    /// The files that it reads.
    #[must_use]
    pub fn source(&self) -> Option<&MountSource> {
        match self {
            Self::Bind { source, .. } => Some(source),
            Self::Cache(cache) => cache.seed.as_ref(),
            Self::Tmpfs { .. } | Self::Secret(_) | Self::Ssh(_) => None,
        }
    }
}

/// What the process is given without its result being held to depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunHints {
    /// `HTTP_PROXY` and its kin, given as arguments and not declared by `ARG`.
    /// No name is also in `env`.
    pub proxies: Proxies,
}

/// Variables that may hold a password: their values have no `Debug` text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies(pub Vec<(String, String)>);

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    pub from: CopyFrom,
    pub sources: Vec<CopySource>,
    /// Repositories whose files are copied after the sources; root's.
    pub repositories: Vec<GitSource>,
    /// Files that are fetched, and copied after these; mode 0600, root's.
    pub remotes: Vec<RemoteSource>,
    /// Files that are written after the sources are copied; mode 0644, root's.
    pub contents: Vec<Content>,
    /// Absolute and clean. A slash at the end, which says that it is a folder,
    /// is kept; `.` has one too.
    pub destination: String,
    /// `--exclude`: patterns of what is left out of copied folders, relative to
    /// these.
    pub excludes: Vec<String>,
    /// `--chown`: a name or number, and after a colon a group. It owns the
    /// folders that are made for the destination too. None: files of the context
    /// are root's, those of a stage or image keep their owner, and so do
    /// those of an unpacked archive.
    pub owner: Option<String>,
    /// `--chmod`, for folders and files alike.
    pub mode: Option<Chmod>,
    /// Archives are unpacked.
    pub unpack: bool,
    /// `--link`: the layer is made as if nothing were below it. Names of users
    /// are not known then.
    pub link: bool,
    pub hints: CopyHints,
}

/// One of a copy's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// A clean path below the source's root, without a slash at either end; `.`
    /// is the root itself. It may be a pattern. `..` cannot lead out. A folder
    /// gives what is in it, not itself. A slash at the end says nothing, as in
    /// BuildKit, and is gone.
    pub path: String,
    /// `--parents`: a pattern of what is taken of that folder, with the folders
    /// between them.
    pub below: Option<String>,
}

/// A file of an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSource {
    pub url: String,
    /// The last part of the URL's path.
    pub name: String,
    pub checksum: Option<BlobDigest>,
    /// An archive is unpacked.
    pub unpack: bool,
}

/// A file whose text the Dockerfile has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub name: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A named context of files, by its place in [`PlanRequest::contexts`](super::PlanRequest).
    Named(usize),
    /// An index into the step's inputs.
    Input(usize),
}

/// Places in the Dockerfile, for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyHints {
    /// As many as there are sources.
    pub sources: Vec<Span>,
    pub destination: Span,
    /// Of `--chown`'s value.
    pub owner: Option<Span>,
}

/// Makes a folder, and those above it, where they do not exist: mode 0755.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirOp {
    /// Absolute and clean; never `/`, which needs no step.
    pub path: String,
    /// Who owns the folders that are made: the `USER` in force. None for root.
    pub owner: Option<String>,
}
