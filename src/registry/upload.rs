//! Blobs to a registry (distribution spec 1.1, "Pushing blobs").
//!
//! A POST opens a session. What fits into one chunk goes with one PUT; more goes in chunks, a
//! PATCH each, and a PUT closes. After a break, wherever it was, the registry is asked how far
//! it is, and what it says alone decides where the upload goes on: some keep what came of a
//! broken request, others whole chunks only, and docker-registry before 3.0 knows a session no
//! more in which a request broke off. Where the session is gone a new one is opened, unless the
//! blob turns out to be there: the answer to the last request may be what was lost.
//!
//! Where a large blob's session is, the store remembers, for a process after one that was
//! killed (`upload/kept.rs`).
//!
//! The registry compares the bytes with the digest that the PUT states (it refuses what does
//! not match), so they are not hashed here as well, except those that come from another
//! registry; after a refusal a file is read again, to say whether it is to blame. An upload
//! that went on where another one ended, and is refused, begins anew once.

mod course;
mod flow;
mod kept;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, Response, StatusCode, Url};

use self::course::{Course, Step};
use super::RegistryError;
use super::transport::{Ask, Session};
use crate::digest::BlobDigest;
use crate::net::Backoff;
use crate::progress::Task;
use crate::store::Store;

/// Bytes of a chunk, and most that one request carries: few enough that little is sent again
/// after a break, and that front ends with a limit of 100 MB take them; many enough that the
/// wait for each answer counts for little.
pub(super) const CHUNK: u64 = 64 << 20;

/// Where an upload's bytes come from. All of these can be read from any place on.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Memory(&'a Bytes),
    /// The blob in the store.
    Store(&'a Store),
    /// A part of a file, from byte `start` on: a blob within an archive or an image layout.
    File {
        file: &'a Arc<File>,
        start: u64,
        /// For messages.
        path: &'a Path,
    },
    /// The blob in a repository elsewhere: it goes through a few pieces at a time, touches no
    /// disk, and is complete only if it is what its digest says.
    Remote(&'a Session),
}

/// A blob to bring.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a> {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
    pub(super) source: Source<'a>,
    /// Where it is remembered how far an upload has come, for the process after one that was
    /// killed.
    pub(super) kept: Option<&'a Store>,
}

/// Has the registry take a blob from another of its repositories (distribution spec,
/// "Mounting a blob from another repository"). Where it does not, it opens a session for
/// the bytes, whose address is given then.
pub(super) async fn mount(
    session: &Session,
    digest: BlobDigest,
    from: &str,
    what: &str,
) -> Result<Option<Url>, RegistryError> {
    let mut url = session.url("blobs/uploads/")?;
    url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
    let response = session.ask(&Ask::new(Method::POST, url.clone(), what)).await?;
    match response.status() {
        StatusCode::CREATED => Ok(None),
        _ => opened(session, &url, &response, what).map(Some),
    }
}

/// Sends a blob, into the session at `opened` if there is one.
pub(super) async fn send(
    session: &Session,
    blob: &Blob<'_>,
    opened: Option<Url>,
    what: &str,
    task: &Task,
) -> Result<(), RegistryError> {
    let mut course = Course::new(session, blob, opened, what, task)?;
    let sent = run(&mut course, task).await;
    course.end(sent)
}

/// Takes steps until the upload is over.
async fn run(course: &mut Course<'_>, task: &Task) -> Result<(), RegistryError> {
    let mut backoff = Backoff::patient();
    loop {
        let before = course.most();
        match course.step().await? {
            Step::Done => return Ok(()),
            Step::On => {}
            Step::Wait(error, wish) => {
                let Some(pause) = backoff.wait(wish) else { return Err(error) };
                task.waiting(pause, &error);
                tokio::time::sleep(pause).await;
            }
        }
        if course.most() > before {
            backoff = Backoff::patient();
        }
    }
}

/// The address to send to.
fn opened(
    session: &Session,
    from: &Url,
    response: &Response,
    what: &str,
) -> Result<Url, RegistryError> {
    match response.status() {
        StatusCode::ACCEPTED => session.location(from, response, what),
        status => Err(RegistryError::Protocol {
            host: session.host.clone(),
            why: format!("it answers {status} to the beginning of an upload"),
        }),
    }
}
