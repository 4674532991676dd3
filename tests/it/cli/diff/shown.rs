//! What people read: two things that differ do not look alike.

use serde_json::Value;

use super::{Blob, Image, Tar, differ, one, two};
use crate::support::kiln::Kiln;

/// A value that is long shows in what it differs, and a string is no number.
#[test]
fn values_do_not_look_alike() {
    let kiln = Kiln::new();
    let mut image = Image::of(&kiln, &[Blob::plain(&one("f", "x"))]);
    let mut other = image.clone();
    let of = |last: &str| Value::from("x".repeat(300) + last);
    image.config["author"] = of("one");
    other.config["author"] = of("two");
    image.config["number"] = 1.into();
    other.config["number"] = "1".into();
    other.config["nothing"] = "(none)".into();
    image.keep(&kiln, "a");
    other.keep(&kiln, "b");
    let text = differ(&kiln, "a b").text();
    for says in ["xone → …", "xtwo\n", "number: 1 → \"1\"", "nothing: (none) → \"(none)\""]
    {
        assert!(text.contains(says), "{says}: {text}");
    }
}

/// Line ends, tabs and blanks are told apart, in lines and in names.
#[test]
fn blanks_show() {
    let kiln = Kiln::new();
    for (a, b, says) in [
        ("a\n", "a\r\n", ["-a\n", "+a\\u{d}\n"]),
        ("a\n", "a \n", ["-a\n", "+a\\x20\n"]),
        ("\ta\n", "    a\n", ["-\\ta\n", "+    a\n"]),
    ] {
        two(&kiln, &one("f", a), &one("f", b));
        let text = differ(&kiln, "a b").text();
        assert!(says.iter().all(|line| text.contains(line)), "{a:?} {b:?}: {text}");
    }
    two(&kiln, &one("f", "x"), &Tar::new().file("f", "x").file("f\r", "x").done());
    let text = differ(&kiln, "a b").text();
    assert!(text.contains("+ f\\u{d}\n"), "{text}");
}

/// Of a line that is longer than what is shown, the part that differs.
#[test]
fn long_lines_show_where_they_differ() {
    let kiln = Kiln::new();
    for length in [300, 3000, 300_000] {
        let line = |word: &str| format!("first\n{}{word} end\n", "é".repeat(length));
        two(&kiln, &one("f", line("one")), &one("f", line("two")));
        let text = differ(&kiln, "a b").text();
        for says in ["-…é", "éone end\n", "+…é", "étwo end\n"] {
            assert!(text.contains(says), "{length} {says}: {text}");
        }
    }
}
