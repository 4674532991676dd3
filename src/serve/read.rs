//! What is read: manifests, blobs, lists.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::Path;

use hyper::StatusCode;
use hyper::header::{HeaderMap, IF_RANGE, RANGE};
use serde_json::{Value, json};

use super::answer::{Answer, Body, CONTENT_DIGEST, Refusal, answer, json as json_answer};
use super::catalog::Catalog;
use super::path::{Named, Query, Selector};
use super::piece::FilePieces;
use super::shared::Shared;
use crate::digest::BlobDigest;
use crate::image::MediaType;
use crate::reference::Reference;
use crate::registry;
use crate::store::{Store, StoreError};

/// About how many bytes of referrers an answer lists; a link leads to the others.
const PAGE: usize = 1 << 20;

pub(super) fn ping() -> Answer {
    json_answer(StatusCode::OK, &[], &json!({}))
}

/// A manifest or an index, byte for byte.
pub(super) fn manifest(
    shared: &Shared,
    store: &Store,
    named: &Named,
    selector: &Selector,
) -> Result<Answer, Refusal> {
    let meant = shared.catalog.meant(store, named)?;
    let found = match selector {
        Selector::Tag(tag) => meant.tag(tag)?,
        Selector::Digest(digest) => shared.catalog.manifest(store, &meant, digest)?,
    };
    let Some((name, at)) = found else {
        let (code, what) = if meant.is_empty() {
            ("NAME_UNKNOWN", format!("no image of the store is called `{}`", named.path))
        } else {
            ("MANIFEST_UNKNOWN", format!("`{}` has no manifest `{selector}`", named.path))
        };
        return Err(Refusal::absent(code, what));
    };
    let (file, size) = store.open_unchecked(&at.digest).map_err(|error| match error {
        StoreError::NoBlob(_) => Refusal::absent(
            "MANIFEST_UNKNOWN",
            format!(
                "{} lists this manifest, and it is not in the store: `kiln pull` there fetched \
                 other platforms only; see its --platform",
                name.familiar()
            ),
        ),
        other => other.into(),
    })?;
    // What it leads to is asked for next.
    store.hold_blob(&at.digest);
    if let Some(links) = shared.catalog.links(store, &at)? {
        for (digest, _) in &links.blobs {
            store.hold_blob(digest);
        }
    }
    let pieces = FilePieces::new(file, 0, size, shared.transfers.begin())
        .map_err(|error| Refusal::inside(error.to_string()))?;
    let digest = at.digest.to_string();
    let headers = [
        ("content-type", at.media_type.as_str()),
        (CONTENT_DIGEST, &digest),
        ("etag", &format!("\"{digest}\"")),
    ];
    Ok(answer(StatusCode::OK, &headers, Body::file(pieces)))
}

/// A blob, or the part of it that the header `Range` names (RFC 9110, 14).
pub(super) fn blob(
    shared: &Shared,
    store: &Store,
    named: &Named,
    digest: &BlobDigest,
    head: &HeaderMap,
) -> Result<Answer, Refusal> {
    let name = owner(shared, store, named, digest)?;
    let (file, size) = store.open_unchecked(digest).map_err(|error| match error {
        StoreError::NoBlob(_) => elsewhere(store, digest, name.as_ref()),
        other => other.into(),
    })?;
    store.hold_blob(digest);
    let text = digest.to_string();
    let etag = format!("\"{text}\"");
    let part = part(head, &etag, size).map_err(|()| {
        let message = format!("the blob has {size} bytes");
        Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "UNSUPPORTED", message)
            .with("content-range", format!("bytes */{size}"))
    })?;
    let (start, length) = part.unwrap_or((0, size));
    let pieces = FilePieces::new(file, start, length, shared.transfers.begin())
        .map_err(|error| Refusal::inside(error.to_string()))?;
    let mut headers = vec![
        ("content-type", "application/octet-stream"),
        (CONTENT_DIGEST, &text),
        ("etag", &etag),
        ("accept-ranges", "bytes"),
    ];
    let range = format!("bytes {start}-{}/{size}", (start + length).saturating_sub(1));
    let status = if part.is_some() {
        headers.push(("content-range", &range));
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    Ok(answer(status, &headers, Body::file(pieces)))
}

/// The name through which a blob is to be had in a repository; none if it was pushed here
/// and nothing names it yet.
fn owner(
    shared: &Shared,
    store: &Store,
    named: &Named,
    digest: &BlobDigest,
) -> Result<Option<Reference>, Refusal> {
    if shared.pushed.has(named, digest) {
        return Ok(None);
    }
    let meant = shared.catalog.meant(store, named)?;
    match shared.catalog.blob(store, &meant, digest)? {
        Some((name, _)) => Ok(Some(name)),
        None => {
            let message = format!("no image called `{}` has blob {digest}", named.path);
            Err(Refusal::absent("BLOB_UNKNOWN", message))
        }
    }
}

/// The size of a blob that a repository has and that is in the store.
pub(super) fn held(
    shared: &Shared,
    store: &Store,
    named: &Named,
    digest: &BlobDigest,
) -> Result<Option<u64>, Refusal> {
    match owner(shared, store, named, digest) {
        Ok(_) => {}
        Err(refusal) if refusal.code == "BLOB_UNKNOWN" => return Ok(None),
        Err(refusal) => return Err(refusal),
    }
    Ok(size(store, digest))
}

/// The size of a blob that is in the store, which is held from now on.
pub(super) fn size(store: &Store, digest: &BlobDigest) -> Option<u64> {
    let size = store.blob_path(digest).metadata().ok()?.len();
    store.has_blob(digest, size).then_some(size)
}

/// A base's layers may be in a registry alone.
fn elsewhere(store: &Store, digest: &BlobDigest, name: Option<&Reference>) -> Refusal {
    let what = format!("blob {digest} is not in this store");
    let Some(name) = name else { return Refusal::absent("BLOB_UNKNOWN", what) };
    let name = name.familiar();
    let origins = registry::known_origins(store, *digest);
    let message = if origins.is_empty() {
        format!("{what}, though {name} needs it, and nobody is known to have it")
    } else {
        format!(
            "{what}, though {name} needs it: it is in {}; on the server's machine \
             `kiln save -o FILE {name}` brings it",
            origins.join(" and in ")
        )
    };
    Refusal::absent("BLOB_UNKNOWN", message)
}

/// Images with a name of which layers are in other registries only, and how many.
///
/// # Errors
/// If the store cannot be read.
pub fn lacking(store: &Store) -> Result<Vec<(Reference, usize)>, StoreError> {
    let catalog = Catalog::default();
    let mut found = Vec::new();
    for (name, at) in catalog.names(store)?.iter() {
        let (mut waiting, mut absent) = (vec![at.clone()], 0);
        // An index may list another one many times, and that one others.
        let mut seen = HashSet::new();
        while let Some(at) = waiting.pop() {
            if !seen.insert(at.digest) {
                continue;
            }
            let Some(links) = catalog.links(store, &at)? else { continue };
            waiting.extend(links.manifests());
            // What has no config here was not pulled at all.
            let here = |digest: &BlobDigest| Path::exists(&store.blob_path(digest));
            if links.blobs.first().is_some_and(|(config, _)| here(config)) {
                absent += links.blobs.iter().filter(|(digest, _)| !here(digest)).count();
            }
        }
        if absent > 0 {
            found.push((name.clone(), absent));
        }
    }
    Ok(found)
}

/// The part that is asked for: where it begins, and its length. None means all: so do
/// several ranges at once, other units and what is no range.
fn part(head: &HeaderMap, etag: &str, size: u64) -> Result<Option<(u64, u64)>, ()> {
    let Some(text) = head.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    // A part of what the client has a part of; no other is known here.
    if head.get(IF_RANGE).is_some_and(|value| value.as_bytes() != etag.as_bytes()) {
        return Ok(None);
    }
    let Some((start, end)) = text.trim().strip_prefix("bytes=").and_then(|r| r.split_once('-'))
    else {
        return Ok(None);
    };
    let (start, end) = match (start.trim(), end.trim()) {
        ("", last) => match last.parse::<u64>() {
            Ok(0) => return Err(()),
            Ok(last) => (size.saturating_sub(last), size.saturating_sub(1)),
            Err(_) => return Ok(None),
        },
        (start, "") => match start.parse::<u64>() {
            Ok(start) => (start, size.saturating_sub(1)),
            Err(_) => return Ok(None),
        },
        (start, end) => match (start.parse::<u64>(), end.parse::<u64>()) {
            (Ok(start), Ok(end)) => (start, end.min(size.saturating_sub(1))),
            _ => return Ok(None),
        },
    };
    if start >= size || start > end { Err(()) } else { Ok(Some((start, end - start + 1))) }
}

/// The tags of a repository, sorted.
pub(super) fn tags(
    shared: &Shared,
    store: &Store,
    named: &Named,
    query: &Query,
) -> Result<Answer, Refusal> {
    let meant = shared.catalog.meant(store, named)?;
    if meant.is_empty() {
        let message = format!("no image of the store is called `{}`", named.path);
        return Err(Refusal::absent("NAME_UNKNOWN", message));
    }
    let (tags, more) = page(&meant.tags(), query)?;
    let link = more.map(|query| link(&named.location("tags/list"), &query));
    Ok(list(link, &json!({"name": named.path, "tags": tags})))
}

/// The repositories of the store, by paths that lead to them, sorted.
pub(super) fn catalog(shared: &Shared, store: &Store, query: &Query) -> Result<Answer, Refusal> {
    let (repositories, more) = page(&shared.catalog.repositories(store)?, query)?;
    let link = more.map(|query| link("/v2/_catalog", &query));
    Ok(list(link, &json!({"repositories": repositories})))
}

fn list(link: Option<String>, value: &Value) -> Answer {
    let headers: Vec<(&'static str, &str)> =
        link.iter().map(|link| ("link", link.as_str())).collect();
    json_answer(StatusCode::OK, &headers, value)
}

fn link(location: &str, query: &str) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    format!("<{location}{joint}{query}>; rel=\"next\"")
}

/// What comes after `last`, `n` at most; and the query for the rest, if there is one.
fn page(
    all: &std::collections::BTreeSet<String>,
    query: &Query,
) -> Result<(Vec<String>, Option<String>), Refusal> {
    let most = match query.get("n") {
        None => usize::MAX,
        Some(n) => n.parse().map_err(|_| Refusal::bad("UNSUPPORTED", "`n` is no number"))?,
    };
    let after = query.get("last").map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = all.range::<str, _>((after, Bound::Unbounded));
    let page: Vec<String> = rest.by_ref().take(most).cloned().collect();
    let more = rest.next().and(page.last()).map(|last| format!("n={most}&last={last}"));
    Ok((page, more))
}

/// The manifests that are about another one, as an index. Its size is bounded, since each
/// brings its annotations.
pub(super) fn referrers(
    shared: &Shared,
    store: &Store,
    named: &Named,
    subject: &BlobDigest,
    query: &Query,
) -> Result<Answer, Refusal> {
    let meant = shared.catalog.meant(store, named)?;
    let wanted = query.get("artifactType").filter(|kind| !kind.is_empty());
    let after = query.digest("last")?;
    let (mut listed, mut length, mut next, mut last) = (Vec::new(), 0, None, None);
    for (digest, at) in shared.catalog.referrers(store, &meant, subject)? {
        if after.is_some_and(|after| digest <= after) {
            continue;
        }
        let Some(read) = shared.catalog.read(store, &at)? else { continue };
        if wanted.is_some_and(|wanted| read.artifact_type.as_deref() != Some(wanted)) {
            continue;
        }
        let mut descriptor = at;
        descriptor.annotations = read.annotations;
        descriptor.artifact_type = read.artifact_type;
        let value = serde_json::to_value(&descriptor)
            .map_err(|error| Refusal::inside(error.to_string()))?;
        let size = value.to_string().len();
        if length > 0 && length + size > PAGE {
            next = last;
            break;
        }
        length += size;
        listed.push(value);
        last = Some(digest);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciIndex.as_str(),
        "manifests": listed,
    });
    let filter = wanted.map(|kind| format!("&artifactType={}", encoded(kind)));
    let link = next.map(|last: BlobDigest| {
        let query = format!("last={last}{}", filter.as_deref().unwrap_or_default());
        link(&named.location(&format!("referrers/{subject}")), &query)
    });
    let mut headers = vec![("content-type", MediaType::OciIndex.as_str())];
    headers.extend(link.iter().map(|link| ("link", link.as_str())));
    headers.extend(wanted.map(|_| ("oci-filters-applied", "artifactType")));
    Ok(json_answer(StatusCode::OK, &headers, &index))
}

/// Percent-encoding of a parameter.
fn encoded(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~/".contains(&c);
    let code = |c: u8| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") };
    text.bytes().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Descriptor;

    #[test]
    fn ranges() {
        let asked = |range: &str, condition: Option<&str>, size| {
            let mut head = HeaderMap::new();
            head.insert(RANGE, range.parse().unwrap());
            if let Some(condition) = condition {
                head.insert(IF_RANGE, condition.parse().unwrap());
            }
            part(&head, "\"x\"", size)
        };
        for (range, size, expected) in [
            ("bytes=0-9", 100, Ok(Some((0, 10)))),
            ("bytes=90-200", 100, Ok(Some((90, 10)))),
            ("bytes=90-", 100, Ok(Some((90, 10)))),
            ("bytes=-10", 100, Ok(Some((90, 10)))),
            ("bytes=-200", 100, Ok(Some((0, 100)))),
            ("bytes=99-99", 100, Ok(Some((99, 1)))),
            ("bytes=100-", 100, Err(())),
            ("bytes=9-1", 100, Err(())),
            ("bytes=-0", 100, Err(())),
            ("bytes=0-", 0, Err(())),
            ("bytes=-1", 0, Err(())),
            ("bytes=0-18446744073709551615", 100, Ok(Some((0, 100)))),
            ("bytes=0-18446744073709551616", 100, Ok(None)),
            ("bytes=0-1,5-6", 100, Ok(None)),
            ("lines=0-1", 100, Ok(None)),
            ("bytes=x", 100, Ok(None)),
            ("bytes=-", 100, Ok(None)),
        ] {
            assert_eq!(asked(range, None, size), expected, "{range} of {size}");
        }
        assert_eq!(asked("bytes=0-9", Some("\"x\""), 100), Ok(Some((0, 10))));
        assert_eq!(asked("bytes=0-9", Some("\"y\""), 100), Ok(None));
        assert_eq!(part(&HeaderMap::new(), "", 1), Ok(None));
    }

    /// Forty indexes, each of which lists the one before twice.
    #[test]
    fn indexes_of_indexes_are_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let put = |kind: MediaType, value: Value| {
            let bytes = value.to_string().into_bytes();
            let digest = store.put(&bytes).unwrap();
            Descriptor::new(kind, digest, bytes.len() as u64)
        };
        let config = store.put(b"{}").unwrap();
        let layer = BlobDigest::of(b"elsewhere");
        let mut at = put(
            MediaType::OciManifest,
            json!({
                "schemaVersion": 2,
                "config": Descriptor::new(MediaType::OciConfig, config, 2),
                "layers": [Descriptor::new(MediaType::OciLayer, layer, 9)],
            }),
        );
        for _ in 0..40 {
            at = put(MediaType::OciIndex, json!({"schemaVersion": 2, "manifests": [at, at]}));
        }
        let name: Reference = "app:1".parse().unwrap();
        store.tag(&name, at).unwrap();
        assert_eq!(lacking(&store).unwrap(), [(name, 1)]);
    }

    #[test]
    fn pages() {
        let all = ["a", "b", "c"].map(str::to_owned).into();
        let of = |text: &str| {
            let (page, more) = page(&all, &Query::parse(text)).unwrap();
            (page.join(""), more.unwrap_or_default())
        };
        for (query, expected, more) in [
            ("", "abc", ""),
            ("n=2", "ab", "n=2&last=b"),
            ("n=2&last=b", "c", ""),
            ("n=3", "abc", ""),
            ("n=0", "", ""),
            ("last=aa", "bc", ""),
            ("last=c", "", ""),
        ] {
            assert_eq!(of(query), (expected.to_owned(), more.to_owned()), "{query}");
        }
        assert!(page(&all, &Query::parse("n=-1")).is_err());
        assert_eq!(encoded("application/x+y z"), "application/x%2By%20z");
    }
}
