//! What is written: blobs by uploads and mounts, manifests, and what goes again.
//!
//! Deleting takes names away. The bytes stay until a clean-up of the store finds that
//! nothing needs them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap};

use super::answer::{Answer, Body, CONTENT_DIGEST, Refusal, answer};
use super::path::{Named, Query, Selector};
use super::read;
use super::shared::Shared;
use super::upload::{self, Source, Upload};
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Linked, MAX_DOCUMENT, MediaType, Raw};
use crate::store::Store;

/// Longest time that a manifest may take: others wait for the room that it takes.
const WHOLE: Duration = Duration::from_secs(30);

/// A request that writes.
pub(super) struct Request<'a> {
    pub(super) shared: Arc<Shared>,
    pub(super) named: Named,
    pub(super) query: Query,
    pub(super) head: HeaderMap,
    /// What a refusal leaves of it is the caller's to read.
    pub(super) body: &'a mut Incoming,
    /// Counts what is read of the body.
    pub(super) received: Arc<AtomicU64>,
}

impl Request<'_> {
    /// POST: begins an upload, or mounts a blob, or takes one whole.
    pub(super) async fn begin(self) -> Result<Answer, Refusal> {
        let Self { shared, named, query, body, received, .. } = self;
        if let Some(digest) = query.digest("mount")? {
            let from = query.get("from").filter(|from| !from.is_empty());
            let from = from.map(|from| Named::parse(from, &Query::default())).transpose()?;
            if let Some(answer) = mount(&shared, &named, digest, from).await? {
                return Ok(answer);
            }
        }
        let Some(digest) = query.digest("digest")? else {
            let of = named.clone();
            let upload = shared.call(move |s, store| s.uploads.begin(store, &of)).await?;
            return Ok(status(StatusCode::ACCEPTED, &named, &upload));
        };
        let of = named.clone();
        let upload = shared.call(move |s, store| s.uploads.begin(store, &of)).await?;
        let source = Source::new(body, shared.transfers.begin(), &received);
        let done = match upload.append(source, None).await {
            Ok(()) => finish(&shared, &named, &upload, digest).await,
            Err(refusal) => Err(refusal),
        };
        shared.uploads.remove(&upload);
        done
    }

    /// PATCH: brings a part.
    pub(super) async fn append(self, id: &str) -> Result<Answer, Refusal> {
        let upload = self.shared.uploads.find(&self.named, id)?;
        let range = range(&self.head)?;
        let transfer = self.shared.transfers.begin();
        let source = Source::new(self.body, transfer, &self.received);
        let added = upload.append(source, range).await;
        added.map_err(|refusal| after(&self.shared, refusal, &self.named, &upload))?;
        Ok(status(StatusCode::ACCEPTED, &self.named, &upload))
    }

    /// PUT: brings the last part, or nothing more, and says what it all is.
    pub(super) async fn close(self, id: &str) -> Result<Answer, Refusal> {
        let upload = self.shared.uploads.find(&self.named, id)?;
        let digest = self.query.digest("digest")?.ok_or_else(|| {
            Refusal::bad("DIGEST_INVALID", "the parameter `digest` says what was uploaded")
        })?;
        let range = range(&self.head)?;
        let transfer = self.shared.transfers.begin();
        let source = Source::new(self.body, transfer, &self.received);
        let added = upload.append(source, range).await;
        added.map_err(|refusal| after(&self.shared, refusal, &self.named, &upload))?;
        let done = finish(&self.shared, &self.named, &upload, digest).await;
        self.shared.uploads.remove(&upload);
        done
    }

    /// GET: how far an upload is.
    pub(super) fn progress(self, id: &str) -> Result<Answer, Refusal> {
        let upload = self.shared.uploads.find(&self.named, id)?;
        Ok(status(StatusCode::NO_CONTENT, &self.named, &upload))
    }

    /// DELETE: gives an upload up.
    pub(super) fn cancel(self, id: &str) -> Result<Answer, Refusal> {
        let upload = self.shared.uploads.find(&self.named, id)?;
        self.shared.uploads.remove(&upload);
        Ok(answer(StatusCode::NO_CONTENT, &[], Body::empty()))
    }

    /// PUT of a manifest, under a tag or its digest.
    pub(super) async fn manifest(self, selector: Selector) -> Result<Answer, Refusal> {
        let name = self.named.reference(&selector)?;
        let media_type = media_type(&self.head)?;
        let large = || {
            let message = format!("manifests may have {MAX_DOCUMENT} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
        };
        let length = length(&self.head).unwrap_or(MAX_DOCUMENT);
        if length > MAX_DOCUMENT {
            return Err(large());
        }
        let units = u32::try_from((length >> 16) + 1).unwrap_or(u32::MAX);
        let room = tokio::time::timeout(upload::TURN, self.shared.manifests.acquire_many(units));
        let _room = room
            .await
            .map_err(|_| Refusal::too_many("too many manifests are on their way; try again"))?;
        let bytes = upload::whole(self.body, MAX_DOCUMENT, &self.received);
        let bytes = tokio::time::timeout(WHOLE, bytes).await.map_err(|_| {
            let message = "the manifest was not whole after half a minute";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "MANIFEST_INVALID", message)
        })?;
        let bytes = bytes?.ok_or_else(large)?;
        let named = self.named.clone();
        let (digest, subject) = self
            .shared
            .call(move |shared, store| {
                let digest = BlobDigest::of(&bytes);
                if let Selector::Digest(expected) = selector
                    && expected != digest
                {
                    let message = format!("the manifest is {digest}, not {expected}");
                    return Err(Refusal::bad("DIGEST_INVALID", message));
                }
                let read = Linked::read(&bytes, &media_type)
                    .map_err(|error| Refusal::bad("MANIFEST_INVALID", error.to_string()))?;
                complete(shared, store, &named, &read)?;
                store.put(&bytes)?;
                let target = Descriptor::new(media_type, digest, bytes.len() as u64);
                let listed: Vec<BlobDigest> = read.manifests.iter().map(|at| at.digest).collect();
                let subject = read.subject.map(|subject| subject.digest);
                let attached = match subject {
                    Some(subject) => attach(shared, store, &named, &subject, &target)?,
                    None => false,
                };
                // What is attached needs no name, unless it is to have a tag.
                if !attached || name.tag().is_some() {
                    store.tag_keeping(&name, &target, &listed)?;
                }
                shared.catalog.changed();
                Ok((digest, subject))
            })
            .await?;
        let (digest, subject) = (digest.to_string(), subject.map(|subject| subject.to_string()));
        let location = self.named.location(&format!("manifests/{digest}"));
        let mut headers = vec![("location", location.as_str()), (CONTENT_DIGEST, &digest)];
        headers.extend(subject.iter().map(|subject| ("oci-subject", subject.as_str())));
        Ok(answer(StatusCode::CREATED, &headers, Body::empty()))
    }

    /// DELETE of a tag, or of a manifest with all its tags.
    pub(super) async fn delete_manifest(self, selector: Selector) -> Result<Answer, Refusal> {
        let named = self.named;
        let name = named.reference(&selector);
        self.shared
            .call(move |shared, store| {
                let gone = match selector {
                    Selector::Tag(_) => store.untag_keeping(&name?)?,
                    Selector::Digest(digest) => {
                        let detached = detach(shared, store, &named, &digest)?;
                        let gone = store.forget(&named.exact, &digest)? > 0 || detached;
                        shared.catalog.changed();
                        let meant = shared.catalog.meant(store, &named)?;
                        if let Some((of, _)) = shared.catalog.manifest(store, &meant, &digest)?
                            && !gone
                        {
                            let of = of.familiar();
                            return Err(Refusal::unsupported(format!("it belongs to {of}")));
                        }
                        gone
                    }
                };
                shared.catalog.changed();
                if gone {
                    Ok(answer(StatusCode::ACCEPTED, &[], Body::empty()))
                } else {
                    let message = format!("`{}` has no such manifest", named.path);
                    Err(Refusal::absent("MANIFEST_UNKNOWN", message))
                }
            })
            .await
    }

    /// DELETE of a blob that no manifest of the repository needs.
    pub(super) async fn delete_blob(self, digest: BlobDigest) -> Result<Answer, Refusal> {
        let named = self.named;
        self.shared
            .call(move |shared, store| {
                let meant = shared.catalog.meant(store, &named)?;
                if let Some((of, _)) = shared.catalog.blob(store, &meant, &digest)? {
                    let message = format!("{} needs it: delete that", of.familiar());
                    return Err(Refusal::unsupported(message));
                }
                if shared.pushed.forget(&named, &digest) {
                    return Ok(answer(StatusCode::ACCEPTED, &[], Body::empty()));
                }
                let message = format!("`{}` has no blob {digest}", named.path);
                Err(Refusal::absent("BLOB_UNKNOWN", message))
            })
            .await
    }
}

/// Most manifests that pushes attach something to: each list of what is attached is a file.
const SUBJECTS: usize = 10_000;

/// Attaches a manifest to what it is about. False if the repository does not have that: the
/// manifest is found by it all the same, once it has, and needs a name until then.
fn attach(
    shared: &Shared,
    store: &Store,
    named: &Named,
    subject: &BlobDigest,
    at: &Descriptor,
) -> Result<bool, Refusal> {
    let subjects = store.subjects()?;
    if subjects.len() >= SUBJECTS && !subjects.contains(subject) {
        let message = "the store has something attached to as many manifests as pushes may";
        return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message));
    }
    let bytes = store.document(&at.digest)?;
    let raw = Raw { bytes, digest: at.digest, media_type: at.media_type.clone() };
    store.attach_document(&raw)?;
    let meant = shared.catalog.meant(store, named)?;
    let found = shared.catalog.manifest(store, &meant, subject)?;
    Ok(found.is_some_and(|(name, _)| named.is(&name)))
}

/// Takes a manifest from what it is attached to in this repository.
fn detach(
    shared: &Shared,
    store: &Store,
    named: &Named,
    digest: &BlobDigest,
) -> Result<bool, Refusal> {
    let meant = shared.catalog.meant(store, named)?;
    let Some((name, at)) = shared.catalog.manifest(store, &meant, digest)? else {
        return Ok(false);
    };
    if !named.is(&name) {
        return Ok(false);
    }
    let links = shared.catalog.links(store, &at)?;
    match links.and_then(|links| links.subject) {
        Some(subject) => Ok(store.detach(&subject, digest)?),
        None => Ok(false),
    }
}

/// Where an upload is, and how far.
fn status(code: StatusCode, named: &Named, upload: &Upload) -> Answer {
    let location = named.location(&format!("blobs/uploads/{}", upload.id));
    let range = upload.range();
    let headers =
        [("location", location.as_str()), ("range", &range), ("docker-upload-uuid", &upload.id)];
    answer(code, &headers, Body::empty())
}

/// A refusal after which an upload goes on, unless the store could not be written.
fn after(shared: &Shared, refusal: Refusal, named: &Named, upload: &Upload) -> Refusal {
    if refusal.inside.is_some() {
        shared.uploads.remove(upload);
        return refusal;
    }
    refusal.with("location", named.location(&format!("blobs/uploads/{}", upload.id)))
}

fn created(named: &Named, digest: &BlobDigest) -> Answer {
    let digest = digest.to_string();
    let location = named.location(&format!("blobs/{digest}"));
    let headers = [("location", location.as_str()), (CONTENT_DIGEST, &digest)];
    answer(StatusCode::CREATED, &headers, Body::empty())
}

/// Gives what was uploaded its name.
async fn finish(
    shared: &Arc<Shared>,
    named: &Named,
    upload: &Upload,
    digest: BlobDigest,
) -> Result<Answer, Refusal> {
    upload::commit(upload.close().await?, digest).await?;
    let of = named.clone();
    shared
        .call(move |shared, store| {
            // By the session of now: that of the upload may be an older one.
            if !store.hold_blob(&digest) {
                let message = "a clean-up has taken the blob away; begin anew";
                return Err(Refusal::bad("BLOB_UPLOAD_INVALID", message));
            }
            shared.pushed.note(&of, &digest)
        })
        .await?;
    Ok(created(named, &digest))
}

/// Takes a blob from another repository. None if that has it not: the client sends it then.
async fn mount(
    shared: &Arc<Shared>,
    named: &Named,
    digest: BlobDigest,
    from: Option<Named>,
) -> Result<Option<Answer>, Refusal> {
    let of = named.clone();
    let mounted = shared.call(move |shared, store| {
        let size = match &from {
            Some(from) => read::held(shared, store, from, &digest)?,
            // Whoever has it: what may be read from one may be read from all.
            None if shared.pushed.has_anywhere(&digest) => read::size(store, &digest),
            None => match shared.catalog.any_blob(store, &digest)? {
                Some(_) => read::size(store, &digest),
                None => None,
            },
        };
        if size.is_some() {
            shared.pushed.note(&of, &digest)?;
        }
        Ok(size.is_some())
    });
    Ok(mounted.await?.then(|| created(named, &digest)))
}

/// All that a manifest refers to is there, with the sizes that it states.
fn complete(
    shared: &Shared,
    store: &Store,
    named: &Named,
    manifest: &Linked,
) -> Result<(), Refusal> {
    let unknown = |what: &str, at: &Descriptor| {
        let Descriptor { digest, size, .. } = at;
        let message = format!("{what} {digest} of {size} bytes is not in `{}`", named.path);
        Err(Refusal::bad("MANIFEST_BLOB_UNKNOWN", message))
    };
    for blob in manifest.blobs.iter().filter(|blob| !blob.media_type.is_foreign()) {
        if read::held(shared, store, named, &blob.digest)? != Some(blob.size) {
            return unknown("blob", blob);
        }
    }
    if manifest.manifests.is_empty() {
        return Ok(());
    }
    let meant = shared.catalog.meant(store, named)?;
    for listed in &manifest.manifests {
        let found = shared.catalog.manifest(store, &meant, &listed.digest)?;
        if found.is_none() || !store.has_blob(&listed.digest, listed.size) {
            return unknown("manifest", listed);
        }
    }
    Ok(())
}

fn media_type(head: &HeaderMap) -> Result<MediaType, Refusal> {
    let text = head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = text.split(';').next().unwrap_or_default().trim();
    if text.is_empty() {
        return Err(Refusal::bad("MANIFEST_INVALID", "Content-Type says which kind it is"));
    }
    Ok(MediaType::from(text.to_owned()))
}

fn length(head: &HeaderMap) -> Option<u64> {
    head.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The header `Content-Range`, which agrees with the length if both are there.
fn range(head: &HeaderMap) -> Result<Option<(u64, u64)>, Refusal> {
    let Some(value) = head.get(CONTENT_RANGE) else { return Ok(None) };
    let range = value.to_str().ok().and_then(upload::content_range);
    let (start, end) = range.ok_or_else(|| {
        Refusal::bad("BLOB_UPLOAD_INVALID", "Content-Range is no `START-END` of bytes")
    })?;
    match length(head) {
        Some(length) if end - start + 1 != length => {
            let message = format!("Content-Length is {length}, Content-Range says otherwise");
            Err(Refusal::bad("SIZE_INVALID", message))
        }
        _ => Ok(Some((start, end))),
    }
}
