//! `kiln manifest`.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};

use serde_json::{Value, json};

use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use super::text;
use super::value::Assignment;
use crate::copy::Place;
use crate::image::{Annotations, AnyImage, Descriptor, Image, Index, MediaType, Raw, strict_json};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{self, Registries};

/// Make and look at manifests and indexes
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(CreateArgs),
    Inspect(InspectArgs),
}

/// Make an index of images for several platforms in the store; prints its digest
///
/// `kiln push NAME` sends it. Of images in registries the documents are fetched; their
/// layers stay where they are until something needs them.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Name of the index in the store
    #[arg(value_name = "NAME")]
    pub name: Reference,

    /// Images: store:NAME, docker://NAME, or NAME, which is the store's if it has one and
    /// else the registry's; of an index, all that it lists
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<Place>,

    /// Add to the index that has the name already; images take the place of those for the
    /// same platform
    #[arg(short, long)]
    pub amend: bool,

    /// Annotation of the index; may be repeated
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub annotations: Vec<Assignment>,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Print the manifest or index that a name means, byte for byte
///
/// On a terminal, in which bytes may do harm, it is printed as JSON of the same meaning.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// NAME or docker://NAME in a registry, or store:NAME
    #[arg(value_name = "NAME")]
    pub name: Place,

    /// Print instead an index of what refers to it: signatures, SBOMs, attestations
    #[arg(long)]
    pub referrers: bool,

    /// With --referrers: only those of this type
    #[arg(long, value_name = "TYPE", requires = "referrers")]
    pub artifact_type: Option<String>,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Does one of the two.
///
/// # Errors
/// Theirs.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    match args.command {
        Command::Create(args) => create(args, invocation),
        Command::Inspect(args) => inspect(args, invocation),
    }
}

fn inspect(args: InspectArgs, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let raw = match &args.name {
        Place::Registry { name, .. } => {
            let registries = args.registry.to_pull(name)?;
            if args.referrers {
                let kind = args.artifact_type.as_deref();
                let listed = registry::referrers(name, kind, &registries, &progress);
                let (_, entries) = invocation.block_on(listed)?;
                return print_list(entries, invocation);
            }
            invocation.block_on(registry::document(name, &registries, &progress))?
        }
        Place::Store(_) if args.referrers => {
            return Err(CliError::usage("the store has no lists of what refers to an image")
                .hint("ask the registry: kiln manifest inspect --referrers NAME"));
        }
        Place::Store(name) => {
            let (_, at) = invocation.find(&name.to_string())?;
            Raw::new(invocation.store()?.document(&at.digest)?, at.media_type)
        }
        other => {
            return Err(CliError::usage(format!(
                "`{other}` is neither in a registry nor the store"
            ))
            .hint("kiln copy brings it there"));
        }
    };
    if io::stdout().is_terminal() {
        let value: Value = strict_json("manifest", &raw.bytes)?;
        return invocation.print(text::pretty_json(&value)?);
    }
    invocation.print_bytes(&raw.bytes)
}

fn print_list(entries: Vec<Descriptor>, invocation: &Invocation) -> Result<(), CliError> {
    let list = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciIndex,
        "manifests": entries,
    });
    invocation.print(text::pretty_json(&list)?)
}

fn create(args: CreateArgs, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let store = invocation.store()?;
    if args.name.digest().is_some() {
        return Err(CliError::usage(format!("`{}` has a digest", args.name.familiar()))
            .hint("the name of an index that is made has a tag or nothing: NAME[:TAG]"));
    }
    let mut list = List::default();
    let before = store.find(&args.name)?;
    let mut annotations = Annotations::new();
    match before {
        Some(at) if args.amend => {
            let image = store.image(&at)?;
            let AnyImage::Index { raw, .. } = &image else {
                let shown = args.name.familiar();
                return Err(CliError::plain(format!("`{shown}` is one image and no index"))
                    .hint("make an index under another name, and list it there"));
            };
            annotations = Index::read(&raw.bytes)?.annotations;
            list.take(&image, &args.name.familiar())?;
        }
        Some(_) => {
            let shown = args.name.familiar();
            return Err(CliError::plain(format!("the store has `{shown}` already"))
                .hint("--amend adds to it; `kiln rmi` takes the name away"));
        }
        None if args.amend => return Err(crate::store::StoreError::NoImage(args.name).into()),
        None => {}
    }
    list.begin_new();
    let first = args.images.iter().find_map(Place::registry);
    let registries = args.registry.registries(first)?;
    for place in &args.images {
        let image = find(place, &registries, &progress, invocation)?;
        list.take(&image, &place.to_string())?;
    }
    annotations.extend(args.annotations.into_iter().map(|one| (one.name, one.value)));
    let index = list.index(annotations)?;
    store.keep(&args.name, &index)?;
    invocation.print(index.digest().to_string())
}

/// An image's documents, which are in the store then.
fn find(
    place: &Place,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<AnyImage, CliError> {
    let store = invocation.store()?;
    match place {
        Place::Store(name) => Ok(store.image_named(name)?),
        Place::Registry { name, explicit, .. } => {
            if !explicit && let Some(at) = store.find(name)? {
                return Ok(store.image(&at)?);
            }
            let pull = registry::pull_documents(name, store, registries, progress);
            Ok(invocation.block_on(pull)?)
        }
        other => Err(CliError::usage(format!("`{other}` is neither in a registry nor the store"))
            .hint("kiln copy brings it to the store: kiln copy SRC store:NAME")),
    }
}

/// What the index will list.
#[derive(Default)]
struct List {
    entries: Vec<(Descriptor, String)>,
    images: Vec<Image>,
    /// Entries before this one may be replaced.
    new: usize,
}

impl List {
    fn begin_new(&mut self) {
        self.new = self.entries.len();
    }

    /// Takes an image, or what an index lists; `from` is for messages.
    fn take(&mut self, image: &AnyImage, from: &str) -> Result<(), CliError> {
        match image {
            AnyImage::Image(one) => {
                let mut entry = one.manifest().descriptor();
                entry.platform = Some(one.platform());
                self.add(entry, from)?;
            }
            AnyImage::Index { raw, .. } => {
                for entry in Index::read(&raw.bytes)?.manifests {
                    self.add(entry, from)?;
                }
            }
        }
        let known: BTreeSet<_> = self.images.iter().map(Image::digest).collect();
        let new = image.images().iter().filter(|one| !known.contains(&one.digest()));
        self.images.extend(new.cloned());
        Ok(())
    }

    fn add(&mut self, entry: Descriptor, from: &str) -> Result<(), CliError> {
        if self.entries.iter().any(|(other, _)| other.digest == entry.digest) {
            return Ok(());
        }
        // Attestations have no platform of their own.
        let platform = entry.platform.clone().filter(|platform| platform.os != "unknown");
        let same = |other: &Descriptor| platform.is_some() && other.platform == platform;
        if let Some(at) = self.entries.iter().position(|(other, _)| same(other)) {
            if at >= self.new {
                let other = &self.entries[at].1;
                let platform = platform.map(|one| one.to_string()).unwrap_or_default();
                return Err(CliError::plain(format!("{other} and {from} are both for {platform}"))
                    .hint("an index has one image for each platform"));
            }
            // With an image goes what is attested of it.
            let gone = self.entries[at].0.digest.to_string();
            let stays = |(entry, _): &(Descriptor, String)| {
                let of = entry.annotations.get("vnd.docker.reference.digest");
                entry.digest.to_string() != gone && of != Some(&gone)
            };
            self.new = self.entries[..self.new].iter().filter(|one| stays(one)).count();
            self.entries.retain(stays);
        }
        self.entries.push((entry, from.to_owned()));
        Ok(())
    }

    fn index(self, annotations: Annotations) -> Result<AnyImage, CliError> {
        let manifests: Vec<Descriptor> = self.entries.into_iter().map(|(entry, _)| entry).collect();
        let listed: BTreeSet<_> = manifests.iter().map(|entry| entry.digest).collect();
        let index = Index {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            manifests,
            annotations,
        };
        let raw = Raw::new(serde_json::to_vec(&index)?, MediaType::OciIndex);
        let images = self.images.into_iter().filter(|one| listed.contains(&one.digest())).collect();
        Ok(AnyImage::Index { raw, images })
    }
}
