//! `ADD`: as `COPY`, and local archives are unpacked.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::super::flags::Known;
use super::super::git::GitSource;
use super::super::heredoc::Heredoc;
use super::{Statement, Transfer, transfer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    pub span: Span,
    pub text: String,
    /// Ask [`remote`] of each source after expansion.
    pub files: Transfer,
    pub chown: Option<Spanned<String>>,
    pub chmod: Option<Spanned<String>>,
    /// The layer does not depend on what is below.
    pub link: bool,
    /// Whether a repository's `.git` is copied too.
    pub keep_git_dir: Option<bool>,
    /// What a remote source's content hashes to, or the commit that it is.
    pub checksum: Option<Spanned<String>>,
    /// Whether archives are unpacked; by itself those of the context are.
    pub unpack: Option<bool>,
    /// Patterns of what is left out; no variables.
    pub excludes: Vec<Spanned<String>>,
}

pub(in super::super) const FLAGS: &[Known] = &[
    Known::full("chown"),
    Known::full("chmod"),
    Known::switch("link"),
    Known::switch("keep-git-dir"),
    Known::full("checksum"),
    Known::switch("unpack"),
    Known::many("exclude"),
];

/// A source of `ADD` that is not in the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    Url,
    Git,
}

/// What kind of remote source an expanded source is; none for a local one.
#[must_use]
pub fn remote(source: &str) -> Option<Remote> {
    if GitSource::parse(source).is_some() {
        return Some(Remote::Git);
    }
    let scheme =
        |name: &str| source.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    (scheme("http://") || scheme("https://")).then_some(Remote::Url)
}

impl Add {
    pub(in super::super) fn parse(
        st: &Statement<'_>,
        heredocs: &[Heredoc],
        out: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let flags = st.flags(FLAGS, out);
        let files = transfer(st, heredocs, out)?;
        let mut flags = flags?;
        Some(Self {
            span: st.span(),
            text: st.text(),
            files,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.switch("link").unwrap_or_default(),
            keep_git_dir: flags.switch("keep-git-dir"),
            checksum: flags.value("checksum"),
            unpack: flags.switch("unpack"),
            excludes: flags.values("exclude"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes() {
        assert_eq!(remote("https://example.com/a.tar.gz"), Some(Remote::Url));
        assert_eq!(remote("HTTP://example.com/a"), Some(Remote::Url));
        assert_eq!(remote("https://example.com/a.git#v1:sub"), Some(Remote::Git));
        assert_eq!(remote("git@example.com:a/b"), Some(Remote::Git));
        assert_eq!(remote("ssh://git@example.com/a"), Some(Remote::Git));
        assert_eq!(remote("a@b"), None);
        assert_eq!(remote("https/a"), None);
        assert_eq!(remote("github.com/a/b"), None);
    }
}
