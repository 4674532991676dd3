//! Answers: heads, bodies, and refusals in the spec's form (distribution spec 1.1,
//! "Error Codes").

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::log::Entry;
use super::piece::FilePieces;
use crate::atomic::PathError;
use crate::net::escaped;
use crate::store::StoreError;

/// Docker's name for the digest of what an answer is about.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

pub(super) type Answer = Response<Body>;

/// What an answer carries, and the line of the log that is written at its end.
#[derive(Debug)]
pub(super) struct Body {
    content: Content,
    entry: Option<Entry>,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    File(Box<FilePieces>),
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    pub(super) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Bytes(bytes.into()), entry: None }
    }

    pub(super) fn file(pieces: FilePieces) -> Self {
        Self { content: Content::File(Box::new(pieces)), entry: None }
    }

    /// Has a line written when the body ends or is dropped.
    pub(super) fn logged(self, entry: Entry) -> Self {
        Self { entry: Some(entry), ..self }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => None,
            Content::Bytes(bytes) => Some(Ok(std::mem::take(bytes))),
            Content::File(pieces) => match pieces.poll_piece(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece,
            },
        };
        if let (Some(entry), Some(Ok(bytes))) = (&mut self.entry, &next) {
            entry.sent(bytes.len());
        }
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(pieces) => pieces.left(),
        })
    }
}

/// An answer with headers whose values are known to be such.
pub(super) fn answer(status: StatusCode, headers: &[(&'static str, &str)], body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    for (name, value) in headers {
        // Names and digests are ASCII; what is not cannot have come this far.
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    answer
}

/// A JSON document.
pub(super) fn json(
    status: StatusCode,
    headers: &[(&'static str, &str)],
    value: &serde_json::Value,
) -> Answer {
    let body = Body::bytes(value.to_string());
    let mut answer = answer(status, headers, body);
    answer
        .headers_mut()
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json; charset=utf-8"));
    answer
}

/// As the answer to HEAD: with the length that the body has.
pub(super) fn without_body(answer: Answer) -> Answer {
    let (mut head, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(head, Body::empty())
}

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Of the spec's list, or `UNKNOWN`.
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) headers: Vec<(&'static str, String)>,
    /// What whoever runs the server should know, and clients need not.
    pub(super) inside: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl AsRef<str>) -> Self {
        // Names in it are what a client sent.
        let message = escaped(message.as_ref(), 1000);
        Self { status, code, message, headers: Vec::new(), inside: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn bad(code: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn absent(code: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(super) fn unsupported(message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn too_many(message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
    }

    /// The server's own trouble; the reason goes to its log.
    pub(super) fn inside(why: impl Into<String>) -> Self {
        let message = "the server could not do it; its log says why";
        let refusal = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message);
        Self { inside: Some(why.into()), ..refusal }
    }

    pub(super) fn into_answer(self) -> Answer {
        let error = json!({"code": self.code, "message": self.message, "detail": null});
        let headers: Vec<(&'static str, &str)> =
            self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        json(self.status, &headers, &json!({"errors": [error]}))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::ManyNames { .. } => {
                let message = "the store has as many names as pushes may make; delete some, or \
                               have `kiln rmi` do it on the server's machine";
                let refusal = Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message);
                Self { inside: Some(error.to_string()), ..refusal }
            }
            StoreError::ManyAttached { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", error.to_string())
            }
            other => Self::inside(other.to_string()),
        }
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        Self::inside(error.to_string())
    }
}

impl From<tokio::task::JoinError> for Refusal {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::inside(error.to_string())
    }
}
