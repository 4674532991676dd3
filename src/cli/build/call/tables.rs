//! Answers for people.

use crate::cli::text;
use crate::dockerfile::Dockerfile;
use crate::plan::{Outline, OutlineUse};

pub(super) fn targets(file: &Dockerfile) -> String {
    let mut table = vec![["TARGET", "BASE", "DESCRIPTION"].map(str::to_owned)];
    let last = file.stages.len().saturating_sub(1);
    for (at, stage) in file.stages.iter().enumerate() {
        let name = match (&stage.from.name, at == last) {
            (Some(name), true) => format!("{} (default)", name.value),
            (Some(name), false) => name.value.clone(),
            (None, true) => "(default)".to_owned(),
            // A stage without a name is a target by its number.
            (None, false) => at.to_string(),
        };
        let described = description(file, at).unwrap_or_default().to_owned();
        table.push([name, stage.from.image.value.clone(), described]);
    }
    text::table(&table)
}

/// What the comment above a stage's `FROM` says of it.
pub(super) fn description(file: &Dockerfile, stage: usize) -> Option<&str> {
    let from = &file.stages[stage].from;
    file.note(from.span)?.description(&from.name.as_ref()?.value)
}

pub(super) fn outline(outline: &Outline) -> String {
    let mut parts = Vec::new();
    let name = outline.name.as_deref().unwrap_or("(default)").to_owned();
    let mut head = vec![["TARGET:".to_owned(), name]];
    if let Some(text) = &outline.description {
        head.push(["DESCRIPTION:".to_owned(), text.clone()]);
    }
    parts.push(text::table(&head));
    if !outline.args.is_empty() {
        let mut table = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned)];
        table.extend(outline.args.iter().map(|arg| {
            [arg.name.clone(), arg.value.clone(), arg.description.clone().unwrap_or_default()]
        }));
        parts.push(text::table(&table));
    }
    parts.extend(uses("SECRET", &outline.secrets));
    parts.extend(uses("SSH", &outline.ssh));
    parts.extend(uses("CACHE", &outline.caches));
    parts.join("\n")
}

fn uses(title: &str, uses: &[OutlineUse]) -> Option<String> {
    if uses.is_empty() {
        return None;
    }
    let mut table = vec![[title, "REQUIRED"].map(str::to_owned)];
    table.extend(
        uses.iter().map(|it| {
            [it.name.clone(), if it.required { "true".to_owned() } else { String::new() }]
        }),
    );
    Some(text::table(&table))
}
