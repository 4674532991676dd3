//! A blob's bytes as a registry gives them, in order, from any place on.
//!
//! An answer that breaks off is asked for again from where it was (RFC 9110, 14.2); of a
//! registry that has no ranges, the part that has come is skipped. No condition (`If-Range`) is
//! needed: a digest names one content for ever. What is given ends after the very number of
//! bytes that was stated, or is an error; that they are the right ones is for whoever takes the
//! digest over them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::RegistryError;
use super::transport::{Ask, Session, why};
use crate::digest::BlobDigest;
use crate::net::{Backoff, IDLE};
use crate::progress::Task;

/// Bytes that have to come for a break after them to be met with patience anew, and within
/// [`SLOW`] in any case: who sends less than that keeps nobody waiting for ever.
const WORTH: u64 = 64 << 10;

/// Longest time for [`WORTH`] bytes.
const SLOW: Duration = Duration::from_secs(300);

/// How long whoever gives the bytes is waited for.
struct Patience {
    backoff: Backoff,
    /// New bytes that have come since that began anew.
    bytes: u64,
    /// Bytes that have come, new or not, and how long they were waited for.
    seen: u64,
    waited: Duration,
}

/// Why no piece came.
enum Missed {
    /// The next answer may have it.
    Broken(String),
    Slow(String),
}

impl Patience {
    fn new() -> Self {
        Self { backoff: Backoff::patient(), bytes: 0, seen: 0, waited: Duration::ZERO }
    }

    fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes >= WORTH {
            (self.bytes, self.backoff) = (0, Backoff::patient());
        }
    }

    /// Reads a piece of an answer, or says why none came.
    async fn piece(&mut self, answer: &mut Response) -> Result<Option<Bytes>, Missed> {
        let (left, begun) = (SLOW.saturating_sub(self.waited), Instant::now());
        let came = tokio::time::timeout(IDLE.min(left), answer.chunk()).await;
        self.waited += begun.elapsed();
        match came {
            Ok(Ok(piece)) => {
                self.seen += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                if self.seen >= WORTH {
                    (self.seen, self.waited) = (0, Duration::ZERO);
                }
                Ok(piece)
            }
            Ok(Err(error)) => Err(Missed::Broken(why(error))),
            Err(_) if left < IDLE => {
                let (few, long) = (WORTH >> 10, SLOW.as_secs());
                Err(Missed::Slow(format!("less than {few} kB came in {long} s")))
            }
            Err(_) => Err(Missed::Broken(format!("nothing came for {} s", IDLE.as_secs()))),
        }
    }
}

/// A blob being read.
pub(super) struct Reading<'a> {
    session: &'a Session,
    url: Url,
    what: &'a str,
    size: u64,
    /// The place of the next byte to give.
    at: u64,
    /// The answer that is being read.
    answer: Option<Response>,
    /// What was taken from it and not given.
    rest: Option<Bytes>,
    /// Bytes of it that lie before `at`.
    skip: u64,
    /// False once the registry was seen to give no ranges, or wrong ones.
    ranges: bool,
    ended: bool,
    patience: Patience,
    /// Whether bytes have come: what breaks then is worth more patience.
    moved: bool,
    /// Told of breaks.
    task: Option<&'a Task>,
}

impl<'a> Reading<'a> {
    /// Prepares to read from byte `at` on. Nothing is asked before the first call of
    /// [`Reading::next`].
    pub(super) fn new(
        session: &'a Session,
        digest: BlobDigest,
        size: u64,
        at: u64,
        what: &'a str,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            session,
            url: session.url(&format!("blobs/{digest}"))?,
            what,
            size,
            at,
            answer: None,
            rest: None,
            skip: 0,
            ranges: true,
            // Of what is there already nothing has to be asked.
            ended: at > 0 && at >= size,
            patience: Patience::new(),
            moved: false,
            task: None,
        })
    }

    /// Tells a task when it goes on after a break, and what it waits for.
    pub(super) fn telling(self, task: &'a Task) -> Self {
        Self { task: Some(task), ..self }
    }

    /// Where the next piece begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes, none of them at or behind byte `end`, which lies ahead.
    pub(super) async fn next_up_to(&mut self, end: u64) -> Result<Option<Bytes>, RegistryError> {
        let Some(mut piece) = self.next().await? else { return Ok(None) };
        if self.at > end {
            let over = usize::try_from(self.at - end).unwrap_or(usize::MAX).min(piece.len());
            self.at -= over as u64;
            self.rest = Some(piece.split_off(piece.len() - over));
        }
        Ok(Some(piece))
    }

    /// The next bytes; `None` once all have been given.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if let Some(rest) = self.rest.take() {
            self.at += rest.len() as u64;
            return Ok(Some(rest));
        }
        while !self.ended {
            let answer = match self.answer.take() {
                Some(answer) => Ok(answer),
                None => self.ask().await,
            };
            let error = match answer {
                Ok(mut answer) => match self.patience.piece(&mut answer).await {
                    Ok(Some(bytes)) => {
                        self.answer = Some(answer);
                        match self.take(bytes)? {
                            Some(bytes) => return Ok(Some(bytes)),
                            None => continue,
                        }
                    }
                    // All of it has come: how the connection ended does not matter.
                    Ok(None) | Err(_) if self.at == self.size => {
                        self.ended = true;
                        continue;
                    }
                    Ok(None) => {
                        let why = format!("it ended after {} of {} bytes", self.at, self.size);
                        self.session.interrupted(self.what, why)
                    }
                    Err(Missed::Broken(why)) => self.session.interrupted(self.what, why),
                    Err(Missed::Slow(why)) => {
                        return Err(self.session.interrupted(self.what, why));
                    }
                },
                // The first request was repeated already; later ones meet a registry that
                // was there a moment ago.
                Err(error) if self.moved && error.may_pass() => error,
                Err(error) => return Err(error),
            };
            let Some(pause) = self.patience.backoff.wait(None) else { return Err(error) };
            if let Some(task) = self.task {
                task.waiting(pause, &error);
            }
            tokio::time::sleep(pause).await;
        }
        Ok(None)
    }

    /// What of a piece is new.
    fn take(&mut self, bytes: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        let new = bytes.slice(skipped..);
        if new.is_empty() {
            return Ok(None);
        }
        if new.len() as u64 > self.size - self.at {
            return Err(self.mismatch("more".to_owned()));
        }
        self.at += new.len() as u64;
        self.moved = true;
        self.patience.came(new.len());
        Ok(Some(new))
    }

    fn mismatch(&self, found: String) -> RegistryError {
        RegistryError::Mismatch {
            host: self.session.host.clone(),
            what: self.what.to_owned(),
            expected: format!("{} bytes", self.size),
            found,
        }
    }

    /// Asks for the rest, and sees to it that the answer is that.
    async fn ask(&mut self) -> Result<Response, RegistryError> {
        loop {
            let mut ask = Ask::new(Method::GET, self.url.clone(), self.what);
            let from = if self.ranges { self.at } else { 0 };
            if from > 0 {
                ask = ask.header(RANGE, range(from));
            }
            // What breaks in the middle is repeated here.
            ask.single = self.moved;
            let answer = self.session.send(&ask).await?;
            let length = answer.content_length();
            match answer.status() {
                StatusCode::OK => {
                    if let Some(length) = length.filter(|length| *length != self.size) {
                        return Err(self.mismatch(length.to_string()));
                    }
                    self.skip = self.at;
                    return Ok(answer);
                }
                StatusCode::PARTIAL_CONTENT if from > 0 => {
                    let right = covers(&answer, from, self.size)
                        && length.is_none_or(|length| length <= self.size - from);
                    if right {
                        if let Some(task) = self.task {
                            task.resumed(from);
                        }
                        self.skip = 0;
                        return Ok(answer);
                    }
                    // Something else than was asked for: from the beginning then.
                    self.ranges = false;
                }
                StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => self.ranges = false,
                _ => return Err(self.session.refusal(answer, self.what).await),
            }
        }
    }
}

fn range(from: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes={from}-")).unwrap_or(HeaderValue::from_static("bytes=0-"))
}

/// Whether a partial answer says that it begins at a byte and lies within the blob (RFC 9110,
/// 14.4).
fn covers(answer: &Response, from: u64, size: u64) -> bool {
    let text = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    text.and_then(parts).is_some_and(|(first, last, all)| {
        first == from && last < size && all.is_none_or(|all| all == size)
    })
}

/// First and last byte of a `Content-Range`, and how many there are in all.
fn parts(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, all) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let all = match all.trim() {
        "*" => None,
        all => Some(all.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte for each connection must not keep anybody for ever.
    #[test]
    fn little_is_no_reason_for_patience() {
        let mut patience = Patience::new();
        let mut breaks = 0;
        while patience.backoff.wait(None).is_some() {
            patience.came(1);
            breaks += 1;
        }
        assert!(breaks < 20, "{breaks}");
        let mut patience = Patience::new();
        for _ in 0..100 {
            assert!(patience.backoff.wait(None).is_some());
            patience.came(WORTH as usize);
        }
    }

    #[test]
    fn ranges_of_answers() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, 9, Some(10)))),
            (" bytes 5-9/* ", Some((5, 9, None))),
            ("bytes */10", None),
            ("bytes 5-9", None),
            ("bytes 5-/10", None),
            ("bytes -9/10", None),
            ("bytes 5-9/ten", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}
