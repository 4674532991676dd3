//! What refers to a manifest: signatures, SBOMs, attestations (distribution spec 1.1,
//! "Listing Referrers", "Pushing Manifests with Subject", "Referrers Tag Schema").
//!
//! Registries that know the referrers API keep the lists. For others clients do: an index
//! under the tag `sha256-HEX` of the manifest that is referred to. It is read, changed and
//! put back, and read again: what somebody else put there meanwhile is seen, and the change
//! made anew. What kiln does not know in it stays.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use super::pages::Pages;
use super::pull::Sources;
use super::transport::{Ask, Session};
use super::{Registries, RegistryError, manifest};
use crate::digest::BlobDigest;
use crate::image::{
    Descriptor, ImageError, Index, MAX_DOCUMENT, MediaType, Purpose, Raw, referrers_tag,
    strict_json,
};
use crate::progress::Progress;
use crate::reference::Reference;

const INDEX: HeaderValue = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Most referrers of one manifest.
const MOST: usize = 5000;
/// Most bytes of their lists, which are in memory: their annotations may be long.
const MOST_BYTES: usize = 64 << 20;

/// How often a list is changed anew that somebody else changes at the same time.
const TRIES: usize = 5;

/// What refers to the manifest that a name means, and that manifest's digest; of one
/// artifact type, or of all.
///
/// # Errors
/// If the registry does not say.
pub async fn referrers(
    of: &Reference,
    artifact_type: Option<&str>,
    at: &Registries,
    progress: &Progress,
) -> Result<(BlobDigest, Vec<Descriptor>), RegistryError> {
    let of = &at.mirrors().meaning(of)?;
    let sources = Sources::new(of, at, progress)?;
    let digest = match of.digest() {
        Some(digest) => digest,
        None => sources.digest(&of.selector()).await?,
    };
    Ok((digest, sources.referrers(digest, artifact_type).await?))
}

/// As the registry lists them, else as clients do.
pub(super) async fn list(
    session: &Session,
    subject: BlobDigest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>, RegistryError> {
    if let Some(listed) = by_registry(session, subject, artifact_type).await? {
        return Ok(listed);
    }
    let fits = |entry: &Descriptor| fits(entry, artifact_type);
    let what = format!("the list of what refers to {subject}");
    Ok(match manifest::get(session, &referrers_tag(subject), &what).await {
        Ok(raw) if raw.media_type.is_index() => {
            let index = Index::read(&raw.bytes).map_err(|source| wrong(&what, source))?;
            let found: Vec<Descriptor> = index.manifests.into_iter().filter(fits).collect();
            bounded(found, subject, session)?
        }
        // Whatever else has that tag is no such list.
        Ok(_) | Err(RegistryError::Document { .. }) => Vec::new(),
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(error),
    })
}

fn fits(entry: &Descriptor, artifact_type: Option<&str>) -> bool {
    artifact_type.is_none_or(|wanted| entry.artifact_type.as_deref() == Some(wanted))
}

fn is_absent(error: &RegistryError) -> bool {
    matches!(error, RegistryError::NotFound { .. } | RegistryError::NoRepository { .. })
}

fn wrong(what: &str, source: ImageError) -> RegistryError {
    RegistryError::Document { what: what.into(), source }
}

/// The registry's own list; `None` if it keeps none.
async fn by_registry(
    session: &Session,
    subject: BlobDigest,
    artifact_type: Option<&str>,
) -> Result<Option<Vec<Descriptor>>, RegistryError> {
    let what = format!("the list of what refers to {subject}");
    let mut url = session.url(&format!("referrers/{subject}"))?;
    if let Some(kind) = artifact_type {
        url.query_pairs_mut().append_pair("artifactType", kind);
    }
    let mut pages = Pages::from(url.clone());
    let mut next: Option<Url> = Some(url);
    let mut found: Vec<Descriptor> = Vec::new();
    let mut first = true;
    let mut read = 0;
    while let Some(url) = next {
        let ask = Ask::new(Method::GET, url, &what).header(ACCEPT, INDEX);
        let response = session.send(&ask).await?;
        let unknown = matches!(
            response.status(),
            StatusCode::NOT_FOUND
                | StatusCode::BAD_REQUEST
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_ACCEPTABLE
        );
        if first && unknown {
            super::words::of(response).await;
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(session.refusal(response, &what).await);
        }
        // Some answer every address with a page for browsers.
        if first && !is_index(response.headers()) {
            super::words::of(response).await;
            return Ok(None);
        }
        first = false;
        next = pages.after(session, response.headers())?;
        let filtered = is_filtered(response.headers());
        let bytes = session.body(response, &what, MAX_DOCUMENT).await?;
        read += bytes.len();
        if read > MOST_BYTES {
            let why = format!("its list of referrers of {subject} is very long");
            return Err(RegistryError::Protocol { host: session.host.clone(), why });
        }
        let index = Index::read(&bytes).map_err(|source| wrong(&what, source))?;
        for entry in index.manifests {
            let known = found.iter().any(|other| other.digest == entry.digest);
            if !known && (filtered || fits(&entry, artifact_type)) {
                found.push(entry);
            }
        }
        found = bounded(found, subject, session)?;
    }
    Ok(Some(found))
}

/// More than anybody attaches is refused, and not cut: what is left out may be a signature.
fn bounded(
    found: Vec<Descriptor>,
    subject: BlobDigest,
    session: &Session,
) -> Result<Vec<Descriptor>, RegistryError> {
    if found.len() > MOST {
        let why = format!("it lists more than {MOST} referrers of {subject}");
        return Err(RegistryError::Protocol { host: session.host.clone(), why });
    }
    Ok(found)
}

fn is_index(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.and_then(|text| text.split(';').next())
        .is_some_and(|kind| kind.trim() == MediaType::OciIndex.as_str())
}

fn is_filtered(headers: &HeaderMap) -> bool {
    let all = headers.get_all(FILTERS_APPLIED).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|text| text.split(',')).any(|name| name.trim() == "artifactType")
}

/// Puts a manifest or index under a tag or its digest. Where it refers to another one and
/// the registry takes no note of that, the list that clients keep gets it.
pub(super) async fn put(
    session: &Session,
    raw: &Raw,
    selector: &str,
    what: &str,
) -> Result<(), RegistryError> {
    let noted = manifest::put(session, raw, selector, what).await?;
    let purpose = Purpose::read(&raw.bytes).map_err(|source| wrong(what, source))?;
    let Some(subject) = &purpose.subject else { return Ok(()) };
    if noted {
        return Ok(());
    }
    let entry = serde_json::to_value(purpose.entry(raw)).map_err(|error| {
        wrong(what, ImageError::Malformed { what: "manifest", why: error.to_string() })
    })?;
    edit(session, subject.digest, |entries| {
        if entries.iter().any(|other| other["digest"] == entry["digest"]) {
            return false;
        }
        entries.push(entry.clone());
        true
    })
    .await
}

/// Takes a manifest that is gone out of the list that clients keep.
pub(super) async fn forget(session: &Session, gone: &Raw) -> Result<(), RegistryError> {
    let what = format!("manifest {}", gone.digest);
    let purpose = Purpose::read(&gone.bytes).map_err(|source| wrong(&what, source))?;
    let Some(subject) = purpose.subject else { return Ok(()) };
    if by_registry(session, subject.digest, None).await?.is_some() {
        return Ok(());
    }
    let digest = gone.digest.to_string();
    edit(session, subject.digest, |entries| {
        let before = entries.len();
        entries.retain(|entry| entry["digest"] != digest.as_str());
        entries.len() != before
    })
    .await
}

/// Changes the list that clients keep, until there is nothing more to change.
async fn edit(
    session: &Session,
    subject: BlobDigest,
    change: impl Fn(&mut Vec<Value>) -> bool + Send,
) -> Result<(), RegistryError> {
    let tag = referrers_tag(subject);
    let what = format!("the list of what refers to {subject} (tag {tag})");
    for _ in 0..TRIES {
        let mut index = match manifest::get(session, &tag, &what).await {
            Ok(raw) if raw.media_type.is_index() => {
                strict_json("index", &raw.bytes).map_err(|source| wrong(&what, source))?
            }
            Ok(_) => {
                let why = format!("its tag {tag} is a manifest, and no list of referrers");
                return Err(RegistryError::Protocol { host: session.host.clone(), why });
            }
            Err(error) if is_absent(&error) => json!({
                "schemaVersion": 2,
                "mediaType": MediaType::OciIndex,
                "manifests": [],
            }),
            Err(error) => return Err(error),
        };
        let Some(entries) = index["manifests"].as_array_mut() else {
            let why = "it has no list of manifests".into();
            return Err(wrong(&what, ImageError::Malformed { what: "index", why }));
        };
        if !change(entries) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&index).map_err(|error| {
            wrong(&what, ImageError::Malformed { what: "index", why: error.to_string() })
        })?;
        manifest::put(session, &Raw::new(bytes, MediaType::OciIndex), &tag, &what).await?;
    }
    let why = format!("others change {what} again and again; try it later");
    Err(RegistryError::Protocol { host: session.host.clone(), why })
}
