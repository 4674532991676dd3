//! What an instruction is called in an image's history (`created_by`), to the
//! byte as BuildKit writes it.
//!
//! The arguments are expanded: these functions know the form only. Steps that
//! make a layer end in `# buildkit`, which tools look for to tell such an image
//! from one of the older builder.

use std::time::Duration;

use super::instruction::Healthcheck;

const MARK: &str = " # buildkit";

/// `CMD ["a" "b"]`, `ENTRYPOINT […]`: Go's quoted list.
#[must_use]
pub fn exec(keyword: &str, arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments.iter().map(|argument| quote(argument)).collect();
    format!("{keyword} [{}]", quoted.join(" "))
}

/// `VOLUME [/a /b]`, `SHELL […]`, `EXPOSE [80/tcp]`: Go's plain list.
#[must_use]
pub fn list(keyword: &str, words: &[String]) -> String {
    format!("{keyword} [{}]", words.join(" "))
}

/// `ENV A=b C=d`, `LABEL …`; `ARG A=b C` for pairs of which some have no value.
#[must_use]
pub fn pairs<'a>(
    keyword: &str,
    pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> String {
    let mut text = keyword.to_owned();
    for (key, value) in pairs {
        text.push(' ');
        text.push_str(key);
        if let Some(value) = value {
            text.push('=');
            text.push_str(value);
        }
    }
    text
}

/// `WORKDIR /app`, `USER app`, `STOPSIGNAL TERM`, `MAINTAINER name`.
#[must_use]
pub fn word(keyword: &str, word: &str) -> String {
    format!("{keyword} {word}")
}

/// `COPY --chown=a src dst # buildkit`, `ADD …`; of the flags those three alone.
/// Heredocs stand behind the other sources, as `<<NAME`.
#[must_use]
pub fn copy(
    keyword: &str,
    parents: bool,
    chown: Option<&str>,
    chmod: Option<&str>,
    sources: &[String],
    destination: &str,
) -> String {
    let mut text = keyword.to_owned();
    if parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", chown), ("chmod", chmod)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for word in sources.iter().map(String::as_str).chain([destination]) {
        text.push(' ');
        text.push_str(word);
    }
    text + MARK
}

/// `RUN /bin/sh -c command # buildkit`; before the command stand the build
/// arguments that it sees, and how many they are: `RUN |1 A=b /bin/sh …`.
#[must_use]
pub fn run(build_arguments: &[(String, String)], command: &[String]) -> String {
    let mut text = "RUN".to_owned();
    if !build_arguments.is_empty() {
        text.push_str(&format!(" |{}", build_arguments.len()));
    }
    for (name, value) in build_arguments {
        text.push_str(&format!(" {name}={value}"));
    }
    for word in command {
        text.push(' ');
        text.push_str(word);
    }
    text + MARK
}

/// A string as Go's `%q` writes it.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if is_printable(c) => quoted.push(c),
            c => quoted.push_str(&match u32::from(c) {
                code @ ..0x80 => format!("\\x{code:02x}"),
                code @ ..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    quoted.push('"');
    quoted
}

/// As Go sees it: letters, marks, numbers, symbols; of white space only ' '.
fn is_printable(c: char) -> bool {
    // Rust's tables know it, but a mark alone they escape: it follows a letter here.
    c == '\''
        || !format!("a{c}").escape_debug().any(|escaped| escaped == '\\')
            && (c == ' ' || !c.is_whitespace())
}

/// `HEALTHCHECK {Test:[CMD-SHELL a] Interval:30s …}`: a Go struct with its
/// fields' names. `test` is as in the config: `NONE`, `CMD` or `CMD-SHELL` first.
#[must_use]
pub fn healthcheck(check: &Healthcheck, test: &[String]) -> String {
    let time = |time: &Option<super::Spanned<Duration>>| {
        duration(time.as_ref().map_or(Duration::ZERO, |time| time.value))
    };
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        test.join(" "),
        time(&check.interval),
        time(&check.timeout),
        time(&check.start_period),
        time(&check.start_interval),
        check.retries.as_ref().map_or(0, |retries| retries.value),
    )
}

/// A time as Go prints it: `1h30m0s`, `1.5s`, `500ms`.
fn duration(time: Duration) -> String {
    let decimal = |nanos: u128, unit: u128| {
        let (whole, rest) = (nanos / unit, nanos % unit);
        let digits = unit.to_string().len() - 1;
        let part = format!("{rest:0digits$}");
        match part.trim_end_matches('0') {
            "" => whole.to_string(),
            part => format!("{whole}.{part}"),
        }
    };
    match time.as_nanos() {
        0 => "0s".to_owned(),
        nanos @ ..1_000 => format!("{nanos}ns"),
        nanos @ ..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        nanos @ ..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        nanos => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn forms() {
        assert_eq!(exec("CMD", &words(&["./main", "'"])), r#"CMD ["./main" "'"]"#);
        assert_eq!(
            exec(
                "ENTRYPOINT",
                &words(&["sh", "-c", "a\"\\\t\x07\u{a0}\u{200b}é☺\u{301}\u{e0001}\x01\x7f"])
            ),
            "ENTRYPOINT [\"sh\" \"-c\" \"a\\\"\\\\\\t\\a\\u00a0\\u200bé☺\u{301}\\U000e0001\\x01\\x7f\"]"
        );
        assert_eq!(list("VOLUME", &words(&["/a", "/b"])), "VOLUME [/a /b]");
        assert_eq!(pairs("ENV", [("A", Some("b")), ("C", Some(""))]), "ENV A=b C=");
        assert_eq!(pairs("ARG", [("X", Some("1")), ("Y", None)]), "ARG X=1 Y");
        assert_eq!(word("WORKDIR", "/app"), "WORKDIR /app");
        assert_eq!(
            copy("COPY", false, Some("1:2"), None, &words(&["main.go", "go.mod"]), "./"),
            "COPY --chown=1:2 main.go go.mod ./ # buildkit"
        );
        let shell = words(&["/bin/sh", "-c", "go build"]);
        assert_eq!(run(&[], &shell), "RUN /bin/sh -c go build # buildkit");
        assert_eq!(
            run(&[("A".into(), "b".into())], &shell),
            "RUN |1 A=b /bin/sh -c go build # buildkit"
        );
    }

    #[test]
    fn times() {
        let cases = [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (1_234_567_890_123, "20m34.567890123s"),
            (1_001, "1.001µs"),
        ];
        for (nanos, want) in cases {
            assert_eq!(duration(Duration::from_nanos(nanos)), want);
        }
    }
}
