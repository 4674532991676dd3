//! `--sign-key`.

use std::collections::BTreeMap;

use super::args::Args;
use super::attest::Attached;
use crate::cli::copy::with_env;
use crate::cli::invocation::Invocation;
use crate::cli::keys;
use crate::cli::report::CliError;
use crate::image::AnyImage;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::Registries;
use crate::sign::{Attestations, PrivateKey, Signing, sign_stored};

/// Signs what is built, before it leaves.
pub(super) struct Signer {
    key: PrivateKey,
}

impl Signer {
    /// If the flags ask for it. The key is read before anything is built.
    pub(super) fn of(args: &Args) -> Result<Option<Self>, CliError> {
        let key = args.sign_key.as_ref().map(|path| keys::private(path, false)).transpose()?;
        Ok(key.map(|key| Self { key }))
    }

    /// Signs an image of the store under all its names, and what this build attached to it:
    /// what else is attached there is not its word. What it makes is attached, too.
    pub(super) fn sign(
        &self,
        image: &AnyImage,
        names: &[Reference],
        attached: &mut Attached,
        registries: &Registries,
        progress: &Progress,
        invocation: &Invocation,
    ) -> Result<(), CliError> {
        let annotations = BTreeMap::new();
        let signing = Signing {
            key: &self.key,
            annotations: &annotations,
            recursive: false,
            attestations: Attestations::These(&attached.digests),
        };
        let store = invocation.store()?;
        let root = image.raw().descriptor();
        let signed = with_env(Some(store), registries, progress, invocation, async |env| {
            sign_stored(root, names, &signing, store, env).await
        })?;
        attached.digests.extend(signed.attached);
        Ok(())
    }
}
