//! Answers for machines.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::diagnostic::{Diagnostic, Source, Span};
use crate::dockerfile::{Dockerfile, lint};
use crate::plan::{Outline, OutlineUse};

/// What a check has found. `buildError` is the first error, `buildErrors` are all.
pub(super) fn check(
    broken: &[Diagnostic],
    errors: &[Diagnostic],
    file: &Dockerfile,
    source: &Source,
) -> Value {
    let warnings = broken.iter().filter_map(|said| {
        let rule = said.rule?;
        let detail = match &said.hint {
            Some(hint) => format!("{} ({hint})", said.message),
            None => said.message.clone(),
        };
        // A rule about single lines, and not about whole instructions.
        let lines = if rule == &lint::NO_EMPTY_CONTINUATION {
            let line = source.line(said.span.start);
            line..=line
        } else {
            lines(file, source, said.span)
        };
        Some(object([
            ("ruleName", Some(json!(rule.name))),
            ("description", Some(json!(rule.sentence))),
            ("url", lint::url(rule).map(Value::String)),
            ("detail", Some(json!(detail))),
            ("location", Some(location(lines))),
        ]))
    });
    let errors: Vec<Value> = errors
        .iter()
        .map(|said| {
            // Nothing at byte 0 is no place in the file.
            let nowhere = said.span == Span::default();
            let location =
                if nowhere { json!({}) } else { location(lines(file, source, said.span)) };
            json!({"message": said.message, "location": location})
        })
        .collect();
    object([
        ("warnings", Some(warnings.collect())),
        (
            "sources",
            Some(json!([{
                "filename": source.name(),
                "language": "Dockerfile",
                "data": STANDARD.encode(source.text()),
            }])),
        ),
        ("buildError", errors.first().cloned()),
        ("buildErrors", Some(json!(errors)).filter(|_| !errors.is_empty())),
    ])
}

pub(super) fn targets(file: &Dockerfile, source: &Source) -> Value {
    let last = file.stages.len().saturating_sub(1);
    let targets = file.stages.iter().enumerate().map(|(at, stage)| {
        let from = &stage.from;
        let name = from.name.as_ref().map(|name| name.value.as_str());
        object([
            ("name", name.map(|name| json!(name))),
            ("default", (at == last).then_some(json!(true))),
            ("description", super::tables::description(file, at).map(|text| json!(text))),
            ("base", Some(json!(from.image.value))),
            ("platform", from.platform.as_ref().map(|platform| json!(platform.value))),
            ("location", Some(location(lines(file, source, from.span)))),
        ])
    });
    json!({"targets": targets.collect::<Value>(), "sources": sources(source)})
}

pub(super) fn outline(outline: &Outline, file: &Dockerfile, source: &Source) -> Value {
    let place = |span: Span| Some(location(lines(file, source, span)));
    let args = outline.args.iter().map(|arg| {
        object([
            ("name", Some(json!(arg.name))),
            ("description", arg.description.as_ref().map(|text| json!(text))),
            ("value", Some(json!(arg.value)).filter(|_| !arg.value.is_empty())),
            ("location", place(arg.span)),
        ])
    });
    let uses = |uses: &[OutlineUse], key: &'static str| {
        let objects = uses.iter().map(|it| {
            object([
                (key, Some(json!(it.name))),
                ("required", it.required.then_some(json!(true))),
                ("location", place(it.span)),
            ])
        });
        Some(objects.collect::<Value>()).filter(|_| !uses.is_empty())
    };
    object([
        ("name", outline.name.as_ref().map(|name| json!(name))),
        ("description", outline.description.as_ref().map(|text| json!(text))),
        ("args", Some(args.collect::<Value>()).filter(|_| !outline.args.is_empty())),
        ("secrets", uses(&outline.secrets, "name")),
        ("ssh", uses(&outline.ssh, "name")),
        ("cache", uses(&outline.caches, "ID")),
        ("sources", Some(sources(source))),
    ])
}

/// The lines of the instruction that a place lies in.
fn lines(file: &Dockerfile, source: &Source, span: Span) -> RangeInclusive<usize> {
    let line = source.line(span.start);
    let around = file.notes.range(..=span.start).next_back().map(|(_, note)| &note.lines);
    around.filter(|lines| lines.contains(&line)).cloned().unwrap_or(line..=line)
}

/// Each line is a range of its own.
fn location(lines: RangeInclusive<usize>) -> Value {
    let ranges = lines.map(|line| json!({"start": {"line": line}, "end": {"line": line}}));
    json!({"ranges": ranges.collect::<Value>()})
}

fn sources(source: &Source) -> Value {
    json!([STANDARD.encode(source.text())])
}

/// An object without the fields that have no value.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}
