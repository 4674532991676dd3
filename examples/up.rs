//! Build, push, deploy: what `kiln up` does, as calls of the library.
//!
//! `cargo run --example up -- CONTEXT REGISTRY/NAME:TAG KUBECONFIG`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

use std::path::Path;

use kiln::build::{BuildEnv, BuildRequest, Built, Cache, Sources, build};
use kiln::deploy::{self, Cluster, DeployRequest, Kind, Simple, Workload};
use kiln::progress::Progress;
use kiln::registry::{self, Options, Registries};
use kiln::sandbox::Cancel;
use kiln::store::Store;

fn main() -> std::process::ExitCode {
    // Steps run in helper processes, which are this program started again.
    kiln::enter().unwrap_or_else(|| match up(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(running) => {
            println!("{running}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    })
}

#[tokio::main]
async fn up(args: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let [context, name, kubeconfig] = args else { return Err("CONTEXT NAME KUBECONFIG".into()) };
    let (store, name) = (Store::open(&kiln::env::store())?, name.parse()?);
    let registries = Registries::load(Options::default())?;
    let (progress, cancel) = (Progress::silent(), Cancel::new());
    let env = BuildEnv {
        store: &store,
        registries: &registries,
        progress: &progress,
        cancel: &cancel,
        ready: None,
        cache: &Cache::default(),
        sources: &Sources::default(),
        outcome: None,
    };

    let Built { image, .. } = build(&BuildRequest::of(Path::new(context), &name)?, &env).await?;
    let pinned = registry::push(&image, &name, &store, &registries, &progress).await?;

    kiln::net::install_crypto();
    let cluster = Cluster::connect(Some(Path::new(kubeconfig)), None).await?;
    let simple = Simple {
        name: "up".into(),
        kind: Kind::Deployment,
        replicas: Some(1),
        port: Some(8080),
        env: Vec::new(),
    };
    let ask = DeployRequest::new(Workload::Simple(simple), name);
    let rollout = deploy::roll_out(&pinned, &ask, &cluster, &progress).await?;
    Ok(format!("{} runs {}", rollout.applied[0].object, rollout.image))
}
