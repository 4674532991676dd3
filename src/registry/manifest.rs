//! Manifests and indexes on the wire (distribution spec, "Pulling manifests",
//! "Pushing manifests").

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::RegistryError;
use super::transport::{Ask, Body, Session};
use crate::digest::BlobDigest;
use crate::image::{ImageError, Index, MAX_DOCUMENT, Manifest, MediaType, Raw, strict_json};
use crate::net::escaped;

/// The types kiln can read. Schema 1 is not asked for; a registry that has
/// nothing else sends it anyway and is told so.
const ACCEPTED: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json",
);

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Of an answer of a registry that keeps lists of referrers (distribution spec 1.1,
/// "Pushing Manifests with Subject").
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Fetches a manifest or index by tag or digest, and verifies it.
pub(super) async fn get(
    session: &Session,
    selector: &str,
    what: &str,
) -> Result<Raw, RegistryError> {
    let url = session.url(&format!("manifests/{selector}"))?;
    let ask = Ask::new(Method::GET, url, what).header(ACCEPT, ACCEPTED);
    let (headers, bytes) = session.fetch(&ask, MAX_DOCUMENT).await?;
    let found = BlobDigest::of(&bytes);
    // A digest that was asked for decides; else the registry's own word.
    let expected = selector.parse::<BlobDigest>().ok().or_else(|| stated(&headers));
    if let Some(expected) = expected.filter(|expected| *expected != found) {
        return Err(mismatch(session, what, expected, found));
    }
    let sent_as = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    read(bytes, sent_as).map_err(|source| RegistryError::Document {
        what: format!("{what} from {}", session.host),
        source,
    })
}

fn stated(headers: &HeaderMap) -> Option<BlobDigest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

fn mismatch(
    session: &Session,
    what: &str,
    expected: BlobDigest,
    found: BlobDigest,
) -> RegistryError {
    RegistryError::Mismatch {
        host: session.host.clone(),
        what: what.into(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// A document is one kind of thing: what the header says, what it says of itself
/// and what it holds agree.
fn read(bytes: Vec<u8>, sent_as: Option<&str>) -> Result<Raw, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Peek {
        schema_version: Option<u64>,
        media_type: Option<MediaType>,
        manifests: Option<IgnoredAny>,
    }
    let peek: Peek = strict_json("manifest", &bytes)?;
    if peek.schema_version == Some(1) {
        return Err(ImageError::Schema1);
    }
    let header = sent_as
        .map(|text| MediaType::from(text.split(';').next().unwrap_or_default().trim().to_owned()));
    let known = |kind: &MediaType| kind.is_manifest() || kind.is_index();
    let header = header.filter(known);
    if let (Some(header), Some(own)) = (&header, &peek.media_type)
        && header != own
    {
        return Err(ImageError::Malformed {
            what: "manifest",
            why: format!(
                "the registry sends it as `{header}`, its mediaType is `{}`",
                escaped(own.as_str(), 100)
            ),
        });
    }
    let kind = header.or(peek.media_type).unwrap_or(match peek.manifests {
        Some(_) => MediaType::OciIndex,
        None => MediaType::OciManifest,
    });
    if kind.is_index() {
        Index::read(&bytes)?;
    } else {
        Manifest::read(&bytes)?;
    }
    Ok(Raw::new(bytes, kind))
}

/// What a tag or digest means there, by the registry's own word and without the bytes, which
/// registries count and limit. `None` if it does not say: whoever wants to know why asks for
/// them.
pub(super) async fn head(
    session: &Session,
    selector: &str,
    what: &str,
) -> Result<Option<BlobDigest>, RegistryError> {
    let url = session.url(&format!("manifests/{selector}"))?;
    let ask = Ask::new(Method::HEAD, url, what).header(ACCEPT, ACCEPTED);
    match session.send(&ask).await {
        Ok(response) if response.status().is_success() => Ok(stated(response.headers())),
        // Some hang up on what they do not know.
        Ok(_) | Err(RegistryError::Interrupted { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if the repository has this manifest.
pub(super) async fn exists(
    session: &Session,
    digest: BlobDigest,
    what: &str,
) -> Result<bool, RegistryError> {
    let url = session.url(&format!("manifests/{digest}"))?;
    let response =
        session.send(&Ask::new(Method::HEAD, url, what).header(ACCEPT, ACCEPTED)).await?;
    match response.status() {
        status if status.is_success() => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(session.refusal(response, what).await),
    }
}

/// True if a tag or digest means this very document. An answer that says neither so nor
/// otherwise counts as no: whoever goes on meets the reason again.
pub(super) async fn is(
    session: &Session,
    raw: &Raw,
    selector: &str,
    what: &str,
) -> Result<bool, RegistryError> {
    let url = session.url(&format!("manifests/{selector}"))?;
    let ask = Ask::new(Method::GET, url, what).header(ACCEPT, ACCEPTED);
    let response = session.send(&ask).await?;
    if !response.status().is_success() {
        // Read to its end, so that the connection serves for what comes next.
        super::words::of(response).await;
        return Ok(false);
    }
    // The bytes decide; most others are known by what the registry says of them.
    if stated(response.headers()).is_some_and(|digest| digest != raw.digest) {
        return Ok(false);
    }
    let limit = raw.bytes.len() as u64;
    let bytes = match session.body(response, what, limit).await {
        Err(error) if error.may_pass() => session.fetch(&ask, limit).await.map(|(_, bytes)| bytes),
        bytes => bytes,
    };
    match bytes {
        Ok(bytes) => Ok(bytes == raw.bytes),
        Err(RegistryError::TooLarge { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts a manifest or index under a tag or its digest. The registry must say
/// that it holds the very bytes. True if it has noted what the document refers to;
/// [`referrers::put`](super::referrers::put) sees to the rest.
pub(super) async fn put(
    session: &Session,
    raw: &Raw,
    selector: &str,
    what: &str,
) -> Result<bool, RegistryError> {
    let url = session.url(&format!("manifests/{selector}"))?;
    let kind =
        HeaderValue::from_str(raw.media_type.as_str()).map_err(|_| RegistryError::Document {
            what: what.into(),
            source: ImageError::Malformed {
                what: "manifest",
                why: "its media type fits into no header".into(),
            },
        })?;
    let ask = Ask::new(Method::PUT, url, what)
        .header(CONTENT_TYPE, kind)
        .body(Body::Bytes(Bytes::from(raw.bytes.clone())));
    let response = session.ask(&ask).await?;
    match stated(response.headers()) {
        Some(found) if found != raw.digest => Err(mismatch(session, what, raw.digest, found)),
        _ => Ok(response.headers().contains_key(OCI_SUBJECT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_thing() {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let oci_index = "application/vnd.oci.image.index.v1+json";
        let list = "application/vnd.docker.distribution.manifest.list.v2+json";
        let own = format!(r#"{{"schemaVersion":2,"mediaType":"{list}","manifests":[]}}"#);
        let odd = r#"{"schemaVersion":2,"mediaType":"text/plain","manifests":[]}"#;
        for (bytes, sent_as, expected) in [
            (index, Some(oci_index), Some(MediaType::OciIndex)),
            (
                index,
                Some("application/vnd.oci.image.index.v1+json; charset=utf-8"),
                Some(MediaType::OciIndex),
            ),
            (index, Some("application/json"), Some(MediaType::OciIndex)),
            (index, None, Some(MediaType::OciIndex)),
            (&own, Some(list), Some(MediaType::DockerList)),
            (&own, None, Some(MediaType::DockerList)),
            (&own, Some(oci_index), None),
            (odd, None, None),
            (index, Some("application/vnd.oci.image.manifest.v1+json"), None),
            ("{}", None, None),
            ("[]", None, None),
        ] {
            let kind = read(bytes.as_bytes().to_vec(), sent_as).ok().map(|raw| raw.media_type);
            assert_eq!(kind, expected, "{bytes} as {sent_as:?}");
        }
        let schema1 = br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec();
        assert!(matches!(read(schema1, None), Err(ImageError::Schema1)));
    }
}
