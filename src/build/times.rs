//! When the commits were made that contexts are of: what `SOURCE_DATE_EPOCH=context` asks for.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::Files;
use super::git;
use super::{BuildRequest, ContextSource};
use crate::dockerfile::Dockerfile;
use crate::epoch::Epoch;
use crate::plan;

/// By the name of the context, the time or why there is none; nothing if nobody asks.
pub(super) fn times(
    ask: &BuildRequest,
    file: &Dockerfile,
) -> BTreeMap<String, Result<Epoch, String>> {
    if !plan::asks_for_times(file, &ask.build_args) {
        return BTreeMap::new();
    }
    let named = ask.contexts.iter().filter_map(|(name, source)| match source {
        ContextSource::Files(files) => Some((name.clone(), committed(files))),
        ContextSource::Folder { path, .. } => Some((name.clone(), of_folder(path))),
        ContextSource::Image(_) | ContextSource::Loaded { .. } | ContextSource::Scratch => None,
    });
    let main = (plan::CONTEXT.to_owned(), committed(&ask.context));
    std::iter::once(main).chain(named).collect()
}

fn committed(files: &Files) -> Result<Epoch, String> {
    match files {
        Files::Checkout(checkout) => epoch(checkout.committed()),
        Files::Folder(folder) => of_folder(folder),
        Files::Nothing | Files::Unpacked(_) => Err("an archive is of no commit".to_owned()),
    }
}

fn of_folder(folder: &Path) -> Result<Epoch, String> {
    epoch(git::head_time(folder)?)
}

fn epoch(seconds: i64) -> Result<Epoch, String> {
    seconds.to_string().parse().map_err(|_| format!("its commit is of second {seconds}"))
}
