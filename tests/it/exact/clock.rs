//! How long something took, and how much of the processors.

use std::fs;
use std::time::Instant;

pub(super) struct Started {
    at: Instant,
    cpu: f64,
}

impl Started {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), cpu: children() }
    }

    pub(super) fn told(&self) -> String {
        let (wall, cpu) = (self.at.elapsed().as_secs_f64(), children() - self.cpu);
        format!("{wall:.1} s, {cpu:.1} s of the processors")
    }
}

/// Seconds that children have used who were waited for, and theirs (proc(5)). Those of
/// tests that run at the same time are among them.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    // `cutime` and `cstime`, the 16th and 17th field; the third is first here.
    let ticks: u32 = fields.skip(13).take(2).map(|field| field.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}
