//! Amounts: bytes, processors, processes, time.

use std::str::FromStr;
use std::time::Duration;

use super::ValueError;

/// Bytes: a number with an optional unit of 1024 (`b`, `k`, `m`, `g`, `t`, also
/// `kb` and `kib`, in either case).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || {
            ValueError::new(
                "a number of bytes with an optional unit is expected, such as 64m or 1g",
            )
        };
        let lower = text.to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(digits);
        let shift = match unit.trim_start() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(refuse()),
        };
        let scale = 1_u64 << shift;
        if let Ok(whole) = number.parse::<u64>() {
            let bytes = whole.checked_mul(scale);
            return bytes.map(Self).ok_or_else(|| ValueError::new("the size is too large"));
        }
        let value: f64 = number.parse().map_err(|_| refuse())?;
        #[expect(clippy::cast_precision_loss, reason = "units are powers of two")]
        let bytes = value * scale as f64;
        if !bytes.is_finite() || bytes >= 9e18 {
            return Err(ValueError::new("the size is too large"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        Ok(Self(bytes as u64))
    }
}

/// Processors, as in `1.5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpus(pub f64);

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse::<f64>() {
            Ok(count) if count.is_finite() && count >= 0.01 => Ok(Self(count)),
            _ => Err(ValueError::new("a number of processors is expected, such as 2 or 0.5")),
        }
    }
}

/// A number of processes; `-1` or `max` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidsLimit(pub Option<u64>);

impl FromStr for PidsLimit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text, text.parse::<u64>()) {
            ("-1" | "max", _) => Ok(Self(None)),
            (_, Ok(count)) if count > 0 => Ok(Self(Some(count))),
            _ => Err(ValueError::new("a number of processes is expected, or -1 for no limit")),
        }
    }
}

/// Bytes of memory and swap together: `-1` is no limit, `0` as if it were not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySwap(pub Option<u64>);

impl FromStr for MemorySwap {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "-1" => Ok(Self(Some(u64::MAX))),
            _ => text.parse().map(|Size(bytes)| Self(Some(bytes).filter(|&bytes| bytes > 0))),
        }
    }
}

/// Microseconds of processor time; `-1` and `0` are no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota(pub Option<u64>);

impl FromStr for Quota {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text, text.parse::<u64>()) {
            ("-1" | "0", _) => Ok(Self(None)),
            (_, Ok(time)) if (1_000..1 << 50).contains(&time) => Ok(Self(Some(time))),
            _ => {
                Err(ValueError::new("microseconds are expected, 1000 or more, or -1 for no limit"))
            }
        }
    }
}

/// Numbers of processors: `0`, `0-3`, `0-3,5`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processors(pub Vec<usize>);

/// More than any machine's; the kernel's own bound is 8192.
const MAX_PROCESSOR: usize = 8191;

impl FromStr for Processors {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = || ValueError::new("numbers of processors are expected, such as 0-3 or 0,2");
        let number = |text: &str| text.parse::<usize>().map_err(|_| refuse());
        let mut found = std::collections::BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last || last > MAX_PROCESSOR {
                return Err(refuse());
            }
            found.extend(first..=last);
        }
        Ok(Self(found.into_iter().collect()))
    }
}

/// Whole seconds, or a number with a unit: `90`, `90s`, `5m`, `1h`.
///
/// # Errors
/// If the text is neither.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let (number, scale) = match text.as_bytes() {
        [.., b's'] => (&text[..text.len() - 1], 1),
        [.., b'm'] => (&text[..text.len() - 1], 60),
        [.., b'h'] => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let seconds = number.parse::<u32>().ok().map(|count| u64::from(count) * scale);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        ValueError::new("a time is expected: seconds, or a number with s, m or h, such as 5m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1b", 1),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1g", 1 << 30),
            ("1.5k", 1536),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in
            ["", "m", "-1", "1x", "1.2.3", "99999999999999999999", "18014398509481984k", "1e9"]
        {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "s", "-1", "1.5", "1d", "99999999999", "1é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!("1.5".parse(), Ok(Cpus(1.5)));
        for bad in ["0", "-1", "inf", "NaN", "two", ""] {
            assert!(bad.parse::<Cpus>().is_err(), "{bad}");
        }
        assert_eq!("-1".parse(), Ok(PidsLimit(None)));
        assert_eq!("100".parse(), Ok(PidsLimit(Some(100))));
        assert!("0".parse::<PidsLimit>().is_err());
        assert_eq!("0-2,5,1".parse(), Ok(Processors(vec![0, 1, 2, 5])));
        for bad in ["", "a", "2-1", "0-99999", "1,", "-1"] {
            assert!(bad.parse::<Processors>().is_err(), "{bad}");
        }
        assert_eq!("0".parse(), Ok(MemorySwap(None)));
        assert_eq!("1k".parse(), Ok(MemorySwap(Some(1024))));
    }
}
