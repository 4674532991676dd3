//! `SOURCE_DATE_EPOCH`: the time of what a build makes, as an argument of the build or
//! of an `ARG` before the first `FROM`.
//!
//! As with BuildKit it is a number of seconds, or says where to find one: `context`, a
//! named context, a stage. A git repository has the time of its commit, and so has a folder
//! that git has checked out; an archive and an image have none. Then what the file says by
//! itself is as good as not said, with a warning; whoever gave it as an argument is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::Dockerfile;
use crate::epoch::Epoch;

use super::graph::PlanRequest;
use super::scope::Globals;

pub(super) const ARGUMENT: &str = "SOURCE_DATE_EPOCH";
/// The build context, where the name of a context is expected.
pub const CONTEXT: &str = "context";

const NUMBER: &str = "give it as a number: --build-arg SOURCE_DATE_EPOCH=SECONDS";

/// Whether the times of contexts matter: the argument is there and is no number.
#[must_use]
pub fn asks_for_times(file: &Dockerfile, build_args: &BTreeMap<String, String>) -> bool {
    let own = file.meta_args.iter().flat_map(|arg| &arg.items);
    let own = own.filter(|item| item.name.value == ARGUMENT);
    let mut own = own.filter_map(|item| item.default.as_ref());
    let given = build_args.get(ARGUMENT);
    let text = given.or_else(|| own.next_back().map(|default| &default.value));
    text.is_some_and(|text| !text.is_empty() && text.parse::<Epoch>().is_err())
}

/// The request with the time that it or the file asks for, which the argument has
/// from then on.
///
/// # Errors
/// If the argument says nothing that has a time.
pub(super) fn timed<'a>(
    file: &Dockerfile,
    ask: &'a PlanRequest,
    globals: &mut Globals,
    out: &mut Vec<Diagnostic>,
) -> Result<Cow<'a, PlanRequest>, Diagnostic> {
    let given = ask.build_args.get(ARGUMENT);
    let value = match given.map(String::as_str).or_else(|| globals.vars.get(ARGUMENT)) {
        None | Some("") => return Ok(Cow::Borrowed(ask)),
        Some(value) => value.to_owned(),
    };
    let items = file.meta_args.iter().flat_map(|arg| &arg.items);
    let mut items = items.filter(|item| item.name.value == ARGUMENT);
    let place = match items.next_back() {
        Some(item) if given.is_none() => {
            item.default.as_ref().map_or(item.name.span, |value| value.span)
        }
        Some(_) | None => Span::default(),
    };
    let time = match value.parse::<Epoch>() {
        Ok(epoch) => Some(epoch),
        Err(_) if value == CONTEXT || ask.contexts.iter().any(|(name, _)| *name == value) => {
            match ask.times.get(&value) {
                Some(Ok(epoch)) => Some(*epoch),
                none => {
                    let why = none.and_then(|time| time.as_ref().err());
                    let why = why.map_or("an image is of no commit", String::as_str);
                    let said =
                        format!("{ARGUMENT} asks for the time of `{value}`, which has none: {why}");
                    if given.is_some() {
                        return Err(Diagnostic::error(place, said).hint(NUMBER));
                    }
                    out.push(Diagnostic::warning(place, said).hint(NUMBER));
                    None
                }
            }
        }
        Err(wrong) => {
            let named = |name: &str| name.eq_ignore_ascii_case(&value);
            let stage = file
                .stages
                .iter()
                .find(|stage| stage.from.name.as_ref().is_some_and(|name| named(name.as_str())));
            return Err(match stage {
                Some(_) => Diagnostic::error(
                    place,
                    format!("kiln does not look up the time of what stage `{value}` fetches"),
                )
                .hint(NUMBER),
                None => Diagnostic::error(place, wrong.to_string())
                    .hint("`context` and the names of contexts stand for the time of a commit"),
            });
        }
    };
    globals.epoch = time;
    let mut ask = ask.clone();
    match time {
        Some(epoch) => {
            ask.epoch = epoch;
            globals.reset(ARGUMENT, Some(&epoch.to_string()));
            ask.build_args.entry(ARGUMENT.to_owned()).and_modify(|it| *it = epoch.to_string());
        }
        None => {
            globals.reset(ARGUMENT, None);
            ask.build_args.remove(ARGUMENT);
        }
    }
    Ok(Cow::Owned(ask))
}
