//! Builds of `testdata/parity`, compared with what BuildKit made of them.
//! The README there says what a case is; `tests/parity/record` asks BuildKit.

mod answer;
mod builder;
pub(crate) mod case;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::kiln::Kiln;
use crate::support::{root_only, skip};
use answer::{Answer, REFUSED};
use builder::{BuildKit, Builder, Kilns};
use case::Case;

/// A filter for both the test and the recorder.
const ONLY: &str = "KILN_PARITY_ONLY";

/// The fewest cases the corpus may have.
const LEAST: usize = 600;

/// The cases to run here: not those that only root can build, for anybody else.
fn cases() -> Vec<Case> {
    let only = kiln::env::text(ONLY).unwrap_or_default();
    let mut all = case::all();
    all.retain(|case| case.name.contains(&only));
    if !rustix::process::geteuid().is_root() {
        all.retain(|case| {
            let reason = case.root();
            if let Some(reason) = &reason {
                root_only(&format!("{} is built ({reason})", case.name));
            }
            reason.is_none()
        });
    }
    all
}

/// Runs a job for each case, in a few threads; gives what the jobs had to say.
fn each(cases: &[Case], job: impl Fn(&Case) -> Option<String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let said = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(text) = job(case) {
                        said.lock().unwrap().insert(case.name.clone(), text);
                    }
                }
            });
        }
    });
    let said = said.into_inner().unwrap();
    said.into_iter().map(|(name, text)| format!("{name}\n{text}")).collect()
}

/// What differs and has no reason, and reasons for what does not differ.
fn compare(case: &Case, ours: &Answer) -> Option<String> {
    let Some(theirs) = case.expected() else {
        return Some("  it has no expected.json: run tests/parity/record\n".into());
    };
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    // Where one refuses, the other's image is of no interest.
    if ours.contains_key(REFUSED) != theirs.contains_key(REFUSED) {
        for side in [&mut ours, &mut theirs] {
            side.retain(|place, _| place == REFUSED);
        }
    }
    let mut text = String::new();
    let mut differs = case.differs();
    let places: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for place in places {
        let (a, b) = (ours.get(place), theirs.get(place));
        // A refusal is told in each one's own words.
        let same = if place == REFUSED { a.is_some() == b.is_some() } else { a == b };
        if same {
            continue;
        }
        let mut explained = false;
        for difference in differs.iter_mut().filter(|difference| difference.covers(place)) {
            difference.used = true;
            explained = true;
        }
        if !explained {
            let none = || "nothing".to_owned();
            let a = a.map_or_else(none, ToString::to_string);
            let b = b.map_or_else(none, ToString::to_string);
            let _ = writeln!(text, "  {place}\n    kiln:     {a}\n    BuildKit: {b}");
        }
    }
    for difference in differs.iter().filter(|difference| !difference.used) {
        let _ = writeln!(text, "  {} does not differ: {}", difference.place, difference.reason);
    }
    (!text.is_empty()).then_some(text)
}

#[test]
#[expect(clippy::print_stderr, reason = "the recorder says what it does")]
fn corpus() {
    let cases = cases();
    if let Some(buildkit) = BuildKit::from_env() {
        let failed = each(&cases, |case| match buildkit.build(&case.fresh()) {
            Ok(answer) => {
                case.record(&answer);
                None
            }
            Err(why) => Some(why),
        });
        assert!(failed.is_empty(), "BuildKit does not answer:\n{}", failed.join("\n"));
        eprintln!("recorded {} cases", cases.len());
        return;
    }
    let Some(conf) = kiln::env::path("CONTAINERS_REGISTRIES_CONF") else {
        skip("no registry has the base images; see tests/run");
        return;
    };
    let mut kiln = Kiln::new();
    kiln.set("CONTAINERS_REGISTRIES_CONF", conf);
    let kilns = Kilns { kiln: &kiln };
    let wrong = each(&cases, |case| match kilns.build(&case.fresh()) {
        Ok(answer) => compare(case, &answer),
        Err(why) => Some(why),
    });
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {} cases differ:\n{}", cases.len(), wrong.join("\n"));
}

#[test]
fn corpus_is_whole() {
    let all = case::all();
    assert!(all.len() >= LEAST, "the corpus has {} cases only", all.len());
    for case in &all {
        assert!(case.expected().is_some(), "{} has no expected.json", case.name);
        assert!(!case.is_reasonless(), "{}: say why it differs or needs root", case.name);
    }
}
