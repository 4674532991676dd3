//! Lines, for logs and dumb terminals, in the manner of docker's `plain`:
//!
//! ```text
//! #3 [build 2/4] RUN go build ./...
//! #3 made anew: `main.go` was changed
//! #3 0.512 a line of its output
//! #3 12.3MB / 40.1MB 31% 2.46MB/s 5.0s
//! #3 DONE 6.2s          or  #3 CACHED  or  #3 ERROR 6.2s
//! ```
//!
//! Of a blob on its way to or from a registry:
//!
//! ```text
//! #4 waiting 1.4 s: the transfer of … was interrupted (…)
//! #4 resumed at 12.3MB
//! #4 DONE 6.2s 40.1MB, 6.47MB/s  or  #4 MOUNTED from team/app  or  #4 EXISTS
//! push: 3 blobs sent (42.0MB), 2 blobs mounted, 1 blob there already
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::rate::{self, Meter};
use crate::cli::report::say;
use crate::cli::text::{self, Colours};
use crate::progress::{End, Event};

/// Between two lines about the bytes of one task.
const RHYTHM: Duration = Duration::from_secs(5);

/// As [`RHYTHM`], of a transfer: several go on at once.
const OF_TRANSFERS: Duration = Duration::from_secs(10);

pub(super) struct Plain {
    tasks: HashMap<u64, Task>,
}

struct Task {
    began: Instant,
    told: Instant,
    meter: Meter,
    transfer: bool,
}

impl Task {
    fn rhythm(&self) -> Duration {
        if self.transfer { OF_TRANSFERS } else { RHYTHM }
    }
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
                let meter = Meter::new(now);
                self.tasks.insert(id, Task { began: now, told: now, meter, transfer: false });
                format!("#{id} {}", text::line(&name, Colours::Strip))
            }
            Event::Bytes { id, done, total } => {
                let task = self.tasks.get_mut(&id)?;
                task.meter.bytes(now, done, total);
                if now - task.told < task.rhythm() {
                    return None;
                }
                task.told = now;
                let seconds = (now - task.began).as_secs_f64();
                format!("#{id} {} {seconds:.1}s", task.meter.line(now))
            }
            Event::Transfer { id, total, .. } => {
                let task = self.tasks.get_mut(&id)?;
                task.transfer = true;
                task.meter.set_total(total);
                return None;
            }
            Event::Resumed { id, at } => {
                self.tasks.get_mut(&id)?.meter.resume(now, at);
                format!("#{id} resumed at {}", text::bytes(at))
            }
            Event::Waiting { id, pause, why } => {
                let why = text::line(&why, Colours::Strip);
                format!("#{id} waiting {}: {why}", rate::pause(pause))
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
                let task = self.tasks.remove(&id);
                let seconds = since(task.as_ref()).as_secs_f64();
                match end {
                    End::Done => {
                        let transfer = task.filter(|task| task.transfer);
                        let sum = transfer.map(|task| task.meter.sum(now)).unwrap_or_default();
                        format!("#{id} DONE {seconds:.1}s{sum}")
                    }
                    End::Cached => format!("#{id} CACHED"),
                    End::Mounted { .. } => {
                        format!("#{id} {}", rate::found(&end).replacen("mounted", "MOUNTED", 1))
                    }
                    End::Exists => format!("#{id} EXISTS"),
                    End::Failed => format!("#{id} ERROR {seconds:.1}s"),
                }
            }
            Event::Totals(_) => return None,
            Event::Transferred { way, all } => rate::summary(way, &all),
            Event::Note(text) => text::message(&text),
            Event::Warning(text) => format!("warning: {}", text::message(&text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::BlobDigest;
    use crate::progress::{Stream, Transfers, Way};

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
            (5_000, bytes(12_345_678), Some("#1 12.3MB / 40.0MB 30% 2.47MB/s 5.0s")),
            (6_000, bytes(13_000_000), None),
            (6_200, Event::End { id: 1, end: End::Failed }, Some("#1 ERROR 6.2s")),
            (6_300, Event::End { id: 9, end: End::Cached }, Some("#9 CACHED")),
            (6_400, Event::Warning("hm".into()), Some("warning: hm")),
        ] {
            assert_eq!(at(ms, event).as_deref(), expected);
        }
    }

    #[test]
    fn transfers() {
        let mut plain = Plain::new();
        let start = Instant::now();
        let mut at = |ms: u64, event| plain.line(event, start + Duration::from_millis(ms));
        let begin = |id| Event::Begin { id, name: "push sha256:x".into() };
        let transfer = |id| Event::Transfer {
            id,
            way: Way::Push,
            digest: BlobDigest::of(b"x"),
            total: 40_000_000,
        };
        let bytes = |done| Event::Bytes { id: 1, done, total: Some(40_000_000) };
        let why = "h failed with 503 (it says: \u{1b}[2Jno)\n".to_owned();
        let waiting = Event::Waiting { id: 1, pause: Duration::from_millis(1400), why };
        let all = Transfers { sent: 1, bytes_sent: 5_000_000, ..Transfers::default() };
        let mounted = End::Mounted { from: "team/app".into() };
        for (ms, event, expected) in [
            (0, begin(1), Some("#1 push sha256:x")),
            (0, transfer(1), None),
            (1_000, bytes(1_000_000), None),
            (6_000, bytes(2_000_000), None),
            (10_000, bytes(3_000_000), Some("#1 3.00MB / 40.0MB 7% 222kB/s 10.0s")),
            (11_000, waiting, Some("#1 waiting 1.4 s: h failed with 503 (it says: no)")),
            (13_000, Event::Resumed { id: 1, at: 2_500_000 }, Some("#1 resumed at 2.50MB")),
            (20_000, bytes(40_000_000), Some("#1 40.0MB / 40.0MB 100% 5.36MB/s 20.0s")),
            (
                20_000,
                Event::End { id: 1, end: End::Done },
                Some("#1 DONE 20.0s 40.0MB, 1.88MB/s, resumed at 2.50MB"),
            ),
            (20_000, begin(2), Some("#2 push sha256:x")),
            (20_000, transfer(2), None),
            (20_010, Event::End { id: 2, end: mounted }, Some("#2 MOUNTED from team/app")),
            (20_000, begin(3), Some("#3 push sha256:x")),
            (20_000, transfer(3), None),
            (20_010, Event::End { id: 3, end: End::Exists }, Some("#3 EXISTS")),
            (
                20_020,
                Event::Transferred { way: Way::Push, all },
                Some("push: 1 blob sent (5.00MB)"),
            ),
        ] {
            assert_eq!(at(ms, event).as_deref(), expected);
        }
    }
}
