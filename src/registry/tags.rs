//! The tags of a repository (distribution spec, "Listing Tags").

use std::collections::BTreeSet;

use reqwest::{Method, Url};
use serde::Deserialize;

use super::pages::Pages;
use super::pull::Sources;
use super::transport::{Ask, Session};
use super::{Registries, RegistryError};
use crate::image::MAX_DOCUMENT;
use crate::net::escaped;
use crate::progress::Progress;
use crate::reference::{Reference, is_tag};

/// Tags that are asked for at a time: what registries give at most.
const PAGE: usize = 1000;

/// Most tags of a repository, since they are in memory.
const MOST: usize = 200_000;

/// The tags of a name's repository, sorted; its own tag or digest counts for nothing.
///
/// # Errors
/// If the registry does not list them, or without an end.
pub async fn tags(
    of: &Reference,
    at: &Registries,
    progress: &Progress,
) -> Result<Vec<String>, RegistryError> {
    let of = &at.mirrors().meaning(of)?;
    Sources::new(of, at, progress)?.tags().await
}

#[derive(Deserialize)]
struct Page {
    /// Null in an empty repository of some registries.
    tags: Option<Vec<String>>,
}

/// Every tag that a registry lists, and what it lists that is none.
pub(super) async fn all(
    session: &Session,
    what: &str,
) -> Result<(BTreeSet<String>, Vec<String>), RegistryError> {
    let wrong = |why: String| RegistryError::Protocol { host: session.host.clone(), why };
    let (mut tags, mut odd) = (BTreeSet::new(), Vec::new());
    let first = session.url("tags/list")?;
    let page = |last: Option<&str>| {
        let mut url = first.clone();
        url.query_pairs_mut().append_pair("n", &PAGE.to_string());
        if let Some(last) = last {
            url.query_pairs_mut().append_pair("last", last);
        }
        url
    };
    let mut pages = Pages::from(page(None));
    let mut next: Option<Url> = Some(page(None));
    while let Some(url) = next {
        let (answer, bytes) =
            session.fetch(&Ask::new(Method::GET, url, what), MAX_DOCUMENT).await?;
        next = pages.after(session, &answer)?;
        let listed: Page = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("its list of tags is malformed: {error}")))?;
        let listed = listed.tags.unwrap_or_default();
        let (before, count) = (tags.len(), listed.len());
        let last = listed.last().filter(|tag| is_tag(tag)).cloned();
        for tag in listed {
            if is_tag(&tag) {
                tags.insert(tag);
            } else if odd.len() < 10 {
                odd.push(escaped(&tag, 60));
            }
        }
        if tags.len() > MOST {
            return Err(wrong(format!("the repository has more than {MOST} tags")));
        }
        // Before version 1.1 of the specification a full page was all that said that there
        // is another one.
        if next.is_none()
            && count == PAGE
            && tags.len() > before
            && let Some(last) = last
        {
            next = pages.turn(page(Some(&last)), session)?;
        }
    }
    Ok((tags, odd))
}
