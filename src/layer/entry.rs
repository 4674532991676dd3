//! One entry of a layer: a path and what is there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A path inside a root: bytes without a leading or trailing slash, without
/// empty, `.` and `..` components. The root itself is the empty name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Name(Vec<u8>);

impl Name {
    /// Cleans a path as it stands in an archive or an instruction. `None` if it
    /// has a `..` component or a NUL byte: it could point elsewhere.
    #[must_use]
    pub fn clean(path: &[u8]) -> Option<Self> {
        let mut name = Vec::with_capacity(path.len());
        for part in path.split(|&c| c == b'/') {
            match part {
                b"" | b"." => (),
                b".." => return None,
                _ if part.contains(&0) => return None,
                _ => {
                    if !name.is_empty() {
                        name.push(b'/');
                    }
                    name.extend_from_slice(part);
                }
            }
        }
        Some(Self(name))
    }

    /// The name that was [`Name::as_bytes`].
    pub(super) fn again(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
    /// The name with odd bytes replaced, for people.
    #[must_use]
    pub fn display(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// The name of `part` (one component) inside this folder.
    #[must_use]
    pub fn join(&self, part: &[u8]) -> Self {
        let mut name = Vec::with_capacity(self.0.len() + 1 + part.len());
        name.extend_from_slice(&self.0);
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(part);
        Self(name)
    }

    /// This folder's name followed by a whole name.
    #[must_use]
    pub fn join_name(&self, below: &Self) -> Self {
        if below.is_root() { self.clone() } else { self.join(&below.0) }
    }

    /// The folder it lies in; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&c| c == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn base(&self) -> &[u8] {
        let start = self.0.iter().rposition(|&c| c == b'/').map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// The components in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&c| c == b'/').filter(|part| !part.is_empty())
    }

    /// What remains of the name below a folder, if it lies there or is it.
    #[must_use]
    pub fn below(&self, folder: &Self) -> Option<Self> {
        if folder.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(folder.0.as_slice())?;
        match rest {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self(rest.to_vec())),
            _ => None,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.display())
    }
}

/// Bytes that are no UTF-8, and `%`, are written as `%XX`.
impl From<Name> for String {
    fn from(name: Name) -> Self {
        let mut text = Self::with_capacity(name.0.len());
        for chunk in name.0.utf8_chunks() {
            text.push_str(&chunk.valid().replace('%', "%25"));
            for byte in chunk.invalid() {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        text
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        let mut name = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            let escaped = tail.get(..2).filter(|_| *first == b'%');
            let byte =
                escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            name.push(byte.unwrap_or(*first));
            rest = if byte.is_some() { &tail[2..] } else { tail };
        }
        Self(name)
    }
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    #[serde(rename = "d")]
    Dir,
    #[serde(rename = "f")]
    File {
        #[serde(rename = "s")]
        size: u64,
    },
    /// The target as it stands in the link.
    #[serde(rename = "l")]
    Symlink {
        #[serde(rename = "t")]
        target: RawBytes,
    },
    /// Another name of a file that came before.
    #[serde(rename = "h")]
    Hardlink {
        #[serde(rename = "t")]
        target: Name,
    },
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Bytes that are no path of ours but text of somebody: a link's target, an
/// attribute. Serialised like a [`Name`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RawBytes(pub Vec<u8>);

impl From<RawBytes> for String {
    fn from(raw: RawBytes) -> Self {
        Name(raw.0).into()
    }
}
impl From<String> for RawBytes {
    fn from(text: String) -> Self {
        Self(Name::from(text).0)
    }
}
impl fmt::Debug for RawBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A path and what lies there. Serialised shortly: indexes of layers have many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(rename = "n")]
    pub name: Name,
    #[serde(rename = "k")]
    pub kind: Kind,
    /// Permission bits with set-user-ID, set-group-ID and sticky: 12 bits.
    #[serde(rename = "m")]
    pub mode: u32,
    #[serde(rename = "u", default, skip_serializing_if = "is_root")]
    pub uid: u32,
    #[serde(rename = "g", default, skip_serializing_if = "is_root")]
    pub gid: u32,
    /// Seconds since 1970.
    #[serde(rename = "t")]
    pub mtime: i64,
    /// Extended attributes; user.* that storage gives a meaning to are not among them.
    #[serde(rename = "x", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, RawBytes>,
}

// serde passes a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_root(id: &u32) -> bool {
    *id == 0
}

impl Entry {
    /// A folder of root with mode 0755.
    #[must_use]
    pub fn dir(name: Name, mtime: i64) -> Self {
        Self { name, kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// The bytes of content that follow it in an archive.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let clean = |path: &str| Name::clean(path.as_bytes()).map(String::from);
        assert_eq!(clean("./a//b/./c/").as_deref(), Some("a/b/c"));
        assert_eq!(clean("/").as_deref(), Some(""));
        assert_eq!(clean("a/../b"), None);
        assert_eq!(clean("a\0b"), None);
        let name = Name::clean(b"usr/lib/x").unwrap();
        assert_eq!(name.parent(), Name::clean(b"usr/lib"));
        assert_eq!(name.base(), b"x");
        assert_eq!(name.below(&Name::clean(b"usr").unwrap()), Name::clean(b"lib/x"));
        assert_eq!(name.below(&Name::clean(b"us").unwrap()), None);
        assert_eq!(Name::root().parent(), None);
        let odd = Name::clean(b"a%2\xff\xc3\xa4").unwrap();
        assert_eq!(Name::from(String::from(odd.clone())), odd);
    }
}
