//! From flags to a request, and the build itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::{BuildFlags, SandboxTier};
use super::{contexts, texts};
use crate::atomic::AtPath as _;
use crate::build::{self, BuildEnv, BuildRequest};
use crate::cli::failure;
use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::env;
use crate::epoch::Epoch;
use crate::image::AnyImage;
use crate::layer::LayerForm;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Registries;
use crate::sandbox::Cancel;

impl BuildFlags {
    /// Builds what the flags say of a context, and keeps it under the names.
    pub(in crate::cli) fn build(
        &self,
        context: &Path,
        names: &[Reference],
        registries: &Registries,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<AnyImage, CliError> {
        let request = self.request(context, names, progress, invocation)?;
        let cancel = Cancel::new();
        let runtime = invocation.runtime()?;
        let interrupt = invocation.interrupt()?.clone();
        let told = cancel.clone();
        runtime.spawn(async move {
            interrupt.wait().await;
            told.cancel();
        });
        let env = BuildEnv { store: invocation.store()?, registries, progress, cancel: &cancel };
        runtime.block_on(build::build(&request, &env)).map_err(failure::of_build)
    }

    fn request(
        &self,
        context: &Path,
        names: &[Reference],
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<BuildRequest, CliError> {
        if !context.is_dir() {
            return Err(CliError::plain(format!(
                "build context `{}` is not a folder",
                context.display()
            ))
            .hint("the last argument is the folder whose files COPY may take, often `.`"));
        }
        let context = context.canonicalize().at("open", context)?;
        let mut build_args = BTreeMap::new();
        for arg in &self.build_args {
            // A name that has no value in the environment is as good as not given.
            build_args.extend(arg.resolve().map(|value| (arg.name.clone(), value)));
        }
        // The environment's counts as an argument, as with buildx.
        if let Some(text) = env::text(env::SOURCE_DATE_EPOCH) {
            build_args.entry(env::SOURCE_DATE_EPOCH.to_owned()).or_insert(text);
        }
        let epoch = match build_args.get(env::SOURCE_DATE_EPOCH).map(String::as_str) {
            // Given as nothing: the default, whatever the Dockerfile says.
            None | Some("") => Epoch::default(),
            Some(text) => text.parse()?,
        };
        let (dockerfile, ignore) = texts::read(self.file.as_deref(), &context)?;
        Ok(BuildRequest {
            dockerfile,
            context,
            ignore,
            contexts: contexts::sources(&self.contexts, progress, invocation)?,
            platforms: self.platforms.clone(),
            target: self.target.clone(),
            build_args,
            labels: self
                .labels
                .iter()
                .map(|label| (label.name.clone(), label.value.clone()))
                .collect(),
            names: names.to_vec(),
            epoch,
            form: LayerForm::default(),
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            pull: self.pull,
            sandbox: self.sandbox.map(SandboxTier::tier),
            network: self.given.network.network(),
            hosts: self.given.hosts(),
            given: self.given.given()?,
        })
    }
}
