//! One JSON object per line on stderr, for programs, in the form of BuildKit's
//! `SolveStatus`, which is what `docker buildx build --progress rawjson` writes:
//!
//! | field | its elements |
//! | --- | --- |
//! | `vertexes` | `digest`, `name`, `started`; once it has ended also `completed`, and `cached` or `error` |
//! | | kiln's own, of a step that an earlier build had made: `causes`, each with `kind`, `name`, `change` (`changed`, `added`, `removed`, `mode`) and `text` |
//! | `statuses` | `id`, `vertex`, `current`, `total` (if known), `timestamp`, `started`, `completed`: bytes moved; at most ten a second for each vertex |
//! | `logs` | `vertex`, `stream` (1 stdout, 2 stderr), `data`, `timestamp`: a line of output |
//! | `transfers` | kiln's own: what happens to a blob on its way to or from a registry, see below |
//! | `warnings` | `vertex`, `level`, `short`, `detail`; with `sourceInfo` and `range` where a text is to blame |
//!
//! Times are RFC 3339 in UTC; `data`, `short` and each `detail` are base64, as Go
//! writes bytes. A vertex is one thing that kiln does; its digest only ties the lines
//! of one call together. What belongs to no vertex has one of the name `[internal]
//! kiln`.
//!
//! Each element of `transfers` has
//!
//! | field | |
//! | --- | --- |
//! | `event` | `begin`, `progress` (as often as the status beside it), `resumed`, `waiting`, `end` |
//! | `id` | a number that ties the events of one blob together |
//! | `vertex`, `name`, `timestamp` | of the vertex that it belongs to |
//! | `way` | `push` or `pull` |
//! | `digest`, `total` | of the blob, and its size |
//! | `bytes` | how much of it is there |
//! | `rate` | bytes in a second, over the last five; once it is known |
//! | `resumed_at` | the place behind which it went on; if it did |
//! | `seconds`, `why` | of `waiting`: how long nothing will move |
//! | `outcome` | of `end`: `done`; `mounted` (with `from`, the repository); `exists` (the other side has it); `cached` (this process knew that it has); `failed` |
//!
//! Four objects are kiln's own. `{"transferred":{…}}` ends a push or a pull with `way` and what
//! became of its blobs: `blobs_sent`, `bytes_sent`, `blobs_mounted`, `blobs_existed`,
//! `blobs_fetched`, `bytes_fetched`, `blobs_kept` (in the store already); bytes that were sent in
//! vain count. `{"totals":{…}}` comes when the steps of a build are
//! done, whether or not they failed, with what was done of them in all: `files_hashed`,
//! `bytes_hashed` and `files_packed`, of build contexts. `{"verification":{…}}` tells of a second
//! build that came to something else: `same`, `conditions`, `steps` and `report`, that of `kiln diff
//! --format json`. The last of a call that fails is
//! `{"error":{"message","causes","hint"}}`, for a wrong text with `file`, `line` and
//! `label` instead of `causes`. Further fields may come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::rate::{self, Meter};
use crate::cli::report::say;
use crate::cli::text;
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::digest::Digest;
use crate::progress::{End, Event, Stream, Way};

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
    transfer: Option<Transfer>,
}

/// What a vertex is that moves a blob.
struct Transfer {
    id: u64,
    way: Way,
    digest: String,
    meter: Meter,
}

impl Vertex {
    fn shown(&self) -> Value {
        json!({"digest": self.digest, "name": self.name, "started": self.started})
    }

    /// An element of `transfers`, with fields that only its event has.
    fn moved(&self, event: &str, now: &str, instant: Instant, more: Value) -> Option<Value> {
        let Transfer { id, way, digest, meter } = self.transfer.as_ref()?;
        let (bytes, total) = meter.counts();
        let mut moved = json!({
            "event": event,
            "id": id,
            "vertex": self.digest,
            "name": self.name,
            "timestamp": now,
            "way": way.name(),
            "digest": digest,
            "bytes": bytes,
            "total": total,
        });
        if let Some(rate) = meter.rate(instant) {
            moved["rate"] = rate.into();
        }
        if let Some(at) = meter.resumed {
            moved["resumed_at"] = at.into();
        }
        if let (Some(fields), Value::Object(more)) = (moved.as_object_mut(), more) {
            fields.extend(more);
        }
        Some(moved)
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
                let (told, bytes, transfer) = (None, None, None);
                let vertex = Vertex { digest, name, started: now, told, bytes, transfer };
                let shown = vertex.shown();
                self.vertexes.insert(id, vertex);
                json!({"vertexes": [shown]})
            }
            Event::Transfer { id, way, digest, total } => {
                let vertex = self.vertexes.get_mut(&id)?;
                let mut meter = Meter::new(instant);
                meter.set_total(total);
                vertex.transfer = Some(Transfer { id, way, digest: digest.to_string(), meter });
                json!({"transfers": [vertex.moved("begin", &now, instant, Value::Null)?]})
            }
            Event::Resumed { id, at } => {
                let vertex = self.vertexes.get_mut(&id)?;
                vertex.transfer.as_mut()?.meter.resume(instant, at);
                json!({"transfers": [vertex.moved("resumed", &now, instant, Value::Null)?]})
            }
            Event::Waiting { id, pause, why } => {
                let more = json!({"seconds": pause.as_secs_f64(), "why": why});
                let vertex = self.vertexes.get(&id)?;
                match vertex.moved("waiting", &now, instant, more) {
                    Some(moved) => json!({"transfers": [moved]}),
                    None => {
                        let data = bytes(&format!("waiting {}: {why}\n", rate::pause(pause)));
                        json!({"logs": [
                            {"vertex": vertex.digest, "stream": 2, "data": data, "timestamp": now},
                        ]})
                    }
                }
            }
            Event::Bytes { id, done, total } => {
                let vertex = self.vertexes.get_mut(&id)?;
                vertex.bytes = Some((done, total));
                if let Some(transfer) = &mut vertex.transfer {
                    transfer.meter.bytes(instant, done, total);
                }
                if vertex.told.is_some_and(|last| instant - last < RHYTHM) {
                    return None;
                }
                vertex.told = Some(instant);
                let mut object = json!({"statuses": [vertex.status(&now, false)?]});
                if let Some(moved) = vertex.moved("progress", &now, instant, Value::Null) {
                    object["transfers"] = json!([moved]);
                }
                object
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
                let outcome = match end {
                    End::Done => json!({"outcome": "done"}),
                    End::Cached => json!({"outcome": "cached"}),
                    End::Mounted { from } => json!({"outcome": "mounted", "from": from}),
                    End::Exists => json!({"outcome": "exists"}),
                    End::Failed => json!({"outcome": "failed"}),
                };
                match outcome["outcome"].as_str() {
                    Some("failed") => shown["error"] = "failed".into(),
                    Some("done") => (),
                    _ => shown["cached"] = true.into(),
                }
                let mut object = json!({"vertexes": [shown]});
                if let Some(moved) = vertex.moved("end", &now, instant, outcome) {
                    object["transfers"] = json!([moved]);
                }
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
            Event::Transferred { way, all } => json!({"transferred": {
                "way": way.name(),
                "blobs_sent": all.sent,
                "bytes_sent": all.bytes_sent,
                "blobs_mounted": all.mounted,
                "blobs_existed": all.existed,
                "blobs_fetched": all.fetched,
                "bytes_fetched": all.bytes_fetched,
                "blobs_kept": all.kept,
            }}),
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
    use crate::digest::BlobDigest;
    use crate::progress::Transfers;

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
    fn transfers() {
        let mut json = Json::new();
        let instant = Instant::now();
        let start = Timestamp::from_second(1_000_000_000).unwrap();
        let mut at = |ms: u64, event| {
            let passed = Duration::from_millis(ms);
            json.object(event, start + passed, instant + passed)
        };
        let blob = BlobDigest::of(b"x");
        at(0, Event::Begin { id: 7, name: "n".into() });
        let begun = at(0, Event::Transfer { id: 7, way: Way::Pull, digest: blob, total: 90 });
        let expected = json!({"transfers": [{
            "event": "begin",
            "id": 7,
            "vertex": Digest::of(b"7\nn").to_string(),
            "name": "n",
            "timestamp": "2001-09-09T01:46:40Z",
            "way": "pull",
            "digest": blob.to_string(),
            "bytes": 0,
            "total": 90,
        }]});
        assert_eq!(begun, Some(expected));
        let bytes = |done| Event::Bytes { id: 7, done, total: Some(90) };
        let status = at(10, bytes(10)).unwrap();
        assert_eq!(status["statuses"][0]["current"], 10);
        let moved = &status["transfers"][0];
        assert_eq!((&moved["event"], &moved["bytes"]), (&json!("progress"), &json!(10)));
        let moved = &at(1010, bytes(30)).unwrap()["transfers"][0];
        assert_eq!((&moved["rate"], moved.get("resumed_at")), (&json!(20), None));
        let pause = Duration::from_millis(1500);
        let waiting = Event::Waiting { id: 7, pause, why: "w".into() };
        let moved = &at(1020, waiting).unwrap()["transfers"][0];
        let told = (&moved["event"], &moved["seconds"], &moved["why"]);
        assert_eq!(told, (&json!("waiting"), &json!(1.5), &json!("w")));
        let moved = &at(2000, Event::Resumed { id: 7, at: 25 }).unwrap()["transfers"][0];
        let told = (&moved["event"], &moved["bytes"], &moved["resumed_at"]);
        assert_eq!(told, (&json!("resumed"), &json!(25), &json!(25)));
        let ended = at(2010, Event::End { id: 7, end: End::Done }).unwrap();
        assert_eq!(ended["vertexes"][0].get("cached"), None);
        let moved = &ended["transfers"][0];
        let told = (&moved["event"], &moved["outcome"], &moved["resumed_at"]);
        assert_eq!(told, (&json!("end"), &json!("done"), &json!(25)));

        for (end, outcome, cached) in [
            (End::Mounted { from: "a/b".into() }, "mounted", true),
            (End::Exists, "exists", true),
            (End::Cached, "cached", true),
            (End::Failed, "failed", false),
        ] {
            at(3000, Event::Begin { id: 8, name: "m".into() });
            at(3000, Event::Transfer { id: 8, way: Way::Push, digest: blob, total: 9 });
            let ended = at(3010, Event::End { id: 8, end }).unwrap();
            assert_eq!(ended["transfers"][0]["outcome"], outcome);
            assert_eq!(ended["vertexes"][0].get("cached"), cached.then_some(&json!(true)));
            let from = (outcome == "mounted").then(|| json!("a/b"));
            assert_eq!(ended["transfers"][0].get("from"), from.as_ref());
        }
        // What is no transfer has none.
        at(4000, Event::Begin { id: 9, name: "o".into() });
        let waiting = Event::Waiting { id: 9, pause, why: "w".into() };
        let log = &at(4000, waiting).unwrap()["logs"][0];
        assert_eq!(decoded(&log["data"]), "waiting 1.5 s: w\n");
        let other = Event::Bytes { id: 9, done: 1, total: None };
        assert_eq!(at(4010, other).unwrap().get("transfers"), None);
        assert_eq!(at(4020, Event::End { id: 9, end: End::Done }).unwrap().get("transfers"), None);

        let all = Transfers { sent: 2, bytes_sent: 30, mounted: 1, ..Transfers::default() };
        let sum = at(5000, Event::Transferred { way: Way::Push, all }).unwrap();
        let sum = &sum["transferred"];
        let told = (&sum["way"], &sum["blobs_sent"], &sum["bytes_sent"], &sum["blobs_kept"]);
        assert_eq!(told, (&json!("push"), &json!(2), &json!(30), &json!(0)));
    }

    #[test]
    fn errors_in_texts() {
        let source = Source::new("Dockerfile", "FROM a\nRUUN b\n");
        let one = Diagnostic::error(Span::new(7, 11), "m").hint("h");
        let error = &error_in(&source, &one)["error"];
        assert_eq!((&error["line"], &error["hint"]), (&json!(2), &json!("h")));
    }
}
