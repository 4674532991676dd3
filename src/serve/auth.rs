//! Who may ask: a file of names and passwords as Apache's htpasswd writes it, with bcrypt
//! (`htpasswd -B`). Its other kinds of hashes are weak or not portable, and are refused.
//!
//! A check takes long on purpose, so few run at once, off the threads that serve
//! connections, and who was right is remembered by a salted hash for as long as the server
//! runs. An unknown name takes as long as a wrong password.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use tokio::sync::Semaphore;

use super::answer::Refusal;
use crate::atomic::{AtPath as _, PathError};
use crate::digest::Digest;

/// Checks at once.
const AT_ONCE: usize = 2;
/// Longest wait for one's turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// Credentials that are remembered.
const REMEMBERED: usize = 256;
/// A cost above this takes more than some ten seconds.
const COSTLIEST: u32 = 17;
/// Most bytes of the file.
const LARGEST: u64 = 1 << 20;

/// Why a file of passwords is not taken. No hash is in it.
#[derive(Debug, thiserror::Error)]
pub enum PasswordsError {
    #[error(transparent)]
    Io(#[from] PathError),
    #[error("{}, line {line}: {why}", path.display())]
    Line { path: PathBuf, line: usize, why: &'static str },
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: &'static str },
}

/// Names and hashes.
pub struct Passwords {
    hashes: HashMap<String, String>,
    /// Checked where there is no such name.
    none: String,
    turns: Arc<Semaphore>,
    salt: [u8; 32],
    right: Mutex<VecDeque<Digest>>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("names", &self.hashes.len()).finish_non_exhaustive()
    }
}

impl Passwords {
    /// Reads a file: `NAME:HASH` a line; empty lines and those that begin with `#` are
    /// passed over.
    ///
    /// # Errors
    /// If it cannot be read, has a line that is none, a hash that is not bcrypt's, or no
    /// name at all.
    pub fn read(path: &Path) -> Result<Self, PasswordsError> {
        let file = |why| PasswordsError::File { path: path.into(), why };
        if std::fs::metadata(path).at("read", path)?.len() > LARGEST {
            return Err(file("it is larger than 1 MiB"));
        }
        let text = std::fs::read_to_string(path).at("read", path)?;
        let mut hashes = HashMap::new();
        let mut costliest = 4;
        for (at, line) in text.lines().enumerate() {
            let wrong = |why| PasswordsError::Line { path: path.into(), line: at + 1, why };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong("it is no `NAME:HASH`"))?;
            if name.is_empty() {
                return Err(wrong("the name is empty"));
            }
            let cost = cost_of(hash).map_err(wrong)?;
            costliest = costliest.max(cost);
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong("this name has a line already"));
            }
        }
        if hashes.is_empty() {
            return Err(file("it names nobody"));
        }
        let mut salt = [0; 32];
        rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
            .at("read", "the kernel's random numbers")?;
        // Any hash of that cost will do: nobody knows a password for it.
        let none = format!("$2y${costliest:02}${}", "abcdefghijklmnopqrstu.".repeat(3));
        let none = none.chars().take(60).collect();
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { hashes, none, turns, salt, right: Mutex::default() })
    }

    /// Who asks, by the header `Authorization`.
    ///
    /// # Errors
    /// If it is absent or wrong, or too many are waiting.
    pub(super) async fn check(&self, header: Option<&HeaderValue>) -> Result<String, Refusal> {
        let refused = |message: &str| {
            Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
                .with("www-authenticate", "Basic realm=\"kiln\", charset=\"UTF-8\"")
        };
        let header = header.ok_or_else(|| refused("a name and a password are needed"))?;
        let (name, password) =
            credentials(header).ok_or_else(|| refused("Basic authentication is expected"))?;
        let own = self.mark(&name, &password);
        if self.remembers(&own) {
            return Ok(name);
        }
        let waited = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = waited else {
            return Err(Refusal::too_many("too many passwords are being checked; try again"));
        };
        // Who waited meanwhile for the same.
        if self.remembers(&own) {
            return Ok(name);
        }
        let known = self.hashes.contains_key(&name);
        let hash = self.hashes.get(&name).unwrap_or(&self.none).clone();
        let right = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        })
        .await?;
        if !(known && right) {
            return Err(refused("the name or the password is wrong"));
        }
        self.remember(own);
        Ok(name)
    }

    fn mark(&self, name: &str, password: &str) -> Digest {
        let length = (name.len() as u64).to_be_bytes();
        Digest::of(&[&self.salt, &length[..], name.as_bytes(), password.as_bytes()].concat())
    }

    fn remember(&self, mark: Digest) {
        let mut all = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains(&mark) {
            return;
        }
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back(mark);
    }

    /// Each is compared whole, and all are.
    fn remembers(&self, mark: &Digest) -> bool {
        let all = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = |other: &Digest| {
            other.bytes().iter().zip(mark.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b))
        };
        all.iter().fold(false, |found, other| found | (std::hint::black_box(differs(other)) == 0))
    }
}

fn cost_of(hash: &str) -> Result<u32, &'static str> {
    if !["$2y$", "$2a$", "$2b$"].iter().any(|kind| hash.starts_with(kind)) {
        return Err(
            "only bcrypt is taken, as `htpasswd -B` writes it: MD5, SHA and crypt are weak",
        );
    }
    let parts: bcrypt::HashParts =
        hash.parse().map_err(|_| "its hash is no whole one of bcrypt")?;
    match parts.get_cost() {
        4..=COSTLIEST => Ok(parts.get_cost()),
        _ => Err("its cost is not between 4 and 17"),
    }
}

/// Name and password of `Basic` (RFC 7617).
fn credentials(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, coded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(coded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Passwords, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Passwords::read(file.path())
            .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    fn basic(name: &str, password: &str) -> HeaderValue {
        let coded = STANDARD.encode(format!("{name}:{password}"));
        HeaderValue::from_str(&format!("Basic {coded}")).unwrap()
    }

    #[tokio::test]
    async fn right_and_wrong() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let all = file(&format!("# names\n\nme:{hash}\n")).unwrap();
        assert!(!format!("{all:?}").contains(&hash));
        for (header, expected) in [
            (Some(basic("me", "secret")), true),
            (Some(basic("me", "secret")), true),
            (Some(basic("me", "Secret")), false),
            (Some(basic("me", "")), false),
            (Some(basic("you", "secret")), false),
            (Some(basic("me:", "secret")), false),
            (Some(HeaderValue::from_static("Bearer x")), false),
            (Some(HeaderValue::from_static("Basic !")), false),
            (Some(HeaderValue::from_static("Basic")), false),
            (None, false),
        ] {
            let said = all.check(header.as_ref()).await;
            assert_eq!(said.is_ok(), expected, "{header:?}");
            if let Err(refusal) = said {
                assert_eq!((refusal.status.as_u16(), refusal.code), (401, "UNAUTHORIZED"));
            }
        }
        assert_eq!(all.right.lock().unwrap().len(), 1);
        // Several at once are no reason to forget others.
        let again = file(&format!("me:{hash}\n")).unwrap();
        let header = basic("me", "secret");
        let one = || again.check(Some(&header));
        let said = tokio::join!(one(), one(), one(), one());
        assert!(said.0.is_ok() && said.1.is_ok() && said.2.is_ok() && said.3.is_ok());
        assert_eq!(again.right.lock().unwrap().len(), 1);
        // A name that nobody has is checked like any other.
        assert!(cost_of(&all.none).is_ok(), "{}", all.none);
        assert!(bcrypt::verify("x", &all.none).is_ok());
    }

    #[test]
    fn other_hashes_are_refused() {
        let hash = bcrypt::hash("x", 4).unwrap();
        for (text, says) in [
            ("me:$apr1$x$y", "FILE, line 1: only bcrypt"),
            ("\nme:{SHA}x", "FILE, line 2: only bcrypt"),
            ("me:plain", "FILE, line 1: only bcrypt"),
            ("me", "FILE, line 1: it is no `NAME:HASH`"),
            (":x", "FILE, line 1: the name is empty"),
            ("me:$2y$05$short", "FILE, line 1: its hash is no whole one"),
            ("# nothing\n", "FILE: it names nobody"),
            (&format!("me:{hash}\nme:{hash}"), "FILE, line 2: this name has a line"),
            (&format!("me:{}", hash.replace("$04$", "$31$")), "FILE, line 1: its cost"),
        ] {
            let said = file(text).unwrap_err();
            assert!(said.starts_with(says), "{said}");
            assert!(!said.contains("apr1"));
        }
    }
}
