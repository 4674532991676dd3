//! `kiln bundle`.

use std::path::{Path, PathBuf};

use super::build::{BuildFlags, Goal, cancelled_by_signals};
use super::copy::with_env;
use super::credentials::RegistryArgs;
use super::diff::Form;
use super::failure;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use super::text;
use super::value::Size;
use crate::build::{self, BuildEnv, Cache, Give, Mode, Opening, Sources};
use crate::bundle::{self, Image, Listing, Making};
use crate::copy::{Parcel, Place};
use crate::diagnostic::Source;
use crate::layer::LayerForm;
use crate::lock::Lock;
use crate::output::Work;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Registries;

/// Write what builds take from outside, or results, into one archive; prints its digest
///
/// The inputs are those that kiln.lock names, or else those that `kiln lock` would find: bases,
/// files, commits, and the lock itself. `kiln build --offline --bundle FILE` takes them on a
/// machine without a network. Results have all platforms and all that refers to them; `kiln
/// load` takes those. The archive is an OCI image layout in a tar, which other tools read too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The context whose Dockerfile's inputs are carried, as for `kiln build` [default: `.`, unless
    /// there is an --image]
    #[arg(value_name = "CONTEXT", conflicts_with = "list")]
    pub context: Option<PathBuf>,

    /// The archive
    #[arg(short, long, value_name = "FILE", required_unless_present = "list")]
    pub output: Option<PathBuf>,

    /// An image, with all platforms and all that refers to it: of the store, or else of its
    /// registry; store:NAME and docker://NAME say which; may be repeated
    #[arg(long = "image", value_name = "NAME")]
    pub images: Vec<String>,

    /// Build, and carry the layers of all steps, so that a build there runs none of them
    #[arg(long, conflicts_with = "list")]
    pub cache: bool,

    /// Leave out the blobs that this earlier bundle has; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    pub since: Vec<PathBuf>,

    /// Write parts of at most this size, FILE.001, FILE.002 and so on, with a list of their
    /// digests, FILE.sha256; parts that are there and right are not written again
    #[arg(long, value_name = "SIZE", conflicts_with = "list")]
    pub split: Option<Size>,

    /// Tell what a bundle has, and write nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "images"])]
    pub list: Option<PathBuf>,

    /// How --list prints: text or json
    #[arg(long, value_name = "FORM", value_enum, default_value_t, requires = "list")]
    pub format: Form,

    #[command(flatten)]
    pub how: BuildFlags,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Writes a bundle, or lists one.
///
/// # Errors
/// If something that goes into it cannot be had, or it cannot be written or read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    if let Some(path) = &args.list {
        return listed(path, args.format, &progress, invocation);
    }
    let Some(to) = args.output.clone() else { return Err(CliError::usage("--output is missing")) };
    if args.split.is_some_and(|size| size.0 == 0) {
        return Err(CliError::usage("--split: parts need some size"));
    }
    if to.as_os_str() == "-" || to == Path::new("/dev/stdout") {
        return Err(CliError::usage("a bundle is not written to stdout").hint("name a file"));
    }
    let making = Making { to, split: args.split.map(|size| size.0), since: args.since.clone() };
    making.check()?;
    let images: Vec<Image> =
        args.images.iter().map(|text| image(text, invocation)).collect::<Result<_, _>>()?;
    let registries = args.registry.registries(images.first().map(|image| &image.name))?;
    let mut parcel = Parcel::default();
    results(&images, &mut parcel, &registries, &progress, invocation)?;
    if images.is_empty() || args.context.is_some() {
        inputs(&args, &mut parcel, &registries, &progress, invocation)?;
    }
    let what = format!("write {}", making.to.display());
    let made = worked(&what, &progress, invocation, |work| {
        Ok(bundle::make(parcel, &making, invocation.store()?, work)?)
    })?;
    let (count, bytes) = made.left_out;
    if count > 0 {
        progress.note(format!("left out {count} blobs ({})", text::bytes(bytes)));
    }
    if let Some(written) = made.parts {
        progress.note(format!("{} parts", written.parts.len()));
        for path in written.left {
            let shown = path.display();
            invocation.warn(&format!("{shown} is of an earlier bundle, and no part of this one"));
        }
    }
    invocation.print(made.digest.to_string())
}

fn listed(
    path: &Path,
    form: Form,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let listing = worked(&format!("read {}", path.display()), progress, invocation, |work| {
        Ok(bundle::list(path, invocation.store()?, work)?)
    })?;
    match form {
        Form::Json => invocation.print_json(&listing),
        Form::Text => invocation.print(shown(&listing)),
    }
}

/// Adds what the lock of a context names; without a lock, what `kiln lock` would.
fn inputs(
    args: &Args,
    parcel: &mut Parcel,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let context = args.context.as_deref().unwrap_or(Path::new("."));
    let lock = match args.how.lock.known(context)? {
        Some(lock) if args.how.platforms.is_empty() => lock,
        // A build for one platform may run programs of another.
        Some(lock) => {
            let sources = Sources::locked(lock);
            found(args, context, &sources, registries, progress, invocation)?
        }
        None => found(
            args,
            context,
            &Sources::knowing(Lock::default()),
            registries,
            progress,
            invocation,
        )?,
    };
    let (cancel, given) = (cancelled_by_signals(invocation)?, args.how.given.given()?);
    let how = Opening {
        store: invocation.store()?,
        given: &given,
        sources: &Sources::default(),
        progress,
        cancel: &cancel,
        runtime: invocation.runtime()?.handle().clone(),
    };
    let lacking = build::lacking_of(&lock, how.store).map_err(failure::of_build)?;
    if !lacking.is_empty() {
        return Err(CliError::drawn(Source::new("", ""), lacking));
    }
    let bases = bundle::bases(&lock, parcel, how.store, registries, progress);
    invocation.block_on(bases)?;
    bundle::sources(&lock, parcel, &how)?;
    if !args.cache {
        return Ok(());
    }
    let cache = Cache::new(Vec::new(), Give { all: true, ..Give::default() });
    let goal = Goal {
        names: &[],
        form: LayerForm::default(),
        whole: true,
        pushed: Vec::new(),
        cache: &cache,
        lock: Some(&lock),
        refused: Vec::new(),
        verify: None,
    };
    args.how.build(context, &goal, registries, progress, invocation)?;
    match cache.artifact(Mode::Max, false)? {
        Some(artifact) => bundle::cache(artifact, parcel),
        None => progress.note("no step has made a layer: no cache is carried".to_owned()),
    }
    Ok(())
}

/// What a build of a context takes from outside now.
fn found(
    args: &Args,
    context: &Path,
    sources: &Sources,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Lock, CliError> {
    let cancel = &cancelled_by_signals(invocation)?;
    let cache = &Cache::default();
    let form = LayerForm::default();
    let request = args.how.request(context, &[], form, sources, progress, cancel, invocation)?;
    let store = invocation.store()?;
    let (ready, outcome) = (None, None);
    let env = BuildEnv { store, registries, progress, cancel, ready, cache, sources, outcome };
    let found = invocation.runtime()?.block_on(build::inputs(&request, &env));
    found.map_err(failure::of_build)
}

/// Does what reads or writes an archive, and can be stopped.
fn worked<T>(
    what: &str,
    progress: &Progress,
    invocation: &Invocation,
    deed: impl FnOnce(&Work<'_>) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let task = progress.task(what);
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let done = deed(&Work::new(&task, &stop))?;
    task.done();
    Ok(done)
}

/// Adds images.
fn results(
    images: &[Image],
    parcel: &mut Parcel,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let store = invocation.store()?;
    with_env(Some(store), registries, progress, invocation, async |env| {
        bundle::gather(images, parcel, env).await
    })
}

/// An image of the store if it is there, else of its registry.
fn image(text: &str, invocation: &Invocation) -> Result<Image, CliError> {
    let place: Place = text.parse()?;
    match place {
        Place::Registry { name, explicit: false, .. } => match invocation.named(&name)? {
            Some((name, _)) => Ok(Image { from: Place::Store(name.clone()), name }),
            None => Ok(Image { from: text.parse()?, name }),
        },
        Place::Registry { ref name, .. } | Place::Store(ref name) => {
            let name: Reference = name.clone();
            Ok(Image { from: place, name })
        }
        Place::Layout { .. } | Place::OciArchive { .. } | Place::DockerArchive { .. } => {
            Err(CliError::usage(format!("--image: `{text}` has no name in a registry"))
                .hint("`kiln copy` or `kiln load` brings it into the store under one"))
        }
    }
}

/// A listing for people.
fn shown(listing: &Listing) -> String {
    let mut lines =
        vec![format!("{}  {} blobs, {}", listing.digest, listing.blobs, text::bytes(listing.size))];
    for since in &listing.since {
        lines.push(format!("since {since}"));
    }
    for image in &listing.images {
        let name = image.name.as_deref().unwrap_or("<none>");
        let size = text::bytes(image.size);
        let platforms = image.platforms.join(",");
        lines.push(format!("image {name}  {}  {platforms}  {size}", image.digest));
        if !image.left_out.is_empty() {
            lines.push(format!("  {} blobs of it are left out", image.left_out.len()));
        }
        for one in &image.referrers {
            let kind = one.artifact_type.as_deref().unwrap_or("?");
            lines.push(format!("  {kind}  {}", one.digest));
        }
    }
    for input in &listing.inputs {
        let there = if input.left_out { ", left out" } else { "" };
        let size = text::bytes(input.size);
        lines.push(format!("{} {}  {}  {size}{there}", input.kind, input.name, input.digest));
    }
    for one in &listing.artifacts {
        let kind = one.artifact_type.as_deref().unwrap_or("?");
        lines.push(format!("artifact {kind}  {}", one.digest));
    }
    lines.join("\n")
}
