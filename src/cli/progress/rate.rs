//! How fast a task's bytes move: over the last seconds, and in all.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cli::text;
use crate::progress::{End, Transfers, Way};

/// What the rate is taken over.
const WINDOW: Duration = Duration::from_secs(5);

/// Between two marks of the window; there are at most `WINDOW / STEP` and two more.
const STEP: Duration = Duration::from_millis(250);

/// Below this a rate says nothing.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a task has moved, and when.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    marks: VecDeque<(Instant, u64)>,
    /// When the last bytes moved.
    moved: Instant,
    done: u64,
    total: Option<u64>,
    /// Where it went on, if it did.
    pub(super) resumed: Option<u64>,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        let marks = VecDeque::new();
        Self { began: now, marks, moved: now, done: 0, total: None, resumed: None }
    }

    /// Bytes done, and their total if it is known.
    pub(super) fn counts(&self) -> (u64, Option<u64>) {
        (self.done, self.total)
    }

    pub(super) fn set_total(&mut self, total: u64) {
        self.total = Some(total);
    }

    pub(super) fn bytes(&mut self, now: Instant, done: u64, total: Option<u64>) {
        if done < self.done {
            // It began anew.
            self.marks.clear();
            self.resumed = None;
        }
        if done != self.done {
            self.moved = now;
        }
        self.done = done;
        self.total = total.or(self.total);
        if self.marks.back().is_none_or(|(last, _)| now.saturating_duration_since(*last) >= STEP) {
            // The one that the window begins with stays, or the one before it.
            while self.marks.get(1).is_some_and(|(at, _)| self.is_old(*at, now)) {
                self.marks.pop_front();
            }
            self.marks.push_back((now, done));
        }
    }

    /// Goes on at a place whose bytes need not move.
    pub(super) fn resume(&mut self, now: Instant, at: u64) {
        self.marks.clear();
        self.marks.push_back((now, at));
        (self.done, self.moved) = (at, now);
        self.resumed = Some(at);
    }

    fn is_old(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) >= WINDOW
    }

    /// Bytes in a second, over the last ones.
    pub(super) fn rate(&self, now: Instant) -> Option<u64> {
        if !self.marks.is_empty() && self.is_old(self.moved, now) {
            return Some(0);
        }
        let in_window = self.marks.iter().rev().find(|(at, _)| self.is_old(*at, now));
        let (at, bytes) = in_window.or(self.marks.front())?;
        per_second(self.done.saturating_sub(*bytes), now.saturating_duration_since(*at))
    }

    /// The time that the rest will take at that rate.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let (left, rate) = (self.total?.saturating_sub(self.done), self.rate(now)?);
        (rate > 0).then(|| Duration::from_secs(left / rate))
    }

    /// `12.3MB / 40.0MB 31% 2.46MB/s`.
    pub(super) fn line(&self, now: Instant) -> String {
        let mut out = text::bytes(self.done);
        if let Some(total) = self.total {
            out.push_str(&format!(" / {}", text::bytes(total)));
            // Of nothing there is no part.
            if let Some(percent) =
                (u128::from(self.done) * 100).checked_div(u128::from(total)).filter(|n| *n <= 100)
            {
                out.push_str(&format!(" {percent}%"));
            }
        }
        if let Some(rate) = self.rate(now) {
            out.push_str(&format!(" {}/s", text::bytes(rate)));
        }
        out
    }

    /// What a transfer's last line says behind its time: ` 40.0MB, 6.45MB/s`.
    pub(super) fn sum(&self, now: Instant) -> String {
        let mut out = format!(" {}", text::bytes(self.done));
        let moved = self.done.saturating_sub(self.resumed.unwrap_or_default());
        if let Some(rate) = per_second(moved, now.saturating_duration_since(self.began)) {
            out.push_str(&format!(", {}/s", text::bytes(rate)));
        }
        if let Some(at) = self.resumed {
            out.push_str(&format!(", resumed at {}", text::bytes(at)));
        }
        out
    }
}

fn per_second(bytes: u64, in_time: Duration) -> Option<u64> {
    if in_time < SHORTEST {
        return None;
    }
    let rate = u128::from(bytes) * 1000 / in_time.as_millis().max(1);
    u64::try_from(rate).ok()
}

/// Seconds as a wait is told: `0.4 s`, `12 s`.
pub(super) fn pause(of: Duration) -> String {
    let seconds = of.as_secs_f64();
    if seconds < 9.95 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

/// A time that is left, in few letters: `8s`, `2m05s`, `3h10m`.
pub(super) fn left(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds @ 3600..360_000 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => "long".to_owned(),
    }
}

/// How a transfer that moved nothing ended, for people; empty of others.
pub(super) fn found(end: &End) -> String {
    match end {
        End::Mounted { from } => {
            format!("mounted from {}", text::line(from, text::Colours::Strip))
        }
        End::Exists => "exists".to_owned(),
        End::Done | End::Cached | End::Failed => String::new(),
    }
}

/// A push or a pull in a line.
pub(super) fn summary(way: Way, all: &Transfers) -> String {
    let Transfers { sent, bytes_sent, mounted, existed, fetched, bytes_fetched, kept } = *all;
    let blobs = |count| format!("{count} blob{}", if count == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    if sent > 0 {
        parts.push(format!("{} sent ({})", blobs(sent), text::bytes(bytes_sent)));
    }
    if fetched > 0 {
        parts.push(format!("{} fetched ({})", blobs(fetched), text::bytes(bytes_fetched)));
    }
    if mounted > 0 {
        parts.push(format!("{} mounted", blobs(mounted)));
    }
    if existed > 0 {
        parts.push(format!("{} there already", blobs(existed)));
    }
    if kept > 0 {
        parts.push(format!("{} in the store already", blobs(kept)));
    }
    if parts.is_empty() {
        parts.push("nothing to move".to_owned());
    }
    format!("{}: {}", way.name(), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        assert_eq!((meter.rate(at(500)), meter.left(at(500))), (None, None));
        for n in 0..=100 {
            meter.bytes(at(n * 100), n * 1000, Some(200_000));
        }
        assert!(meter.marks.len() <= 22, "{}", meter.marks.len());
        assert_eq!(meter.rate(at(10_000)), Some(10_000));
        assert_eq!(meter.left(at(10_000)), Some(Duration::from_secs(10)));
        assert_eq!(meter.line(at(10_000)), "100kB / 200kB 50% 10.0kB/s");
        // Nothing has moved for longer than the window.
        assert_eq!(meter.rate(at(20_000)), Some(0));
        assert_eq!(meter.left(at(20_000)), None);
        assert_eq!(meter.sum(at(20_000)), " 100kB, 5.00kB/s");
        // What need not move is in no rate.
        meter.resume(at(20_000), 150_000);
        meter.bytes(at(22_000), 160_000, Some(200_000));
        assert_eq!(meter.rate(at(22_000)), Some(5000));
        assert_eq!(meter.sum(at(22_000)), " 160kB, 454B/s, resumed at 150kB");
        meter.bytes(at(22_000), 10, Some(200_000));
        assert_eq!((meter.rate(at(22_000)), meter.resumed), (None, None), "it began anew");
        let mut odd = Meter::new(start);
        odd.bytes(start, 5, Some(0));
        assert_eq!(odd.line(start), "5B / 0B");
        odd.bytes(start, u64::MAX, Some(1));
        assert_eq!(odd.line(start), "18446744TB / 1B");
    }

    #[test]
    fn times() {
        for (ms, shown) in [(400, "0.4 s"), (2000, "2.0 s"), (9_960, "10 s"), (60_000, "60 s")] {
            assert_eq!(pause(Duration::from_millis(ms)), shown);
        }
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (125, "2m05s"),
            (3600, "1h00m"),
            (11_400, "3h10m"),
            (u64::MAX, "long"),
        ] {
            assert_eq!(left(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn ends_and_summaries() {
        let from = "a/b\u{1b}[2J\nc".to_owned();
        assert_eq!(found(&End::Mounted { from }), "mounted from a/b\\nc");
        assert_eq!(found(&End::Exists), "exists");
        let none = Transfers::default();
        let most = Transfers { sent: 3, bytes_sent: 12_345_678, mounted: 2, existed: 1, ..none };
        let pulled = Transfers { fetched: 1, bytes_fetched: 10, kept: 2, ..none };
        for (way, all, shown) in [
            (Way::Push, none, "push: nothing to move"),
            (Way::Pull, none, "pull: nothing to move"),
            (Way::Push, most, "push: 3 blobs sent (12.3MB), 2 blobs mounted, 1 blob there already"),
            (Way::Pull, pulled, "pull: 1 blob fetched (10B), 2 blobs in the store already"),
        ] {
            assert_eq!(summary(way, &all), shown);
        }
    }
}
