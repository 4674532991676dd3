//! What the history says of each instruction: BuildKit's texts, which tools
//! that show images know how to read.

use std::time::Duration;

use crate::epoch::Epoch;
use crate::image::{History, ImageConfig};

/// Which program wrote an entry.
const COMMENT: &str = "kiln.dockerfile.v0";

/// Stands for a layer of which the base image's history says nothing.
const UNTOLD: &str = "layer of the base image, of which its history says nothing";

/// An entry of the file.
pub(super) fn entry(created_by: String, layer: bool, epoch: Epoch) -> History {
    History {
        created: Some(epoch.rfc3339()),
        created_by: Some(created_by),
        comment: Some(COMMENT.to_owned()),
        empty_layer: !layer,
        ..History::default()
    }
}

/// Makes a base's history speak of as many layers as it has. A history is
/// optional and often wrong: squashed images, images that a tool packed from
/// files. Its entries are kept as they came; layers that it does not mention
/// get an entry at its end, and claims of a layer that does not exist, seen from
/// the end, become entries without one.
pub(super) fn reconcile(config: &mut ImageConfig, layers: usize) {
    let told = config.history.iter().filter(|entry| !entry.empty_layer).count();
    let surplus = told.saturating_sub(layers);
    let claims = config.history.iter_mut().rev().filter(|entry| !entry.empty_layer);
    for entry in claims.take(surplus) {
        entry.empty_layer = true;
    }
    for _ in told..layers {
        config.history.push(History {
            created: config.created.clone(),
            comment: Some(UNTOLD.to_owned()),
            ..History::default()
        });
    }
}

/// `RUN`, with the arguments in force before the command.
pub(super) fn run(argv: &[String], args: &[(String, String)]) -> String {
    let mut text = "RUN ".to_owned();
    if !args.is_empty() {
        text += &format!("|{} ", args.len());
        for (name, value) in args {
            text += &format!("{name}={value} ");
        }
    }
    text + &argv.join(" ") + " # buildkit"
}

/// Strings in Go's `%q`: `["a" "b"]`.
pub(super) fn quoted(texts: &[String]) -> String {
    let all: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", all.join(" "))
}

fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\x07' => quoted += "\\a",
            '\x08' => quoted += "\\b",
            '\x0c' => quoted += "\\f",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\x0b' => quoted += "\\v",
            c if c.is_ascii_control() => quoted += &format!("\\x{:02x}", u32::from(c)),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Strings in Go's `%v`: `[a b]`.
pub(super) fn listed(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

/// A time as Go prints it: `1m30s`, `250ms`.
pub(super) fn duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let decimal = |unit: u128, name: &str| {
        let (whole, rest) = (nanos / unit, nanos % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        match rest.trim_end_matches('0') {
            "" => format!("{whole}{name}"),
            rest => format!("{whole}.{rest}{name}"),
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let seconds = time.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = Duration::new(seconds % 60, time.subsec_nanos());
            let rest = format!("{}.{:09}", rest.as_secs(), rest.subsec_nanos());
            let rest = rest.trim_end_matches('0').trim_end_matches('.');
            match (hours, minutes) {
                (0, 0) => format!("{rest}s"),
                (0, _) => format!("{minutes}m{rest}s"),
                (_, _) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    #[test]
    fn times_as_go_prints_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_500_000, "1.5ms"),
            (30_000_000_000, "30s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_610_000_000_001, "1h0m10.000000001s"),
        ];
        for (nanos, want) in cases {
            assert_eq!(duration(Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn quoting_as_go_does() {
        let texts = ["a b", "\"\\", "\n\u{1}é\u{85}"].map(str::to_owned);
        assert_eq!(quoted(&texts), r#"["a b" "\"\\" "\n\x01é\u0085"]"#);
    }

    #[test]
    fn histories_that_disagree_with_the_layers() {
        // L: a layer, -: none.
        let of = |history: &str, layers: usize| {
            let mut config = ImageConfig::scratch(&Platform::new("linux", "amd64"));
            for c in history.chars() {
                config.history.push(History { empty_layer: c == '-', ..History::default() });
            }
            reconcile(&mut config, layers);
            let flag = |entry: &History| if entry.empty_layer { '-' } else { 'L' };
            config.history.iter().map(flag).collect::<String>()
        };
        assert_eq!(of("L-L", 2), "L-L");
        assert_eq!(of("", 2), "LL");
        assert_eq!(of("L-", 3), "L-LL");
        assert_eq!(of("L-LL", 1), "L---");
        assert_eq!(of("", 0), "");
    }
}
