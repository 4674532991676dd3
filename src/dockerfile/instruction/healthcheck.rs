//! `HEALTHCHECK`: how somebody who runs the image finds out whether it works.
//!
//! kiln writes it into the image's config and never runs it. Nothing of it is
//! expanded.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Span};

use super::super::ast::{CommandLine, Spanned};
use super::super::flags::{Known, Taken};
use super::super::lexer::{shown, trim};
use super::super::words;
use super::Statement;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    pub span: Span,
    pub text: String,
    pub test: HealthTest,
    pub interval: Option<Spanned<Duration>>,
    pub timeout: Option<Spanned<Duration>>,
    pub start_period: Option<Spanned<Duration>>,
    pub start_interval: Option<Spanned<Duration>>,
    pub retries: Option<Spanned<u32>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthTest {
    /// `NONE`: the base image's check does not count.
    None,
    /// `CMD`: never an empty command.
    Cmd(CommandLine),
}

pub(in super::super) const FLAGS: &[Known] = &[
    Known::full("interval"),
    Known::full("timeout"),
    Known::full("start-period"),
    Known::full("start-interval"),
    Known::full("retries"),
];

impl Healthcheck {
    pub(in super::super) fn parse(st: &Statement<'_>, out: &mut Vec<Diagnostic>) -> Option<Self> {
        let flags = st.flags(FLAGS, out);
        let length = st.rest().find(words::is_blank).unwrap_or(st.rest.len());
        let kind = st.spanned(&(st.rest.start..st.rest.start + length));
        let rest = trim(&st.line.text, st.rest.start + length..st.rest.end);
        let test = match kind.value.to_ascii_uppercase().as_str() {
            "NONE" if rest.is_empty() => HealthTest::None,
            "NONE" => {
                let place = st.line.span(&rest);
                out.push(Diagnostic::error(place, "HEALTHCHECK NONE takes nothing more"));
                return None;
            }
            "CMD" => {
                let command = Statement { rest, flags: Vec::new(), ..st.clone() };
                let command = command.command_line(out)?;
                let empty = match &command {
                    CommandLine::Shell(text) => text.value.is_empty(),
                    CommandLine::Exec(arguments) => arguments.is_empty(),
                };
                if empty {
                    out.push(Diagnostic::error(kind.span, "HEALTHCHECK CMD needs a command"));
                    return None;
                }
                HealthTest::Cmd(command)
            }
            "" => {
                out.push(st.lacks("CMD with a command, or NONE"));
                return None;
            }
            _ => {
                let said = format!("HEALTHCHECK `{}` is not known", shown(&kind.value));
                out.push(
                    Diagnostic::error(kind.span, said)
                        .label("neither CMD nor NONE")
                        .hint("write HEALTHCHECK CMD before the command"),
                );
                return None;
            }
        };
        let mut flags = flags?;
        if matches!(test, HealthTest::None) {
            // Times of a check that is none.
            flags = Taken::default();
        }
        let errors = out.len();
        let read = Self {
            span: st.span(),
            text: st.text(),
            test,
            interval: time(&mut flags, "interval", out),
            timeout: time(&mut flags, "timeout", out),
            start_period: time(&mut flags, "start-period", out),
            start_interval: time(&mut flags, "start-interval", out),
            retries: retries(&mut flags, out),
        };
        (out.len() == errors).then_some(read)
    }
}

fn time(flags: &mut Taken, name: &str, out: &mut Vec<Diagnostic>) -> Option<Spanned<Duration>> {
    let given = flags.value(name).filter(|given| !given.value.is_empty())?;
    let refuse = |message: String| {
        Diagnostic::error(given.span, message).hint("a time is such as 30s, 1m30s or 500ms")
    };
    match duration(&given.value) {
        // Nothing at all means the default.
        Some(Duration::ZERO) => None,
        Some(time) if time < Duration::from_millis(1) => {
            out.push(refuse(format!("--{name} cannot be less than 1ms")));
            None
        }
        Some(time) => Some(Spanned::new(time, given.span)),
        None => {
            out.push(refuse(format!("`{}` is no time", shown(&given.value))));
            None
        }
    }
}

fn retries(flags: &mut Taken, out: &mut Vec<Diagnostic>) -> Option<Spanned<u32>> {
    let given = flags.value("retries").filter(|given| !given.value.is_empty())?;
    match given.value.parse::<i32>().map(u32::try_from) {
        Ok(Ok(count)) => Some(Spanned::new(count, given.span)),
        Ok(Err(_)) | Err(_) => {
            let said = format!("--retries is a count, not `{}`", shown(&given.value));
            out.push(Diagnostic::error(given.span, said));
            None
        }
    }
}

/// A time as Go writes it: decimal numbers, each with a unit.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0_u128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && part.is_empty()) || part.contains('.') {
            return None;
        }
        let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
        nanos += u128::from(digits(whole)?) * unit;
        // Digits beyond the ninth are less than a nanosecond of any second.
        let part = &part[..part.len().min(9)];
        let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
        nanos += u128::from(digits(part)?) * unit / scale;
        rest = tail;
    }
    // Go counts nanoseconds in 63 bits.
    i64::try_from(nanos).ok().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            (".5s", Some(500)),
            ("1.s", Some(1_000)),
            ("0", Some(0)),
            ("250ms", Some(250)),
            ("30", None),
            ("", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1d", None),
            ("99999999999h", None),
        ];
        for (text, want) in cases {
            assert_eq!(duration(text), want.map(Duration::from_millis), "{text}");
        }
    }
}
