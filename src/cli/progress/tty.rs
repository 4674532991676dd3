//! Bars and spinners. A task under way has a line (a bar while its bytes are
//! counted) and below it the last lines it wrote; a finished one stays as a
//! line that scrolls away. Of a failed one the end of its output is shown.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::rate::{self, Meter};
use crate::cli::text::{self, Colours};
use crate::progress::{End, Event};

/// Lines of output shown below a task under way.
const LIVE: usize = 3;
/// Lines of output shown of a task that failed.
const TAIL: usize = 20;

pub(super) struct Tty {
    bars: MultiProgress,
    tasks: HashMap<u64, Task>,
    colours: bool,
}

struct Task {
    name: String,
    began: Instant,
    bar: ProgressBar,
    counts: Counts,
    /// The bar looks at it when it draws.
    meter: Arc<Mutex<Meter>>,
    transfer: bool,
    /// Whether its line says more than its name.
    remark: bool,
    live: Vec<ProgressBar>,
    tail: VecDeque<String>,
    written: usize,
}

/// What the task's line shows beside its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Time,
    Bytes,
    BytesOf,
}

impl Counts {
    fn style(self, meter: &Arc<Mutex<Meter>>) -> ProgressStyle {
        let template = match self {
            Self::Time => "{spinner} {wide_msg} {elapsed:>5}",
            Self::Bytes => "{spinner} {wide_msg} {decimal_bytes:>10} {rate:>10} {elapsed:>5}",
            Self::BytesOf => {
                "{spinner} {wide_msg} [{bar:12}] {decimal_bytes:>9}/{decimal_total_bytes:9} \
                 {rate:>9} {left:>6}"
            }
        };
        let key = |shown: fn(&Meter, Instant) -> Option<String>| {
            let meter = Arc::clone(meter);
            move |_: &ProgressState, out: &mut dyn Write| {
                let shown = shown(&lock(&meter), Instant::now()).unwrap_or_default();
                // It writes to memory.
                let _ = out.write_str(&shown);
            }
        };
        style(template)
            .with_key(
                "rate",
                key(|meter, now| Some(format!("{}/s", text::bytes(meter.rate(now)?)))),
            )
            .with_key("left", key(|meter, now| Some(rate::left(meter.left(now)?))))
    }
}

fn lock(meter: &Mutex<Meter>) -> std::sync::MutexGuard<'_, Meter> {
    // What it shows is for the eye only.
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; one that were wrong would show as a bare line.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}

impl Tty {
    pub(super) fn new(colours: bool) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { bars, tasks: HashMap::new(), colours }
    }

    pub(super) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bars.suspend(work)
    }

    pub(super) fn close(&mut self) {
        for (_, task) in self.tasks.drain() {
            task.clear(&self.bars);
        }
        let _ = self.bars.clear();
    }

    pub(super) fn show(&mut self, event: Event) {
        match event {
            Event::Begin { id, name } => {
                let meter = Arc::new(Mutex::new(Meter::new(Instant::now())));
                let style = Counts::Time.style(&meter);
                let bar = self.bars.add(ProgressBar::new_spinner().with_style(style));
                let name = text::line(&name, Colours::Strip);
                bar.set_message(name.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                let task = Task {
                    name,
                    began: Instant::now(),
                    bar,
                    counts: Counts::Time,
                    meter,
                    transfer: false,
                    remark: false,
                    live: Vec::new(),
                    tail: VecDeque::new(),
                    written: 0,
                };
                self.tasks.insert(id, task);
            }
            Event::Bytes { id, done, total } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.bytes(done, total);
                }
            }
            Event::Transfer { id, .. } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.transfer = true;
                }
            }
            Event::Resumed { id, at } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.resumed(at);
                }
            }
            Event::Waiting { id, pause, why } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.waiting(pause, &why);
                }
            }
            Event::Line { id, stream: _, text } => {
                let colours = if self.colours { Colours::Keep } else { Colours::Strip };
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.line(text::line(&text, colours), &self.bars);
                }
            }
            // On a terminal only who asked wants to read it.
            Event::Causes { wanted: false, .. } => {}
            Event::Causes { id, causes, wanted } => {
                if let Some(task) = self.tasks.get(&id) {
                    for line in text::causes(&causes, wanted) {
                        self.print(&format!("{}: {line}", task.name));
                    }
                }
            }
            Event::End { id, end } => {
                if let Some(task) = self.tasks.remove(&id) {
                    self.end(task, &end);
                }
            }
            Event::Totals(_) => (),
            Event::Transferred { way, all } => self.print(&rate::summary(way, &all)),
            Event::Note(text) => self.print(&text::message(&text)),
            Event::Warning(text) => {
                let mark = self.paint("33", "warning");
                self.print(&format!("{mark}: {}", text::message(&text)));
            }
        }
    }

    fn end(&self, task: Task, end: &End) {
        task.clear(&self.bars);
        self.print(&task.last_words(end, |code, text| self.paint(code, text)));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn print(&self, text: &str) {
        // An error means that the terminal is gone.
        let _ = self.bars.println(text);
    }
}

impl Task {
    fn bytes(&mut self, done: u64, total: Option<u64>) {
        let counts = if total.is_some() { Counts::BytesOf } else { Counts::Bytes };
        if self.counts != counts {
            self.counts = counts;
            self.bar.set_style(counts.style(&self.meter));
        }
        lock(&self.meter).bytes(Instant::now(), done, total);
        if std::mem::take(&mut self.remark) {
            self.bar.set_message(self.name.clone());
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    fn resumed(&mut self, at: u64) {
        lock(&self.meter).resume(Instant::now(), at);
        self.remark = true;
        self.bar.set_message(format!("{} resumed at {}", self.name, text::bytes(at)));
        self.bar.set_position(at);
    }

    fn waiting(&mut self, pause: Duration, why: &str) {
        self.remark = true;
        let why = text::line(why, Colours::Strip);
        self.bar.set_message(format!("{} waiting {}: {why}", self.name, rate::pause(pause)));
    }

    fn line(&mut self, line: String, bars: &MultiProgress) {
        self.written += 1;
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
        if self.live.len() < LIVE {
            let after = self.live.last().unwrap_or(&self.bar);
            let style = style("  │ {wide_msg}");
            let bar = bars.insert_after(after, ProgressBar::new_spinner().with_style(style));
            self.live.push(bar);
        }
        let first = self.tail.len() - self.live.len();
        for (bar, line) in self.live.iter().zip(self.tail.iter().skip(first)) {
            bar.set_message(line.clone());
        }
    }

    fn clear(&self, bars: &MultiProgress) {
        for bar in self.live.iter().rev().chain([&self.bar]) {
            bar.finish_and_clear();
            bars.remove(bar);
        }
    }

    fn last_words(&self, end: &End, paint: impl Fn(&str, &str) -> String) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        match end {
            End::Done => {
                let sum = lock(&self.meter).sum(Instant::now());
                let sum = if self.transfer { sum } else { String::new() };
                format!("{} {} {seconds:.1}s{sum}", paint("32", "✓"), self.name)
            }
            End::Mounted { .. } | End::Exists => {
                let found = paint("2", &rate::found(end));
                format!("{} {} {found}", paint("32", "✓"), self.name)
            }
            End::Cached => format!("{} {} {}", paint("32", "✓"), self.name, paint("2", "cached")),
            End::Failed => {
                let mut out = format!("{} {} {seconds:.1}s", paint("31", "✗"), self.name);
                let left_out = self.written - self.tail.len();
                if left_out > 0 {
                    out.push_str(&format!("\n  … {left_out} lines before these"));
                }
                for line in &self.tail {
                    out.push_str("\n  │ ");
                    out.push_str(line);
                }
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::BlobDigest;
    use crate::progress::{Stream, Way};

    #[test]
    fn a_failed_task_shows_the_end_of_its_output() {
        let mut tty = Tty::new(false);
        tty.bars.set_draw_target(ProgressDrawTarget::hidden());
        tty.show(Event::Begin { id: 1, name: "RUN make".into() });
        for n in 1..=25 {
            let text = format!("line {n}\u{1b}[31m");
            tty.show(Event::Line { id: 1, stream: Stream::Stdout, text });
        }
        tty.show(Event::Bytes { id: 1, done: 1, total: None });
        tty.show(Event::Bytes { id: 1, done: 1, total: Some(2) });
        let task = tty.tasks.remove(&1).unwrap();
        assert_eq!(task.live.len(), LIVE);
        assert_eq!(task.live[2].message(), "line 25");
        let words = task.last_words(&End::Failed, |_, text| text.to_owned());
        let lines: Vec<&str> = words.lines().collect();
        assert!(lines[0].starts_with("✗ RUN make"));
        assert_eq!(lines[1], "  … 5 lines before these");
        assert_eq!((lines[2], lines[21], lines.len()), ("  │ line 6", "  │ line 25", 22));
    }

    #[test]
    fn a_transfer_shows_why_nothing_moves() {
        let mut tty = Tty::new(false);
        tty.bars.set_draw_target(ProgressDrawTarget::hidden());
        tty.show(Event::Begin { id: 1, name: "push x".into() });
        let digest = BlobDigest::of(b"x");
        tty.show(Event::Transfer { id: 1, way: Way::Push, digest, total: 100_000 });
        let message = |tty: &Tty| tty.tasks[&1].bar.message();
        let why = "h\u{1b}[2J failed with 503".to_owned();
        tty.show(Event::Waiting { id: 1, pause: Duration::from_secs(2), why });
        assert_eq!(message(&tty), "push x waiting 2.0 s: h failed with 503");
        tty.show(Event::Resumed { id: 1, at: 40_000 });
        assert_eq!(message(&tty), "push x resumed at 40.0kB");
        tty.show(Event::Bytes { id: 1, done: 100_000, total: Some(100_000) });
        assert_eq!(message(&tty), "push x");
        let words = |end: End| tty.tasks[&1].last_words(&end, |_, text| text.to_owned());
        let done = words(End::Done);
        assert!(done.starts_with("✓ push x ") && done.contains("s 100kB"), "{done}");
        assert!(done.ends_with(", resumed at 40.0kB"), "{done}");
        let mounted = words(End::Mounted { from: "team/app".into() });
        assert_eq!(mounted, "✓ push x mounted from team/app");
        assert_eq!(words(End::Exists), "✓ push x exists");
    }
}
