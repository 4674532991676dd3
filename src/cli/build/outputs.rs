//! Where a build's result goes: checked before the build, written after it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::args::Args;
use super::attest::{Attesting, Wanted};
use super::request::Goal;
use super::signing::Signer;
use crate::atomic::AtPath as _;
use crate::build::Cache;
use crate::cli::attached;
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::cli::value::{FilesForm, ImageAttrs, OutputArg};
use crate::image::{Annotations, AnyImage, Note, Style};
use crate::layer::{Compression, LayerForm};
use crate::output::{self, Archive, Dest, Named, OutputError, Referrers, Split, Work};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::{Pinned, Reference};
use crate::registry::Registries;

/// The outputs of one build.
pub(super) struct Outputs {
    all: Vec<OutputArg>,
    /// Of `--tag`; an output's own names stand in where there are none.
    tags: Vec<Reference>,
    /// Of `--annotation`.
    notes: Vec<Note>,
    form: LayerForm,
    signer: Option<Signer>,
}

/// What became of the image.
pub(super) struct Written {
    /// The image as it left: an output may have media types of its own.
    pub(super) image: AnyImage,
    /// What its descriptor carries.
    pub(super) annotations: Annotations,
    pub(super) names: Vec<Reference>,
    pub(super) pushed: Vec<Pinned>,
    /// Of each platform, by its name.
    pub(super) provenance: Vec<(String, serde_json::Value)>,
}

impl Outputs {
    /// Those that the flags ask for; whatever can be found wrong is found now.
    pub(super) fn of(args: &Args) -> Result<Self, CliError> {
        let mut all = args.outputs.clone();
        if args.push {
            let mut found = false;
            for output in &mut all {
                if let OutputArg::Image { push, .. } = output {
                    *push = true;
                    found = true;
                }
            }
            if !found {
                all.push(OutputArg::Image {
                    push: true,
                    by_digest: false,
                    canonical: false,
                    keep: true,
                    image: ImageAttrs::default(),
                });
            }
        }
        let keeps = |output: &OutputArg| matches!(output, OutputArg::Image { keep: true, .. });
        if args.load && !all.is_empty() && !all.iter().any(keeps) {
            all.push(OutputArg::Image {
                push: false,
                by_digest: false,
                canonical: false,
                keep: true,
                image: ImageAttrs::default(),
            });
        }
        let outputs = Self {
            form: form(args, &all)?,
            all,
            tags: args.tags.clone(),
            notes: args.how.notes(),
            signer: Signer::of(args)?,
        };
        outputs.check(&args.how.platforms)?;
        Ok(outputs)
    }

    fn check(&self, platforms: &[Platform]) -> Result<(), CliError> {
        let mut built: Vec<Platform> = Vec::new();
        for platform in platforms {
            if !built.contains(platform) {
                built.push(platform.clone());
            }
        }
        if built.is_empty() {
            built.push(Platform::host());
        }
        let wrong = |error: crate::image::StyleError| CliError::usage(error.to_string());
        Style { notes: self.notes.clone(), ..Style::default() }.check(&built).map_err(wrong)?;
        let mut places: Vec<PathBuf> = Vec::new();
        for output in &self.all {
            if let Some(image) = attrs(output) {
                self.style(image).check(&built).map_err(wrong)?;
            }
            match output {
                OutputArg::Archive { form: Archive::Docker, .. } if built.len() > 1 => {
                    return Err(CliError::usage(
                        "type=docker has room for one platform, and several are built",
                    )
                    .hint("type=oci holds all of them"));
                }
                OutputArg::Image { push: true, by_digest, image, .. } => {
                    if self.names(image).is_empty() {
                        return Err(CliError::usage("an image is pushed under a name")
                            .hint("name it with --tag, or with name= of the output"));
                    }
                    let tagged = self.tags.iter().find(|name| name.tag() != Some("latest"));
                    if let (true, Some(name)) = (by_digest, tagged) {
                        let said = format!(
                            "push-by-digest=true gives no tag, and --tag `{}` has one",
                            name.familiar()
                        );
                        return Err(CliError::usage(said));
                    }
                }
                OutputArg::Archive { .. }
                | OutputArg::Layout { .. }
                | OutputArg::Files { .. }
                | OutputArg::Image { .. }
                | OutputArg::CacheOnly => (),
            }
            match place(output) {
                Some(Dest::Path(path)) if places.contains(path) => {
                    return Err(CliError::usage(format!("two outputs go to {}", path.display())));
                }
                Some(Dest::Path(path)) => places.push(path.clone()),
                Some(Dest::Stdout) => {
                    if io::stdout().is_terminal() {
                        return Err(CliError::usage("an archive is not written to a terminal")
                            .hint("name a file with dest=, or redirect stdout"));
                    }
                    if places.contains(&PathBuf::from("-")) {
                        return Err(CliError::usage("two outputs go to stdout"));
                    }
                    places.push("-".into());
                }
                None => (),
            }
        }
        Ok(())
    }

    /// Refuses what is to be attached, and signatures, if nothing that is written can hold it.
    pub(super) fn hold(&self, wanted: &Wanted) -> Result<(), CliError> {
        let holds = |output: &OutputArg| match output {
            OutputArg::Archive { form, .. } => *form == Archive::Oci,
            OutputArg::Layout { .. } | OutputArg::Image { .. } => true,
            OutputArg::Files { .. } | OutputArg::CacheOnly => false,
        };
        let kept = self.all.is_empty() || !self.kept().is_empty();
        let nothing = wanted.is_nothing() && self.signer.is_none();
        if nothing || kept || self.all.iter().any(holds) {
            return Ok(());
        }
        Err(CliError::usage("no output of this build can hold what is to be attached")
            .hint("name the image with --tag, or use type=oci, type=image or type=registry"))
    }

    /// True if an output takes stdout for itself.
    pub(super) fn take_stdout(&self) -> bool {
        self.all.iter().any(|output| matches!(place(output), Some(Dest::Stdout)))
    }

    /// What the build is for.
    pub(super) fn goal<'a>(&'a self, cache: &'a Cache) -> Goal<'a> {
        let reads = |output: &OutputArg| match output {
            OutputArg::Archive { .. } | OutputArg::Layout { .. } | OutputArg::Files { .. } => true,
            OutputArg::Image { push, keep, .. } => *keep && !*push,
            OutputArg::CacheOnly => false,
        };
        let pushed = self.all.iter().filter_map(|output| match output {
            OutputArg::Image { push: true, image, .. } => Some(self.names(image)),
            _ => None,
        });
        Goal {
            names: self.kept(),
            form: self.form,
            whole: self.all.is_empty() || self.all.iter().any(reads),
            pushed: pushed.flatten().collect(),
            cache,
            lock: None,
            refused: Vec::new(),
            verify: None,
        }
    }

    /// Names that the store keeps the image under as it is built. An output of the
    /// image does that itself, and `cacheonly` wants none.
    fn kept(&self) -> &[Reference] {
        let own =
            |output: &OutputArg| matches!(output, OutputArg::Image { .. } | OutputArg::CacheOnly);
        if self.all.iter().any(own) { &[] } else { &self.tags }
    }

    /// The first name, which says whose registry is spoken to.
    pub(super) fn first_name(&self) -> Option<&Reference> {
        let own = || self.all.iter().filter_map(attrs).find_map(|image| image.names.first());
        self.tags.first().or_else(|| own().map(|(name, _)| name))
    }

    fn names(&self, image: &ImageAttrs) -> Vec<Reference> {
        if self.tags.is_empty() {
            image.names.iter().map(|(name, _)| name.clone()).collect()
        } else {
            self.tags.clone()
        }
    }

    /// The output's own annotations come after those of `--annotation`.
    fn style(&self, image: &ImageAttrs) -> Style {
        let notes = self.notes.iter().chain(&image.style.notes).cloned().collect();
        Style { dialect: image.style.dialect, notes }
    }

    /// Writes, keeps and pushes what was built.
    pub(super) fn write(
        &self,
        image: &AnyImage,
        attesting: &Attesting<'_>,
        registries: &Registries,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<Written, CliError> {
        let plain = Style { notes: self.notes.clone(), ..Style::default() };
        let mut written = Written {
            annotations: plain.of_root(image),
            image: image.clone(),
            names: self.tags.clone(),
            pushed: Vec::new(),
            provenance: Vec::new(),
        };
        if !self.kept().is_empty() || self.all.is_empty() {
            let mut attached = attesting.attach(image, self.kept(), progress, invocation)?;
            if let Some(signer) = &self.signer {
                invocation.store()?.keep_documents(image)?;
                signer.sign(image, &self.tags, &mut attached, registries, progress, invocation)?;
            }
            written.provenance = attached.provenance;
        }
        let mut first = true;
        for output in &self.all {
            let mut styled = None;
            if let Some(attrs) = attrs(output) {
                pressed(attrs, image)?;
                let style = self.style(attrs);
                let mut named = Named {
                    names: self.names(attrs),
                    image: style.apply(image)?,
                    annotations: style.of_root(image),
                    referrers: Referrers::None,
                };
                // Archives are written from the store.
                invocation.store()?.keep_documents(&named.image)?;
                let mut attached =
                    attesting.attach(&named.image, &named.names, progress, invocation)?;
                if let Some(signer) = &self.signer {
                    let (image, names) = (&named.image, &named.names);
                    signer.sign(image, names, &mut attached, registries, progress, invocation)?;
                }
                named.referrers = Referrers::These(attached.digests);
                if matches!(output, OutputArg::Archive { form: Archive::Docker, .. }) {
                    docker_has_no_room(attesting, self.signer.is_some(), progress);
                }
                if std::mem::take(&mut first) {
                    written.provenance = attached.provenance;
                    written.image = named.image.clone();
                    written.annotations = named.annotations.clone();
                    written.names.clone_from(&named.names);
                }
                styled = Some(named);
            }
            match (output, styled) {
                (OutputArg::Image { push, by_digest, canonical, keep, .. }, Some(named)) => {
                    let digest = named.image.digest();
                    let pinned = |name: &Reference| name.pin(digest).reference();
                    let names = named.names.iter().filter(|_| *keep && !by_digest).cloned();
                    let canonical = named.names.iter().filter(|_| *keep && *canonical);
                    let kept: Vec<_> = names.chain(canonical.map(pinned)).collect();
                    let to =
                        |name: &Reference| if *by_digest { pinned(name) } else { name.clone() };
                    let to: Vec<_> = named.names.iter().filter(|_| *push).map(to).collect();
                    let image = &named.image;
                    let pushed =
                        keep_and_push(image, &kept, &to, registries, progress, invocation)?;
                    written.pushed.extend(pushed);
                }
                (OutputArg::CacheOnly, _) => (),
                (output, styled) => file(output, image, styled, progress, invocation)?,
            }
        }
        Ok(written)
    }
}

/// Keeps an image under names and pushes it to others, at once: the store waits for the
/// disk, a push for the network.
fn keep_and_push(
    image: &AnyImage,
    kept: &[Reference],
    to: &[Reference],
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Vec<Pinned>, CliError> {
    let store = invocation.store()?;
    let keep = || kept.iter().try_for_each(|name| store.keep(name, image));
    let push = |to: &Reference| attached::push(image, to, true, registries, progress, invocation);
    if to.is_empty() {
        keep()?;
        return Ok(Vec::new());
    }
    std::thread::scope(|scope| {
        let keeping = scope.spawn(keep);
        let pushed: Result<Vec<Pinned>, CliError> = to.iter().map(push).collect();
        match keeping.join() {
            Ok(kept) => kept?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        pushed
    })
}

fn docker_has_no_room(attesting: &Attesting<'_>, signed: bool, progress: &Progress) {
    if signed || !attesting.is_nothing() {
        progress.note("docker archives have no room for what is attached: it is in the store");
    }
}

/// The one form of layers that the outputs ask for, or else the flags.
fn form(args: &Args, all: &[OutputArg]) -> Result<LayerForm, CliError> {
    fn one<T: PartialEq>(
        name: &str,
        mut asked: impl Iterator<Item = T>,
        flag: Option<T>,
    ) -> Result<Option<T>, CliError> {
        let Some(first) = asked.next() else { return Ok(flag) };
        if asked.all(|other| other == first) {
            return Ok(Some(first));
        }
        Err(CliError::usage(format!("outputs and caches ask for different values of {name}"))
            .hint("the layers of one build have one: build once for each"))
    }
    let attrs = || all.iter().filter_map(attrs);
    let flag = args.compression.map(|arg| arg.0);
    let asked = attrs().map(|image| (image.compression, image.level)).chain(args.cache.forms());
    let (compressions, levels): (Vec<_>, Vec<_>) = asked.unzip();
    let compression = one("compression", compressions.into_iter().flatten(), flag)?;
    let levels = levels.into_iter().flatten();
    let level = one("compression-level", levels, args.compression_level)?;
    // No layer leaves as one.
    let files = |output: &OutputArg| matches!(output, OutputArg::Files { .. });
    let unseen = if args.tags.is_empty() { files } else { |_: &OutputArg| false };
    let inside = |output: &OutputArg| matches!(output, OutputArg::CacheOnly) || unseen(output);
    let none_leaves = !all.is_empty() && all.iter().all(inside) && !args.cache.takes_layers();
    let usual =
        if level.is_none() && none_leaves { Compression::None } else { Compression::default() };
    crate::cli::value::form(compression.unwrap_or(usual), level)
        .map_err(|error| CliError::usage(error.to_string()))
}

/// What an output says of the image; `None` for one that writes files only.
fn attrs(output: &OutputArg) -> Option<&ImageAttrs> {
    match output {
        OutputArg::Archive { image, .. }
        | OutputArg::Layout { image, .. }
        | OutputArg::Image { image, .. } => Some(image),
        OutputArg::Files { .. } | OutputArg::CacheOnly => None,
    }
}

fn place(output: &OutputArg) -> Option<&Dest> {
    match output {
        OutputArg::Archive { dest, .. } | OutputArg::Files { form: FilesForm::Tar(dest), .. } => {
            Some(dest)
        }
        // Folders are merged: several outputs may go to one.
        OutputArg::Layout { .. }
        | OutputArg::Files { form: FilesForm::Local(_), .. }
        | OutputArg::Image { .. }
        | OutputArg::CacheOnly => None,
    }
}

/// `force-compression` asks that the base's layers too have the compression.
fn pressed(attrs: &ImageAttrs, image: &AnyImage) -> Result<(), CliError> {
    if !attrs.force {
        return Ok(());
    }
    let wanted = attrs.compression.unwrap_or_default();
    let mut layers = image.images().iter().flat_map(|image| image.layers());
    match layers.find(|layer| layer.compression != wanted) {
        None => Ok(()),
        Some(layer) => {
            let said = format!(
                "force-compression=true cannot be had: layer {} of the base image is {}, and kiln \
                 compresses no layer anew",
                layer.digest,
                word(layer.compression),
            );
            Err(CliError::plain(said).hint(format!(
                "leave it out, or build on a base whose layers are {}",
                word(wanted)
            )))
        }
    }
}

fn word(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "uncompressed",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

/// Writes an output that is a file or a folder.
fn file(
    output: &OutputArg,
    image: &AnyImage,
    styled: Option<Named>,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let store = invocation.store()?;
    let task = progress.task(format!("write {}", shown(output)));
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let work = Work::new(&task, &stop);
    let images: Vec<Named> = styled.into_iter().collect();
    let split = |split: Option<bool>| match split {
        None => Split::Several,
        Some(true) => Split::Always,
        Some(false) => Split::Never,
    };
    match output {
        OutputArg::Archive { form, dest, .. } => {
            let platform = images.first().and_then(|named| named.image.images().first());
            let platform = platform.map_or_else(Platform::host, crate::image::Image::platform);
            fill(dest, |to| output::write_archive(*form, &images, &platform, store, to, &work))?;
        }
        OutputArg::Layout { dest, .. } => output::write_layout(&images, store, dest, &work)?,
        OutputArg::Files { form: FilesForm::Tar(dest), split: how } => {
            fill(dest, |to| output::write_tar(image, split(*how), store, to, &work))?;
        }
        OutputArg::Files { form: FilesForm::Local(folder), split: how } => {
            let left = output::write_local(image, split(*how), store, folder, &work)?;
            if let Some(first) = left.devices.first() {
                progress.warn(match left.devices.len() {
                    1 => format!("device `{first}` is left out of {}", folder.display()),
                    all => {
                        format!("{all} devices are left out of {}: `{first}`, …", folder.display())
                    }
                });
            }
        }
        OutputArg::Image { .. } | OutputArg::CacheOnly => (),
    }
    task.done();
    Ok(())
}

fn shown(output: &OutputArg) -> String {
    let dest = |dest: &Dest| match dest {
        Dest::Path(path) => path.display().to_string(),
        Dest::Stdout => "to stdout".to_owned(),
    };
    match output {
        OutputArg::Layout { dest, .. } => dest.display().to_string(),
        OutputArg::Files { form: FilesForm::Local(folder), .. } => folder.display().to_string(),
        OutputArg::Archive { .. }
        | OutputArg::Files { form: FilesForm::Tar(_), .. }
        | OutputArg::Image { .. }
        | OutputArg::CacheOnly => place(output).map(dest).unwrap_or_default(),
    }
}

fn fill(
    dest: &Dest,
    write: impl FnOnce(&mut File) -> Result<(), OutputError>,
) -> Result<(), CliError> {
    match dest {
        Dest::Path(path) => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).at("create folder", folder)?;
            }
            Ok(output::to_file(path, write)?)
        }
        Dest::Stdout => {
            // Not std's buffer, which breaks at newlines.
            let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            write(&mut out).map_err(|error| match error {
                OutputError::Write(error) => CliError::stdout(error),
                other => other.into(),
            })
        }
    }
}

/// Writes a small file that appears whole or not at all.
pub(in crate::cli) fn text(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    Ok(output::to_file(path, |to| to.write_all(bytes).map_err(OutputError::Write))?)
}
