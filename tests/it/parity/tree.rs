//! Layers merged into one tree, by the rules of the image specification alone:
//! nothing here uses kiln's own reader.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Map, Value};
use sha2::Digest as _;

/// Of text that is shown as it is, by default.
const SHORT: usize = 400;

/// A file without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) fields: Map<String, Value>,
    /// Of a regular file: the digest of its bytes, and how many there are.
    pub(crate) content: Option<(String, u64)>,
}

/// Files by name; names that are links to one file have the same number.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// Text up to this length is shown as it is.
    short: usize,
    files: Vec<File>,
    names: BTreeMap<Vec<u8>, usize>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::showing(SHORT)
    }
}

impl Tree {
    pub(crate) fn showing(short: usize) -> Self {
        Self { short, files: Vec::new(), names: BTreeMap::new() }
    }

    /// Lays a layer on top.
    pub(crate) fn apply(&mut self, tar: impl Read) -> Result<(), String> {
        let mut fresh = Tree::default();
        // What is gone goes before anything is added, wherever in the layer it stands.
        let (mut gone, mut emptied) = (Vec::new(), Vec::new());
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().map_err(text)? {
            let mut entry = entry.map_err(text)?;
            let name = clean(&entry.path_bytes());
            let (folder, base) = match name.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&name[..at], &name[at + 1..]),
                None => (&b""[..], &name[..]),
            };
            if base == b".wh..wh..opq" {
                emptied.push(folder.to_vec());
            } else if let Some(hidden) = base.strip_prefix(b".wh.") {
                gone.push(join(folder, hidden));
            } else if entry.header().entry_type().is_hard_link() {
                let target = clean(&entry.link_name_bytes().ok_or("a hard link to nothing")?);
                // The target may lie in a lower layer.
                let file = match (fresh.names.get(&target), self.names.get(&target)) {
                    (Some(file), _) => *file,
                    (None, Some(below)) => fresh.push(self.files[*below].clone()),
                    (None, None) => return Err(format!("a hard link to {}", shown(&target))),
                };
                fresh.names.insert(target, file);
                fresh.names.insert(name, file);
            } else if !name.is_empty() {
                let file = file(&mut entry, self.short)?;
                let number = fresh.push(file);
                fresh.names.insert(name, number);
            }
        }
        for folder in emptied {
            self.remove_below(&folder);
        }
        for name in gone {
            self.remove(&name);
        }
        let first = self.files.len();
        self.files.extend(fresh.files);
        for (name, number) in fresh.names {
            self.make_parents(&name);
            let number = first + number;
            if !(self.is_dir(&name) && self.files[number].fields["type"] == "dir") {
                self.remove(&name);
            }
            self.names.insert(name, number);
        }
        Ok(())
    }

    fn push(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    fn is_dir(&self, name: &[u8]) -> bool {
        self.names.get(name).is_some_and(|file| self.files[*file].fields["type"] == "dir")
    }

    fn make_parents(&mut self, name: &[u8]) {
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = &name[..at];
            if !self.is_dir(parent) {
                self.remove(parent);
                let mut fields = Map::new();
                fields.insert("type".into(), "dir".into());
                fields.insert("mode".into(), "0755".into());
                let number = self.push(File { fields, content: None });
                self.names.insert(parent.to_vec(), number);
            }
        }
    }

    fn remove(&mut self, name: &[u8]) {
        self.names.remove(name);
        self.remove_below(name);
    }

    fn remove_below(&mut self, folder: &[u8]) {
        let start = if folder.is_empty() { Vec::new() } else { join(folder, b"") };
        // They follow each other, and there may be a hundred thousand others.
        let below = self.names.range(start.clone()..).map(|(name, _)| name);
        let below: Vec<_> = below.take_while(|name| name.starts_with(&start)).cloned().collect();
        for name in below {
            self.names.remove(&name);
        }
    }

    /// The first name of each file.
    fn first_names(&self) -> BTreeMap<usize, &[u8]> {
        let mut first = BTreeMap::new();
        for (name, file) in &self.names {
            first.entry(*file).or_insert(name.as_slice());
        }
        first
    }

    /// All that can be compared, by name.
    pub(crate) fn described(&self) -> BTreeMap<&[u8], File> {
        let first = self.first_names();
        let describe = |(name, number): (&'_ Vec<u8>, &usize)| {
            let mut file = self.files[*number].clone();
            if first[number] != name.as_slice() {
                file.fields.insert("linked_to".into(), shown(first[number]).into());
            }
            file
        };
        self.names.iter().map(|pair| (pair.0.as_slice(), describe(pair))).collect()
    }

    /// `files` and `removed`, as against a base.
    pub(super) fn against(&self, base: &Tree) -> (Map<String, Value>, Vec<Value>) {
        let (all, old) = (self.described(), base.described());
        let known: BTreeMap<&str, &[u8]> = old
            .iter()
            .rev()
            .filter_map(|(name, file)| Some((file.content.as_ref()?.0.as_str(), *name)))
            .collect();
        let mut files = Map::new();
        for (name, file) in &all {
            if old.get(name) == Some(file) {
                continue;
            }
            let mut fields = file.fields.clone();
            if let Some((digest, size)) = &file.content
                && !fields.contains_key("text")
            {
                if let Some(same) = known.get(digest.as_str()) {
                    fields.insert("same_as".into(), shown(same).into());
                } else {
                    fields.insert("sha256".into(), digest.clone().into());
                    fields.insert("size".into(), (*size).into());
                }
            }
            files.insert(shown(name), fields.into());
        }
        let mut removed: Vec<&[u8]> = Vec::new();
        for name in old.keys().filter(|name| !all.contains_key(*name)) {
            if !removed.iter().any(|above| name.starts_with(&join(above, b""))) {
                removed.push(name);
            }
        }
        (files, removed.into_iter().map(|name| shown(name).into()).collect())
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// A name without `.` parts and outer slashes.
fn clean(name: &[u8]) -> Vec<u8> {
    let parts = name.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

/// Bytes as text, with escapes for what cannot be shown.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                letter if letter.is_control() => {
                    let mut buffer = [0; 4];
                    for byte in letter.encode_utf8(&mut buffer).bytes() {
                        out.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                letter => out.push(letter),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

fn file(entry: &mut tar::Entry<'_, impl Read>, limit: usize) -> Result<File, String> {
    use tar::EntryType;
    let header = entry.header().clone();
    let kind = match header.entry_type() {
        EntryType::Directory => "dir",
        EntryType::Symlink => "symlink",
        EntryType::Char => "char",
        EntryType::Block => "block",
        EntryType::Fifo => "fifo",
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => "file",
        other => return Err(format!("an entry of type {other:?}")),
    };
    let mut fields = Map::new();
    fields.insert("type".into(), kind.into());
    if kind != "symlink" {
        fields
            .insert("mode".into(), format!("{:04o}", header.mode().map_err(text)? & 0o7777).into());
    }
    let (mut uid, mut gid) = (header.uid().map_err(text)?, header.gid().map_err(text)?);
    let mut xattrs = Map::new();
    if let Some(extensions) = entry.pax_extensions().map_err(text)? {
        for extension in extensions {
            let extension = extension.map_err(text)?;
            let number = || extension.value().map_err(text)?.parse::<u64>().map_err(text);
            let key = extension.key().map_err(text)?;
            match key.strip_prefix("SCHILY.xattr.") {
                Some(name) => {
                    xattrs.insert(name.into(), shown(extension.value_bytes()).into());
                }
                None if key == "uid" => uid = number()?,
                None if key == "gid" => gid = number()?,
                None => {}
            }
        }
    }
    if (uid, gid) != (0, 0) {
        fields.insert("owner".into(), format!("{uid}:{gid}").into());
    }
    if !xattrs.is_empty() {
        fields.insert("xattrs".into(), xattrs.into());
    }
    if kind == "symlink" {
        let target = entry.link_name_bytes().ok_or("a symbolic link to nothing")?;
        fields.insert("target".into(), shown(&target).into());
    }
    if kind == "char" || kind == "block" {
        let major = header.device_major().map_err(text)?.unwrap_or(0);
        let minor = header.device_minor().map_err(text)?.unwrap_or(0);
        fields.insert("device".into(), format!("{major}:{minor}").into());
    }
    if kind != "file" {
        return Ok(File { fields, content: None });
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(text)?;
    if let Some(short) = short(&bytes, limit) {
        fields.insert("text".into(), short.into());
    }
    Ok(File { fields, content: Some((hex(&bytes), bytes.len() as u64)) })
}

/// The digest of a content.
pub(crate) fn hex(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A content that is shown as it is.
pub(crate) fn short(bytes: &[u8], limit: usize) -> Option<&str> {
    let printable = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    let text = str::from_utf8(bytes).ok()?;
    (bytes.len() <= limit && text.chars().all(printable)).then_some(text)
}
