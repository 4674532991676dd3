//! `kiln save`.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::attached::{self, ReferrersFlag};
use super::credentials::AuthFileFlag;
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use crate::image::{Annotations, Image};
use crate::output::{self, Archive, Named, OutputError, Referrers, Work};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::registry::{self, Options, Registries, RegistryError};
use crate::store::StoreError;

/// Write images to an archive; an OCI archive has what is attached to them, too
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of images, or the first digits of their digests
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,

    /// The file; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Form of the archive
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub format: Format,

    /// Platform to take of an image that has several, where the form holds one
    /// only [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,

    #[command(flatten)]
    pub attached: ReferrersFlag,

    #[command(flatten)]
    pub auth: AuthFileFlag,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// OCI archive: keeps digests and all platforms
    #[default]
    Oci,
    /// docker archive: one platform, layers uncompressed
    Docker,
}

/// Writes the archive.
///
/// # Errors
/// If an image is not there in whole, or the file cannot be written.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(CliError::usage("an archive is not written to a terminal")
            .hint("name a file with --output, or redirect stdout"));
    }
    let progress = invocation.progress(args.progress.progress)?;
    let referrers = match args.attached.referrers {
        true => Referrers::All,
        false => Referrers::None,
    };
    let images = collect(&args.images, &referrers, invocation)?;
    let store = invocation.store()?;
    for named in &images {
        whole(named.image.images(), &args.auth, &progress, invocation)?;
        if referrers == Referrers::All && args.format == Format::Docker {
            attached::left_out(
                &named.image,
                "docker archives have no room for it",
                &progress,
                store,
            )?;
        }
    }
    let form = match args.format {
        Format::Oci => Archive::Oci,
        Format::Docker => Archive::Docker,
    };
    let platform = args.platform.unwrap_or_else(Platform::host);
    let task = progress.task(format!("save {}", args.images.join(" ")));
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let work = Work::new(&task, &stop);
    let fill = |to: &mut File| output::write_archive(form, &images, &platform, store, to, &work);
    if to_stdout {
        // Not std's buffer, which breaks at newlines.
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        fill(&mut out).map_err(|error| match error {
            OutputError::Write(error) => CliError::stdout(error),
            other => other.into(),
        })?;
    } else {
        output::to_file(&args.output, fill)?;
    }
    task.done();
    Ok(())
}

/// Fetches the layers of an image that was only pushed, so that its base's are in the
/// registry alone. Platforms that were never here are not meant.
pub(super) fn whole(
    images: &[Image],
    auth: &AuthFileFlag,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let store = invocation.store()?;
    let lacking: Vec<&Image> =
        images.iter().filter(|image| !store.has_layers(image.layers())).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let options = Options { auth_file: auth.there()?, ..Options::default() };
    let registries = Registries::load(options)?;
    for image in lacking {
        let layers = image.layers();
        let pull = registry::pull_layers(None, layers, store, &registries, progress);
        match invocation.block_on(async { Ok::<_, CliError>(pull.await) })? {
            // Nobody is known to have it: whoever writes the archive says what is absent.
            Err(RegistryError::Store(StoreError::NoBlob(_))) => (),
            fetched => fetched?,
        }
    }
    Ok(())
}

/// The images, each once with all the names it was asked for by.
fn collect(
    texts: &[String],
    referrers: &Referrers,
    invocation: &Invocation,
) -> Result<Vec<Named>, CliError> {
    let mut images: Vec<Named> = Vec::new();
    for text in texts {
        let (name, at) = invocation.find(text)?;
        let known = images.iter_mut().find(|named| named.image.digest() == at.digest);
        let named = match known {
            Some(named) => named,
            None => {
                let image = invocation.store()?.image(&at)?;
                let (names, annotations) = (Vec::new(), Annotations::new());
                let referrers = referrers.clone();
                images.push(Named { names, image, annotations, referrers });
                let last = images.len() - 1;
                &mut images[last]
            }
        };
        // A digest finds the image but is no name for it.
        let name = name.filter(|name| name.tag().is_some());
        named.names.extend(name.filter(|name| !named.names.contains(name)));
    }
    Ok(images)
}
