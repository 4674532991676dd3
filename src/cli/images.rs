//! `kiln images`.

use serde::Serialize;

use super::invocation::Invocation;
use super::report::CliError;
use super::text;
use crate::image::{AnyImage, Descriptor, ImageError, Linked};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// List the images in the store
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only this image, or this repository if no tag is given
    #[arg(value_name = "NAME")]
    pub filter: Option<Reference>,

    /// Print JSON: an array of objects
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print the digests alone
    #[arg(short, long)]
    pub quiet: bool,

    /// Do not shorten the digests
    #[arg(long)]
    pub digests: bool,
}

#[derive(Serialize)]
struct Row {
    name: Option<String>,
    repository: String,
    tag: Option<String>,
    digest: String,
    platforms: Vec<String>,
    /// Bytes of manifests, configs and layers, each counted once.
    /// Null if the image cannot be read.
    size: Option<u64>,
}

/// Prints the list.
///
/// # Errors
/// If the store cannot be read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let store = invocation.store()?;
    let mut entries: Vec<(Option<Reference>, Descriptor)> =
        store.names()?.into_iter().map(|(name, at)| (Some(name), at)).collect();
    entries.extend(store.unnamed()?.into_iter().map(|at| (None, at)));
    if let Some(filter) = &args.filter {
        let meant = invocation.meant(filter)?;
        let filters = || [Some(filter), meant.as_ref()].into_iter().flatten();
        entries.retain(|(name, at)| {
            name.as_ref().is_some_and(|name| filters().any(|filter| fits(name, at, filter)))
        });
    }
    if args.quiet {
        let mut digests: Vec<String> =
            entries.iter().map(|(_, at)| shown(at, args.digests)).collect();
        digests.dedup();
        return if digests.is_empty() { Ok(()) } else { invocation.print(digests.join("\n")) };
    }
    let rows: Vec<Row> =
        entries.iter().map(|(name, at)| row(store, name.as_ref(), at, invocation)).collect();
    if args.json {
        return invocation.print_json(&rows);
    }
    let mut table = vec![["REPOSITORY", "TAG", "DIGEST", "PLATFORM", "SIZE"].map(str::to_owned)];
    for (row, (_, at)) in rows.iter().zip(&entries) {
        table.push([
            row.repository.clone(),
            row.tag.clone().unwrap_or_else(|| "<none>".into()),
            shown(at, args.digests),
            row.platforms.join(","),
            row.size.map_or_else(|| "?".into(), text::bytes),
        ]);
    }
    invocation.print(text::table(&table))
}

fn fits(name: &Reference, at: &Descriptor, filter: &Reference) -> bool {
    name.name() == filter.name()
        && match filter.digest() {
            Some(digest) => at.digest == digest,
            // `latest` is what a filter without a tag has become.
            None => filter.tag() == Some("latest") || filter.tag() == name.tag(),
        }
}

fn shown(at: &Descriptor, whole: bool) -> String {
    if whole { at.digest.to_string() } else { at.digest.short() }
}

/// An image that cannot be read is listed too, so that it can be removed.
fn row(store: &Store, name: Option<&Reference>, at: &Descriptor, invocation: &Invocation) -> Row {
    let image = store.image(at);
    let artifact = match &image {
        Err(StoreError::Image { source: ImageError::NotAnImage { .. }, .. }) => {
            artifact_size(store, at)
        }
        _ => None,
    };
    if let (Err(error), None) = (&image, artifact) {
        let shown = name.map_or_else(|| at.digest.to_string(), Reference::familiar);
        invocation.warn(&format!("{shown}: {error}"));
    }
    let image = image.ok();
    let images = image.as_ref().map(AnyImage::images).unwrap_or_default();
    Row {
        name: name.map(ToString::to_string),
        repository: name.map_or_else(|| "<none>".into(), familiar_repository),
        tag: name.and_then(Reference::tag).map(str::to_owned),
        digest: at.digest.to_string(),
        platforms: images.iter().map(|one| one.platform().to_string()).collect(),
        size: image.as_ref().map(size).or(artifact),
    }
}

/// Bytes of what is no image, as registries carry it, and is whole.
fn artifact_size(store: &Store, at: &Descriptor) -> Option<u64> {
    let document = Linked::read(&store.peek(&at.digest).ok()?, &at.media_type).ok()?;
    let mut parts = std::collections::BTreeMap::from([(at.digest, at.size)]);
    parts.extend(document.blobs.iter().map(|blob| (blob.digest, blob.size)));
    Some(parts.values().sum())
}

/// The familiar form without tag and digest.
fn familiar_repository(name: &Reference) -> String {
    let familiar = name.familiar();
    let end = familiar.find('@').unwrap_or(familiar.len());
    let bare = &familiar[..end];
    match name.tag() {
        Some(tag) => bare.strip_suffix(tag).and_then(|rest| rest.strip_suffix(':')).unwrap_or(bare),
        None => bare,
    }
    .to_owned()
}

fn size(image: &AnyImage) -> u64 {
    let document = |raw: &crate::image::Raw| (raw.digest, raw.bytes.len() as u64);
    let mut parts = std::collections::BTreeMap::from([document(image.raw())]);
    for one in image.images() {
        parts.extend([document(one.manifest()), document(one.config_raw())]);
        parts.extend(one.layers().iter().map(|layer| (layer.digest, layer.size)));
    }
    parts.values().sum()
}
