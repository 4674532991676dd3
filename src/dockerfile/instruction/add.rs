//! `ADD`: as `COPY`, and local archives are unpacked.

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::Spanned;
use super::super::flags::{Known, lacking};
use super::{Statement, sources};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    pub span: Span,
    pub text: String,
    /// At least one, none of them a URL as written; after expansion, ask
    /// [`remote`] again.
    pub sources: Vec<Spanned<String>>,
    pub destination: Spanned<String>,
    pub chown: Option<Spanned<String>>,
    pub chmod: Option<Spanned<String>>,
}

const FLAGS: &[Known] = &[
    Known::full("chown"),
    Known::full("chmod"),
    Known::lacking("link", &["false"], "leave --link out: the files are the same without it"),
    Known::lacking("keep-git-dir", &["false"], "clone in a RUN step, or COPY a checkout"),
    Known::lacking("checksum", &[], "download in a RUN step and check with sha256sum -c"),
    Known::lacking("unpack", &[], "ADD unpacks local archives by itself; COPY does not"),
    Known::lacking("exclude", &[], "list the files in .dockerignore, or copy fewer"),
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
    let scheme =
        |name: &str| source.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if scheme("git://") || scheme("ssh://") || scp(source) {
        return Some(Remote::Git);
    }
    if scheme("http://") || scheme("https://") {
        let path = source.split(['#', '?']).next().unwrap_or(source);
        return Some(if path.ends_with(".git") { Remote::Git } else { Remote::Url });
    }
    None
}

/// `user@host:path`, as git takes it.
fn scp(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    word(user, "-_") && word(host, "-.")
}

impl Add {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        let flags = st.flags(FLAGS, out);
        let (sources, destination) = sources(st, out)?;
        let errors = out.len();
        for source in &sources {
            out.extend(remote(&source.value).map(|remote| match remote {
                Remote::Url => lacking(
                    source.span,
                    "ADD of a URL",
                    "download in a RUN step, or put the file into the context",
                ),
                Remote::Git => lacking(
                    source.span,
                    "ADD of a git repository",
                    "clone in a RUN step, or put a checkout into the context",
                ),
            }));
        }
        let mut flags = flags?;
        (out.len() == errors).then(|| Self {
            span: st.span(),
            text: st.text(),
            sources,
            destination,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
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
