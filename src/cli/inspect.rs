//! `kiln inspect`.

use serde_json::{Value, json};

use super::invocation::Invocation;
use super::report::CliError;
use crate::image::{Image, strict_json};
use crate::reference::Reference;
use crate::store::Store;

/// Show what the store knows of images, as a JSON array
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of images, or the first digits of their digests
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}

/// Prints one object for each image.
///
/// # Errors
/// If an image is not there or cannot be read.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let objects: Vec<Value> =
        args.images.iter().map(|text| object(text, invocation)).collect::<Result<_, _>>()?;
    invocation.print_json(&objects)
}

fn object(text: &str, invocation: &Invocation) -> Result<Value, CliError> {
    let (_, at) = invocation.find(text)?;
    let store = invocation.store()?;
    let image = store.image(&at)?;
    let names = store.names()?;
    let names: Vec<String> = names
        .iter()
        .filter(|(_, other)| other.digest == at.digest)
        .map(|(name, _): &(Reference, _)| name.to_string())
        .collect();
    let images: Vec<Value> =
        image.images().iter().map(|image| one(image, store)).collect::<Result<_, CliError>>()?;
    let index = if at.media_type.is_index() {
        strict_json::<Value>("index", &image.raw().bytes)?
    } else {
        Value::Null
    };
    Ok(json!({
        "digest": at.digest,
        "mediaType": at.media_type,
        "size": at.size,
        "names": names,
        "index": index,
        "referrers": store.referrers(&at.digest, None)?,
        "images": images,
    }))
}

/// Manifest and config as they are, with what they imply.
fn one(image: &Image, store: &Store) -> Result<Value, CliError> {
    let layers: Vec<Value> = image
        .layers()
        .iter()
        .map(|layer| {
            json!({
                "digest": layer.digest,
                "diffId": layer.diff_id,
                "size": layer.size,
                "compression": layer.compression,
            })
        })
        .collect();
    Ok(json!({
        "digest": image.digest(),
        "platform": image.platform().to_string(),
        "configDigest": image.config_raw().digest,
        "manifest": strict_json::<Value>("manifest", &image.manifest().bytes)?,
        "config": strict_json::<Value>("image config", &image.config_raw().bytes)?,
        "layers": layers,
        "referrers": store.referrers(&image.digest(), None)?,
    }))
}
