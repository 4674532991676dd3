//! Lines, for logs and dumb terminals, in the manner of docker's `plain`:
//!
//! ```text
//! #3 [build 2/4] RUN go build ./...
//! #3 made anew: `main.go` was changed
//! #3 0.512 a line of its output
//! #3 12.3MB / 40.1MB 5.0s
//! #3 DONE 6.2s          or  #3 CACHED  or  #3 ERROR 6.2s
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cli::report::say;
use crate::cli::text::{self, Colours};
use crate::progress::{End, Event};

/// Between two lines about the bytes of one task.
const RHYTHM: Duration = Duration::from_secs(5);

pub(super) struct Plain {
    tasks: HashMap<u64, Task>,
}

struct Task {
    began: Instant,
    told: Instant,
}

impl Plain {
    pub(super) fn new() -> Self {
        Self { tasks: HashMap::new() }
    }

    pub(super) fn show(&mut self, event: Event) {
        if let Some(line) = self.line(event, Instant::now()) {
            say(&line);
        }
    }

    fn line(&mut self, event: Event, now: Instant) -> Option<String> {
        let since = |task: Option<&Task>| task.map_or(Duration::ZERO, |t| now - t.began);
        Some(match event {
            Event::Begin { id, name } => {
                self.tasks.insert(id, Task { began: now, told: now });
                format!("#{id} {}", text::line(&name, Colours::Strip))
            }
            Event::Bytes { id, done, total } => {
                let task = self.tasks.get_mut(&id).filter(|task| now - task.told >= RHYTHM)?;
                task.told = now;
                let total = total.map(|total| format!(" / {}", text::bytes(total)));
                let seconds = (now - task.began).as_secs_f64();
                format!("#{id} {}{} {seconds:.1}s", text::bytes(done), total.unwrap_or_default())
            }
            Event::Line { id, stream: _, text } => {
                let seconds = since(self.tasks.get(&id)).as_secs_f64();
                format!("#{id} {seconds:.3} {}", text::line(&text, Colours::Strip))
            }
            Event::Causes { id, causes, wanted } => {
                let lines: Vec<String> = text::causes(&causes, wanted)
                    .into_iter()
                    .map(|line| format!("#{id} {line}"))
                    .collect();
                lines.join("\n")
            }
            Event::End { id, end } => {
                let seconds = since(self.tasks.remove(&id).as_ref()).as_secs_f64();
                match end {
                    End::Done => format!("#{id} DONE {seconds:.1}s"),
                    End::Cached => format!("#{id} CACHED"),
                    End::Failed => format!("#{id} ERROR {seconds:.1}s"),
                }
            }
            Event::Totals(_) => return None,
            Event::Note(text) => text::message(&text),
            Event::Warning(text) => format!("warning: {}", text::message(&text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Stream;

    #[test]
    fn lines() {
        let mut plain = Plain::new();
        let start = Instant::now();
        let mut at = |ms: u64, event| plain.line(event, start + Duration::from_millis(ms));
        let bytes = |done| Event::Bytes { id: 1, done, total: Some(40_000_000) };
        let line = |text: &str| Event::Line { id: 1, stream: Stream::Stderr, text: text.into() };
        for (ms, event, expected) in [
            (0, Event::Begin { id: 1, name: "[1/2] RUN x\n".into() }, Some("#1 [1/2] RUN x")),
            (10, bytes(5), None),
            (512, line("out\u{1b}[2J"), Some("#1 0.512 out")),
            (5_000, bytes(12_345_678), Some("#1 12.3MB / 40.0MB 5.0s")),
            (6_000, bytes(13_000_000), None),
            (6_200, Event::End { id: 1, end: End::Failed }, Some("#1 ERROR 6.2s")),
            (6_300, Event::End { id: 9, end: End::Cached }, Some("#9 CACHED")),
            (6_400, Event::Warning("hm".into()), Some("warning: hm")),
        ] {
            assert_eq!(at(ms, event).as_deref(), expected);
        }
    }
}
