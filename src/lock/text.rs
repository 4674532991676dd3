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
        writeln!(f, "{HEAD}version = {VERSION}")?;
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

/// As [`read`], of what has shorter texts too: they may mean something else elsewhere.
fn whole<T>(text: &Spanned<String>) -> Result<T, Diagnostic>
where
    T: std::str::FromStr<Err: fmt::Display> + fmt::Display,
{
    let value: T = read(text)?;
    match value.to_string() {
        whole if whole == *text.get_ref() => Ok(value),
        whole => Err(wrong(text, &format!("this is not written in full: {whole}"))),
    }
}

fn base(table: &BaseTable) -> Result<Entry, Diagnostic> {
    let reference: Reference = whole(&table.reference)?;
    let platform: Platform = whole(&table.platform)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Change;

    fn sum(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    fn several() -> Lock {
        let digest = |digit: &str| sum(digit).parse().unwrap();
        let base = |name: &str, platform: &str, digit: &str| {
            Entry::Base(Base {
                reference: name.parse().unwrap(),
                platform: platform.parse().unwrap(),
                digest: digest(digit),
                index: (platform == "linux/amd64").then(|| digest("f")),
            })
        };
        let git = |reference: Option<&str>, object: &str| {
            Entry::Git(Git {
                remote: "https://h/r.git".into(),
                reference: reference.map(str::to_owned),
                name: "refs/tags/v1".into(),
                object: object.repeat(40),
                commit: "c".repeat(40),
            })
        };
        let url =
            Entry::Url(Url { url: "http://h/\"\\é?a=b".into(), digest: digest("3"), size: 7 });
        let pinned = format!("a@{}", sum("4"));
        let entries = [
            git(Some("v1"), "d"),
            url,
            base("b:1", "linux/arm64", "2"),
            git(None, "c"),
            base("b:1", "linux/amd64", "1"),
            base(&pinned, "linux/amd64", "4"),
        ];
        entries.into_iter().collect()
    }

    #[test]
    fn a_lock_has_one_text_and_comes_back() {
        let text = several().to_string();
        assert_eq!(Lock::parse(&text).unwrap(), several());
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(heads, ["[[base]]", "[[base]]", "[[base]]", "[[url]]", "[[git]]", "[[git]]"]);
        assert!(text.lines().all(|line| line.len() < 120), "{text}");
        // Whatever the order and the ends of lines are.
        let mut parts: Vec<&str> = text.split("\n\n").collect();
        parts[1..].reverse();
        let other = parts.join("\n\n").replace('\n', "\r\n");
        assert_eq!(Lock::parse(&other).unwrap().to_string(), text);
        assert_eq!(Lock::parse("version = 1\n").unwrap(), Lock::default());
    }

    #[test]
    fn what_is_no_lock() {
        let base = format!(
            "[[base]]\nreference = \"docker.io/library/a:1\"\nplatform = \"linux/amd64\"\n\
             digest = \"{}\"\n",
            sum("1")
        );
        let git = format!(
            "[[git]]\nremote = \"https://h/r.git\"\nname = \"refs/heads/m\"\ncommit = \"{}\"\n",
            "c".repeat(40)
        );
        let url = format!("[[url]]\nurl = \"http://h/a\"\ndigest = \"{}\"\nsize = 1\n", sum("2"));
        let good = format!("version = 1\n{base}{git}{url}");
        assert_eq!(Lock::parse(&good).unwrap().len(), 3);
        for (old, new, line, says) in [
            ("version = 1\n", "", 1, "version"),
            ("version = 1", "version = 2\nnew = 1", 1, "version 2"),
            ("version = 1", "version = 1\nnew = 1", 2, "unknown field"),
            ("size = 1", "size = -1", 13, "invalid value"),
            ("size = 1", "size = 1\nsize = 1", 14, "duplicate key"),
            ("docker.io/library/a:1", "a:1", 3, "docker.io/library/a:1"),
            ("docker.io/library/a:1", "A B", 3, "is not an image reference"),
            (":1\"", &format!("@{}\"", sum("9")), 5, "is not what"),
            ("linux/amd64", "linux", 4, "in full: linux/"),
            ("linux/amd64", "a/b/c/d", 4, "is not a platform"),
            (&sum("1"), "sha256:12", 5, "is not a digest"),
            ("http://h/a", "http://u:p@h/a", 11, "no credentials"),
            ("http://h/a", "file:///etc/passwd", 11, "no HTTP URL"),
            ("https://h/r.git", "https://token@h/r.git", 7, "no credentials"),
            ("refs/heads/m", "--upload-pack=x", 8, "is no ref"),
            ("refs/heads/m", "a\\nb", 8, "control character"),
            (&"c".repeat(40), "cccc", 9, "whole hash"),
            (&git, &format!("{git}{git}"), 10, "a second time"),
            ("[[git]]", "<<<<<<< HEAD\n[[git]]", 6, "a merge has left a conflict"),
            ("[[git]]", "=======\n[[git]]", 6, "a merge has left a conflict"),
            ("[[git]]", "\0", 6, ""),
        ] {
            assert!(good.contains(old), "{old}");
            let text = good.replacen(old, new, 1);
            let said = Lock::parse(&text).unwrap_err();
            let at = text[..said.span.start].matches('\n').count() + 1;
            assert!(said.message.contains(says), "{new}: {}", said.message);
            assert_eq!(at, line, "{new}: {}", said.message);
        }
    }

    #[test]
    fn changes_are_told_in_order() {
        let (old, mut new) = (several(), several());
        let keys: Vec<_> = old.entries().map(Entry::key).collect();
        new.remove(&keys[0]);
        if let Some(Entry::Url(mut url)) = new.remove(&keys[3]) {
            url.size = 8;
            new.insert(Entry::Url(url));
        }
        let told: Vec<_> = old.changes(&new).iter().map(Change::key).collect();
        assert_eq!(told, [keys[0].clone(), keys[3].clone()]);
        assert!(matches!(old.changes(&new)[..], [Change::Removed(_), Change::Moved { .. }]));
        assert!(matches!(new.changes(&old)[0], Change::Added(_)));
        assert_eq!(keys[3].to_string(), "http://h/\"\\é?…");
    }

    #[test]
    fn credentials_are_left_out() {
        for (url, bare) in [
            ("http://u:p@h:1/a@b", "http://h:1/a@b"),
            ("https://t@h?x=@", "https://h?x=@"),
            ("http://a@b@h", "http://h"),
            ("http://h/a", "http://h/a"),
            ("git@h:r", "git@h:r"),
        ] {
            assert_eq!(without_user(url), bare);
        }
    }
}
