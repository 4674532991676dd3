//! The course of one upload: what is asked next, and what an answer means for that.

use std::time::Duration;

use reqwest::header::{
    CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::super::authorize::Turns;
use super::super::transport::{Ask, Session, passing};
use super::super::{RegistryError, blob};
use super::flow::{Broken, CHECKING, Flow};
use super::kept::Kept;
use super::{Blob, opened};
use crate::net::retry_after;
use crate::progress::Task;

/// The least size of chunks that a registry wishes.
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What came of a step.
pub(super) enum Step {
    Done,
    On,
    /// What may pass, and how long the registry wishes to be left alone.
    Wait(RegistryError, Option<Duration>),
}

/// An upload under way.
pub(super) struct Course<'a> {
    session: &'a Session,
    blob: &'a Blob<'a>,
    what: &'a str,
    task: &'a Task,
    flow: Flow<'a>,
    /// Remembers the session of an upload in chunks.
    kept: Option<Kept<'a>>,
    /// A session that is open already, for when there is no other.
    spare: Option<Url>,
    /// The session is one that an earlier process opened, and was not seen yet.
    remembered: bool,
    /// Most bytes of a request.
    chunk: u64,
    /// Where the session is; none is open otherwise.
    url: Option<Url>,
    /// Bytes that it has, by the registry's word.
    at: u64,
    /// It has to be asked for that word.
    unsure: bool,
    /// Bytes that it may have at most.
    reached: u64,
    /// Most bytes that any session had: what comes on top of that is progress.
    most: u64,
    /// Something was sent: the registry was there a moment ago.
    begun: bool,
    /// The last request went out once: the blob may be there.
    closed: bool,
    /// The session went on after a break.
    resumed: bool,
    /// The registry took a chunk.
    chunks: bool,
    /// It takes none.
    whole: bool,
    /// Answers in a row that say that the place is wrong.
    misplaced: u32,
    /// What the last request with bytes showed to the registry.
    shown: Option<HeaderValue>,
    /// How often that was renewed without getting anywhere.
    turns: Turns,
}

impl<'a> Course<'a> {
    pub(super) fn new(
        session: &'a Session,
        blob: &'a Blob<'a>,
        opened: Option<Url>,
        what: &'a str,
        task: &'a Task,
    ) -> Result<Self, RegistryError> {
        let (size, chunk) = (blob.size, session.at.chunk());
        let flow = Flow::open(blob, what)?;
        let whole = session.at.takes_whole(&session.host);
        let kept = if size > chunk && !whole { Kept::of(session, blob)? } else { None };
        let url = kept.as_ref().and_then(|kept| kept.url(session));
        let remembered = url.is_some();
        Ok(Self {
            session,
            blob,
            what,
            task,
            flow,
            kept,
            spare: opened,
            remembered,
            chunk,
            url,
            at: 0,
            unsure: remembered,
            reached: if remembered { size } else { 0 },
            most: 0,
            begun: false,
            closed: false,
            resumed: false,
            chunks: false,
            whole,
            misplaced: 0,
            shown: None,
            turns: Turns::default(),
        })
    }

    /// Most bytes that the registry was known to have.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// Makes one request.
    ///
    /// # Errors
    /// What is final.
    pub(super) async fn step(&mut self) -> Result<Step, RegistryError> {
        let Some(url) = self.url.clone() else { return self.begin().await };
        let size = self.blob.size;
        if self.unsure {
            self.locate(url).await
        } else if self.at == 0 && (self.whole || size <= self.chunk) {
            self.put(url, 0).await
        } else if self.at < size {
            self.patch(url).await
        } else {
            self.put(url, size).await
        }
    }

    /// What is remembered at the end: a session that the next process may go on with, if the
    /// registry was only away, or a login has run out.
    pub(super) fn end(self, sent: Result<(), RegistryError>) -> Result<(), RegistryError> {
        use RegistryError::{Denied, Token, TooManyRequests, Unauthorized};
        let goes_on = sent.as_ref().is_err_and(|error| {
            let login = matches!(error, Unauthorized { .. } | Denied { .. } | Token { .. });
            login || error.may_pass() || matches!(error, TooManyRequests { .. })
        });
        match &self.kept {
            Some(kept) if !goes_on => sent.and(kept.forget()),
            _ => sent,
        }
    }

    /// The session is at an address now.
    fn go(&mut self, url: Url) -> Result<(), RegistryError> {
        if let Some(kept) = self.kept.as_ref().filter(|_| !self.whole) {
            kept.note(&url)?;
        }
        self.url = Some(url);
        Ok(())
    }

    /// Opens a session.
    async fn begin(&mut self) -> Result<Step, RegistryError> {
        match self.open().await {
            Err(error) if self.begun && error.may_pass() => Ok(Step::Wait(error, None)),
            opened => opened,
        }
    }

    async fn open(&mut self) -> Result<Step, RegistryError> {
        let Self { session, what, .. } = *self;
        if self.closed && blob::exists(session, self.blob.digest, what).await? {
            return Ok(Step::Done);
        }
        if let Some(url) = self.spare.take() {
            self.go(url)?;
            return Ok(Step::On);
        }
        let url = session.url("blobs/uploads/")?;
        let ask = self.single(Ask::new(Method::POST, url.clone(), what));
        let response = session.ask(&ask).await?;
        self.go(opened(session, &url, &response, what)?)?;
        let least = response.headers().get(CHUNK_MIN).and_then(|value| value.to_str().ok());
        let least = least.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        self.chunk = session.at.chunk().max(least);
        self.closed = false;
        Ok(Step::On)
    }

    /// The session is gone, or worth nothing.
    fn lose(&mut self) {
        self.url = None;
        self.at = 0;
        self.reached = 0;
        self.unsure = false;
        self.resumed = false;
    }

    /// The registry does not do what it should with chunks: all at once then, as it must be able
    /// to, for the blobs after this one too.
    fn at_once(&mut self) {
        self.whole = true;
        self.session.at.set_whole(&self.session.host);
        self.lose();
    }

    /// Asks the registry how far it is.
    async fn locate(&mut self, url: Url) -> Result<Step, RegistryError> {
        let remembered = std::mem::take(&mut self.remembered);
        match self.ask(&url).await {
            // What is remembered is worth one question.
            Err(RegistryError::Store(error)) => Err(error.into()),
            Err(_) | Ok(Step::Wait(..)) if remembered => {
                self.lose();
                Ok(Step::On)
            }
            step => step,
        }
    }

    /// A request that is repeated here, and not where it is sent, once the upload is under way.
    fn single<'b>(&self, ask: Ask<'b>) -> Ask<'b> {
        Ask { single: self.begun, ..ask }
    }

    async fn ask(&mut self, url: &Url) -> Result<Step, RegistryError> {
        let Self { session, what, .. } = *self;
        let response =
            match session.send(&self.single(Ask::new(Method::GET, url.clone(), what))).await {
                Ok(response) => response,
                Err(error) if error.may_pass() => return Ok(Step::Wait(error, None)),
                Err(error) => return Err(error),
            };
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(session.refusal(response, what).await);
        }
        if passing(status) {
            let wish = retry_after(response.headers());
            return Ok(Step::Wait(session.refusal(response, what).await, wish));
        }
        // What it cannot have is no word to go by.
        // Where all goes at once a part is of no use.
        let useful = |at: &u64| !self.whole || *at == 0 || *at == self.blob.size;
        let at = confirmed(response.headers()).filter(|at| *at <= self.reached).filter(useful);
        match at.filter(|_| status.is_success()) {
            Some(at) => {
                self.go(self.next(url, &response)?)?;
                self.at = at;
                self.most = self.most.max(at);
                if at > 0 {
                    self.resumed = true;
                    self.task.resumed(at);
                }
                self.unsure = false;
            }
            None => self.lose(),
        }
        Ok(Step::On)
    }

    /// Where the session is after an answer.
    fn next(&self, url: &Url, response: &Response) -> Result<Url, RegistryError> {
        if response.headers().contains_key(LOCATION) {
            return self.session.location(url, response, self.what);
        }
        Ok(url.clone())
    }

    /// Sends a chunk.
    async fn patch(&mut self, url: Url) -> Result<Step, RegistryError> {
        let begin = self.at;
        let end = self.blob.size.min(begin.saturating_add(self.chunk));
        let range = HeaderValue::from_str(&format!("{begin}-{}", end - 1));
        let range = range.unwrap_or_else(|_| HeaderValue::from_static("0-0"));
        let ask = Ask::new(Method::PATCH, url.clone(), self.what)
            .header(CONTENT_TYPE, BYTES)
            .header(CONTENT_RANGE, range);
        let response = match self.carry(ask, begin, end).await? {
            Ok(response) => response,
            Err(error) => return Ok(Step::Wait(error, None)),
        };
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return self.renew(response).await;
        }
        if !self.chunks && begin == 0 && takes_no_chunks(status) {
            self.at_once();
            return Ok(Step::On);
        }
        if !status.is_success() {
            return self.refused(response).await;
        }
        let at = confirmed(response.headers()).unwrap_or(end);
        self.go(self.next(&url, &response)?)?;
        if at <= begin || at > end {
            self.unsure = true;
            self.misplaced += 1;
            if self.misplaced > 1 {
                self.at_once();
            }
            let (host, why) = (self.session.host.clone(), "it took a chunk and has not got it");
            return Ok(Step::Wait(RegistryError::Protocol { host, why: why.into() }, None));
        }
        if at > self.most {
            // What was there before shows nothing.
            self.misplaced = 0;
        }
        (self.at, self.chunks, self.turns) = (at, true, Turns::default());
        self.most = self.most.max(at);
        Ok(Step::On)
    }

    /// Closes the session with the bytes from `begin` on: all, or none.
    async fn put(&mut self, mut url: Url, begin: u64) -> Result<Step, RegistryError> {
        let Self { session, what, .. } = *self;
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let ask = Ask { patience: CHECKING, ..Ask::new(Method::PUT, url, what) };
        let end = self.blob.size;
        let sent = if begin < end || end == 0 {
            match self.carry(ask.header(CONTENT_TYPE, BYTES), begin, end).await? {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                    return self.renew(response).await;
                }
                sent => sent,
            }
        } else {
            self.flow.check().await?;
            match session.send(&self.single(ask)).await {
                Err(error) if error.may_pass() => {
                    self.unsure = true;
                    Err(error)
                }
                Err(error) => return Err(error),
                Ok(response) => Ok(response),
            }
        };
        self.closed = true;
        match sent {
            Ok(response) if response.status().is_success() => Ok(Step::Done),
            Ok(response) => self.refused(response).await,
            Err(error) => Ok(Step::Wait(error, None)),
        }
    }

    /// Sends bytes. What may pass is the inner error.
    async fn carry(
        &mut self,
        ask: Ask<'_>,
        begin: u64,
        end: u64,
    ) -> Result<Result<Response, RegistryError>, RegistryError> {
        self.begun = true;
        self.reached = self.reached.max(end);
        self.shown = match self.session.shown().await {
            Err(error) if error.may_pass() => return Ok(Err(error)),
            shown => shown?,
        };
        match self.flow.send(self.session, ask, begin, end, self.task).await {
            Ok(response) => Ok(Ok(response)),
            Err(Broken::Way(error)) if error.may_pass() => {
                self.unsure = true;
                Ok(Err(error))
            }
            Err(Broken::Way(error) | Broken::Source(error)) => Err(error),
        }
    }

    /// What was shown with bytes was refused: the token ran out, or allows less. How far the
    /// registry is, it is asked again.
    async fn renew(&mut self, response: Response) -> Result<Step, RegistryError> {
        let Self { session, what, .. } = *self;
        let (headers, shown) = (response.headers(), self.shown.as_ref());
        self.unsure = true;
        match session.renew(headers, shown, what, &mut self.turns).await {
            Ok(true) => Ok(Step::On),
            Ok(false) => Err(session.refusal(response, what).await),
            Err(error) if error.may_pass() => Ok(Step::Wait(error, None)),
            Err(error) => Err(error),
        }
    }

    /// What an answer means that is no success.
    async fn refused(&mut self, response: Response) -> Result<Step, RegistryError> {
        let (status, wish) = (response.status(), retry_after(response.headers()));
        let error = self.session.refusal(response, self.what).await;
        match status {
            StatusCode::NOT_FOUND => self.lose(),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.misplaced += 1;
                self.unsure = true;
                match self.misplaced {
                    ..=1 => {}
                    2 => self.lose(),
                    _ => self.at_once(),
                }
            }
            status if passing(status) => self.unsure = true,
            // What another upload left there may be the reason.
            StatusCode::BAD_REQUEST if self.resumed => self.lose(),
            _ => {
                self.flow.verify().await?;
                return Err(error);
            }
        }
        Ok(Step::Wait(error, wish))
    }
}

/// Answers to a first chunk of registries that take none.
fn takes_no_chunks(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

/// How many bytes a session has, as its `Range` says: `0-9` are ten. `0-0` is what registries
/// say of none.
fn confirmed(headers: &HeaderMap) -> Option<u64> {
    range(headers.get(RANGE)?.to_str().ok()?)
}

fn range(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix("bytes=").or_else(|| text.strip_prefix("bytes ")).unwrap_or(text);
    match text.strip_prefix("0-")?.parse::<u64>().ok()? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_sessions() {
        for (text, expected) in [
            ("0-0", Some(0)),
            ("0-9", Some(10)),
            (" bytes=0-9", Some(10)),
            ("bytes 0-9", Some(10)),
            ("1-9", None),
            ("0-", None),
            ("0--1", None),
            ("-9", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(range(text), expected, "{text}");
        }
    }
}
