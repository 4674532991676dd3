//! `kiln lock`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;

use super::build::locked;
use super::build::{BuildFlags, cancelled_by_signals, outputs};
use super::credentials::RegistryArgs;
use super::failure;
use super::given::GivenFlags;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use super::value::{AgentArg, ContextArg, EnvAssignment, SecretArg};
use crate::build::{self, BuildEnv, Cache, Sources};
use crate::layer::LayerForm;
use crate::lock::{Change, Entry, Key, Lock, without_user};
use crate::net;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Registries;

/// Write down what builds take from outside, for `kiln build --locked`
///
/// The lock has the digest of every base image by platform, the digest of every file and the
/// commit of every repository that the Dockerfiles take. What it has already stays as it is,
/// and is asked of nobody; what no Dockerfile takes any more goes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the Dockerfiles are built from; several share one lock, which --lock-file names
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub contexts: Vec<PathBuf>,

    /// The Dockerfile, or `-` for stdin; may be repeated, for one context
    /// [default: CONTEXT/Dockerfile]
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The lock [default: CONTEXT/kiln.lock]
    #[arg(long, value_name = "FILE")]
    pub lock_file: Option<PathBuf>,

    /// Find anew what things are that the lock has: all, or those of this name, URL or
    /// git remote; may be repeated. It stands behind the contexts
    #[arg(long, value_name = "REF", num_args = 0..=1, default_missing_value = "")]
    pub update: Option<Vec<String>>,

    /// Write nothing, and fail if anything is now another than the lock says, lacking or
    /// not used
    #[arg(long, conflicts_with = "update")]
    pub check: bool,

    /// Platforms to lock base images for, such as linux/amd64,linux/arm64
    /// [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platforms: Vec<Platform>,

    /// Lock what this stage needs, not the last
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,

    /// Value for an ARG; NAME alone takes it from the environment; may be repeated
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<EnvAssignment>,

    /// Files or image for a name of FROM and --from, as of `kiln build`; may be repeated
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub named: Vec<ContextArg>,

    /// Secret for git servers: id=GIT_AUTH_TOKEN or id=GIT_AUTH_HEADER, also with .HOST
    /// behind them; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<SecretArg>,

    /// Agent for git over ssh: default, or default=SOCKET
    #[arg(long = "ssh", value_name = "SPEC")]
    pub agents: Vec<AgentArg>,

    /// How to print what has changed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for each change
    #[default]
    Text,
    /// An object with every input
    Json,
}

/// Finds out what the inputs are, and writes them down.
///
/// # Errors
/// If one cannot be had, or the file cannot be written; it is as it was then. With `--check`,
/// if the lock is not what it would be if it were written anew.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let contexts = &args.contexts;
    if contexts.len() > 1 && !args.files.is_empty() {
        return Err(CliError::usage("--file is for one context, and several are named")
            .hint("leave --file out: each context has its own Dockerfile"));
    }
    let path = match (&args.lock_file, contexts.as_slice()) {
        (Some(path), _) => path.clone(),
        (None, [context]) => locked::beside(context),
        (None, _) => {
            return Err(CliError::usage("several contexts share one lock, which has to be named")
                .hint("write --lock-file FILE, here and for `kiln build --locked`"));
        }
    };
    let registries = args.registry.registries(None)?;
    let progress = invocation.progress(args.progress.progress)?;
    let old = locked::read(&path)?.unwrap_or_default();
    let sources = Sources::knowing(args.kept(&old, &registries)?);
    let files: Vec<Option<PathBuf>> = match args.files.as_slice() {
        [] => vec![None],
        files => files.iter().cloned().map(Some).collect(),
    };
    for context in contexts {
        for file in &files {
            args.find(context, file.clone(), &sources, &registries, &progress, invocation)?;
        }
    }
    let new = completed(sources.used(), &old);
    let changes = old.changes(&new);
    let added = changes.iter().filter(|change| matches!(change, Change::Added(_))).count();
    if added > 0 && net::is_shut().is_some() {
        invocation.warn(
            "offline, what is new is locked as it was when it was last asked for; \
             `kiln lock --check`, where there is a network, tells what has moved since",
        );
    }
    let writes = !args.check && (!changes.is_empty() || !path.exists());
    if writes {
        outputs::text(&path, new.to_string().as_bytes())?;
    }
    match args.format {
        Format::Text => told(&path, &changes, new.len(), args.check, invocation)?,
        Format::Json => invocation.print_json(&report(&path, &old, &new, writes))?,
    }
    if args.check && !changes.is_empty() { Err(CliError::Exit(1)) } else { Ok(()) }
}

impl Args {
    /// What of a lock is to stay as it is.
    fn kept(&self, old: &Lock, registries: &Registries) -> Result<Lock, CliError> {
        let Some(wanted) = &self.update else {
            return Ok(if self.check { Lock::default() } else { old.clone() });
        };
        let mut kept = old.clone();
        for wanted in wanted {
            if wanted.is_empty() {
                return Ok(Lock::default());
            }
            let named = |entry: &&Entry| is_named(&entry.key(), wanted, registries);
            let keys: Vec<Key> = old.entries().filter(named).map(Entry::key).collect();
            if keys.is_empty() {
                let hint = if Path::new(wanted).is_dir() {
                    "contexts stand before --update, else they are taken for names"
                } else {
                    "name an image, a URL or a git remote as the lock has it; without a name, all are found anew"
                };
                return Err(CliError::plain(format!("the lock has no `{wanted}`")).hint(hint));
            }
            keys.iter().for_each(|key| drop(kept.remove(key)));
        }
        Ok(kept)
    }

    /// Notes what one Dockerfile takes.
    fn find(
        &self,
        context: &Path,
        file: Option<PathBuf>,
        sources: &Sources,
        registries: &Registries,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<(), CliError> {
        let given = GivenFlags {
            secrets: self.secrets.clone(),
            agents: self.agents.clone(),
            ..GivenFlags::default()
        };
        let how = BuildFlags {
            file,
            target: self.target.clone(),
            build_args: self.build_args.clone(),
            platforms: self.platforms.clone(),
            contexts: self.named.clone(),
            // What the store calls so may be old, or somebody's own.
            pull: true,
            given,
            ..BuildFlags::default()
        };
        let cancel = &cancelled_by_signals(invocation)?;
        let form = LayerForm::default();
        let ask = how.request(context, &[], form, sources, progress, cancel, invocation)?;
        let (store, cache) = (invocation.store()?, &Cache::default());
        let (ready, outcome) = (None, None);
        let env = BuildEnv { store, registries, progress, cancel, ready, cache, sources, outcome };
        let found = build::inputs(&ask, &env);
        invocation.block_on(async { found.await.map(drop).map_err(failure::of_build) })
    }
}

/// Whether somebody who writes `text` means this.
fn is_named(key: &Key, text: &str, registries: &Registries) -> bool {
    match key {
        Key::Base { reference, .. } => {
            let Ok(name) = text.parse::<Reference>() else { return false };
            let Ok(name) = registries.meaning(&name) else { return false };
            // Without a tag, all of them are meant.
            let last = text.rsplit('/').next().unwrap_or_default();
            match last.contains([':', '@']) {
                true => name == *reference,
                false => name.name() == reference.name(),
            }
        }
        Key::Url(url) => *url == without_user(text),
        Key::Git { remote, reference } => {
            let text = without_user(text);
            let whole = reference.as_ref().map(|name| format!("{remote}#{name}"));
            text == *remote || whole.is_some_and(|whole| text == whole)
        }
    }
}

/// An index stays known where its image was found without it, by its own digest.
fn completed(mut new: Lock, old: &Lock) -> Lock {
    let lacking: Vec<_> = new
        .entries()
        .filter_map(|entry| match entry {
            Entry::Base(base) if base.index.is_none() => Some(base.clone()),
            Entry::Base(_) | Entry::Url(_) | Entry::Git(_) => None,
        })
        .collect();
    for mut base in lacking {
        let known = old.base(&base.reference, &base.platform);
        if let Some(known) = known.filter(|known| known.digest == base.digest) {
            base.index = known.index;
            new.insert(Entry::Base(base));
        }
    }
    new
}

/// What a change is called: by what was done, or by what would be.
fn verb(change: &Change<'_>, check: bool) -> &'static str {
    match change {
        Change::Added(_) if check => "lacks",
        Change::Added(_) => "added",
        Change::Moved { .. } => "moved",
        Change::Removed(_) if check => "unused",
        Change::Removed(_) => "removed",
    }
}

fn told(
    path: &Path,
    changes: &[Change<'_>],
    count: usize,
    check: bool,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let mut text = String::new();
    for change in changes {
        let pins = match change {
            Change::Added(entry) | Change::Removed(entry) => entry.pin(),
            Change::Moved { old, new } => moved(old, new),
        };
        text += &format!("{:8}{} {pins}\n", verb(change, check), change.key());
    }
    let what = if count == 1 { "input" } else { "inputs" };
    let same = if changes.is_empty() { ", nothing has changed" } else { "" };
    text += &format!("{}: {count} {what}{same}\n", path.display());
    invocation.print(text)
}

/// Old and new, of what has changed.
fn moved(old: &Entry, new: &Entry) -> String {
    match (old, new) {
        (Entry::Base(old), Entry::Base(new)) if old.digest == new.digest => {
            let name = |index: Option<crate::digest::BlobDigest>| {
                index.map_or_else(|| "none".to_owned(), |index| index.to_string())
            };
            format!("index {} → {}", name(old.index), name(new.index))
        }
        (Entry::Git(old), Entry::Git(new)) if old.commit == new.commit => {
            format!("{} {} → {} {}", old.name, old.object, new.name, new.object)
        }
        (old, new) => format!("{} → {}", old.pin(), new.pin()),
    }
}

/// Every input that the old or the new lock has, in order.
fn report(path: &Path, old: &Lock, new: &Lock, written: bool) -> serde_json::Value {
    let mut all = old.clone();
    all.merge(new.clone());
    let inputs: Vec<_> = all
        .entries()
        .map(|entry| {
            let key = entry.key();
            let status = match (old.get(&key), new.get(&key)) {
                (Some(_), None) => "removed",
                (None, _) => "added",
                (Some(old), Some(new)) if old != new => "moved",
                (Some(_), Some(_)) => "kept",
            };
            let before = old.get(&key).filter(|_| status == "moved").map(fields);
            let mut one = fields(entry);
            one["kind"] = key.kind().into();
            one["status"] = status.into();
            if let Some(before) = before {
                one["old"] = before;
            }
            one
        })
        .collect();
    json!({ "file": path, "written": written, "inputs": inputs })
}

/// An entry with the names that the file has for its fields.
fn fields(entry: &Entry) -> serde_json::Value {
    match entry {
        Entry::Base(base) => json!({
            "reference": base.reference,
            "platform": base.platform.to_string(),
            "digest": base.digest,
            "index": base.index,
        }),
        Entry::Url(url) => json!({ "url": url.url, "digest": url.digest, "size": url.size }),
        Entry::Git(git) => json!({
            "remote": git.remote,
            "ref": git.reference,
            "name": git.name,
            "object": git.object,
            "commit": git.commit,
        }),
    }
}
