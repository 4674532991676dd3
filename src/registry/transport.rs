//! One repository at one registry, and how requests get there.
//!
//! What carries credentials goes through [`Session::send`], but for files that the kernel
//! sends (`upload/flow.rs`) and the requests for tokens (`auth/token.rs`). It keeps
//! these rules: `Authorization` goes to the registry's own scheme, host and port
//! only; a challenge met elsewhere is not answered; redirects are few, never
//! from https to http, and to plain http only where that is allowed; waits end;
//! 429, 5xx and broken connections are repeated with back-off, other answers
//! are final; what the registry does not take is renewed (`authorize.rs`).

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::authorize::{Access, Turns};
use super::endpoint;
use super::mirror::Place;
use super::{Registries, RegistryError, words};
use crate::digest::BlobDigest;
use crate::net::{Backoff, IDLE, causes, retry_after};

/// Most redirects of one request.
const HOPS: usize = 5;

/// What a session may do; the scope of its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
    Delete,
}

/// One repository at one registry.
pub(super) struct Session {
    pub(super) at: Registries,
    /// As the user knows it: `docker.io`, `registry.corp:5000`.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) base: Url,
    /// What is shown to the registry.
    pub(super) access: Access,
}

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// What it is about, for messages.
    pub(super) what: &'a str,
    /// Longest wait for the answer.
    pub(super) patience: Duration,
    /// Who asks repeats it, and not [`Session::send`].
    pub(super) single: bool,
}

/// What a request carries.
pub(super) enum Body {
    None,
    Bytes(Bytes),
    /// A stream goes out once: who has it repeats the request. Also, waiting
    /// for the answer is theirs, who see the stream move.
    Stream(std::sync::Mutex<Option<reqwest::Body>>),
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, url: Url, what: &'a str) -> Self {
        let (headers, body) = (HeaderMap::new(), Body::None);
        Self { method, url, headers, body, what, patience: IDLE, single: false }
    }

    pub(super) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

impl Session {
    /// Finds out how the registry is spoken to. Sends no credentials.
    pub(super) async fn open(
        at: &Registries,
        place: &Place,
        action: Action,
    ) -> Result<Self, RegistryError> {
        if let Some(path) = &place.blocked {
            return Err(RegistryError::Blocked { name: place.name(), path: path.clone() });
        }
        let base = endpoint::base(at, &place.host, place.insecure).await?;
        let actions = match action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
            Action::Delete => "pull,push,delete",
        };
        let scopes = if place.repository.is_empty() {
            Vec::new()
        } else {
            vec![format!("repository:{}:{actions}", place.repository)]
        };
        Ok(Self {
            at: at.clone(),
            host: place.host.clone(),
            repository: place.repository.clone(),
            base,
            access: Access::new(scopes),
        })
    }

    /// An address below the repository: `manifests/latest`, `blobs/sha256:…`.
    pub(super) fn url(&self, below: &str) -> Result<Url, RegistryError> {
        let path = if self.repository.is_empty() {
            "/v2/".to_owned()
        } else {
            format!("/v2/{}/{below}", self.repository)
        };
        self.base.join(&path).map_err(|error| RegistryError::Protocol {
            host: self.host.clone(),
            why: format!("`{path}` makes no address: {error}"),
        })
    }

    /// The address that a `Location` names, if kiln may go there.
    pub(super) fn location(
        &self,
        from: &Url,
        response: &Response,
        what: &str,
    ) -> Result<Url, RegistryError> {
        let value = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let value = value.ok_or_else(|| RegistryError::Protocol {
            host: self.host.clone(),
            why: format!("no Location in the answer to {what}"),
        })?;
        self.follow(from, value).map_err(|why| RegistryError::Redirect {
            host: self.host.clone(),
            what: what.into(),
            why,
        })
    }

    /// The address that a text names, seen from another, or why kiln does not go there.
    fn follow(&self, from: &Url, text: &str) -> Result<Url, String> {
        endpoint::follow(from, text, |host| self.at.plain_allowed(host))
    }

    /// An address that an earlier process was sent to, if this one may go there too.
    pub(super) fn known_address(&self, text: &str) -> Option<Url> {
        self.follow(&self.base, text).ok()
    }

    /// The same, with a token that may also read another repository of the registry.
    pub(super) fn reading(&self, repository: &str) -> Self {
        Self {
            at: self.at.clone(),
            host: self.host.clone(),
            repository: self.repository.clone(),
            base: self.base.clone(),
            access: self.access.and(format!("repository:{repository}:pull")),
        }
    }

    /// Whether this process has seen the repository have a blob.
    pub(super) fn holds(&self, digest: BlobDigest) -> bool {
        self.at.holds(&self.name(), digest)
    }

    pub(super) fn set_held(&self, digest: BlobDigest) {
        self.at.set_held(self.name(), digest);
    }

    /// `host/repository`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Sends a request and gives the final answer, whatever its status.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Response, RegistryError> {
        let mut backoff = Backoff::default();
        let mut connecting = Backoff::short();
        let mut turns = Turns::default();
        loop {
            let shown = self.shown().await?;
            let once = matches!(ask.body, Body::Stream(_));
            let repeat = !once && !ask.single;
            let (pause, why) = match self.hop(ask, shown.as_ref()).await {
                Ok((response, true)) if response.status() == StatusCode::UNAUTHORIZED => {
                    // Of a stream it is done by who has it.
                    let (headers, shown) = (response.headers(), shown.as_ref());
                    if once || !self.renew(headers, shown, ask.what, &mut turns).await? {
                        return Ok(response);
                    }
                    continue;
                }
                Ok((response, own)) => {
                    if !own && response.status() == StatusCode::UNAUTHORIZED {
                        return Err(self.foreign_login(ask.what));
                    }
                    if !repeat || !passing(response.status()) {
                        return Ok(response);
                    }
                    match backoff.wait(retry_after(response.headers())) {
                        Some(pause) => {
                            let status = response.status();
                            (pause, format!("{} answered {status} to {}", self.host, ask.what))
                        }
                        None => return Ok(response),
                    }
                }
                Err(error) if !repeat || !error.may_pass() => return Err(error),
                Err(error) => {
                    let refused = matches!(error, RegistryError::Unreachable { .. });
                    let turns = if refused { &mut connecting } else { &mut backoff };
                    match turns.wait(None) {
                        Some(pause) => (pause, error.to_string()),
                        None => return Err(error),
                    }
                }
            };
            self.at.say_waiting(pause, &why);
            tokio::time::sleep(pause).await;
        }
    }

    /// As [`Session::send`]; an answer that is no success is an error.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Response, RegistryError> {
        let response = self.send(ask).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response, ask.what).await)
    }

    /// Sends once and follows redirects. The flag says whether the answer is the
    /// registry's own.
    async fn hop(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, bool), RegistryError> {
        let mut url = ask.url.clone();
        for _ in 0..=HOPS {
            let own = endpoint::same_origin(&url, &self.base);
            let client = self.at.client_for(&url)?;
            let mut request =
                client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
            if let Some(value) = authorization.filter(|_| own) {
                request = request.header(header::AUTHORIZATION, value);
            }
            let mut patience = ask.patience;
            match &ask.body {
                Body::None => {
                    if ask.method != Method::GET && ask.method != Method::HEAD {
                        request = request.header(header::CONTENT_LENGTH, 0);
                    }
                }
                Body::Bytes(bytes) => request = request.body(bytes.clone()),
                Body::Stream(stream) => {
                    let stream = stream.lock().ok().and_then(|mut stream| stream.take());
                    let Some(stream) = stream else {
                        return Err(self.interrupted(ask.what, "the stream was used up".into()));
                    };
                    request = request.body(stream);
                    patience = Duration::MAX;
                }
            }
            let response = tokio::time::timeout(patience, request.send())
                .await
                .map_err(|_| {
                    self.interrupted(ask.what, format!("no answer within {} s", patience.as_secs()))
                })?
                .map_err(|error| self.lost(&url, ask.what, error))?;
            self.at.set_answered(&url);
            if own && response.status() != StatusCode::UNAUTHORIZED {
                self.accepted(authorization);
            }
            if !redirects(&ask.method, response.status()) {
                return Ok((response, own));
            }
            if matches!(ask.body, Body::Stream(_)) {
                return Ok((response, own));
            }
            url = self.location(&url, &response, ask.what)?;
        }
        Err(RegistryError::Redirect {
            host: self.host.clone(),
            what: ask.what.into(),
            why: format!("more than {HOPS} redirects"),
        })
    }

    pub(super) fn interrupted(&self, what: &str, why: String) -> RegistryError {
        RegistryError::Interrupted { host: self.host.clone(), what: what.into(), why }
    }

    fn lost(&self, url: &Url, what: &str, error: reqwest::Error) -> RegistryError {
        let named = endpoint::host_of(url);
        // The registry's own name where it is meant, as `docker.io`.
        let host = if endpoint::same_origin(url, &self.base) { self.host.clone() } else { named };
        endpoint::broken(&self.at, url, &host, what, error)
    }

    /// The error that an answer means.
    pub(super) async fn refusal(&self, response: Response, what: &str) -> RegistryError {
        use oci_distribution::errors::OciErrorCode as Code;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let words::Said { codes, words } = words::said(response).await;
        let (host, what) = (self.host.clone(), what.to_owned());
        let repository = self.repository.clone();
        match status {
            StatusCode::UNAUTHORIZED => {
                RegistryError::Unauthorized { host, what, tried: self.tried(), words }
            }
            StatusCode::FORBIDDEN => {
                RegistryError::Denied { host, what, tried: self.tried(), words }
            }
            StatusCode::NOT_FOUND if codes.contains(&Code::NameUnknown) => {
                RegistryError::NoRepository { host, repository, words }
            }
            StatusCode::NOT_FOUND => RegistryError::NotFound { host, what, words },
            StatusCode::TOO_MANY_REQUESTS => {
                RegistryError::TooManyRequests { host, what, retry_after, words }
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let proxy = self.at.proxy(&self.base).unwrap_or_else(|| "before it".into());
                RegistryError::Proxy { host, proxy, words }
            }
            _ if codes.contains(&Code::NameInvalid) => {
                RegistryError::Name { host, repository, words }
            }
            status if status.is_server_error() => {
                RegistryError::Server { host, what, status: status.as_u16(), words }
            }
            status => RegistryError::Refused { host, what, status: status.as_u16(), words },
        }
    }

    /// As [`Session::ask`], and reads a document of up to `limit` bytes: headers and body.
    /// One that breaks off is asked for again.
    pub(super) async fn fetch(
        &self,
        ask: &Ask<'_>,
        limit: u64,
    ) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        let mut backoff = Backoff::default();
        loop {
            let response = self.ask(ask).await?;
            let headers = response.headers().clone();
            let error = match self.body(response, ask.what, limit).await {
                Ok(bytes) => return Ok((headers, bytes)),
                Err(error) if error.may_pass() => error,
                Err(error) => return Err(error),
            };
            let Some(pause) = backoff.wait(None) else { return Err(error) };
            self.at.say_waiting(pause, &error.to_string());
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a document's body up to a limit.
    pub(super) async fn body(
        &self,
        mut response: Response,
        what: &str,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let read = words::limited(&mut response, limit).await;
        read.map_err(|why| self.interrupted(what, why))?.ok_or_else(|| RegistryError::TooLarge {
            host: self.host.clone(),
            what: what.into(),
            limit,
        })
    }
}

/// Answers that may be others a little later.
pub(super) fn passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// True if an answer sends the same request elsewhere (RFC 9110, 15.4).
fn redirects(method: &Method, status: StatusCode) -> bool {
    let reads = *method == Method::GET || *method == Method::HEAD;
    match status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => reads,
        _ => false,
    }
}

/// The words for a transfer that broke off.
pub(super) fn why(error: reqwest::Error) -> String {
    causes(&error.without_url())
}
