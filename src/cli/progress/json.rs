//! One JSON object per line on stderr, for programs. Every object has `event`:
//!
//! | event | fields |
//! | --- | --- |
//! | `begin` | `id`, `name` |
//! | `bytes` | `id`, `done`, `total` (null if unknown); at most ten a second for each task |
//! | `line` | `id`, `stream` (`stdout`, `stderr`), `text` |
//! | `end` | `id`, `result` (`done`, `cached`, `failed`) |
//! | `note`, `warning` | `text` |
//! | `diagnostic` | `severity` (`warning`, `error`), `message`, `file`, `line`, `label`, `hint` |
//! | `error` | `message`, `causes`, `hint`: why kiln ends with another code than 0 |
//!
//! Those of a task also have `seconds`: since kiln began to show progress.
//! Further fields and events may come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::report::say;
use crate::cli::text;
use crate::progress::{End, Event, Stream};

const RHYTHM: Duration = Duration::from_millis(100);

pub(super) struct Json {
    began: Instant,
    told: HashMap<u64, Instant>,
}

impl Json {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), told: HashMap::new() }
    }

    pub(super) fn show(&mut self, event: Event) {
        if let Some(object) = self.object(event, Instant::now()) {
            say(&text::json(&object));
        }
    }

    fn object(&mut self, event: Event, now: Instant) -> Option<Value> {
        let seconds = (now - self.began).as_millis() as f64 / 1000.0;
        Some(match event {
            Event::Begin { id, name } => {
                json!({"event": "begin", "id": id, "seconds": seconds, "name": name})
            }
            Event::Bytes { id, done, total } => {
                let last = self.told.get(&id);
                if last.is_some_and(|last| now - *last < RHYTHM) && Some(done) != total {
                    return None;
                }
                self.told.insert(id, now);
                json!({"event": "bytes", "id": id, "seconds": seconds, "done": done, "total": total})
            }
            Event::Line { id, stream, text } => {
                let stream = match stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                json!({"event": "line", "id": id, "seconds": seconds, "stream": stream, "text": text})
            }
            Event::End { id, end } => {
                self.told.remove(&id);
                let result = match end {
                    End::Done => "done",
                    End::Cached => "cached",
                    End::Failed => "failed",
                };
                json!({"event": "end", "id": id, "seconds": seconds, "result": result})
            }
            Event::Note(text) => json!({"event": "note", "text": text}),
            Event::Warning(text) => json!({"event": "warning", "text": text}),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        let mut json = Json::new();
        let start = json.began;
        let mut at = |ms: u64, event| {
            let object = json.object(event, start + Duration::from_millis(ms))?;
            Some(text::json(&object))
        };
        let bytes = |done| Event::Bytes { id: 1, done, total: Some(9) };
        let escape = Event::Line { id: 1, stream: Stream::Stdout, text: "\u{1b}[2J\u{9b}".into() };
        assert_eq!(
            at(0, Event::Begin { id: 1, name: "n".into() }).unwrap(),
            r#"{"event":"begin","id":1,"name":"n","seconds":0.0}"#
        );
        assert!(at(10, bytes(1)).is_some());
        assert!(at(20, bytes(2)).is_none(), "not more than ten a second");
        assert!(at(30, bytes(9)).is_some(), "but the last");
        let line = at(40, escape).unwrap();
        assert!(line.contains(r"\u001b[2J\u009b"), "{line}");
        let end = at(50, Event::End { id: 1, end: End::Cached }).unwrap();
        assert_eq!(end, r#"{"event":"end","id":1,"result":"cached","seconds":0.05}"#);
    }
}
