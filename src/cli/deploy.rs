//! `kiln deploy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::credentials::RegistryArgs;
use super::progress::ProgressArgs;
use super::value::{Assignment, duration};
use crate::reference::Reference;

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

    /// Port that the program listens on; may be repeated
    #[arg(long = "port", id = "port", value_name = "PORT", help_heading = "Deployment",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,

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

    /// How long to wait until it runs; 0 does not wait
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m",
        help_heading = "Deployment")]
    pub timeout: Duration,

    /// Ask the cluster whether it would accept, and print what would be there
    #[arg(long, help_heading = "Deployment")]
    pub dry_run: bool,

    /// Take over fields that another tool manages
    #[arg(long, help_heading = "Deployment")]
    pub force_conflicts: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ObjectKind {
    #[default]
    Deployment,
    Pod,
}
