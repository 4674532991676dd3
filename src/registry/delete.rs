//! Manifests and tags that are taken away (distribution spec, "Content Management"). Blobs
//! are not: registries clear them away when nothing names them.

use reqwest::{Method, StatusCode};

use super::transport::{Action, Ask, Session};
use super::{Registries, RegistryError, manifest, referrers};
use crate::reference::Reference;

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// What the name is: a tag alone, or the manifest of a digest.
    Name,
    /// The manifest that the name means, and with it every tag of it.
    Manifest,
}

/// Takes away a tag, or a manifest. Where that manifest refers to another, and the registry
/// keeps no lists of referrers by itself, the list that clients keep loses it too.
///
/// # Errors
/// If there is no such thing, or the registry does not take it away.
pub async fn delete(name: &Reference, what: Removal, at: &Registries) -> Result<(), RegistryError> {
    let place = at.mirrors().for_push(name)?;
    let session = Session::open(at, &place, Action::Delete).await?;
    let shown = name.familiar();
    let selector = match (name.digest(), name.tag(), what) {
        (None, Some(tag), Removal::Name) => return remove(&session, tag, &shown).await,
        _ => name.selector(),
    };
    // What it refers to has to be known before it is gone.
    let raw = manifest::get(&session, &selector, &format!("manifest of {shown}")).await?;
    remove(&session, &raw.digest.to_string(), &shown).await?;
    referrers::forget(&session, &raw).await
}

async fn remove(session: &Session, selector: &str, shown: &str) -> Result<(), RegistryError> {
    let url = session.url(&format!("manifests/{selector}"))?;
    let response = session.send(&Ask::new(Method::DELETE, url, shown)).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let refused = matches!(status, StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED);
    match session.refusal(response, shown).await {
        RegistryError::Refused { host, words, .. } if refused => {
            let (what, tag) = (shown.to_owned(), !selector.contains(':'));
            Err(RegistryError::NoDeletion { host, what, tag, words })
        }
        error => Err(error),
    }
}
