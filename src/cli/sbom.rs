//! `kiln sbom`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;

use super::credentials::AuthFileFlag;
use super::invocation::Invocation;
use super::place::{Opened, Place};
use super::report::CliError;
use super::{save, text};
use crate::atomic::AtPath as _;
use crate::compare::Blobs;
use crate::digest::BlobDigest;
use crate::image::{AnyImage, Image};
use crate::net::escaped;
use crate::output;
use crate::platform::Platform;
use crate::sbom::{self, OpenError, Options, Sbom};

/// List what an image is made of: a bill of materials, from its layers alone
///
/// The databases of dpkg, apk and rpm are read, build information of Go's and Rust's programs,
/// Cargo.lock, and what npm and Python's installers leave. The same image gives the same bytes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An image of the store by name or digest, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, or
    /// `docker-archive:FILE[:NAME]`
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// How to print
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub format: Format,

    /// The file; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Of an image for several platforms, that one [default: all, one after the other]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,

    #[command(flatten)]
    pub auth: AuthFileFlag,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// SPDX 2.3
    #[default]
    SpdxJson,
    /// CycloneDX 1.6
    CyclonedxJson,
    /// A table for people
    Text,
}

/// Prints the bill of materials of an image.
///
/// # Errors
/// If the image is not there in whole, or the file cannot be written.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let opened = Place::of(&args.image).open(invocation)?;
    let images = chosen(opened.image(), &args)?;
    let to_stdout = args.output.as_os_str() == "-";
    if !to_stdout && images.len() > 1 && args.format != Format::Text {
        return Err(CliError::usage(format!(
            "{} has images for {}, and a file has one document",
            escaped(&args.image, 300),
            platforms(images)
        ))
        .hint("choose one with --platform"));
    }
    if opened.is_stored() {
        save::whole(images, &args.auth, &invocation.progress(None)?, invocation)?;
    }
    let mut bytes = Vec::new();
    for image in images {
        let sbom = listed(image, &opened, invocation)?;
        for warning in &sbom.warnings {
            let path = escaped(&warning.path, 300);
            let why = escaped(&warning.why, 300);
            invocation.warn(&format!("the list is incomplete: {path}: {why}"));
        }
        match args.format {
            Format::SpdxJson => bytes.extend(sbom.spdx()),
            Format::CyclonedxJson => bytes.extend(sbom.cyclonedx()),
            Format::Text => bytes.extend(shown(&sbom).into_bytes()),
        }
    }
    if to_stdout {
        return invocation.print_bytes(&bytes);
    }
    let path = &args.output;
    output::to_file(path, |file| Ok(file.write_all(&bytes).at("write", path)?))?;
    Ok(())
}

/// All images, or that for a platform.
fn chosen<'i>(image: &'i AnyImage, args: &Args) -> Result<&'i [Image], CliError> {
    let images = image.images();
    let Some(wanted) = &args.platform else { return Ok(images) };
    let distance = |image: &Image| image.platform().distance(wanted);
    let fitting = images.iter().enumerate().filter(|(_, image)| distance(image).is_some());
    let nearest = fitting.min_by_key(|(_, image)| distance(image));
    nearest.and_then(|(at, _)| images.get(at..=at)).ok_or_else(|| {
        let name = escaped(&args.image, 300);
        CliError::plain(format!("{name} has no image for {wanted}, only for {}", platforms(images)))
    })
}

fn platforms(images: &[Image]) -> String {
    let all: Vec<String> = images.iter().map(|one| one.platform().to_string()).collect();
    all.join(", ")
}

fn listed(image: &Image, opened: &Opened, invocation: &Invocation) -> Result<Sbom, CliError> {
    let scratch = invocation.store()?.scratch("sbom")?;
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let open = |digest: &BlobDigest| Blobs::open(opened, digest).map_err(OpenError::from);
    Ok(sbom::of(image, &open, Options { scratch: scratch.path(), stop: &stop })?)
}

/// The components as a table.
fn shown(sbom: &Sbom) -> String {
    let name = |text: &str| escaped(text, 100);
    let system = sbom.distribution.as_ref().map(|found| format!(", {}", name(&found.name)));
    let mut all = format!("{} {}{}\n", sbom.image, sbom.platform, system.unwrap_or_default());
    let mut table = vec![["TYPE", "NAME", "VERSION", "LICENSE", "LAYER"].map(str::to_owned)];
    for one in &sbom.components {
        let layer = one.found.first().map(|found| found.digest.short());
        table.push([
            one.kind.as_str().to_owned(),
            name(&one.name),
            name(&one.version),
            one.licence.as_ref().map(|licence| escaped(licence.text(), 40)).unwrap_or_default(),
            layer.unwrap_or_default(),
        ]);
    }
    all.push_str(&text::table(&table));
    if !all.ends_with('\n') {
        all.push('\n');
    }
    all
}
