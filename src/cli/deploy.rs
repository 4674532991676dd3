//! `kiln deploy`.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::credentials::RegistryArgs;
use super::invocation::Invocation;
use super::keys::Rules;
use super::progress::ProgressArgs;
use super::report::CliError;
use super::value::{Assignment, duration};
use super::verify::{demanded, verdict};
use crate::atomic::AtPath as _;
use crate::copy::Place;
use crate::deploy::{self, Cluster, DeployRequest, Kind, Simple, Workload};
use crate::diagnostic::Source;
use crate::progress::Progress;
use crate::reference::{Pinned, Reference};
use crate::registry;

/// Roll out a pushed image in a Kubernetes cluster, and wait until it runs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image; a tag is resolved to the digest that its registry holds now
    #[arg(long, value_name = "NAME")]
    pub image: Reference,

    /// File of Kubernetes objects that name the image, applied instead of an
    /// object that kiln makes; `-` for stdin
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = ["port", "replicas", "kind", "env"])]
    pub manifest: Option<PathBuf>,

    /// Roll out only what this public key has signed; may be repeated: each has to. Other
    /// images that a file of objects names are not looked at
    #[arg(long = "verify-key", value_name = "FILE", conflicts_with = "verify_policy")]
    pub verify_keys: Vec<PathBuf>,

    /// Roll out only what is as this file says (see `kiln verify`)
    #[arg(long, value_name = "FILE")]
    pub verify_policy: Option<PathBuf>,

    #[command(flatten)]
    pub how: DeployFlags,

    #[command(flatten)]
    pub registry: RegistryArgs,

    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// What to roll out, and where: what `deploy` and `up` share.
#[derive(Debug, Clone, clap::Args)]
pub struct DeployFlags {
    /// Name of the object [default: the last word of the image's repository]
    #[arg(long, value_name = "NAME", help_heading = "Deployment")]
    pub name: Option<String>,

    /// Port that the program listens on
    #[arg(long, value_name = "PORT", help_heading = "Deployment",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// How many pods [default: 1, or what the cluster has]
    #[arg(long, value_name = "COUNT", help_heading = "Deployment")]
    pub replicas: Option<u32>,

    /// What to make
    #[arg(long, value_name = "KIND", value_enum, default_value_t, help_heading = "Deployment")]
    pub kind: ObjectKind,

    /// Variable of the environment; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", help_heading = "Deployment")]
    pub env: Vec<Assignment>,

    /// Namespace [default: the context's]
    #[arg(short, long, value_name = "NAME", help_heading = "Deployment")]
    pub namespace: Option<String>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", help_heading = "Deployment")]
    pub context: Option<String>,

    /// The kubeconfig [default: $KUBECONFIG, ~/.kube/config, else that of the pod kiln runs in]
    #[arg(long, value_name = "FILE", help_heading = "Deployment")]
    pub kubeconfig: Option<PathBuf>,

    /// How long to wait until it runs
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m",
        help_heading = "Deployment")]
    pub timeout: Duration,

    /// Ask the cluster whether it would accept, and print what would be there
    #[arg(long, help_heading = "Deployment")]
    pub dry_run: bool,

    /// Take over fields that another tool manages
    #[arg(long, help_heading = "Deployment")]
    pub force_conflicts: bool,

    /// Delete and make anew a Pod that cannot be changed as asked
    #[arg(long, help_heading = "Deployment")]
    pub replace: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ObjectKind {
    #[default]
    Deployment,
    Pod,
}

/// Finds out the image's digest, verifies it where that is wanted, applies, and waits.
///
/// # Errors
/// If the image is not in its registry or not as it has to be, the cluster refuses, or the
/// rollout fails.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let progress = invocation.progress(args.progress.progress)?;
    let policy = args.verify_policy.as_deref();
    let rules = match policy.is_some() || !args.verify_keys.is_empty() {
        true => Some(Rules::load(&args.verify_keys, policy, &[], &[])?),
        false => None,
    };
    let registries = args.registry.to_pull(&args.image)?;
    let task = progress.task(format!("resolve {}", args.image.familiar()));
    let pinned = invocation.block_on(registry::pin(&args.image, &registries, &progress))?;
    task.done();
    if let Some(rules) = rules {
        let name = pinned.reference();
        let place = Place::Registry { name, bare: false, explicit: true };
        demanded(&verdict(&place, &rules, &registries, &progress, invocation)?)?;
    }
    args.how.roll_out(&pinned, &args.image, args.manifest.as_deref(), &progress, invocation)
}

impl DeployFlags {
    /// Rolls an image out as the flags or a file of objects say.
    pub(super) fn roll_out(
        &self,
        image: &Pinned,
        name: &Reference,
        manifest: Option<&Path>,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<(), CliError> {
        let request = DeployRequest {
            namespace: self.namespace.clone(),
            timeout: self.timeout,
            force_conflicts: self.force_conflicts,
            replace: self.replace,
            dry_run: self.dry_run,
            ..DeployRequest::new(self.workload(name, manifest)?, name.clone())
        };
        crate::net::install_crypto();
        let work = async {
            let on = Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
            deploy::roll_out(image, &request, &on, progress).await
        };
        let done = invocation.block_on(work)?;
        if self.dry_run {
            return invocation.print(deploy::render(image, &request)?);
        }
        done.applied.iter().try_for_each(|one| {
            let state = if one.rolled_out { ", running" } else { "" };
            invocation.print(format!("{} {}{state}", one.object, one.outcome))
        })?;
        invocation.print(image.to_string())
    }

    /// The address of this machine by which the cluster's API server is reached.
    pub(super) fn local_address(&self, invocation: &Invocation) -> Result<IpAddr, CliError> {
        crate::net::install_crypto();
        let on = Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref());
        let on = invocation.block_on(on)?;
        on.local_address().ok_or_else(|| {
            let address = on.address();
            CliError::plain(format!("it is not known which address of this machine {address} sees"))
                .hint("say with --serve HOST:PORT where the cluster's nodes shall pull the image")
        })
    }

    fn workload(&self, image: &Reference, manifest: Option<&Path>) -> Result<Workload, CliError> {
        if let Some(path) = manifest {
            let text = if path == Path::new("-") {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).at("read", "stdin").map(|_| text)
            } else {
                std::fs::read_to_string(path).at("read", path)
            };
            return Ok(Workload::Manifest(Source::new(path.display().to_string(), text?)));
        }
        let own = || image.repository().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Workload::Simple(Simple {
            name: self.name.clone().unwrap_or_else(own),
            kind: match self.kind {
                ObjectKind::Deployment => Kind::Deployment,
                ObjectKind::Pod => Kind::Pod,
            },
            replicas: self.replicas,
            port: self.port,
            env: self.env.iter().map(|one| (one.name.clone(), one.value.clone())).collect(),
        }))
    }
}
