//! Content digests.
//!
//! Only `sha256` is known, as lower-case hex of exactly 64 digits (OCI image
//! spec 1.1, descriptor.md, "Digests"). A digest says nothing of what was
//! hashed, so two newtypes keep the two meanings apart: [`DiffId`] names an
//! uncompressed tar, [`BlobDigest`] the bytes as stored or sent.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A sha256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("digest algorithm `{0}` is not known, only sha256 is")]
    Algorithm(String),
    #[error("`{0}` is not a digest: sha256: and 64 lower-case hex digits are expected")]
    Form(String),
}

impl Digest {
    /// Hashes bytes that are at hand.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits without the algorithm: the file name in a blob store.
    #[must_use]
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
    }

    /// The bytes that the digits stand for.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of these bytes: they are not hashed.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first 12 hex digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let form = || DigestError::Form(text.chars().take(100).collect());
        let (algorithm, hex) = text.split_once(':').ok_or_else(form)?;
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm(algorithm.chars().take(40).collect()));
        }
        let lower = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if hex.len() != 64 || !hex.bytes().all(lower) {
            return Err(form());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).map_err(|_| form())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes a digest of one meaning; only its own constructor turns a bare
/// [`Digest`] into it, so that one cannot pass for the other by accident.
macro_rules! meaning {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Hashes bytes that are at hand.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(Digest::of(bytes))
            }
            /// The 64 hex digits.
            #[must_use]
            pub fn hex(&self) -> String {
                self.0.hex()
            }
            /// The first 12 hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.0.short()
            }
        }
        impl FromStr for $name {
            type Err = DigestError;
            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

meaning! {
    /// The digest of bytes as they are stored and sent: a compressed layer, a
    /// manifest, a config.
    BlobDigest
}
meaning! {
    /// The digest of a layer's uncompressed tar (OCI image spec, config.md).
    DiffId
}

/// Hashes and counts what passes through it on the way to `W`, or from `R`.
#[derive(Debug)]
pub struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    pub fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// Returns what was wrapped, the digest of what passed, and its bytes.
    pub fn finish(self) -> (T, Digest, u64) {
        (self.inner, Digest(self.hash.finalize().into()), self.count)
    }

    /// Bytes that have passed so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        let mut through = Hashing::new(Vec::new());
        through.write_all(b"abc").unwrap();
        let (bytes, digest, count) = through.finish();
        assert_eq!((bytes.as_slice(), digest, count), (&b"abc"[..], Digest::of(b"abc"), 3));
    }

    #[test]
    fn refused() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for bad in [
            hex.to_owned(),
            format!("sha512:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            "sha256:../../../../etc/passwd".to_owned(),
            String::new(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
