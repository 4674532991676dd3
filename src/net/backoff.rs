//! How often and how long to wait before a request is repeated.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// Waits before repeats: each twice as long as the last, with jitter, so that
/// many clients of one server do not come back at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    left: u32,
    next: Duration,
    /// How long all waits together may still be.
    budget: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { left: 4, next: Duration::from_millis(400), budget: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// For what is unlikely to pass, as a refused connection.
    #[must_use]
    pub fn short() -> Self {
        Self { left: 2, next: Duration::from_millis(200), ..Self::default() }
    }

    /// How long to wait now, or `None` if it is time to give up. A server's own
    /// wish counts, as long as there is time for it.
    pub fn wait(&mut self, wish: Option<Duration>) -> Option<Duration> {
        let wait = wish.map_or_else(|| jitter(self.next), |wish| wish.max(jitter(self.next)));
        if self.left == 0 || wait > self.budget {
            return None;
        }
        self.left -= 1;
        self.budget -= wait;
        self.next *= 2;
        Some(wait)
    }
}

/// Between half of `of` and all of it.
fn jitter(of: Duration) -> Duration {
    // A RandomState is seeded anew each time: that is all the randomness needed.
    let random = RandomState::new().build_hasher().finish() % 1024;
    of / 2 + (of / 2).mul_f64(f64::from(u16::try_from(random).unwrap_or(0)) / 1024.0)
}

/// The seconds of a `Retry-After` header (RFC 9110, 10.2.3). Its other form, a
/// date, counts as no wish: it would need the two clocks to agree.
#[must_use]
pub fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end() {
        let mut backoff = Backoff::default();
        let mut total = Duration::ZERO;
        while let Some(wait) = backoff.wait(None) {
            total += wait;
        }
        assert!(total <= Duration::from_secs(60));
        assert!(Backoff::default().wait(Some(Duration::from_secs(3600))).is_none());
        let wished = Backoff::default().wait(Some(Duration::from_secs(7))).unwrap();
        assert_eq!(wished, Duration::from_secs(7));
    }
}
