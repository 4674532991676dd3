//! `--attest`, `--provenance`, `--sbom`: what a build attaches to its image.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::sources;
use crate::attest::{self, ConfigSource, Provenance, Request, Statement};
use crate::build::{BuildRequest, ContextSource, Files};
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::cli::value::{AttestArg, ProvenanceArg, SbomFormat};
use crate::digest::BlobDigest;
use crate::dockerfile::GitSource;
use crate::image::{AnyImage, Descriptor, Image};
use crate::lock::{self, Entry, Lock};
use crate::plan;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::sbom;
use crate::store::{Store, StoreError};

/// What is to be attached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AttestFlags {
    /// Attach to the image what is said of it: type=provenance, with mode=min|max,
    /// builder-id=URI and reproducible=true, or type=sbom, with format=spdx|cyclonedx; may be
    /// repeated
    #[arg(long = "attest", value_name = "SPEC")]
    all: Vec<AttestArg>,

    /// Attach provenance: true, or the attributes of --attest, such as mode=max
    #[arg(long, value_name = "SPEC", value_parser = AttestArg::provenance)]
    provenance: Option<AttestArg>,

    /// Attach a list of the software that the image holds: true, or the attributes of
    /// --attest, such as format=cyclonedx
    #[arg(long, value_name = "SPEC", value_parser = AttestArg::sbom)]
    sbom: Option<AttestArg>,
}

/// The same, each kind once.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    provenance: Option<ProvenanceArg>,
    sbom: Option<SbomFormat>,
}

impl AttestFlags {
    /// What the flags ask for.
    ///
    /// # Errors
    /// If a kind is given twice.
    pub(super) fn wanted(&self) -> Result<Wanted, CliError> {
        let mut wanted = Wanted::default();
        let (mut provenance, mut sbom) = (false, false);
        for arg in self.all.iter().chain(&self.provenance).chain(&self.sbom) {
            let twice = match arg {
                AttestArg::Provenance(arg) => {
                    wanted.provenance.clone_from(arg);
                    std::mem::replace(&mut provenance, true)
                }
                AttestArg::Sbom(arg) => {
                    wanted.sbom = *arg;
                    std::mem::replace(&mut sbom, true)
                }
            };
            if twice {
                let said = "--attest, --provenance and --sbom say one thing twice";
                return Err(CliError::usage(said).hint("give each type once"));
            }
        }
        Ok(wanted)
    }
}

impl Wanted {
    pub(super) fn is_nothing(&self) -> bool {
        self.provenance.is_none() && self.sbom.is_none()
    }

    /// Whether layers are read that the build may not need, those of the bases too.
    pub(super) fn reads_layers(&self) -> bool {
        self.sbom.is_some()
    }
}

/// What is to be attached, and what it says of a build.
pub(super) struct Attesting<'a> {
    wanted: &'a Wanted,
    config: ConfigSource,
    request: Request,
    materials: &'a Lock,
}

/// What was attached to one image.
#[derive(Default)]
pub(super) struct Attached {
    /// Artifacts, by digest.
    pub(super) digests: BTreeSet<BlobDigest>,
    /// The provenance of each platform, and the platform.
    pub(super) provenance: Vec<(String, Value)>,
}

impl<'a> Attesting<'a> {
    /// Of a build of a context.
    pub(super) fn of(
        wanted: &'a Wanted,
        context: &Path,
        request: &BuildRequest,
        materials: &'a Lock,
    ) -> Self {
        let mut locals = BTreeSet::new();
        // What came from a server is among the materials.
        let fetched = sources::is_remote(&context.to_string_lossy());
        if !fetched && !matches!(request.context, Files::Nothing | Files::Checkout(_)) {
            locals.insert("context".to_owned());
        }
        for (name, source) in &request.contexts {
            match source {
                ContextSource::Folder { .. } | ContextSource::Files(Files::Unpacked(_)) => {
                    locals.insert(name.clone());
                }
                ContextSource::Files(_)
                | ContextSource::Image(_)
                | ContextSource::Loaded { .. }
                | ContextSource::Scratch => {}
            }
        }
        let args = request.build_args.iter().filter(|(name, _)| !plan::is_proxy(name));
        let BuildRequest { target, platforms, labels, given, .. } = request;
        Self {
            wanted,
            config: ConfigSource {
                path: path(request),
                dockerfile: request.dockerfile.text().to_owned(),
                repository: repository(request, materials, context),
            },
            request: Request {
                target: target.clone(),
                platforms: platforms.clone(),
                build_args: args.map(|(name, value)| (name.clone(), value.clone())).collect(),
                labels: labels.clone(),
                secrets: given.secrets.keys().cloned().collect(),
                ssh: given.agents.keys().cloned().collect(),
                locals,
            },
            materials,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.wanted.is_nothing()
    }

    /// Attaches it to an image: to each platform's manifest, and to an index as a whole what
    /// is not of a platform.
    ///
    /// # Errors
    /// If the image cannot be read, or the store not be written.
    pub(super) fn attach(
        &self,
        image: &AnyImage,
        names: &[Reference],
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<Attached, CliError> {
        let store = invocation.store()?;
        let repositories: Vec<String> = names.iter().map(Reference::name).collect();
        let mut attached = Attached::default();
        if let Some(format) = self.wanted.sbom {
            for one in image.images() {
                let digest = sbom(one, format, &repositories, progress, invocation)?;
                attached.digests.insert(digest);
            }
        }
        let Some(arg) = &self.wanted.provenance else { return Ok(attached) };
        let provenance = Provenance {
            mode: arg.mode,
            config: &self.config,
            request: &self.request,
            materials: self.materials,
            builder: arg.builder.as_deref(),
            reproducible: arg.reproducible,
        };
        let predicate = provenance.predicate();
        let mut about = |subject: &Descriptor| -> Result<(), CliError> {
            let kind = attest::PROVENANCE;
            let said = Statement::about(subject.digest, &repositories, kind, &predicate);
            attached.digests.insert(put(&said, subject, store)?);
            Ok(())
        };
        for one in image.images() {
            about(&one.manifest().descriptor())?;
        }
        if let AnyImage::Index { raw, .. } = image {
            about(&raw.descriptor())?;
        }
        let told = serde_json::to_value(&predicate)?;
        let platforms = image.images().iter().map(Image::platform);
        attached.provenance =
            platforms.map(|platform| (platform.to_string(), told.clone())).collect();
        Ok(attached)
    }
}

/// Attaches what an image is made of to its manifest.
fn sbom(
    image: &Image,
    format: SbomFormat,
    repositories: &[String],
    progress: &Progress,
    invocation: &Invocation,
) -> Result<BlobDigest, CliError> {
    let store = invocation.store()?;
    let task = progress.task(format!("list what {} holds", image.digest().short()));
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let found = sbom::of_stored(image, store, &stop).map_err(|error| {
        let said = CliError::plain(format!("no SBOM of {}: {error}", image.digest()));
        match error.hint() {
            Some(hint) => said.hint(hint),
            None => said,
        }
    })?;
    for warning in &found.warnings {
        progress.warn(format!("the SBOM is incomplete: {}: {}", warning.path, warning.why));
    }
    let (kind, document) = match format {
        SbomFormat::Spdx => (attest::SPDX, found.spdx()),
        SbomFormat::CycloneDx => (attest::CYCLONEDX, found.cyclonedx()),
    };
    let document: Value = serde_json::from_slice(&document)?;
    let said = Statement::about(image.digest(), repositories, kind, document);
    let digest = put(&said, &image.manifest().descriptor(), store)?;
    task.done();
    Ok(digest)
}

fn put<P: Serialize>(
    said: &Statement<P>,
    subject: &Descriptor,
    store: &Store,
) -> Result<BlobDigest, CliError> {
    let wrong = |source| StoreError::Image { digest: subject.digest, source };
    let blob = said.blob().map_err(wrong)?;
    store.put(&blob.bytes)?;
    let artifact = said.artifact(&blob, subject).map_err(wrong)?;
    Ok(store.attach(&artifact)?.digest)
}

/// The Dockerfile's place in the context; of one elsewhere its name alone, since where it lies
/// is the machine's matter.
fn path(request: &BuildRequest) -> String {
    let name = Path::new(request.dockerfile.name());
    let within = match &request.context {
        Files::Folder(root) => name.canonicalize().ok().and_then(|name| {
            name.strip_prefix(root).ok().map(|name| name.to_string_lossy().into_owned())
        }),
        // It was found there by this name, or came from stdin.
        Files::Nothing | Files::Checkout(_) | Files::Unpacked(_) => {
            Some(request.dockerfile.name().to_owned())
        }
    };
    let last = || name.file_name().map(|name| name.to_string_lossy().into_owned());
    within.or_else(last).unwrap_or_default()
}

/// The URL and the commit of a context that is a repository.
fn repository(
    request: &BuildRequest,
    materials: &Lock,
    context: &Path,
) -> Option<(String, String)> {
    if !matches!(request.context, Files::Checkout(_)) {
        return None;
    }
    let source = GitSource::parse_context(&context.to_string_lossy())?.ok()?;
    let remote = lock::without_user(&source.remote);
    materials.entries().find_map(|entry| match entry {
        Entry::Git(git)
            if lock::without_user(&git.remote) == remote
                && (git.reference == source.reference || git.reference == source.checksum) =>
        {
            Some((remote.clone(), git.commit.clone()))
        }
        Entry::Git(_) | Entry::Base(_) | Entry::Url(_) => None,
    })
}
