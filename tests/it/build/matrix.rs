//! The same input gives the same digest of all that an image is, everywhere: README.md's
//! table, "The same digest, everywhere", row by row.
//!
//! Each subject is built as usual, and then under one condition after the other, each time
//! from nothing in a store of its own. Small ones are built under each condition by itself, so
//! that what makes a difference is named. Large ones are built in each tier, and twice where
//! everything else is different at once: two conditions that change nothing by themselves may
//! do so together, and what one of them changes shows there too.

mod setting;
mod subjects;

use std::collections::BTreeMap;
use std::fs;

use super::bench::ordinary;
use crate::support::{root_only, skip};
use setting::{Around, Built, Setting, Then};
use subjects::{Column, Order};

/// The columns of the table, with a letter for each.
const COLUMNS: &[(&str, char)] = &[
    ("`hello-go`", 'g'),
    ("`hello-debian`", 'd'),
    ("`hello-python`", 'p'),
    ("`hello-node`", 'n'),
    ("20 of the corpus", 'c'),
];

/// A row of the table: what is not as usual, and for whom it is tried.
struct Condition {
    row: &'static str,
    columns: &'static str,
    /// `None` where whoever runs the tests cannot have it.
    setting: fn() -> Option<Setting>,
}

const fn condition(
    row: &'static str,
    columns: &'static str,
    setting: fn() -> Option<Setting>,
) -> Condition {
    Condition { row, columns, setting }
}

/// The first is the usual build, which the others are compared with.
const CONDITIONS: &[Condition] = &[
    condition("from the cache, and from another machine's (`--cache-from`)", "gdpnc", || {
        Some(Setting { then: Then::Cached, ..usual() })
    }),
    condition("an ordinary user, tier `subuid`", "gdpnc", || {
        Some(Setting { caller: Some(ordinary()?), tier: Some("subuid"), ..usual() })
    }),
    condition("an ordinary user, tier `single-id`", "dpnc", || {
        Some(Setting { caller: Some(ordinary()?), tier: Some("single-id"), ..usual() })
    }),
    condition("root, tier `single-id`", "dc", || as_root("single-id")),
    condition("root, tier `chroot`", "dpnc", || as_root("chroot")),
    condition("root of a default container, whose root is an overlay", "nc", || {
        Some(Setting { around: Around::Container, ..as_root("chroot")? })
    }),
    condition("store and context on a tmpfs", "nc", || {
        Some(Setting { below: Some("/dev/shm"), ..usual() })
    }),
    condition("store and context on an overlay", "nc", || {
        Some(Setting { around: Around::Overlay, ..usual() })
    }),
    condition("umask 000", "c", || Some(Setting { first: "umask 000", ..usual() })),
    condition("umask 077", "c", || Some(Setting { first: "umask 077", ..usual() })),
    condition("locale `tr_TR.UTF-8`, time zone `Asia/Kathmandu`", "c", || {
        Some(Setting { first: "export LC_ALL=tr_TR.UTF-8 TZ=Asia/Kathmandu", ..usual() })
    }),
    condition("files of the context made, and listed, in another order", "c", || {
        Some(Setting { below: Some("/dev/shm"), order: Some(Order::Backwards), ..usual() })
    }),
    condition("files of the context with other times, owners and inodes", "c", || {
        Some(Setting { touched: true, ..usual() })
    }),
    condition("another store, another folder", "c", || {
        Some(Setting { names: Some(("st o re", "é/somewhere else")), ..usual() })
    }),
    condition("one core", "c", || {
        let with = "taskset -c $core env RAYON_NUM_THREADS=1";
        Some(Setting { with, ..usual() })
    }),
    condition("eight threads", "c", || {
        Some(Setting { with: "env RAYON_NUM_THREADS=8", ..usual() })
    }),
    condition("another host name", "c", || {
        root("the host's name is changed")?;
        Some(Setting { around: Around::Host, ..usual() })
    }),
    condition("again after `kiln prune --all`", "nc", || {
        Some(Setting { then: Then::Pruned, ..usual() })
    }),
    condition(
        "all at once: user, `single-id`, tmpfs, umask, locale, order, folder, one core",
        "gdpnc",
        || {
            Some(Setting {
                caller: Some(ordinary()?),
                tier: Some("single-id"),
                below: Some("/dev/shm"),
                names: Some(("st o re", "é/somewhere else")),
                first: "umask 077; export LC_ALL=tr_TR.UTF-8 TZ=Asia/Kathmandu",
                with: "taskset -c $core env RAYON_NUM_THREADS=1",
                order: Some(Order::Backwards),
                touched: true,
                ..usual()
            })
        },
    ),
    condition("all at once: overlay, umask, locale, times, owners, threads", "dpnc", || {
        Some(Setting {
            around: Around::Overlay,
            first: "umask 000; export LC_ALL=de_DE.UTF-8 TZ=America/Caracas",
            with: "env RAYON_NUM_THREADS=8",
            touched: true,
            ..usual()
        })
    }),
];

fn usual() -> Setting {
    Setting::default()
}

fn as_root(tier: &'static str) -> Option<Setting> {
    root(&format!("tier {tier} is tried by root"))?;
    Some(Setting { tier: Some(tier), ..usual() })
}

/// `None`, and says so, for anybody but root.
fn root(what: &str) -> Option<()> {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        root_only(what);
    }
    is_root.then_some(())
}

/// Builds a column under each of its conditions, and compares with the first build of all.
#[track_caller]
fn check(letter: char, column: &Column) {
    let mut expected: Option<BTreeMap<String, String>> = None;
    let mut wrong = Vec::new();
    for condition in CONDITIONS.iter().filter(|condition| condition.columns.contains(letter)) {
        let Some(setting) = (condition.setting)() else { continue };
        match setting.build(column) {
            Ok(built) => {
                let first = |(name, all): (&String, &Vec<String>)| (name.clone(), all[0].clone());
                let usual = || built.digests.iter().map(first).collect();
                let expected = expected.get_or_insert_with(usual);
                wrong.extend(differing(condition, &setting, &built, expected));
            }
            Err(why) => wrong.push(format!("{}: {why}", condition.row)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong under a condition, in lines.
fn differing(
    condition: &Condition,
    setting: &Setting,
    built: &Built,
    expected: &BTreeMap<String, String>,
) -> Vec<String> {
    let row = condition.row;
    let mut wrong = Vec::new();
    let signs = setting.tier.map(|tier| format!("sandbox: {tier}\n"));
    let signs = signs.into_iter().chain(setting.around.sign().map(str::to_owned));
    wrong.extend(signs.filter(|sign| !built.said.contains(sign.as_str())).map(|sign| {
        format!("{row}: this was not the case, as `{sign}` is not in: {}", built.said)
    }));
    for (name, digest) in expected {
        let found = built.digests.get(name);
        if found != Some(&vec![digest.clone(); setting.then.builds()]) {
            wrong.push(format!("{row}: {name}: {found:?}, usually {digest}"));
        }
    }
    wrong
}

#[test]
fn build_gives_the_same_everywhere_of_the_corpus() {
    if kiln::env::path("CONTAINERS_REGISTRIES_CONF").is_none() {
        return skip("no registry has the base images; see tests/run");
    }
    check('c', &Column::corpus());
}

#[test]
fn build_gives_the_same_everywhere_of_go() {
    if kiln::env::path("CONTAINERS_REGISTRIES_CONF").is_none() {
        return skip("no registry has the base images; see tests/run");
    }
    check('g', &Column::example("hello-go").unwrap());
}

#[test]
fn build_gives_the_same_everywhere_of_debian() {
    let Some(column) = Column::example("hello-debian") else { return };
    check('d', &column);
}

#[test]
fn build_gives_the_same_everywhere_of_python() {
    let Some(column) = Column::example("hello-python") else { return };
    check('p', &column);
}

#[test]
fn build_gives_the_same_everywhere_of_node() {
    let Some(column) = Column::example("hello-node") else { return };
    check('n', &column);
}

/// README.md has the conditions that are tried, and no others.
#[test]
fn the_table_of_the_same_digest_is_proved() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = text.split("\n## The same digest, everywhere\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let found: Vec<&str> = section.lines().filter(|line| line.starts_with('|')).collect();
    let line = |cells: &[&str]| format!("| {} |", cells.join(" | "));
    let names: Vec<&str> =
        std::iter::once("condition").chain(COLUMNS.iter().map(|c| c.0)).collect();
    let mut expected = vec![line(&names), format!("|{}", "---|".repeat(names.len()))];
    for Condition { row, columns, .. } in CONDITIONS {
        let marks =
            COLUMNS.iter().map(|(_, letter)| if columns.contains(*letter) { "✓" } else { "–" });
        expected.push(line(&std::iter::once(*row).chain(marks).collect::<Vec<_>>()));
    }
    assert_eq!(found, expected, "\n{}", expected.join("\n"));
}
