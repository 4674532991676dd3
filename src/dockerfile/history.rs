//! What an instruction is called in an image's history (`created_by`), to the
//! byte as BuildKit writes it.
//!
//! The arguments are expanded: these functions know the form only. Steps that
//! make a layer end in `# buildkit`, which tools look for to tell such an image
//! from one of the older builder.

use std::fmt::Write as _;

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

/// `COPY --chown=a src dst # buildkit`, `ADD …`; no word of `--from`.
#[must_use]
pub fn copy(
    keyword: &str,
    chown: Option<&str>,
    chmod: Option<&str>,
    sources: &[String],
    destination: &str,
) -> String {
    let mut text = keyword.to_owned();
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
            // Of white space only the space itself is printable to Go.
            c if c != ' ' && (c.is_control() || c.is_whitespace()) => {
                let code = u32::from(c);
                // Writing to a string does not fail.
                let _ = if code < 0x80 {
                    write!(quoted, "\\x{code:02x}")
                } else {
                    write!(quoted, "\\u{code:04x}")
                };
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn forms() {
        assert_eq!(exec("CMD", &words(&["./main"])), r#"CMD ["./main"]"#);
        assert_eq!(
            exec("ENTRYPOINT", &words(&["sh", "-c", "echo \"a\\\"\t\u{a0}é\x01"])),
            r#"ENTRYPOINT ["sh" "-c" "echo \"a\\\"\t\u00a0é\x01"]"#
        );
        assert_eq!(list("VOLUME", &words(&["/a", "/b"])), "VOLUME [/a /b]");
        assert_eq!(pairs("ENV", [("A", Some("b")), ("C", Some(""))]), "ENV A=b C=");
        assert_eq!(pairs("ARG", [("X", Some("1")), ("Y", None)]), "ARG X=1 Y");
        assert_eq!(word("WORKDIR", "/app"), "WORKDIR /app");
        assert_eq!(
            copy("COPY", Some("1:2"), None, &words(&["main.go", "go.mod"]), "./"),
            "COPY --chown=1:2 main.go go.mod ./ # buildkit"
        );
        let shell = words(&["/bin/sh", "-c", "go build"]);
        assert_eq!(run(&[], &shell), "RUN /bin/sh -c go build # buildkit");
        assert_eq!(
            run(&[("A".into(), "b".into())], &shell),
            "RUN |1 A=b /bin/sh -c go build # buildkit"
        );
    }
}
