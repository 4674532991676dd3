//! The README's tables of the language say what the parser knows.

use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostic, Source};

use super::expand;
use super::flags::{Known, Support};
use super::instruction::{flags_of, mount_words};
use super::parse;
use super::parse::KEYWORDS;

/// The rows of a section's tables, cut into cells.
fn rows(section: &str) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.map(|row| row.split(" |").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The parts in backquotes.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn names(known: &[Known], lacking: bool) -> BTreeSet<String> {
    let of = known.iter().filter(|it| matches!(it.support, Support::Lacking { .. }) == lacking);
    of.map(|it| format!("--{}", it.name)).collect()
}

fn set<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn instructions_and_flags() {
    let rows = rows("The Dockerfile language");
    let (mut told, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for row in &rows {
        let [instruction, flags, forms] = &row[..] else { continue };
        let Some(keyword) = code(instruction).first().copied() else { continue };
        assert!(told.insert(keyword.to_owned()), "{keyword} has two rows");
        assert_eq!(set(code(flags)), names(flags_of(keyword), false), "{keyword}");
        refused
            .extend(names(flags_of(keyword), true).iter().map(|flag| format!("{keyword} {flag}")));
        let own = code(forms).into_iter().filter(|form| form.starts_with(&format!("{keyword} ")));
        let own: Vec<&str> = own.collect();
        assert!(!own.is_empty(), "{keyword} has no example");
        for form in own {
            let text =
                if keyword == "FROM" { form.to_owned() } else { format!("FROM x\n{form}\n") };
            let (_, said) = parse(&Source::new("README.md", text));
            assert!(!said.iter().any(Diagnostic::is_error), "{form}: {said:?}");
        }
    }
    assert_eq!(told, set(KEYWORDS.iter().copied()));
    let row = rows.iter().find(|row| row[0] == "refused").unwrap();
    assert_eq!(set(code(&row[1])), refused);
}

#[test]
fn mounts_and_variables() {
    let rows = rows("The Dockerfile language");
    let known = |of: &str| set(code(&rows.iter().find(|row| row[0] == of).unwrap()[1]));
    let (types, keys) = mount_words();
    assert_eq!(known("`--mount=type=`"), set(types));
    assert_eq!(known("`--mount`"), set(keys));
    assert_eq!(known("directives"), set(["syntax", "escape", "check"]));
    for form in known("variables") {
        let filled = expand(&form, '\\', &|name| (name == "v").then(|| "value".to_owned()));
        assert!(!filled.unwrap().value.contains('$'), "{form}");
    }
}
