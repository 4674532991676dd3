//! One JSON object per line on stderr, for programs, in the form of BuildKit's
//! `SolveStatus`, which is what `docker buildx build --progress rawjson` writes:
//!
//! | field | its elements |
//! | --- | --- |
//! | `vertexes` | `digest`, `name`, `started`; once it has ended also `completed`, and `cached` or `error` |
//! | | kiln's own, of a step that an earlier build had made: `causes`, each with `kind`, `name`, `change` (`changed`, `added`, `removed`, `mode`) and `text` |
//! | `statuses` | `id`, `vertex`, `current`, `total` (if known), `timestamp`, `started`, `completed`: bytes moved; at most ten a second for each vertex |
//! | `logs` | `vertex`, `stream` (1 stdout, 2 stderr), `data`, `timestamp`: a line of output |
//! | `warnings` | `vertex`, `level`, `short`, `detail`; with `sourceInfo` and `range` where a text is to blame |
//!
//! Times are RFC 3339 in UTC; `data`, `short` and each `detail` are base64, as Go
//! writes bytes. A vertex is one thing that kiln does; its digest only ties the lines
//! of one call together. What belongs to no vertex has one of the name `[internal]
//! kiln`. Two objects are kiln's own. `{"totals":{…}}` comes when the steps of a build are
//! done, whether or not they failed, with what was done of them in all: `files_hashed`,
//! `bytes_hashed` and `files_packed`, of build contexts. The last of a call that fails is
//! `{"error":{"message","causes","hint"}}`, for a wrong text with `file`, `line` and
//! `label` instead of `causes`. Further fields may come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli::report::say;
use crate::cli::text;
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::digest::Digest;
use crate::progress::{End, Event, Stream};

const RHYTHM: Duration = Duration::from_millis(100);

pub(super) struct Json {
    vertexes: HashMap<u64, Vertex>,
    /// Whether the vertex of what belongs to none was shown.
    own: bool,
}

struct Vertex {
    digest: String,
    name: String,
    started: String,
    told: Option<Instant>,
    /// Bytes that were last told or heard of.
    bytes: Option<(u64, Option<u64>)>,
}

impl Vertex {
    fn shown(&self) -> Value {
        json!({"digest": self.digest, "name": self.name, "started": self.started})
    }

    fn status(&self, now: &str, ended: bool) -> Option<Value> {
        let (done, total) = self.bytes?;
        let mut status = json!({
            "id": "bytes",
            "vertex": self.digest,
            "current": done,
            "timestamp": now,
            "started": self.started,
        });
        if let Some(total) = total {
            status["total"] = total.into();
        }
        if ended {
            status["completed"] = now.into();
        }
        Some(status)
    }
}

#[expect(clippy::disallowed_methods, reason = "progress is of now, and reaches no output")]
fn now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or_default()
}

fn bytes(text: &str) -> String {
    STANDARD.encode(text)
}

impl Json {
    pub(super) fn new() -> Self {
        Self { vertexes: HashMap::new(), own: false }
    }

    pub(super) fn show(&mut self, event: Event) {
        if let Some(object) = self.object(event, now(), Instant::now()) {
            say(&text::json(&object));
        }
    }

    /// Shows a warning about a text.
    pub(super) fn diagnostic(&mut self, source: &Source, one: &Diagnostic) {
        match one.severity {
            Severity::Error => say(&text::json(&error_in(source, one))),
            Severity::Warning => {
                let short = match one.rule {
                    Some(rule) => format!("{}: {}", rule.name, one.message),
                    None => one.message.clone(),
                };
                let mut warning = self.warning(&short);
                let detail = [&one.label, one.hint.as_deref().unwrap_or_default()];
                let detail = detail.iter().filter(|text| !text.is_empty());
                warning["detail"] = detail.map(|text| bytes(text)).collect();
                warning["sourceInfo"] = json!({
                    "filename": source.name(),
                    "data": bytes(source.text()),
                    "language": "Dockerfile",
                });
                let place = |at: usize| json!({"line": source.line(at)});
                let (start, end) = (place(one.span.start), place(one.span.end));
                warning["range"] = json!([{"start": start, "end": end}]);
                let object = self.with_own(json!({"warnings": [warning]}), &now().to_string());
                say(&text::json(&object));
            }
        }
    }

    fn object(&mut self, event: Event, now: Timestamp, instant: Instant) -> Option<Value> {
        let now = now.to_string();
        Some(match event {
            Event::Begin { id, name } => {
                let digest = Digest::of(format!("{id}\n{name}").as_bytes()).to_string();
                let vertex = Vertex { digest, name, started: now, told: None, bytes: None };
                let shown = vertex.shown();
                self.vertexes.insert(id, vertex);
                json!({"vertexes": [shown]})
            }
            Event::Bytes { id, done, total } => {
                let vertex = self.vertexes.get_mut(&id)?;
                vertex.bytes = Some((done, total));
                if vertex.told.is_some_and(|last| instant - last < RHYTHM) {
                    return None;
                }
                vertex.told = Some(instant);
                json!({"statuses": [vertex.status(&now, false)?]})
            }
            Event::Line { id, stream, text } => {
                let stream = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                let vertex = &self.vertexes.get(&id)?.digest;
                let data = bytes(&format!("{text}\n"));
                json!({"logs": [
                    {"vertex": vertex, "stream": stream, "data": data, "timestamp": now},
                ]})
            }
            Event::Causes { id, causes, wanted: _ } => {
                let mut shown = self.vertexes.get(&id)?.shown();
                shown["causes"] = causes
                    .iter()
                    .map(|cause| {
                        let change = cause.change.name();
                        json!({"kind": cause.kind, "name": cause.name, "change": change, "text": cause.text})
                    })
                    .collect();
                json!({"vertexes": [shown]})
            }
            Event::End { id, end } => {
                let vertex = self.vertexes.remove(&id)?;
                let mut shown = vertex.shown();
                shown["completed"] = now.as_str().into();
                match end {
                    End::Done => (),
                    End::Cached => shown["cached"] = true.into(),
                    End::Failed => shown["error"] = "failed".into(),
                }
                let mut object = json!({"vertexes": [shown]});
                if let Some(status) = vertex.status(&now, true) {
                    object["statuses"] = json!([status]);
                }
                object
            }
            Event::Totals(totals) => {
                let totals: Map<_, _> = totals
                    .into_iter()
                    .map(|(name, count)| (name.to_owned(), count.into()))
                    .collect();
                json!({"totals": totals})
            }
            Event::Note(text) => {
                let data = bytes(&format!("{text}\n"));
                let log = json!({"vertex": own(), "stream": 2, "data": data, "timestamp": now});
                self.with_own(json!({"logs": [log]}), &now)
            }
            Event::Warning(text) => {
                let warning = self.warning(&text);
                self.with_own(json!({"warnings": [warning]}), &now)
            }
        })
    }

    fn warning(&self, text: &str) -> Value {
        json!({"vertex": own(), "level": 1, "short": bytes(text)})
    }

    /// Adds the vertex of what belongs to none, the first time.
    fn with_own(&mut self, mut object: Value, now: &str) -> Value {
        if !std::mem::replace(&mut self.own, true) {
            object["vertexes"] = json!([
                {"digest": own(), "name": "[internal] kiln", "started": now, "completed": now},
            ]);
        }
        object
    }
}

fn own() -> String {
    Digest::of(b"[internal] kiln").to_string()
}

/// The object of an error that ends kiln.
pub(in crate::cli) fn error(message: &str, causes: &[String], hint: Option<&str>) -> Value {
    json!({"error": {"message": message, "causes": causes, "hint": hint}})
}

/// As [`error`], about a text.
pub(in crate::cli) fn error_in(source: &Source, one: &Diagnostic) -> Value {
    json!({"error": {
        "message": one.message,
        "file": source.name(),
        "line": source.line(one.span.start),
        "label": one.label,
        "hint": one.hint,
        "rule": one.rule.map(|rule| rule.name),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;

    fn decoded(value: &Value) -> String {
        let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn objects() {
        let mut json = Json::new();
        let instant = Instant::now();
        let start = Timestamp::from_second(1_000_000_000).unwrap();
        let mut at = |ms: u64, event| {
            let passed = Duration::from_millis(ms);
            json.object(event, start + passed, instant + passed)
        };
        let progress = |done| Event::Bytes { id: 1, done, total: Some(9) };
        let begun = at(0, Event::Begin { id: 1, name: "n".into() }).unwrap();
        let digest = Digest::of(b"1\nn").to_string();
        assert_eq!(
            begun,
            json!({"vertexes": [{"digest": digest, "name": "n", "started": "2001-09-09T01:46:40Z"}]})
        );
        let status = &at(10, progress(1)).unwrap()["statuses"][0];
        assert_eq!((&status["vertex"], &status["current"]), (&json!(digest), &json!(1)));
        assert_eq!(status["timestamp"], "2001-09-09T01:46:40.01Z");
        assert!(at(20, progress(9)).is_none(), "not more than ten a second");
        let line = Event::Line { id: 1, stream: Stream::Stdout, text: "\u{1b}[2J".into() };
        let log = &at(40, line).unwrap()["logs"][0];
        assert_eq!(log["stream"], 1);
        assert_eq!(decoded(&log["data"]), "\u{1b}[2J\n");
        let ended = at(50, Event::End { id: 1, end: End::Cached }).unwrap();
        assert_eq!(ended["vertexes"][0]["cached"], true);
        assert_eq!(ended["vertexes"][0]["completed"], "2001-09-09T01:46:40.05Z");
        assert_eq!(ended["statuses"][0]["current"], 9, "the last is always told");
        let warned = at(60, Event::Warning("w".into())).unwrap();
        assert_eq!(decoded(&warned["warnings"][0]["short"]), "w");
        assert_eq!(warned["warnings"][0]["vertex"], warned["vertexes"][0]["digest"]);
        assert_eq!(at(70, Event::Note("x".into())).unwrap().get("vertexes"), None);
        let totals = at(75, Event::Totals(vec![("files_hashed", 3)])).unwrap();
        assert_eq!(totals, json!({"totals": {"files_hashed": 3}}));
        let failed = Event::Begin { id: 2, name: "m".into() };
        at(80, failed);
        let ended = at(90, Event::End { id: 2, end: End::Failed }).unwrap();
        assert_eq!(ended["vertexes"][0]["error"], "failed");
        assert_eq!(ended.get("statuses"), None);
    }

    #[test]
    fn errors_in_texts() {
        let source = Source::new("Dockerfile", "FROM a\nRUUN b\n");
        let one = Diagnostic::error(Span::new(7, 11), "m").hint("h");
        let error = &error_in(&source, &one)["error"];
        assert_eq!((&error["line"], &error["hint"]), (&json!(2), &json!("h")));
    }
}
