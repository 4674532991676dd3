//! How often and how long to wait before a request is repeated.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// Waits before repeats: each twice as long as the last, with jitter, so that
/// many clients of one server do not come back at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    left: u32,
    next: Duration,
    /// Longest wait that is kiln's own choice.
    most: Duration,
    /// How long all waits together may still be.
    budget: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            left: 5,
            next: Duration::from_millis(250),
            most: Duration::from_secs(15),
            budget: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// For what is unlikely to pass, as a refused connection.
    #[must_use]
    pub fn short() -> Self {
        Self { left: 2, next: Duration::from_millis(200), ..Self::default() }
    }

    /// For a transfer that has begun: a network may be away for a minute, and what is there
    /// already is worth the wait.
    #[must_use]
    pub fn patient() -> Self {
        Self { left: 9, budget: Duration::from_secs(120), ..Self::default() }
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
        self.next = (self.next * 2).min(self.most);
        Some(wait)
    }
}

/// Between half of `of` and all of it.
fn jitter(of: Duration) -> Duration {
    // A RandomState is seeded anew each time: that is all the randomness needed.
    let random = RandomState::new().build_hasher().finish() % 1024;
    of / 2 + (of / 2).mul_f64(f64::from(u16::try_from(random).unwrap_or(0)) / 1024.0)
}

/// How long a server wishes to be left alone: the seconds of its `Retry-After`, or the time
/// until the date there (RFC 9110, 10.2.3), by the server's own clock, which is its `Date`. A
/// date without that counts as no wish: the two clocks need not agree.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let wish = text(RETRY_AFTER)?;
    if let Ok(seconds) = wish.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (date(wish)?, date(text(DATE)?)?);
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end() {
        for (mut backoff, most) in
            [(Backoff::short(), 1), (Backoff::default(), 60), (Backoff::patient(), 120)]
        {
            let mut total = Duration::ZERO;
            while let Some(wait) = backoff.wait(None) {
                total += wait;
            }
            assert!(total <= Duration::from_secs(most));
        }
        let mut wished = Backoff::patient();
        let times = std::iter::from_fn(|| wished.wait(Some(Duration::from_secs(50)))).count();
        assert_eq!(times, 2, "the budget is for all waits together");
        assert!(Backoff::default().wait(Some(Duration::from_secs(3600))).is_none());
        let wished = Backoff::default().wait(Some(Duration::from_secs(7))).unwrap();
        assert_eq!(wished, Duration::from_secs(7));
    }

    #[test]
    fn wishes_of_servers() {
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (wish, date, expected) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(now), Some(30)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(now), Some(24 * 3600)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(now), Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, None),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some("yesterday"), None),
            ("-7", Some(now), None),
            ("soon", Some(now), None),
            ("", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, wish.parse().unwrap());
            headers.extend(date.map(|date| (DATE, date.parse().unwrap())));
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{wish}");
        }
    }
}
