//! A comparison as people read it: what differs, indented below what it is in.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli::text as plain;
use crate::compare::{
    Change, Content, FieldChange, FileChange, Files, ImageChange, LayerChange, LayerSide, Report,
};
use crate::net::{escaped, spelled};

/// Letters of a value, and of an instruction, that are shown.
const VALUE: usize = 120;
const INSTRUCTION: usize = 100;
/// Letters before the place at which long values differ.
const BEFORE: usize = 20;
/// Letters of a value if all is asked for.
const WHOLE: usize = 100_000;

struct Text {
    out: String,
    value: usize,
    /// Hints that were given.
    hints: BTreeSet<&'static str>,
}

/// All of it; with `all`, values in full.
pub(in crate::cli) fn shown(report: &Report, all: bool) -> String {
    let value = if all { WHOLE } else { VALUE };
    let mut text = Text { out: String::new(), value, hints: BTreeSet::new() };
    let (a, b) = (&report.a, &report.b);
    if report.same {
        text.line(0, &format!("{} and {} are the same", name(&a.name), name(&b.name)));
        return text.out;
    }
    for (side, top) in [("A", a), ("B", b)] {
        text.line(0, &format!("{side} {} {}", name(&top.name), top.digest));
    }
    if !report.index.is_empty() {
        text.line(0, "index");
        text.fields(1, &report.index);
    }
    for image in &report.images {
        text.image(image);
    }
    text.out
}

fn name(text: &str) -> String {
    escaped(text, 200)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

impl Text {
    fn line(&mut self, depth: usize, text: &str) {
        self.out.push_str(&"  ".repeat(depth));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// Two values as texts that show in what they differ.
    fn values(&self, a: Option<&Value>, b: Option<&Value>) -> [String; 2] {
        let mut texts = [value(a), value(b)];
        let common = texts[0].chars().zip(texts[1].chars()).take_while(|(a, b)| a == b).count();
        let is_long = texts.iter().any(|text| text.chars().nth(self.value).is_some());
        if is_long && texts[0] != texts[1] && common > self.value / 2 {
            let begin = common - BEFORE;
            for text in &mut texts {
                *text = std::iter::once('…').chain(text.chars().skip(begin)).collect();
            }
        }
        texts.map(|text| spelled(&text, self.value))
    }

    fn fields(&mut self, depth: usize, fields: &[FieldChange]) {
        for field in fields {
            let [a, b] = self.values(field.a.as_ref(), field.b.as_ref());
            let mut line = spelled(&field.field, 400);
            if field.a.is_some() || field.b.is_some() {
                line.push_str(&format!(": {a}"));
            }
            if field.a != field.b {
                line.push_str(&format!(" → {b}"));
            }
            if let Some(note) = &field.note {
                line.push_str(&format!(" ({})", escaped(note, 400)));
            }
            self.line(depth, &line);
        }
    }

    fn image(&mut self, image: &ImageChange) {
        let platform = name(&image.platform);
        match image.change {
            Change::Removed => return self.line(0, &format!("{platform}: only in A")),
            Change::Added => return self.line(0, &format!("{platform}: only in B")),
            Change::Changed | Change::Repacked | Change::Moved => self.line(0, &platform),
        }
        for (what, fields) in [("manifest", &image.manifest), ("config", &image.config)] {
            if !fields.is_empty() {
                self.line(1, what);
                self.fields(2, fields);
            }
        }
        if image.layers.is_empty() {
            self.line(1, &format!("layers: all {} are the same", image.same_layers));
        } else if image.same_layers > 0 {
            let differ = image.layers.len();
            self.line(1, &format!("layers: {} the same, {differ} not", image.same_layers));
        }
        for layer in &image.layers {
            self.layer(layer);
        }
        if let Some(tree) = &image.tree {
            self.line(1, &format!("all layers together: {}", summary(tree)));
            self.files(2, tree);
        }
    }

    fn layer(&mut self, layer: &LayerChange) {
        let told = |side: &LayerSide| {
            let by = side.created_by.as_deref().map(|by| format!(": {}", escaped(by, INSTRUCTION)));
            by.unwrap_or_default()
        };
        let alone = |side: &LayerSide| {
            format!(" ({}, {}){}", side.diff_id.short(), plain::bytes(side.size), told(side))
        };
        let line = match (&layer.a, &layer.b) {
            (Some(a), None) => format!("layer {} only in A{}", a.number, alone(a)),
            (None, Some(b)) => format!("layer {} only in B{}", b.number, alone(b)),
            (Some(a), Some(b)) => {
                let place = if a.number == b.number {
                    format!("layer {}", a.number)
                } else {
                    format!("layer {} of A, {} of B", a.number, b.number)
                };
                match layer.change {
                    Change::Repacked => {
                        format!("{place} has the same files, stored otherwise{}", told(a))
                    }
                    Change::Moved => format!("{place} is the same elsewhere{}", told(a)),
                    _ => format!("{place} differs{}", told(a)),
                }
            }
            (None, None) => return,
        };
        self.line(1, &line);
        self.fields(2, &layer.fields);
        if let Some(files) = &layer.files {
            self.line(2, &summary(files));
            self.files(2, files);
        }
    }

    fn files(&mut self, depth: usize, files: &Files) {
        for file in &files.files {
            self.file(depth, file);
        }
        if files.omitted > 0 {
            self.line(depth, &format!("… {} more (--all lists them)", files.omitted));
        }
    }

    fn file(&mut self, depth: usize, file: &FileChange) {
        let mark = match file.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed | Change::Repacked | Change::Moved => '~',
        };
        let path = spelled(&file.path, 4096);
        let kind = if file.kind == "file" { String::new() } else { format!(" ({})", file.kind) };
        self.line(depth, &format!("{mark} {path}{kind}"));
        self.fields(depth + 2, &file.fields);
        if let Some(content) = &file.content {
            self.content(depth + 2, content, "content");
        }
        if let Some(hint) = file.hint
            && self.hints.insert(hint)
        {
            self.line(depth + 2, &format!("hint: {hint}"));
        }
    }

    fn content(&mut self, depth: usize, content: &Content, what: &str) {
        let mut line = format!("{what}: {}", content.format);
        if let Some(offset) = content.offset {
            line.push_str(&format!(", differs from byte {offset} on"));
        }
        if let Some(bytes) = content.bytes {
            line.push_str(&format!(
                " in {}",
                count(bytes.try_into().unwrap_or(usize::MAX), "byte")
            ));
        }
        self.line(depth, &line);
        self.fields(depth + 1, &content.fields);
        if content.more > 0 {
            self.line(depth + 1, &format!("… {} more", content.more));
        }
        for line in &content.diff {
            self.line(depth + 1, &visible(line));
        }
        if let Some(inside) = &content.inside {
            self.content(depth + 1, inside, "inside");
        }
    }
}

/// A value in full.
fn value(value: Option<&Value>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(Value::String(text)) if is_plain(text) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// A line of which blanks show, also those at its end.
fn visible(line: &str) -> String {
    let text = line.trim_end_matches(' ');
    let blanks = "\\x20".repeat(line.len() - text.len());
    spelled(&format!("{}{blanks}", text.replace('\t', "\\t")), 400)
}

/// True if a string needs no quotes: it is one word, and could be no other value.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('(')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()
}

/// Counts, in one line.
fn summary(files: &Files) -> String {
    let all = files.added + files.removed + files.changed;
    let parts = [(files.added, "added"), (files.removed, "removed"), (files.changed, "changed")];
    let mut parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    if !files.attributes.is_empty() {
        let of: Vec<String> =
            files.attributes.iter().map(|(what, n)| format!("{} {n}", escaped(what, 80))).collect();
        if let Some(last) = parts.last_mut() {
            last.push_str(&format!(" ({})", of.join(", ")));
        }
    }
    if parts.is_empty() {
        return "no file differs".to_owned();
    }
    format!("{}: {}", count(all, "file"), parts.join(", "))
}
