//! Capitals and small letters: of keywords, of `AS`, of names of stages.

use crate::diagnostic::{Diagnostic, Span};

use super::{CONSISTENT_INSTRUCTION_CASING, FROM_AS_CASING, Found, STAGE_NAME_CASING};

pub(super) fn check_stages(found: &mut Found<'_>) {
    for stage in &found.file.stages {
        let from = &stage.from;
        let Some(name) = &from.name else { continue };
        let mut words = from.text.split_whitespace();
        let keyword = words.next().unwrap_or_default();
        let written = words.next_back().unwrap_or_default();
        let word = words.next_back().unwrap_or_default();
        if written != name.value {
            let said = format!("the stage's name `{written}` has capitals");
            let said = Diagnostic::warning(name.span, said)
                .hint(format!("write {}: case does not tell names of stages apart", name.value));
            found.add(&STAGE_NAME_CASING, from.span, said);
        }
        // A FROM of both kinds of letters is told by another rule.
        if let Some(small) = lower(keyword)
            && lower(word) != Some(small)
        {
            let fitting = if small { word.to_lowercase() } else { word.to_uppercase() };
            let said = format!("`{word}` is not written as `{keyword}` is");
            let said = Diagnostic::warning(from.span, said).hint(format!("write {fitting}"));
            found.add(&FROM_AS_CASING, from.span, said);
        }
    }
}

pub(super) fn check_keywords(found: &mut Found<'_>) {
    let mut keywords: Vec<(&str, Span)> = Vec::new();
    for stage in &found.file.stages {
        let from = (stage.from.text.as_str(), stage.from.span);
        let others = stage.instructions.iter().map(|it| (it.text(), it.span()));
        for (text, span) in std::iter::once(from).chain(others) {
            let keyword = text.split_whitespace().next().unwrap_or_default();
            keywords.push((keyword, Span::new(span.start, span.start + keyword.len())));
        }
    }
    let count = |wanted| keywords.iter().filter(|(word, _)| lower(word) == Some(wanted)).count();
    let mostly_small = count(true) > count(false);
    for (keyword, span) in keywords {
        if lower(keyword) == Some(mostly_small) {
            continue;
        }
        let (kind, fitting) = if mostly_small {
            ("small letters", keyword.to_lowercase())
        } else {
            ("capitals", keyword.to_uppercase())
        };
        let said = format!("`{keyword}` is not in {kind}, as most keywords of the file are");
        let said = Diagnostic::warning(span, said).hint(format!("write {fitting}"));
        found.add_whole(&CONSISTENT_INSTRUCTION_CASING, said);
    }
}

/// Whether a word is all in small letters; none if it is neither so nor all in
/// capitals.
fn lower(word: &str) -> Option<bool> {
    if word == word.to_lowercase() {
        Some(true)
    } else if word == word.to_uppercase() {
        Some(false)
    } else {
        None
    }
}
