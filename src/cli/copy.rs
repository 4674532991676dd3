//! `kiln copy`.

use std::path::PathBuf;

use super::attached;
use super::credentials::{AuthFileFlag, Creds, RegistryArgs, TlsFlag};
use super::invocation::Invocation;
use super::progress::ProgressArgs;
use super::report::CliError;
use crate::atomic::AtPath as _;
use crate::copy::{self, Env, Place, Wanted};
use crate::platform::Platform;
use crate::progress::{Progress, Way};
use crate::registry::Registries;
use crate::store::Store;

/// Copy an image between registries, layouts, archives and the store; prints its digest
///
/// A place is one of
///   NAME or docker://NAME       a repository: registry/name[:tag|@digest]
///   store:NAME                  kiln's own store
///   oci:DIR[:TAG]               an OCI image layout; other images in it stay
///   oci-archive:FILE[:TAG]      a layout in a tar
///   docker-archive:FILE[:NAME]  what docker save writes: one platform's image
///
/// All platforms are copied, byte for byte, so that digests stay. Layers go straight from
/// place to place; those of archives pass through the store.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Where the image is
    #[arg(value_name = "SRC")]
    pub from: Place,

    /// Where it is to be
    #[arg(value_name = "DST")]
    pub to: Place,

    /// Copy only the manifest for this platform; may be repeated: of several an
    /// index is made that lists no others, with a digest of its own
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub platforms: Vec<Platform>,

    /// Copy what refers to the image, too: signatures, SBOMs, attestations
    /// [default: from the store true, elsewhere false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub referrers: Option<bool>,

    /// Copy all tags of a repository or layout; the places have no tag then
    #[arg(short, long)]
    pub all_tags: bool,

    /// Write the digest of what was copied to a file
    #[arg(long, value_name = "FILE", conflicts_with = "all_tags")]
    pub digestfile: Option<PathBuf>,

    /// Credentials for the registry that is copied from; others see them in the process list
    #[arg(long, value_name = "USER:PASSWORD")]
    pub src_creds: Option<Creds>,

    /// Credentials for the registry that is copied to
    #[arg(long, value_name = "USER:PASSWORD")]
    pub dest_creds: Option<Creds>,

    /// With `=false`: take the certificate of the registry that is copied from as it is,
    /// and plain HTTP
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub src_tls_verify: bool,

    /// The same of the registry that is copied to
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub dest_tls_verify: bool,

    /// File of credentials for both registries, as docker's config.json or podman's auth.json
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,

    /// The same for the registry that is copied from
    #[arg(long, value_name = "FILE")]
    pub src_authfile: Option<PathBuf>,

    /// The same for the registry that is copied to
    #[arg(long, value_name = "FILE")]
    pub dest_authfile: Option<PathBuf>,

    /// Folder with roots (*.crt) and client certificates (*.cert, *.key) for the registry that
    /// is copied from
    #[arg(long, value_name = "DIR")]
    pub src_cert_dir: Option<PathBuf>,

    /// The same for the registry that is copied to
    #[arg(long, value_name = "DIR")]
    pub dest_cert_dir: Option<PathBuf>,

    /// As --src-tls-verify=false and --dest-tls-verify=false, for this host[:port] only;
    /// may be repeated
    #[arg(long, value_name = "HOST")]
    pub insecure: Vec<String>,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Copies, and prints what names exactly the image in a registry, elsewhere its digest.
///
/// # Errors
/// If a place does not give or take it.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let (authfile, insecure) = (args.authfile, args.insecure);
    let flags = RegistryArgs {
        creds: args.src_creds,
        auth: AuthFileFlag { authfile: args.src_authfile },
        tls: TlsFlag { tls_verify: args.src_tls_verify, cert_dir: args.src_cert_dir },
        insecure: Vec::new(),
    };
    let from = side(&args.from, "src", flags, &authfile, &insecure)?;
    let flags = RegistryArgs {
        creds: args.dest_creds,
        auth: AuthFileFlag { authfile: args.dest_authfile },
        tls: TlsFlag { tls_verify: args.dest_tls_verify, cert_dir: args.dest_cert_dir },
        insecure: Vec::new(),
    };
    let to = side(&args.to, "dest", flags, &authfile, &insecure)?;
    let store = match args.from.needs_store() || args.to.needs_store() {
        true => Some(invocation.store()?.as_ref()),
        false => None,
    };
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let env = Env { store, from: &from, to: &to, progress: &progress, stop: &stop };
    let referrers = match (args.referrers, &args.from, &args.to) {
        (Some(wanted), ..) => wanted,
        (None, Place::Store(name), Place::DockerArchive { .. }) => {
            let image = invocation.store()?.image_named(name)?;
            let why = "docker archives have no room for it";
            attached::left_out(&image, why, &progress, invocation.store()?)?;
            false
        }
        (None, from, _) => matches!(from, Place::Store(_)),
    };
    let wanted = Wanted { platforms: args.platforms, referrers };
    let pairs = match args.all_tags {
        true => invocation.block_on(copy::all_tags(&args.from, &args.to, &env))?,
        false => vec![(args.from, args.to)],
    };
    for (from, to) in &pairs {
        let copied = invocation.block_on(copy::copy(from, to, &wanted, &env))?;
        if let Some(path) = &args.digestfile {
            std::fs::write(path, copied.digest.to_string()).at("write", path)?;
        }
        invocation.print(match copied.pinned {
            Some(pinned) => pinned.to_string(),
            None => copied.digest.to_string(),
        })?;
    }
    if pairs.iter().any(|(_, to)| to.registry().is_some()) {
        progress.transferred(Way::Push);
    }
    Ok(())
}

/// The way to the registries of one side, with its own flags and those of both.
fn side(
    place: &Place,
    which: &str,
    own: RegistryArgs,
    authfile: &Option<PathBuf>,
    insecure: &[String],
) -> Result<Registries, CliError> {
    let name = place.registry();
    if name.is_none() && own.is_given() {
        return Err(CliError::usage(format!(
            "--{which}-creds, --{which}-authfile, --{which}-cert-dir and --{which}-tls-verify are \
             for registries, and `{place}` is in none"
        )));
    }
    let mut flags = own;
    flags.auth.authfile = flags.auth.authfile.or_else(|| authfile.clone());
    flags.insecure = insecure.to_vec();
    match (which, name) {
        ("src", Some(name)) => flags.to_pull(name),
        _ => flags.registries(name),
    }
}

/// Does something with what reads and writes images; a signal stops it.
pub(super) fn with_env<T, E: Into<CliError>>(
    store: Option<&Store>,
    registries: &Registries,
    progress: &Progress,
    invocation: &Invocation,
    deed: impl AsyncFnOnce(&Env<'_>) -> Result<T, E>,
) -> Result<T, CliError> {
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let env = Env { store, from: registries, to: registries, progress, stop: &stop };
    invocation.block_on(deed(&env))
}
