//! Token services as registries name one, tokens that docker-registry verifies, and a
//! gate before a registry at which tokens run out by count.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::http::{Request, Server, answer};
use super::proxy::head;
use super::registry::{TestRegistry, certificate, tool};

/// What the registry calls itself.
pub(crate) const SERVICE: &str = "the test registry";

/// How long docker-registry takes a token after its end, for clocks that differ.
const LEEWAY: i64 = 60;

/// A request for a token.
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// How many came before.
    pub(crate) turn: usize,
    /// The fields of the query and of the form.
    fields: Vec<(String, String)>,
}

impl Asked {
    fn new(request: &Request, turn: usize) -> Self {
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let url = format!("http://localhost/?{query}&{form}");
        let url: reqwest::Url = url.parse().unwrap();
        let pairs = url.query_pairs().map(|(name, value)| (name.into(), value.into()));
        Self { request: request.clone(), turn, fields: pairs.collect() }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The scopes, each by itself.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let scopes = self.fields.iter().filter(|(name, _)| name == "scope");
        scopes.flat_map(|(_, value)| value.split(' ').map(str::to_owned)).collect()
    }

    /// True for user and password in the header.
    pub(crate) fn is(&self, user: &str, password: &str) -> bool {
        let pair = format!("{user}:{password}");
        self.request.header("authorization") == Some(&format!("Basic {}", base64(pair.as_bytes())))
    }
}

/// Serves tokens.
pub(crate) async fn service(answers: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Server {
    let turns = AtomicUsize::new(0);
    Server::start(move |request| {
        answers(&Asked::new(request, turns.fetch_add(1, Ordering::SeqCst)))
    })
    .await
}

/// Requests for tokens that a service saw.
pub(crate) fn asked(service: &Server) -> Vec<Asked> {
    service.seen().iter().enumerate().map(|(turn, request)| Asked::new(request, turn)).collect()
}

/// A token document.
pub(crate) fn granted(fields: &serde_json::Value) -> Vec<u8> {
    answer("200 OK", &[("Content-Type", "application/json")], fields.to_string().as_bytes())
}

/// A refusal with words.
pub(crate) fn refused(status: &str, words: &str) -> Vec<u8> {
    answer(status, &[], serde_json::json!({ "details": words }).to_string().as_bytes())
}

/// The header of a challenge.
pub(crate) fn challenge(realm: &str, scope: &str) -> String {
    format!(r#"Bearer realm="{realm}",service="{SERVICE}",scope="{scope}""#)
}

fn coded(bytes: &[u8], last: [u8; 2]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let index = (group >> (18 - 6 * at) & 63) as usize;
            text.push(char::from(*alphabet.get(index).unwrap_or_else(|| &last[index - 62])));
        }
    }
    text
}

/// Base64 with padding (RFC 4648, 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    let text = coded(bytes, *b"+/");
    let padding = (4 - text.len() % 4) % 4;
    text + &"==="[..padding]
}

/// A key, and tokens that it signs.
#[derive(Clone)]
pub(crate) struct Signer {
    folder: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) chain: PathBuf,
}

impl Signer {
    /// Makes a key and its certificate in a folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let (key, chain) = certificate(folder);
        Self { folder: folder.to_owned(), key, chain }
    }

    /// A registry that believes its tokens, and takes others for those of nobody.
    pub(crate) fn registry(&self, realm: &str, http: &str) -> TestRegistry {
        let chain = self.chain.display();
        TestRegistry::configured(http, |_| {
            format!(
                "auth: {{token: {{realm: \"{realm}\", service: \"{SERVICE}\", \
                 issuer: kiln-test, rootcertbundle: \"{chain}\"}}}}\n"
            )
        })
    }

    /// A token that such a registry takes for so many seconds, more or less one.
    pub(crate) fn sign(&self, scopes: &[String], seconds: i64) -> String {
        let pem = std::fs::read_to_string(&self.chain).unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let access: Vec<_> = scopes
            .iter()
            .filter_map(|scope| {
                let mut parts = scope.splitn(3, ':');
                let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
                let actions: Vec<_> = actions.split(',').collect();
                Some(serde_json::json!({ "type": kind, "name": name, "actions": actions }))
            })
            .collect();
        #[expect(clippy::disallowed_methods, reason = "tokens have an end")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let file = tempfile::NamedTempFile::new_in(&self.folder).unwrap();
        let end = i64::try_from(now.as_secs()).unwrap() + seconds - LEEWAY;
        let header = serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
        // No two are the same.
        let claims = serde_json::json!({
            "iss": "kiln-test", "sub": "me", "aud": SERVICE, "jti": file.path(),
            "nbf": 1_000_000_000, "iat": 1_000_000_000, "exp": end, "access": access,
        });
        let part = |bytes: &[u8]| coded(bytes, *b"-_");
        let signed = [header, claims].map(|one| part(one.to_string().as_bytes())).join(".");
        std::fs::write(file.path(), &signed).unwrap();
        let (key, path) = (self.key.to_str().unwrap(), file.path().to_str().unwrap());
        let signature = tool("openssl", "openssl", &["dgst", "-sha256", "-sign", key, path]);
        format!("{signed}.{}", part(&signature.stdout))
    }
}

/// A request with a token, at a gate.
pub(crate) struct Shown<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    /// How often the token came before.
    pub(crate) uses: usize,
}

type Refuses = dyn Fn(&Shown<'_>) -> bool + Send + Sync;

/// A proxy before a registry that refuses tokens which the registry itself would take.
pub(crate) struct Gate {
    /// `127.0.0.1:PORT`.
    pub(crate) addr: String,
    state: Arc<State>,
}

struct State {
    registry: String,
    refuses: Box<Refuses>,
    /// How often each token came.
    uses: Mutex<HashMap<String, usize>>,
    refusals: AtomicUsize,
}

impl Gate {
    /// `refuses` is asked for each request with a token. With TLS if there is a signer,
    /// whose key it has.
    pub(crate) fn before(
        registry: &str,
        tls: Option<&Signer>,
        refuses: impl Fn(&Shown<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            registry: registry.to_owned(),
            refuses: Box::new(refuses),
            uses: Mutex::default(),
            refusals: AtomicUsize::new(0),
        });
        let (shared, tls) = (Arc::clone(&state), tls.map(config));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || match tls {
                    None => state.relay(client),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).unwrap();
                        state.relay(rustls::StreamOwned::new(session, client))
                    }
                });
            }
        });
        Self { addr, state }
    }

    /// How many requests it refused.
    pub(crate) fn refusals(&self) -> usize {
        self.state.refusals.load(Ordering::SeqCst)
    }
}

fn config(signer: &Signer) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    kiln::net::install_crypto();
    let key = PrivateKeyDer::from_pem_file(&signer.key).unwrap();
    let chain = vec![CertificateDer::from_pem_file(&signer.chain).unwrap()];
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

/// A message's lines, and what it says of the body's length.
fn lines_of(from: &mut impl std::io::BufRead) -> Option<(Vec<String>, u64)> {
    let (text, length) = head(from)?;
    Some((text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(), length))
}

impl State {
    fn relay(&self, client: impl Read + Write) -> Option<()> {
        let mut client = BufReader::new(client);
        // A TLS greeting where there is none.
        if !client.buffer().is_empty() || client.fill_buf().ok()?.first()? == &0x16 {
            return None;
        }
        loop {
            let (mut lines, sent) = lines_of(&mut client)?;
            let mut words = lines.first()?.split(' ').map(str::to_owned);
            let (method, path) = (words.next()?, words.next()?);
            let is_token =
                |line: &String| line.to_ascii_lowercase().starts_with("authorization: bearer");
            let token = lines.iter().find(|line| is_token(line)).cloned();
            let refuse = token.is_some_and(|token| {
                let mut uses = self.uses.lock().unwrap();
                let count = uses.entry(token.clone()).or_default();
                let shown = Shown { method: &method, path: &path, token: &token, uses: *count };
                *count += 1;
                (self.refuses)(&shown)
            });
            let server = TcpStream::connect(&self.registry).ok()?;
            server.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
            let mut server = BufReader::new(server);
            let last = |line: &String| line.to_ascii_lowercase().starts_with("connection:");
            lines.retain(|line| !last(line));
            lines.push("Connection: close".into());
            if refuse {
                self.refusals.fetch_add(1, Ordering::SeqCst);
                // Without it the registry says itself what it wants.
                let length =
                    |line: &String| line.to_ascii_lowercase().starts_with("content-length");
                lines.retain(|line| !is_token(line) && !length(line));
                lines.push("Content-Length: 0".into());
                std::io::copy(&mut (&mut client).take(sent), &mut std::io::sink()).ok()?;
            }
            write!(server.get_mut(), "{}\r\n\r\n", lines.join("\r\n")).ok()?;
            if !refuse {
                std::io::copy(&mut (&mut client).take(sent), server.get_mut()).ok()?;
            }
            let (mut answer, length) = lines_of(&mut server)?;
            answer.retain(|line| !last(line));
            let status = answer.first()?.split(' ').nth(1)?.to_owned();
            let length = if method == "HEAD" || status == "204" { 0 } else { length };
            let to = client.get_mut();
            write!(to, "{}\r\n\r\n", answer.join("\r\n")).ok()?;
            std::io::copy(&mut (&mut server).take(length), to).ok()?;
            to.flush().ok()?;
        }
    }
}
