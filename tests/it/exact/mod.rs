//! The decisive experiment: the same steps, run by real root in a chroot without
//! kiln, and by kiln in each of its tiers, leave the same files.
//!
//! `testdata/exact/NAME` holds the steps of an experiment, in the order of their
//! names; the README there says how one is written. Files are compared path by
//! path: type, owner, mode, link target, hard links, attributes (capabilities among
//! them), device numbers, content. What a step's content may differ in by itself is
//! listed in `differs`, with the reason.

mod builder;
mod calls;
mod chroot;
mod clock;
mod compare;
mod experiment;
mod shared;

use std::collections::BTreeMap;

use crate::support::{root_only, skip};
use builder::{Builder, Built};
use compare::Differs;
use experiment::Experiment;

/// Real root in a chroot without kiln, as a builder.
const REFERENCE: &str = "real root";

/// True if a builder of this name is asked for: all are, by default.
fn only(name: &str) -> bool {
    let asked = kiln::env::text("KILN_EXACT_ONLY").unwrap_or_default();
    asked.is_empty() || asked.split(';').any(|part| name.contains(part))
}

/// What is known in the end.
#[derive(Default)]
struct Checked {
    /// The first builder's files.
    files: compare::Files,
    /// Seconds of the processors, by builder.
    cpu: Vec<(String, f64)>,
}

/// The experiment by every builder, against the first of them that can be had: real
/// root in a chroot, or, for who is not root, the first tier.
fn check(name: &str, is_asked_for: impl Fn(&str) -> bool) -> Option<Checked> {
    let shared = shared::Shared::get()?;
    let experiment = Experiment::read(name);
    let differs = Differs::read(name);
    let only = |name: &str| is_asked_for(name) && only(name);
    let mut builders = Builder::all();
    builders.retain(|builder| only(&builder.to_string()));
    let mut cpu = Vec::new();
    let mut reference: Option<(String, compare::Files)> = None;
    let mut wrong = Vec::new();
    let mut layers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if !only(REFERENCE) {
        // The first tier is what the others are compared with.
    } else if rustix::process::geteuid().is_root() {
        let files = chroot::run(&shared, &experiment);
        reference = Some((REFERENCE.into(), differs.named(files)));
    } else {
        root_only(&format!("{name}: what real root makes in a chroot is compared"));
    }
    for builder in &builders {
        let who = builder.to_string();
        let Built { tree, diff_ids, cpu: used } = match builder.build(&shared, &experiment) {
            Ok(built) => built,
            Err(text) => {
                wrong.push(format!("{who}:\n{text}"));
                continue;
            }
        };
        cpu.push((who.clone(), used));
        let files = differs.named(compare::files(&tree));
        match &reference {
            Some((first, theirs)) => {
                let found = differs.between(builder.tier(), theirs, &files);
                if !found.is_empty() {
                    wrong.push(format!("{who} against {first}:\n{}", compare::report(&found)));
                }
            }
            None => reference = Some((who.clone(), files)),
        }
        if differs.is_exact(builder.tier()) {
            layers.insert(who, diff_ids);
        }
    }
    if experiment.is_deterministic() {
        let mut each = layers.iter();
        let first = each.next();
        for (who, ids) in each {
            let Some((other, theirs)) = first else { continue };
            for (number, (a, b)) in theirs.iter().zip(ids).enumerate() {
                if a != b {
                    wrong.push(format!("layer {number} of {who} is not that of {other}: {b}, {a}"));
                }
            }
            assert_eq!(theirs.len(), ids.len(), "{who} and {other} have other layers");
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    Some(Checked { files: reference.map(|(_, files)| files).unwrap_or_default(), cpu })
}

#[test]
fn exact_without_packages() {
    check("bare", |_| true);
}

#[test]
fn exact_with_packages() {
    if kiln::env::path("KILN_TEST_DEBS").is_none() {
        skip("no packages can be installed: KILN_TEST_DEBS is not set; see tests/run");
        return;
    }
    // The tools of the packages are used by others than root too.
    check("packages", |who| !who.ends_with(builder::CONTAINER));
}

/// The registries as a build sees them: without this process's settings.
fn registries() -> Result<(), String> {
    let all = ["https://pypi.org/simple/pip/", "https://registry.npmjs.org/npm/9.9.3"];
    let more = ["https://proxy.golang.org/golang.org/x/text/@v/v0.14.0.info"];
    for url in all.iter().chain(&more).chain(&["https://index.crates.io/config.json"]) {
        let output = std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--location", "--output", "/dev/null"])
            .args(["--max-time", "60", "--retry", "2", url])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(format!("{url}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
    }
    Ok(())
}

/// Real root as kiln's best tier, against the one that emulates most: what packages of
/// Debian are compared for by all is not repeated here.
#[test]
#[expect(clippy::print_stderr, reason = "how much slower it is is of interest")]
fn exact_languages() {
    if let Err(why) = registries() {
        skip(&format!("pip, npm, go and cargo have no registries here: {why}"));
        return;
    }
    let best = if rustix::process::geteuid().is_root() { "root, own" } else { "subuid" };
    let asked = |name: &str| name.starts_with(best) || name.starts_with("single-id");
    let Some(checked) = check("languages", asked) else { return };
    // What the package managers brought, and copies of it.
    let ours = |name: &&String| name.starts_with("opt/") || name.starts_with("home/app/");
    let count = checked.files.keys().filter(ours).count();
    assert!(count > 10_000 || checked.cpu.is_empty(), "only {count} files");
    if let [(first, least), others @ ..] = checked.cpu.as_slice() {
        for (who, cpu) in others {
            let times = cpu / least;
            eprintln!("languages: {count} files; {who}: {times:.2} x the processors of {first}");
        }
    }
}
