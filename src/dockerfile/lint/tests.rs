//! What needs no plan; the rules' cases are in `testdata/lint`.

use super::super::parse;
use super::*;
use crate::diagnostic::Source;

#[test]
fn comments_belong_to_what_follows() {
    let text = "# check=skip=all\n# one\n\n# two\nARG a\n#\n # three\nFROM x AS b\n# gone\n#\n\
                # four\nRUN a \\\n# within\n  b\nCOPY <<E /c\n# text\nE\nUSER d\n";
    let (file, said) = parse(&Source::new("Dockerfile", text));
    assert!(said.is_empty(), "{said:?}");
    let notes: Vec<(Vec<&str>, usize, usize)> = file
        .notes
        .values()
        .map(|note| {
            let comments = note.comments.iter().map(String::as_str).collect();
            (comments, *note.lines.start(), *note.lines.end())
        })
        .collect();
    // As BuildKit: an indented comment keeps its `#`.
    let want = [
        (vec!["one", "two"], 5, 5),
        (vec!["# three"], 8, 8),
        (vec!["four"], 12, 14),
        (vec![], 15, 17),
        (vec![], 18, 18),
    ];
    assert_eq!(notes, want);
}

#[test]
fn descriptions_begin_with_the_name() {
    let text = "# other text\n# a  first\n# a second\nARG a ab\nFROM x\n";
    let (file, _) = parse(&Source::new("Dockerfile", text));
    let note = file.note(file.meta_args[0].span).unwrap();
    assert_eq!(note.description("a"), Some(" first"));
    assert_eq!(note.description("ab"), None);
    assert_eq!(note.description("other"), Some("text"));
    assert_eq!(note.description(""), None);
}

#[test]
fn names_of_secrets() {
    for name in ["KEY", "api_key", "GITHUB_TOKEN", "Secret_message", "apikey", "DB_PASSWD"] {
        assert!(is_secret(name), "{name}");
    }
    for name in ["", "keys", "monkey", "PUBLIC_KEY", "TOKEN_FILE", "auth_version", "passphrase"] {
        assert!(!is_secret(name), "{name}");
    }
}
