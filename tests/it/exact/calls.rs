//! Tables of system calls: what a step gets in each tier, and what real root gets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::builder::Builder;
use super::compare::{self, Files};
use super::experiment::Experiment;
use super::shared::Shared;
use super::{REFERENCE, chroot, only};
use crate::support::kiln::data;
use crate::support::root_only;

/// A line of a table.
struct Line {
    text: String,
    /// Of a call: what real root is answered, as written down.
    answer: Option<String>,
    /// What a tier answers that cannot do better, with the reason; `kiln` is every tier.
    lies: BTreeMap<String, (String, String)>,
}

impl Line {
    fn is_call(&self) -> bool {
        !self.text.is_empty() && !self.text.starts_with(['=', '#'])
    }

    /// What a tier has to answer.
    fn expected(&self, tier: &str) -> &str {
        // What is no tier of kiln's does not lie.
        let all = self.lies.get("kiln").filter(|_| tier != REFERENCE);
        let lie = self.lies.get(tier).or(all);
        lie.map_or_else(|| self.answer.as_deref().unwrap_or("nothing"), |(answer, _)| answer)
    }
}

/// By the numbers of the lines that the program counts.
fn parse(text: &str) -> Vec<(usize, Line)> {
    let mut lines: Vec<(usize, Line)> = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let Some(answer) = text.strip_prefix("  ") else {
            lines.push((at + 1, Line { text: text.into(), answer: None, lies: BTreeMap::new() }));
            continue;
        };
        let (_, line) = lines.last_mut().expect("an answer follows a call");
        let lie = answer
            .split_once(": ")
            .filter(|(tier, _)| ["root", "subuid", "single-id", "kiln"].contains(tier));
        match lie {
            Some((tier, rest)) => {
                let (answer, reason) = rest.split_once("   # ").unwrap_or((rest, ""));
                assert!(reason.len() > 3, "line {}: why does it lie?", at + 1);
                line.lies.insert(tier.into(), (answer.into(), reason.into()));
            }
            None => line.answer = Some(answer.into()),
        }
    }
    lines
}

fn written(lines: &[(usize, Line)]) -> String {
    let mut text = String::new();
    for (_, line) in lines {
        let _ = writeln!(text, "{}", line.text);
        if let Some(answer) = &line.answer {
            let _ = writeln!(text, "  {answer}");
        }
        for (tier, (answer, reason)) in &line.lies {
            let _ = writeln!(text, "  {tier}: {answer}   # {reason}");
        }
    }
    text
}

/// Answers by line, of a table's output.
fn answers(files: &Files, table: &str) -> BTreeMap<usize, String> {
    let file = files.get(&format!("out/{table}")).unwrap_or_else(|| panic!("no answers: {table}"));
    let text = file.fields["text"].as_str().unwrap();
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(at, answer)| (at.parse().unwrap(), answer.to_owned())).collect()
}

fn tables() -> Vec<PathBuf> {
    let files =
        fs::read_dir(data().join("exact/calls")).unwrap().map(|entry| entry.unwrap().path());
    let mut tables: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "txt")).collect();
    tables.sort();
    tables
}

/// What is not as it should be, a text for each call.
fn wrong(tier: &str, files: &Files) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in tables() {
        let table = path.file_name().unwrap().to_str().unwrap().to_owned();
        let found = answers(files, &table);
        let mut case = String::new();
        for (at, line) in parse(&fs::read_to_string(&path).unwrap()) {
            if let Some(name) = line.text.strip_prefix("== ") {
                case = name.to_owned();
            }
            if !line.is_call() {
                continue;
            }
            let found = found.get(&at).map_or("nothing", String::as_str);
            let expected = line.expected(tier);
            if found != expected {
                wrong.push(format!(
                    "{table}:{at}: {case}: {}\n    {tier}: {found}\n    expected: {expected}",
                    line.text
                ));
            }
        }
    }
    wrong
}

fn bless(files: &Files) {
    for path in tables() {
        let table = path.file_name().unwrap().to_str().unwrap().to_owned();
        let found = answers(files, &table);
        let mut lines = parse(&fs::read_to_string(&path).unwrap());
        for (at, line) in &mut lines {
            line.answer = found.get(at).cloned();
        }
        fs::write(&path, written(&lines)).unwrap();
    }
}

#[test]
fn exact_calls() {
    let Some(shared) = Shared::get() else { return };
    let experiment = Experiment::read("calls");
    let mut all = Vec::new();
    if !rustix::process::geteuid().is_root() {
        root_only("what real root is answered is compared with what is written down");
    } else if only(REFERENCE) {
        let files = chroot::run(&shared, &experiment);
        if kiln::env::text("KILN_BLESS").is_some() {
            bless(&files);
            return;
        }
        all.extend(wrong(REFERENCE, &files));
    }
    for builder in Builder::all() {
        // There no owner and no ID is emulated: the answers are the kernel's own, and many
        // lines name files by `/proc`.
        if builder.tier() != "chroot" && only(&builder.to_string()) {
            match builder.build(&shared, &experiment) {
                Ok(built) => all.extend(wrong(builder.tier(), &compare::files(&built.tree))),
                Err(text) => all.push(format!("{builder}:\n{text}")),
            }
        }
    }
    assert!(all.is_empty(), "{} answers are wrong:\n{}", all.len(), all.join("\n"));
}

#[test]
fn tables_are_whole() {
    let mut count = 0;
    for path in tables() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = parse(&text);
        assert_eq!(written(&lines), text, "{}", path.display());
        for (at, line) in &lines {
            let answers =
                line.is_call() && !["fork", "daemon", "end"].contains(&line.text.as_str());
            // A program that is executed may answer for it.
            let may = line.text.starts_with(['e', 's', 'f']);
            assert!(
                !answers || may || line.answer.is_some(),
                "{}:{at}: no answer is written down",
                path.display()
            );
            count += usize::from(line.answer.is_some());
        }
    }
    assert!(count > 1000, "only {count} answers");
}
