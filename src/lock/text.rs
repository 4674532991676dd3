//! A lock as a text, and back.

use std::fmt::{self, Write as _};

use serde::Deserialize;
use toml::Spanned;

use super::{Base, Entry, Git, Lock, Url};
use crate::diagnostic::{Diagnostic, Span};
use crate::digest::BlobDigest;
use crate::platform::Platform;
use crate::reference::Reference;

/// Of the form that is written and read.
const VERSION: i64 = 1;

const HEAD: &str = "\
# Written by `kiln lock`, and read by `kiln build --locked`: what is taken from outside,
# and which content that was. `kiln lock --update` takes what there is now.
";

/// The file's text.
impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}version = {VERSION}\n")?;
        for entry in self.entries() {
            match entry {
                Entry::Base(Base { reference, platform, digest, index }) => {
                    f.write_str("\n[[base]]\n")?;
                    field(f, "reference", &reference.to_string())?;
                    field(f, "platform", &platform.to_string())?;
                    field(f, "digest", &digest.to_string())?;
                    if let Some(index) = index {
                        field(f, "index", &index.to_string())?;
                    }
                }
                Entry::Url(Url { url, digest, size }) => {
                    f.write_str("\n[[url]]\n")?;
                    field(f, "url", url)?;
                    field(f, "digest", &digest.to_string())?;
                    writeln!(f, "size = {size}")?;
                }
                Entry::Git(Git { remote, reference, name, object, commit }) => {
                    f.write_str("\n[[git]]\n")?;
                    field(f, "remote", remote)?;
                    if let Some(reference) = reference {
                        field(f, "ref", reference)?;
                    }
                    field(f, "name", name)?;
                    if object != commit {
                        field(f, "object", object)?;
                    }
                    field(f, "commit", commit)?;
                }
            }
        }
        Ok(())
    }
}

/// A line with a basic string of TOML.
fn field(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    write!(f, "{name} = \"")?;
    for letter in value.chars() {
        match letter {
            '"' | '\\' => write!(f, "\\{letter}")?,
            letter if letter.is_control() => write!(f, "\\u{:04X}", u32::from(letter))?,
            letter => f.write_char(letter)?,
        }
    }
    f.write_str("\"\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    base: Vec<Spanned<BaseTable>>,
    #[serde(default)]
    url: Vec<Spanned<UrlTable>>,
    #[serde(default)]
    git: Vec<Spanned<GitTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseTable {
    reference: Spanned<String>,
    platform: Spanned<String>,
    digest: Spanned<String>,
    index: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UrlTable {
    url: Spanned<String>,
    digest: Spanned<String>,
    size: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GitTable {
    remote: Spanned<String>,
    #[serde(rename = "ref")]
    reference: Option<Spanned<String>>,
    name: Spanned<String>,
    object: Option<Spanned<String>>,
    commit: Spanned<String>,
}

/// The version alone: a later one may have tables that are not known here.
#[derive(Deserialize)]
struct Versioned {
    version: Spanned<i64>,
}

impl Lock {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        conflict(text)?;
        let malformed = |error: toml::de::Error| {
            let span = error.span().unwrap_or_default();
            Diagnostic::error(Span::new(span.start, span.end), error.message().trim().to_owned())
        };
        if let Ok(Versioned { version }) = toml::from_str(text)
            && *version.get_ref() != VERSION
        {
            let said = format!("this is version {} of the file", version.get_ref());
            let hint = format!("this kiln knows version {VERSION}; take one that knows more");
            return Err(wrong(&version, &said).hint(hint));
        }
        let file: File = toml::from_str(text).map_err(malformed)?;
        let mut lock = Self::default();
        let bases = file.base.iter().map(|table| (table.span(), base(table.get_ref())));
        let urls = file.url.iter().map(|table| (table.span(), url(table.get_ref())));
        let git = file.git.iter().map(|table| (table.span(), repository(table.get_ref())));
        for (place, entry) in bases.chain(urls).chain(git) {
            let entry = entry?;
            if lock.get(&entry.key()).is_some() {
                let said = format!("{} is here a second time", entry.key());
                // The whole table would be underlined.
                let head = Span::new(place.start, place.start + "[[".len());
                return Err(Diagnostic::error(head, said));
            }
            lock.insert(entry);
        }
        Ok(lock)
    }
}

/// Refuses what `git merge` leaves where both sides have changed.
fn conflict(text: &str) -> Result<(), Diagnostic> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if ["<<<<<<<", "|||||||", ">>>>>>>"].iter().any(|mark| bare.starts_with(mark))
            || bare == "======="
        {
            let span = Span::new(start, start + bare.len());
            return Err(Diagnostic::error(span, "a merge has left a conflict here")
                .hint("take either side, and run `kiln lock`: it adds what is lacking"));
        }
        start += line.len();
    }
    Ok(())
}

fn wrong<T>(at: &Spanned<T>, said: &str) -> Diagnostic {
    Diagnostic::error(Span::new(at.span().start, at.span().end), said)
}

fn read<T>(text: &Spanned<String>) -> Result<T, Diagnostic>
where
    T: std::str::FromStr<Err: fmt::Display>,
{
    text.get_ref().parse().map_err(|error| wrong(text, &format!("{error}")))
}

fn base(table: &BaseTable) -> Result<Entry, Diagnostic> {
    let reference: Reference = read(&table.reference)?;
    if reference.to_string() != *table.reference.get_ref() {
        let said = format!("the name is not written in full: {reference}");
        return Err(wrong(&table.reference, &said));
    }
    let platform: Platform = read(&table.platform)?;
    let digest: BlobDigest = read(&table.digest)?;
    let index = table.index.as_ref().map(read).transpose()?;
    if let Some(own) = reference.digest()
        && own != digest
        && Some(own) != index
    {
        let said = format!("{digest} is not what {reference} is");
        return Err(wrong(&table.digest, &said));
    }
    Ok(Entry::Base(Base { reference, platform, digest, index }))
}

fn url(table: &UrlTable) -> Result<Entry, Diagnostic> {
    let url = plain(&table.url)?;
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("http" | "https")) {
        return Err(wrong(&table.url, "this is no HTTP URL"));
    }
    if without_user(&url) != url {
        return Err(wrong(&table.url, "a lock has no credentials").hint("leave USER:PASSWORD@ out"));
    }
    Ok(Entry::Url(Url { url, digest: read(&table.digest)?, size: table.size }))
}

fn repository(table: &GitTable) -> Result<Entry, Diagnostic> {
    let remote = plain(&table.remote)?;
    let http = remote.starts_with("http://") || remote.starts_with("https://");
    if http && without_user(&remote) != remote {
        return Err(wrong(&table.remote, "a lock has no credentials").hint("leave USER@ out"));
    }
    let commit = hash(&table.commit)?;
    let object = table.object.as_ref().map_or_else(|| Ok(commit.clone()), hash)?;
    let reference = table.reference.as_ref().map(name).transpose()?;
    Ok(Entry::Git(Git { remote, reference, name: name(&table.name)?, object, commit }))
}

/// A text of one line.
fn plain(text: &Spanned<String>) -> Result<String, Diagnostic> {
    match text.get_ref() {
        empty if empty.is_empty() => Err(wrong(text, "this is empty")),
        odd if odd.chars().any(char::is_control) => {
            Err(wrong(text, "this has a control character"))
        }
        good => Ok(good.clone()),
    }
}

/// A ref: git takes nothing else for an option then.
fn name(text: &Spanned<String>) -> Result<String, Diagnostic> {
    let name = plain(text)?;
    if name.starts_with('-') { Err(wrong(text, "this is no ref")) } else { Ok(name) }
}

/// The whole hash of an object, as git writes it.
fn hash(text: &Spanned<String>) -> Result<String, Diagnostic> {
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    match text.get_ref() {
        hash if matches!(hash.len(), 40 | 64) && hash.bytes().all(digit) => Ok(hash.clone()),
        _ => Err(wrong(text, "this is not the whole hash of a commit: 40 or 64 hex digits")),
    }
}

/// An address without the user and password before its host, which have no place in a lock.
#[must_use]
pub fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}
