//! Connections: accepting them, TLS, their limits, and one request after the other.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, EXPECT, HeaderName, HeaderValue, RANGE, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, Refusal, without_body};
use super::catalog::Catalog;
use super::log::Entry;
use super::path::{Query, Route};
use super::shared::{Shared, Talk};
use super::stall::{IDLE, Stall};
use super::{Options, read, upload, write};
use crate::atomic::{AtPath as _, PathError};
use crate::net;
use crate::store::Store;

/// Connections at a time; more wait until one of them ends.
const MOST: usize = 256;
/// Longest time for a TLS greeting, a request's head, and between two requests.
const HEAD: Duration = Duration::from_secs(30);
/// Most bytes and fields of a head.
const HEAD_SIZE: usize = 32 << 10;
const HEAD_FIELDS: usize = 64;
/// Bytes that a connection buffers of what it reads or writes.
const BUFFER: usize = 64 << 10;
/// What is running may take so long once the server is to end.
const GRACE: Duration = Duration::from_secs(30);
/// How often is looked for what was left alone.
const TIDY: Duration = Duration::from_secs(30);
/// What is read and thrown away of a body that is refused, so that the client hears why.
const DRAINED: u64 = 8 << 20;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("{}: {why}", path.display())]
    Tls { path: PathBuf, why: String },
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    tls: Option<Tls>,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the address is not to be had, or certificate and key are none.
    pub async fn bind(store: &Store, options: Options) -> Result<Self, ServeError> {
        let Options { addr, writable, only, tls, passwords, logger, progress } = options;
        let tls = tls.map(|(chain, key)| acceptor(&chain, &key)).transpose()?;
        let listen = |source| ServeError::Listen { addr, source };
        let listener = net::listen(addr).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let listener = TcpListener::from_std(listener).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let talk = Talk { logger, progress };
        let shared = Arc::new(Shared::new(store, Catalog::new(only), passwords, writable, talk));
        Ok(Self { listener, addr, tls, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop`, and then until what is running has ended or half a minute is
    /// over.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(MOST));
        let (ending, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            tokio::select! {
                () = &mut stop => break,
                _ = tidy.tick() => {
                    let shared = Arc::clone(&self.shared);
                    drop(tokio::task::spawn_blocking(move || shared.tidy()));
                }
                Some(_) = connections.join_next() => {}
                (place, accepted) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
                        let ended = ended.clone();
                        connections.spawn(async move {
                            let _place = place;
                            greet(stream, peer, tls, shared, ended).await;
                        });
                    }
                    // Too many open files, or one that was gone at once.
                    Err(error) => {
                        self.shared.talk.progress.detail(format!("cannot accept: {error}"));
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(self.listener);
        ending.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            let left = connections.len();
            let progress = &self.shared.talk.progress;
            progress.warn(format!("{left} connections did not end and were broken off"));
        }
        connections.shutdown().await;
        self.shared.uploads.clear();
    }
}

fn acceptor(chain: &Path, key: &Path) -> Result<Tls, ServeError> {
    let wrong = |path: &Path, why: String| ServeError::Tls { path: path.into(), why };
    let pem = std::fs::read(chain).at("read", chain)?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(chain, format!("it is no PEM file of certificates: {error}")))?;
    if certificates.is_empty() {
        return Err(wrong(chain, "it has no certificate in PEM form".into()));
    }
    let pem = std::fs::read(key).at("read", key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| wrong(key, "it has no private key in PEM form without a password".into()))?;
    net::install_crypto();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|error| wrong(key, format!("it does not go with the certificate: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls(TlsAcceptor::from(Arc::new(config))))
}

async fn greet(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Tls>,
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
) {
    // What cannot be set costs time only.
    let _ = stream.set_nodelay(true);
    match tls {
        None => speak(stream, peer, shared, ended).await,
        Some(Tls(acceptor)) => match tokio::time::timeout(HEAD, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, peer, shared, ended).await,
            Ok(Err(error)) => {
                let why = net::causes(&error);
                shared.talk.progress.detail(format!("{peer}: no TLS: {why}"));
            }
            Err(_) => shared.talk.progress.detail(format!("{peer}: no TLS within 30 s")),
        },
    }
}

async fn speak<T: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: T,
    peer: SocketAddr,
    shared: Arc<Shared>,
    mut ended: watch::Receiver<bool>,
) {
    let talk = Arc::clone(&shared);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(serve(shared, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(HEAD_SIZE)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Stall::new(stream, IDLE)), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = async { drop(ended.wait_for(|ended| *ended).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        talk.talk.progress.detail(format!("{peer}: {}", net::causes(&error)));
    }
}

/// Answers one request, whatever it is.
async fn serve(shared: Arc<Shared>, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let logger = Arc::clone(&shared.talk.logger);
    let method = request.method().clone();
    let mut entry = Entry::new(peer, method.as_str(), target, agent.unwrap_or_default(), logger);
    let received = Arc::new(AtomicU64::new(0));
    let result = match &shared.passwords {
        None => route(&shared, request, &received).await,
        Some(passwords) => match passwords.check(request.headers().get(AUTHORIZATION)).await {
            Ok(user) => {
                entry.set_user(user);
                route(&shared, request, &received).await
            }
            Err(refusal) => refused(request, refusal, &received).await,
        },
    };
    let mut answer = result.unwrap_or_else(|refusal| {
        if let Some(inside) = &refusal.inside {
            shared.talk.progress.warn(format!("a request failed: {inside}"));
        }
        refusal.into_answer()
    });
    if method == Method::HEAD {
        answer = without_body(answer);
    }
    let version = HeaderName::from_static("docker-distribution-api-version");
    answer.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
    let length = answer.body().size_hint().exact();
    entry.answered(answer.status(), received.load(Ordering::Relaxed), length);
    answer.map(|body| body.logged(entry))
}

async fn route(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    received: &Arc<AtomicU64>,
) -> Result<Answer, Refusal> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let route = match Route::parse(request.uri().path(), &query) {
        Ok(route) => route,
        Err(refusal) => return refused(request, refusal, received).await,
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match (route, reads) {
        (Route::Ping, true) => Ok(read::ping()),
        (Route::Catalog, true) => {
            shared.call(move |s, store| read::catalog(s, store, &query)).await
        }
        (Route::Tags(named), true) => {
            shared.call(move |s, store| read::tags(s, store, &named, &query)).await
        }
        (Route::Manifest(named, selector), true) => {
            shared.call(move |s, store| read::manifest(s, store, &named, &selector)).await
        }
        (Route::Blob(named, digest), true) => {
            let (parts, _) = request.into_parts();
            let mut head = parts.headers;
            // Of other methods it means nothing (RFC 9110, 14.2).
            if parts.method != Method::GET {
                head.remove(RANGE);
            }
            shared.call(move |s, store| read::blob(s, store, &named, &digest, &head)).await
        }
        (Route::Referrers(named, digest), true) => {
            shared.call(move |s, store| read::referrers(s, store, &named, &digest, &query)).await
        }
        (route, _) => change(shared, route, query, request, received).await,
    }
}

/// What only a writable server does. It goes on to its end though the client may be gone.
async fn change(
    shared: &Arc<Shared>,
    route: Route,
    query: Query,
    request: Request<Incoming>,
    received: &Arc<AtomicU64>,
) -> Result<Answer, Refusal> {
    let method = request.method().clone();
    let allowed = match &route {
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, PATCH, PUT, DELETE",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Ping | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
    };
    if !allowed.split(", ").any(|one| one == method.as_str()) {
        let refusal = Refusal::unsupported(format!("{method} is not for this; {allowed} is"));
        return refused(request, refusal.with("allow", allowed), received).await;
    }
    if !shared.writable {
        let message = "this server only reads; `kiln serve --writable` takes pushes";
        let refusal = Refusal::unsupported(message).with("allow", "GET, HEAD");
        return refused(request, refusal, received).await;
    }
    let (head, mut body) = request.into_parts();
    let (shared, received) = (Arc::clone(shared), Arc::clone(received));
    let asks_before = head.headers.contains_key(EXPECT);
    let done = tokio::spawn(async move {
        let ask = |named| write::Request {
            shared,
            named,
            query,
            head: head.headers,
            body: &mut body,
            received: Arc::clone(&received),
        };
        let done = match (route, method.as_str()) {
            (Route::Uploads(named), _) => ask(named).begin().await,
            (Route::Upload(named, id), "PATCH") => ask(named).append(&id).await,
            (Route::Upload(named, id), "PUT") => ask(named).close(&id).await,
            (Route::Upload(named, id), "DELETE") => ask(named).cancel(&id),
            (Route::Upload(named, id), _) => ask(named).progress(&id),
            (Route::Manifest(named, selector), "PUT") => ask(named).manifest(selector).await,
            (Route::Manifest(named, selector), _) => ask(named).delete_manifest(selector).await,
            (Route::Blob(named, digest), _) => ask(named).delete_blob(digest).await,
            (Route::Ping | Route::Catalog | Route::Tags(_) | Route::Referrers(..), _) => {
                Err(Refusal::unsupported("this is only read"))
            }
        };
        let sends = !asks_before || received.load(Ordering::Relaxed) > 0;
        if done.is_err() && sends {
            pass_over(&mut body, &received).await;
        }
        done
    });
    done.await?
}

/// Reads some of a body that nobody wants, so that the answer is not lost with it.
async fn pass_over(body: &mut Incoming, received: &AtomicU64) {
    if !body.is_end_stream() {
        // What breaks off has no ear either.
        let _ = tokio::time::timeout(HEAD, upload::drain(body, DRAINED, received)).await;
    }
}

/// A refusal of what nobody looked at.
async fn refused(
    request: Request<Incoming>,
    refusal: Refusal,
    received: &AtomicU64,
) -> Result<Answer, Refusal> {
    // Who asks before sending sends nothing then.
    if !request.headers().contains_key(EXPECT) {
        pass_over(&mut request.into_body(), received).await;
    }
    Err(refusal)
}
