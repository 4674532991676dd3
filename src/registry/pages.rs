//! Lists that come in pages (distribution spec, "Listing Tags" and "Listing Referrers";
//! RFC 8288).

use std::collections::HashSet;

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};

use super::RegistryError;
use super::transport::Session;
use crate::net::escaped;

/// Most pages of one list.
const MOST: usize = 5000;

/// The way through the pages of one list. It ends: no page is asked for twice, and there
/// are only so many.
pub(super) struct Pages {
    first: Url,
    seen: HashSet<Url>,
}

impl Pages {
    pub(super) fn from(first: Url) -> Self {
        Self { seen: HashSet::from([first.clone()]), first }
    }

    /// The page that follows an answer, by its `Link`; `None` if that was the last, or the
    /// next one was here already.
    pub(super) fn after(
        &mut self,
        session: &Session,
        answer: &HeaderMap,
    ) -> Result<Option<Url>, RegistryError> {
        let Some(target) = next(answer) else { return Ok(None) };
        let wrong = |why: String| RegistryError::Protocol { host: session.host.clone(), why };
        let url = follow(&self.first, &target).ok_or_else(|| {
            wrong(format!(
                "the next page of its list is elsewhere: `{}`",
                escaped(target.split('?').next().unwrap_or_default(), 200)
            ))
        })?;
        self.turn(url, session)
    }

    /// Goes to a page unless it was here already.
    pub(super) fn turn(
        &mut self,
        url: Url,
        session: &Session,
    ) -> Result<Option<Url>, RegistryError> {
        if self.seen.contains(&url) {
            return Ok(None);
        }
        if self.seen.len() >= MOST {
            let why = format!("its list has more than {MOST} pages");
            return Err(RegistryError::Protocol { host: session.host.clone(), why });
        }
        self.seen.insert(url.clone());
        Ok(Some(url))
    }
}

/// The target of the link whose relation is `next`.
fn next(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(links).find(|(_, is_next)| *is_next).map(|(target, _)| target)
}

/// The links of a header, and whether each leads to the next page. A header that is not
/// well formed ends there.
fn links(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((target, after)) =
        rest.trim_start_matches([',', ' ', '\t']).strip_prefix('<').and_then(|r| r.split_once('>'))
    {
        // Parameters go on to a comma that is not within quotes.
        let mut quoted = false;
        let end = after.find(|c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let (parameters, more) = after.split_at(end.unwrap_or(after.len()));
        let is_next = parameters.split(';').any(|one| {
            let Some((name, value)) = one.split_once('=') else { return false };
            let mut kinds = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel")
                && kinds.any(|kind| kind.eq_ignore_ascii_case("next"))
        });
        found.push((target.to_owned(), is_next));
        rest = more;
    }
    found
}

/// The address of another page: of the same list at the same host. A registry behind
/// something that ends TLS may name itself without it; it is asked as before.
fn follow(first: &Url, target: &str) -> Option<Url> {
    let target = first.join(target).ok()?;
    if target.host_str() != first.host_str() || target.path() != first.path() {
        return None;
    }
    let mut url = first.clone();
    url.set_query(target.query());
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page() {
        let first = Url::parse("https://r:5000/v2/a/tags/list?n=2").unwrap();
        for (link, expected) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("n=2&last=b")),
            (r#"<https://r:5000/v2/a/tags/list?last=b>;rel=next"#, Some("last=b")),
            (r#"<http://r/v2/a/tags/list?last=b>; rel="next""#, Some("last=b")),
            (r#"<?last=c>; rel="prev next"; title="a,b""#, Some("last=c")),
            (r#"</x>; rel="prev"; title="<,>", <?last=d>; REL="Next""#, Some("last=d")),
        ] {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            let found = next(&headers).and_then(|target| follow(&first, &target));
            assert_eq!(found.as_ref().and_then(Url::query), expected, "{link}");
            let found = found.unwrap();
            assert!(found.as_str().starts_with("https://r:5000/v2/a/tags/list?"), "{found}");
        }
        for link in [
            r#"<https://evil/v2/a/tags/list?last=b>; rel="next""#,
            r#"<//evil/v2/a/tags/list>; rel="next""#,
            r#"</v2/b/tags/list?last=b>; rel="next""#,
            r#"</v2/a/tags/list/../../../x>; rel="next""#,
            r#"<file:///v2/a/tags/list>; rel="next""#,
            r#"</v2/a/tags/list?last=b>; rel="prev""#,
            r#"</v2/a/tags/list?last=b; rel="next""#,
            "rubbish",
            "",
        ] {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            let found = next(&headers).and_then(|target| follow(&first, &target));
            assert_eq!(found, None, "{link}");
        }
    }
}
