//! The comparison, and what may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::parity::tree::{File, Tree, shown};
use crate::support::kiln::data;

pub(super) type Files = BTreeMap<String, File>;

/// `testdata/exact/NAME/differs`: a line each, `content PATTERN reason` for files
/// whose content differs by itself, `name PATTERN reason` for files whose names do.
/// `*` in a pattern stands for anything without a slash, `**` at its end for all below.
/// `TIER:content` is for files whose content differs in a tier that cannot do better,
/// `TIER:file` for files that it may have or not have; of the latter the lists in `view/`
/// do not tell either.
#[derive(Default)]
pub(super) struct Differs {
    content: Vec<String>,
    name: Vec<String>,
    /// By tier, each with `content` or `file`.
    tiers: Vec<(String, String, String)>,
}

pub(super) fn files(tree: &Tree) -> Files {
    tree.described().into_iter().map(|(name, file)| (shown(name), file)).collect()
}

/// Text up to this length is compared line by line.
pub(super) const TEXT: usize = 4 << 20;

/// Where steps write down what they see.
const VIEWS: &str = "view/";

/// As many differences get a line; more are counted.
const SHOWN: usize = 120;
/// As many of one text.
const LINES: usize = 8;

impl Differs {
    pub(super) fn read(name: &str) -> Self {
        let mut differs = Self::default();
        let path = data().join("exact").join(name).join("differs");
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, ' ');
            let (what, pattern) = (words.next().unwrap(), words.next().unwrap());
            assert!(words.next().is_some_and(|reason| reason.len() > 3), "no reason: {line}");
            match what {
                "content" => differs.content.push(pattern.into()),
                "name" => differs.name.push(pattern.into()),
                other => match other.split_once(':') {
                    Some((tier, what @ ("content" | "file"))) => {
                        differs.tiers.push((tier.into(), what.into(), pattern.into()));
                    }
                    _ => panic!("{other} is neither content nor name: {line}"),
                },
            }
        }
        differs
    }

    /// Names that differ by themselves become their pattern and a number.
    pub(super) fn named(&self, files: Files) -> Files {
        let mut count = BTreeMap::new();
        let all = files.into_iter().map(|(name, mut file)| {
            if name.starts_with(VIEWS) {
                self.rename_in(&mut file);
            }
            let Some(pattern) = self.name.iter().find(|pattern| matches(pattern, &name)) else {
                return (name, file);
            };
            let number = count.entry(pattern).or_insert(0);
            *number += 1;
            (format!("{pattern} #{number}"), file)
        });
        all.collect()
    }

    /// The names in a list of files.
    fn rename_in(&self, file: &mut File) {
        let Some(text) = file.fields.get("text").and_then(|text| text.as_str()) else { return };
        let rename = |line: &str| {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let found = self.name.iter().find(|pattern| matches(pattern, &name[1..]));
            found.map_or_else(|| line.to_owned(), |pattern| format!("/{pattern} {}", kept(rest)))
        };
        // Without the target of a link.
        fn kept(rest: &str) -> String {
            rest.split(' ').take(4).collect::<Vec<_>>().join(" ")
        }
        let mut lines: Vec<String> = text.lines().map(rename).collect();
        lines.sort();
        file.fields.insert("text".into(), lines.join("\n").into());
        file.content = None;
    }

    /// A list without the files that a tier may have or not have.
    fn unlist_in(&self, tier: &str, file: &mut File) {
        let Some(text) = file.fields.get("text").and_then(|text| text.as_str()) else { return };
        let is_listed = |line: &&str| {
            let name = line.split(' ').next().unwrap_or_default().trim_start_matches('/');
            !self.differs_in(tier, "file", name)
        };
        let lines: Vec<&str> = text.lines().filter(is_listed).collect();
        file.fields.insert("text".into(), lines.join("\n").into());
        file.content = None;
    }

    /// True if nothing is known that differs in a tier by more than by itself.
    pub(super) fn is_exact(&self, tier: &str) -> bool {
        self.tiers.iter().all(|(known, ..)| known != tier)
    }

    fn differs_in(&self, tier: &str, what: &str, name: &str) -> bool {
        let mut known = self.tiers.iter().filter(|(one, kind, _)| one == tier && kind == what);
        known.any(|(.., pattern)| matches(pattern, name))
    }

    /// A line for each difference, besides those that are known of a tier.
    pub(super) fn between(&self, tier: &str, theirs: &Files, ours: &Files) -> Vec<String> {
        let mut found = Vec::new();
        let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for name in names {
            if self.differs_in(tier, "file", name) {
                continue;
            }
            let (Some(a), Some(b)) = (theirs.get(name), ours.get(name)) else {
                let who = if ours.contains_key(name) { "is too much" } else { "is absent" };
                let file = theirs.get(name).or(ours.get(name)).unwrap();
                found.push(format!("{name} {who}: {}", told(file)));
                continue;
            };
            let (a, b) = (self.compared(tier, name, a), self.compared(tier, name, b));
            if a != b {
                let (lines, a, b) = without_text(a, b);
                if a != b {
                    found.push(format!("{name}: {} is here {}", told(&a), told(&b)));
                }
                found.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
            }
        }
        found
    }

    fn compared(&self, tier: &str, name: &str, file: &File) -> File {
        let mut file = file.clone();
        if name.starts_with(VIEWS) && !self.is_exact(tier) {
            self.unlist_in(tier, &mut file);
        }
        let pattern = name.split(" #").next().unwrap();
        if self.name.iter().any(|known| known == pattern)
            || self.content.iter().any(|known| matches(known, name))
            || self.differs_in(tier, "content", name)
        {
            file.content = None;
            file.fields.remove("text");
            if self.name.iter().any(|known| known == pattern) {
                file.fields.remove("target");
            }
        }
        file
    }
}

/// The lines that are in one of the texts only; what else may differ.
fn without_text(mut a: File, mut b: File) -> (Vec<String>, File, File) {
    let both = (a.fields.get("text").cloned(), b.fields.get("text").cloned());
    let (Some(serde_json::Value::String(x)), Some(serde_json::Value::String(y))) = both else {
        return (Vec::new(), a, b);
    };
    for file in [&mut a, &mut b] {
        file.fields.remove("text");
        file.content = None;
    }
    let only = |sign, one: &str, other: &str| -> Vec<String> {
        let others: BTreeSet<&str> = other.lines().collect();
        let lines = one.lines().filter(|line| !others.contains(line));
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    let mut lines = [only('-', &x, &y), only('+', &y, &x)].concat();
    if lines.is_empty() && x != y {
        lines.push("the same lines in another order or number".into());
    }
    lines.truncate(LINES);
    (lines, a, b)
}

fn told(file: &File) -> String {
    let mut fields = file.fields.clone();
    fields.remove("text");
    let mut text = serde_json::to_string(&fields).unwrap();
    if let Some((digest, size)) = &file.content {
        text.push_str(&format!(" {size} bytes, {}", &digest[..8]));
    }
    text
}

pub(super) fn report(found: &[String]) -> String {
    let mut text: String = found.iter().take(SHOWN).map(|line| format!("  {line}\n")).collect();
    if found.len() > SHOWN {
        text.push_str(&format!("  and {} more\n", found.len() - SHOWN));
    }
    text
}

/// `*` is anything without a slash; `**` at the end is anything.
fn matches(pattern: &str, name: &str) -> bool {
    if let Some(start) = pattern.strip_suffix("**") {
        return name.starts_with(start);
    }
    let (Some((start, rest)), false) = (pattern.split_once('*'), pattern == name) else {
        return pattern == name;
    };
    let Some(after) = name.strip_prefix(start) else { return false };
    let segment = after.split('/').next().unwrap_or_default().len();
    (0..=segment).any(|end| after.is_char_boundary(end) && matches(rest, &after[end..]))
}

#[test]
fn patterns() {
    assert!(matches("a/*.0", "a/12.0") && !matches("a/*.0", "a/b/1.0") && matches("a/**", "a/b/c"));
    assert!(matches("a*b*", "axbx") && !matches("a", "ab") && matches("a", "a"));
}
