//! `COPY` and `ADD` in a stage: which files, and how they come to be there.

use crate::diagnostic::{Diagnostic, Span};
use crate::digest::BlobDigest;
use crate::dockerfile::history as texts;
use crate::dockerfile::{
    self, Add, Chmod, Copy, GitSource, Ignore, Remote, Spanned, expand_unquoted, remote,
};

use super::bases::Origin;
use super::graph::StepId;
use super::instruction::InStage;
use super::op::{Content, CopyFrom, CopyHints, CopyOp, CopySource, Op, RemoteSource};
use super::path;

/// What `COPY` and `ADD` have in common.
struct Transfer<'a> {
    keyword: &'static str,
    files: &'a dockerfile::Transfer,
    chown: Option<&'a Spanned<String>>,
    chmod: Option<&'a Spanned<String>>,
    link: bool,
    parents: bool,
    excludes: &'a [Spanned<String>],
    /// None: those of the context are, those of a URL are not.
    unpack: Option<bool>,
    keep_git_dir: Option<bool>,
    checksum: Option<&'a Spanned<String>>,
}

/// A source that is not in the context.
enum Elsewhere {
    File(RemoteSource),
    Repository(GitSource),
}

impl InStage<'_, '_, '_> {
    pub(super) fn copy(&mut self, number: usize, copy: &Copy) {
        let (from, input) = match (&copy.from, self.walk.layout.copies.get(&(self.at, number))) {
            (None, _) => (CopyFrom::Context, None),
            (Some(_), Some(Origin::Stage(other))) => {
                // Stages are walked in order, and copy from earlier ones.
                let Some(other) = self.walk.done.get(other) else { return };
                (CopyFrom::Input(1), Some(other.root))
            }
            (Some(_), Some(Origin::Files(context))) => (CopyFrom::Named(*context), None),
            (Some(from), Some(origin)) => {
                let Some(id) = self.walk.base(origin, from.span, &mut |text| text.to_owned())
                else {
                    return;
                };
                (CopyFrom::Input(1), Some(id))
            }
            // Said to be wrong when the layout was made.
            (Some(_), None) => return,
        };
        let transfer = Transfer {
            keyword: "COPY",
            files: &copy.files,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link,
            parents: copy.parents,
            excludes: &copy.excludes,
            unpack: Some(false),
            keep_git_dir: None,
            checksum: None,
        };
        self.transfer(&transfer, from, input, copy.span, &copy.text);
    }

    pub(super) fn add(&mut self, add: &Add) {
        let transfer = Transfer {
            keyword: "ADD",
            files: &add.files,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link,
            parents: false,
            excludes: &add.excludes,
            unpack: add.unpack,
            keep_git_dir: add.keep_git_dir,
            checksum: add.checksum.as_ref(),
        };
        self.transfer(&transfer, CopyFrom::Context, None, add.span, &add.text);
    }

    fn transfer(
        &mut self,
        what: &Transfer<'_>,
        from: CopyFrom,
        input: Option<StepId>,
        span: Span,
        text: &str,
    ) {
        let Some((op, told)) = self.transfer_op(what, from) else { return };
        let name = redacted(&self.name(text));
        self.step(Op::Copy(op), input, span, name, told);
    }

    fn transfer_op(&mut self, what: &Transfer<'_>, from: CopyFrom) -> Option<(CopyOp, String)> {
        // All of them are looked at, so that all that is wrong is told.
        let chown = what.chown.map(|word| self.fill(word));
        let chmod = what.chmod.map(|word| self.fill(word));
        let sources: Vec<_> = what.files.sources.iter().map(|word| self.fill(word)).collect();
        let contents: Vec<_> = what.files.contents.iter().map(|it| self.content(it)).collect();
        let destination = self.fill(&what.files.destination)?;
        let sources: Vec<String> = sources.into_iter().collect::<Option<_>>()?;
        let contents: Vec<Content> = contents.into_iter().collect::<Option<_>>()?;
        let given = |flag: Option<Option<String>>| match flag {
            Some(None) => None,
            Some(Some(value)) => Some(Some(value).filter(|value| !value.is_empty())),
            None => Some(None),
        };
        let (owner, chmod) = (given(chown)?, given(chmod)?);
        // As BuildKit: a change of modes looks at what is there.
        let link = what.link && chmod.is_none();
        if let (Some(owner), Some(word), true) = (&owner, what.chown, link) {
            self.numeric(owner, word)?;
        }
        let mut names: Vec<String> = sources.iter().map(|source| redacted(source)).collect();
        names.extend(contents.iter().map(|content| format!("<<{}", content.name)));
        let (own, mode) = (owner.as_deref(), chmod.as_deref());
        let told = texts::copy(what.keyword, what.parents, own, mode, &names, &destination);
        let mode = match (chmod, what.chmod) {
            (Some(text), Some(word)) => Some(self.mode(&text, word)?),
            (Some(_) | None, _) => None,
        };
        let excludes: Vec<String> = what.excludes.iter().map(|word| word.value.clone()).collect();
        self.patterns(what.excludes)?;
        let checksum = self.checksum(what, &sources)?;
        if from == CopyFrom::Context {
            self.ignored_sources(what.keyword, &sources, &what.files.sources);
        }
        let (mut local, mut spans) = (Vec::new(), Vec::new());
        let (mut remotes, mut repositories) = (Vec::new(), Vec::new());
        for (source, word) in sources.iter().zip(&what.files.sources) {
            match remote(source) {
                None => {
                    local.push(located(source, what.parents));
                    spans.push(word.span);
                }
                Some(kind) => {
                    let checksum = checksum.as_ref().map(|(text, span)| (text.as_str(), *span));
                    match self.remote(what, kind, source, checksum, word)? {
                        Elsewhere::File(file) => remotes.push(file),
                        Elsewhere::Repository(repository) => repositories.push(repository),
                    }
                }
            }
        }
        let op = CopyOp {
            from,
            sources: local,
            repositories,
            remotes,
            contents,
            destination: path::destination(&self.cwd(), &destination),
            excludes,
            owner,
            mode,
            unpack: what.unpack.unwrap_or(true),
            link,
            hints: CopyHints {
                sources: spans,
                destination: what.files.destination.span,
                owner: what.chown.map(|word| word.span),
            },
        };
        Some((op, told))
    }

    /// A heredoc's text, its variables filled in unless its name is quoted.
    fn content(&mut self, inline: &dockerfile::Inline) -> Option<Content> {
        let name = inline.name.clone();
        if !inline.expand {
            return Some(Content { name, text: inline.text.clone() });
        }
        let vars = &self.state.vars;
        // Heredocs know no other escape character.
        let filled = expand_unquoted(&inline.text, '\\', &|name| vars.get(name).map(str::to_owned));
        match filled {
            Ok(filled) => {
                let undefined = filled.undefined();
                let undefined = undefined.map(|variable| (variable.name.clone(), inline.span));
                let undefined = undefined.collect();
                self.warn(undefined);
                Some(Content { name, text: filled.value })
            }
            Err(error) => {
                self.walk.out.push(Diagnostic::error(inline.span, error.problem.to_string()));
                None
            }
        }
    }

    /// With `--link`, whose layer knows no `/etc/passwd`.
    fn numeric(&mut self, owner: &str, word: &Spanned<String>) -> Option<()> {
        let number = |part: &str| part.is_empty() || part == "root" || part.parse::<u32>().is_ok();
        if owner.split(':').all(number) {
            return Some(());
        }
        self.walk.out.push(
            Diagnostic::error(word.span, "--link cannot look up names of users and groups")
                .label(format!("`{owner}` is not a number"))
                .hint("write --chown=UID:GID, or leave --link out"),
        );
        None
    }

    fn mode(&mut self, text: &str, word: &Spanned<String>) -> Option<Chmod> {
        let read = text.parse();
        read.map_err(|error| {
            let said = format!("`{text}` is no mode: {error}");
            self.walk.out.push(Diagnostic::error(word.span, said));
        })
        .ok()
    }

    fn patterns(&mut self, excludes: &[Spanned<String>]) -> Option<()> {
        let read = Ignore::of_patterns(excludes.iter().map(Spanned::as_str));
        read.map_err(|error| {
            let place = excludes.get(error.line - 1).map(|word| word.span).unwrap_or_default();
            let said = format!("`{}` is no pattern: {}", error.pattern, error.problem);
            self.walk.out.push(Diagnostic::error(place, said));
        })
        .map(drop)
        .ok()
    }

    /// A source that is not in the context. `checksum` is of it, and stands there.
    fn remote(
        &mut self,
        what: &Transfer<'_>,
        kind: Remote,
        source: &str,
        checksum: Option<(&str, Span)>,
        word: &Spanned<String>,
    ) -> Option<Elsewhere> {
        if what.keyword != "ADD" {
            let named = match kind {
                Remote::Url => "a URL",
                Remote::Git => "a git repository",
            };
            self.walk.out.push(
                Diagnostic::error(word.span, format!("{} cannot take {named}", what.keyword))
                    .label(format!("this is {}", redacted(source)))
                    .hint("ADD takes it"),
            );
            return None;
        }
        let read = match kind {
            Remote::Url => fetched(source, what.unpack.unwrap_or(false), checksum),
            Remote::Git => repository(source, what.keep_git_dir, checksum, word.span),
        };
        read.map_err(|said| self.walk.out.push(*said)).ok()
    }

    /// `--checksum` of the one source that it can be of. The outer None says that
    /// something is wrong.
    fn checksum(
        &mut self,
        what: &Transfer<'_>,
        sources: &[String],
    ) -> Option<Option<(String, Span)>> {
        let Some(word) = what.checksum else { return Some(None) };
        let text = self.fill(word)?;
        if text.is_empty() {
            return Some(None);
        }
        let said = match sources {
            [one] if remote(one).is_some() => return Some(Some((text, word.span))),
            [_] => Diagnostic::error(word.span, "--checksum is for sources with a URL"),
            _ => Diagnostic::error(word.span, "--checksum is for one source alone")
                .hint("write an ADD for each"),
        };
        self.walk.out.push(said);
        None
    }
}

type Read = Result<Elsewhere, Box<Diagnostic>>;

fn fetched(url: &str, unpack: bool, checksum: Option<(&str, Span)>) -> Read {
    let read = |(text, span): (&str, Span)| {
        text.parse::<BlobDigest>().map_err(|error| {
            Box::new(
                Diagnostic::error(span, format!("`{text}`: {error}"))
                    .hint("write --checksum=sha256: and 64 hexadecimal digits"),
            )
        })
    };
    let checksum = checksum.map(read).transpose()?;
    let (url, name) = (url.to_owned(), file_name(url));
    Ok(Elsewhere::File(RemoteSource { url, name, checksum, unpack }))
}

fn repository(
    url: &str,
    keep_git_dir: Option<bool>,
    checksum: Option<(&str, Span)>,
    span: Span,
) -> Read {
    let wrong = |span: Span, said: String| Box::new(Diagnostic::error(span, said));
    let source = GitSource::parse(url);
    let source = source.ok_or_else(|| wrong(span, "this is no git repository".to_owned()))?;
    let mut source = source.map_err(|error| wrong(span, error.to_string()))?;
    if let Some((text, span)) = checksum {
        let known = source.with_checksum(text);
        source = known.map_err(|error| wrong(span, error.to_string()))?;
    }
    if let Some(text) = source.checksum.as_ref().filter(|text| !GitSource::is_checksum(text)) {
        let place = checksum.map_or(span, |(_, span)| span);
        let said = format!("invalid checksum `{text}` for a git repository");
        return Err(Box::new(
            Diagnostic::error(place, said)
                .hint("write the commit's hash in hexadecimal digits, or the first of them"),
        ));
    }
    match (keep_git_dir, source.keep_git_dir) {
        (Some(flag), Some(own)) if flag != own => {
            return Err(wrong(span, "--keep-git-dir and the URL's keep-git-dir differ".to_owned()));
        }
        (flag, own) => source.keep_git_dir = own.or(flag),
    }
    Ok(Elsewhere::Repository(source))
}

/// A text without the user and password that URLs in it may have: they are for the
/// server alone.
fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                out.push_str("xxxxx");
                &after[at..]
            }
            None => after,
        };
    }
    out + rest
}

/// What a fetched file is called where the destination is a folder.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match last {
        "" | "." | ".." => "__unnamed__".to_owned(),
        name => percent(name),
    }
}

/// A path's part with `%20` and the like read.
fn percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let code = match more {
            [a, b, ..] if *first == b'%' => {
                std::str::from_utf8(&[*a, *b]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[2..] } else { more };
    }
    match String::from_utf8(bytes) {
        Ok(name) if !name.contains(['/', '\0']) => name,
        _ => text.to_owned(),
    }
}

/// A source as it was written, with its folders' part told apart: what stands behind
/// `/./`, or all of it.
fn located(source: &str, parents: bool) -> CopySource {
    if !parents {
        return CopySource { path: path::below_root(source), below: None };
    }
    let (folder, pattern) = source.split_once("/./").unwrap_or(("/", source));
    CopySource { path: path::below_root(folder), below: Some(path::below_root(pattern)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_told() {
        for (text, want) in [
            ("ADD https://u:p@h/a@b http://h/x /d", "ADD https://xxxxx@h/a@b http://h/x /d"),
            ("http://u:p@q@h", "http://xxxxx@h"),
            ("a:b@c", "a:b@c"),
            ("x://", "x://"),
        ] {
            assert_eq!(redacted(text), want);
        }
    }

    #[test]
    fn names_of_fetched_files() {
        for (url, name) in [
            ("https://example.com/a/b.tar.gz", "b.tar.gz"),
            ("https://example.com/a/b%20c?x=/y#z", "b c"),
            ("https://example.com/a/", "a"),
            ("https://example.com", "__unnamed__"),
            ("https://example.com/", "__unnamed__"),
            ("http://h/..", "__unnamed__"),
            ("http://h/a%2Fb", "a%2Fb"),
            ("http://h/%zz", "%zz"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
