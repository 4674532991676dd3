//! What is remembered of a context, and what is not: all that may happen to a folder
//! between two builds, and within one.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::context::Context;
use super::super::counters::Counters;
use super::super::memory;
use super::StepError;
use super::held::{packed, selection};
use crate::digest::Digest;
use crate::dockerfile::Ignore;
use crate::layer::{Kind, Located, Name};
use crate::plan::{CopyFrom, CopyHints, CopyOp, CopySource};
use crate::sandbox::Cancel;
use crate::store::Store;

/// Long enough after whatever a test has just done to be sure of it.
fn later() -> i64 {
    memory::now() + 100
}

fn earlier() -> i64 {
    memory::now() - 100_000
}

fn copy(path: &str) -> CopyOp {
    CopyOp {
        from: CopyFrom::Context,
        sources: vec![CopySource { path: path.to_owned(), below: None }],
        repositories: Vec::new(),
        remotes: Vec::new(),
        contents: Vec::new(),
        destination: "/to".to_owned(),
        excludes: Vec::new(),
        owner: None,
        mode: None,
        unpack: false,
        link: false,
        hints: CopyHints::default(),
    }
}

/// A folder with a store beside it.
struct Ground {
    home: tempfile::TempDir,
    store: Store,
    root: PathBuf,
}

/// What a build learned of its copy, and what it did for it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    digest: Digest,
    /// It was answered from memory.
    at_once: bool,
    files_hashed: u64,
}

impl Ground {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        let root = home.path().join("context");
        fs::create_dir_all(root.join("dir/empty")).unwrap();
        for (name, content) in
            [("a", "one"), ("b", "two"), ("dir/c", "one"), ("dir.d", "four"), ("big", "x")]
        {
            fs::write(root.join(name), content).unwrap();
        }
        fs::write(root.join("big"), b"x".repeat(100_000)).unwrap();
        fs::hard_link(root.join("a"), root.join("hard")).unwrap();
        symlink("a", root.join("link")).unwrap();
        Self { home, store, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// As the next build would do it.
    fn build(
        &self,
        ignore: &str,
        op: &CopyOp,
        clock: fn() -> i64,
        meanwhile: impl Fn(&Path),
    ) -> Told {
        let counters = Arc::new(Counters::default());
        let ignore = Ignore::parse(ignore).unwrap();
        let context = Context::new(self.root.clone(), ignore).remembered(&self.store).by(clock);
        let context = context.counted(&counters);
        context.seen().unwrap();
        meanwhile(&self.root);
        let (digest, chosen) = selection(&context, op, &Cancel::new()).unwrap();
        context.remember(&self.store).unwrap();
        let files_hashed = counters.totals()[0].1;
        Told { digest, at_once: chosen.is_none(), files_hashed }
    }

    fn later(&self, op: &CopyOp) -> Told {
        self.build("", op, later, |_| ())
    }

    /// What a build that remembers nothing makes of it.
    fn truth(&self, ignore: &str, op: &CopyOp) -> Digest {
        let context = Context::new(self.root.clone(), Ignore::parse(ignore).unwrap());
        selection(&context, op, &Cancel::new()).unwrap().0
    }

    fn records(&self, area: &str) -> Vec<PathBuf> {
        let folder = self.home.path().join("store/records").join(area);
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }
}

/// Writes other content of the same length, and gives the file its old time.
fn forge(path: &Path) {
    let time = path.metadata().unwrap().modified().unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(b"!", 0).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn cold_warm_and_changed() {
    let ground = Ground::new();
    let all = copy(".");
    let cold = ground.later(&all);
    // A file under two names is read once.
    assert_eq!((cold.at_once, cold.files_hashed), (false, 5));
    assert_eq!(cold.digest, ground.truth("", &all));
    let warm = ground.later(&all);
    assert_eq!(warm, Told { at_once: true, files_hashed: 0, ..cold });
    // Another question about the same files reads none of them.
    let part = ground.later(&copy("dir"));
    assert_eq!((part.at_once, part.files_hashed), (false, 0));
    assert_eq!(
        (part.digest, ground.later(&copy("dir")).at_once),
        (ground.truth("", &copy("dir")), true)
    );
    // Nobody can read it any more, and nobody has to.
    let mode = |mode| fs::set_permissions(ground.path("b"), fs::Permissions::from_mode(mode));
    mode(0o644).unwrap();
    assert_eq!(ground.later(&all).files_hashed, 1, "its time of change is another");
    assert!(ground.later(&all).at_once);
    forge(&ground.path("b"));
    let changed = ground.later(&all);
    assert_eq!((changed.at_once, changed.files_hashed), (false, 1));
    assert_eq!(changed.digest, ground.truth("", &all));
    assert!(changed.digest != cold.digest);
}

#[test]
fn nothing_that_changed_goes_unseen() {
    type Change = fn(&Path);
    let changes: &[(&str, u64, Change)] = &[
        ("a forged time", 1, |root| forge(&root.join("b"))),
        ("another file of that size, time and name", 1, |root| {
            let time = root.join("b").metadata().unwrap().modified().unwrap();
            fs::write(root.join("new"), "TWO").unwrap();
            File::open(root.join("new")).unwrap().set_modified(time).unwrap();
            fs::rename(root.join("new"), root.join("b")).unwrap();
        }),
        ("two files of one size that change places", 2, |root| {
            fs::rename(root.join("b"), root.join("x")).unwrap();
            fs::rename(root.join("dir/c"), root.join("b")).unwrap();
            fs::rename(root.join("x"), root.join("dir/c")).unwrap();
        }),
        ("another mode", 1, |root| {
            fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("another mode of a folder", 0, |root| {
            fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("another target", 0, |root| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("b", root.join("link")).unwrap();
        }),
        ("a new file", 1, |root| fs::write(root.join("dir/new"), "").unwrap()),
        ("a new folder", 0, |root| fs::create_dir(root.join("dir/empty/new")).unwrap()),
        ("a file less", 0, |root| fs::remove_file(root.join("b")).unwrap()),
        ("another name", 1, |root| fs::rename(root.join("b"), root.join("b2")).unwrap()),
        ("a folder of another name", 0, |root| {
            fs::rename(root.join("dir/empty"), root.join("dir/full")).unwrap();
        }),
        ("one more name", 1, |root| {
            fs::hard_link(root.join("a"), root.join("dir/a")).unwrap();
        }),
        ("a name of a file becomes a file", 2, |root| {
            fs::remove_file(root.join("hard")).unwrap();
            fs::write(root.join("hard"), "one").unwrap();
        }),
        ("a file becomes a folder", 0, |root| {
            fs::remove_file(root.join("b")).unwrap();
            fs::create_dir(root.join("b")).unwrap();
        }),
        ("a folder becomes a link to it", 1, |root| {
            fs::rename(root.join("dir"), root.join("moved")).unwrap();
            symlink("moved", root.join("dir")).unwrap();
        }),
    ];
    for (what, hashed, change) in changes {
        let ground = Ground::new();
        let all = copy(".");
        let before = ground.later(&all);
        assert!(ground.later(&all).at_once, "{what}");
        change(&ground.root);
        let after = ground.later(&all);
        assert_eq!((after.at_once, after.files_hashed), (false, *hashed), "{what}");
        assert_eq!(after.digest, ground.truth("", &all), "{what}");
        assert!(after.digest != before.digest, "{what}");
    }
}

#[test]
fn other_questions_have_other_answers() {
    let ground = Ground::new();
    let all = copy(".");
    ground.later(&all);
    let without = CopyOp { excludes: vec!["b".to_owned()], ..copy(".") };
    let parents = |below: &str| {
        let below = Some(below.to_owned());
        CopyOp { sources: vec![CopySource { path: ".".to_owned(), below }], ..copy(".") }
    };
    let twice = CopyOp { sources: [copy("a").sources, copy("b").sources].concat(), ..copy(".") };
    let unpacked = CopyOp { unpack: true, ..copy("a") };
    let mut digests = vec![ground.truth("", &all)];
    for op in [copy("a"), copy("b"), without, parents("a"), parents("dir/c"), twice, copy("di*")] {
        for at_once in [false, true] {
            let told = ground.later(&op);
            assert_eq!((told.at_once, told.digest), (at_once, ground.truth("", &op)), "{op:?}");
        }
        digests.push(ground.truth("", &op));
    }
    // It asks something else, though the answer is the same.
    assert!(!ground.later(&unpacked).at_once);
    for ignore in ["dir.d", "dir", "dir\n!dir/c"] {
        for at_once in [false, true] {
            let told = ground.build(ignore, &all, later, |_| ());
            assert_eq!((told.at_once, told.digest), (at_once, ground.truth(ignore, &all)));
        }
        digests.push(ground.truth(ignore, &all));
    }
    assert!(ground.later(&all).at_once, "the first one still holds");
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
    // What other parts of the instruction say is no part of it.
    assert!(
        ground
            .later(&CopyOp { destination: "/other".into(), owner: Some("1".into()), ..all })
            .at_once
    );
}

#[test]
fn what_may_still_change_unseen_is_read_again() {
    let ground = Ground::new();
    let all = copy(".");
    let fresh = || ground.build("", &all, memory::now, |_| ());
    for _ in 0..2 {
        let told = fresh();
        assert_eq!((told.at_once, told.files_hashed), (false, 5));
    }
    assert!(ground.records("context-answers").is_empty());
    // What is remembered is not enough if the clock says that it may have changed since.
    assert_eq!(ground.later(&all).files_hashed, 5);
    assert_eq!(fresh().files_hashed, 5);
    assert_eq!(ground.build("", &all, earlier, |_| ()).files_hashed, 5, "the clock was set back");
    // One fresh file alone is read.
    let old = filetime(&ground.path("b"));
    assert!(old < later());
    assert!(ground.later(&all).at_once);
}

fn filetime(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().unwrap().ctime()
}

#[test]
fn what_changes_while_it_is_built_is_not_remembered() {
    let ground = Ground::new();
    let all = copy(".");
    let told = ground.build("", &all, later, |root| forge(&root.join("b")));
    assert_eq!(told.files_hashed, 5);
    let next = ground.later(&all);
    assert_eq!((next.at_once, next.files_hashed), (false, 1));
    assert_eq!((next.digest, ground.later(&all).at_once), (ground.truth("", &all), true));
}

#[test]
fn damaged_memory_is_none() {
    for area in ["context", "context-answers"] {
        let ground = Ground::new();
        let all = copy(".");
        let truth = ground.later(&all);
        let record = ground.records(area).pop().unwrap();
        let whole = fs::read(&record).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            for content in [&damaged, &whole[..at]] {
                fs::write(&record, content).unwrap();
                for other in
                    ground.records("context-answers").iter().filter(|path| **path != record)
                {
                    fs::remove_file(other).unwrap();
                }
                let told = ground.later(&all);
                let hashed = if area == "context" { 5 } else { 0 };
                assert_eq!((told.digest, told.at_once), (truth.digest, false), "{area} {at}");
                assert_eq!(told.files_hashed, hashed, "{area} {at}");
            }
        }
    }
}

/// Files of a folder that differ as little as can be from what was hashed of them.
#[test]
fn what_is_packed_is_what_was_hashed() {
    type Change = fn(&Path);
    let changes: &[(&str, bool, Change)] = &[
        ("nothing", true, |_| ()),
        ("its time", true, |path| {
            File::open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("the same content anew", true, |path| {
            let content = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            fs::write(path, content).unwrap();
        }),
        ("its content", false, forge),
        ("a byte more", true, |path| {
            let length = path.metadata().unwrap().len();
            File::options().write(true).open(path).unwrap().write_all_at(b"x", length).unwrap();
        }),
        ("a byte less", false, |path| {
            let length = path.metadata().unwrap().len();
            File::options().write(true).open(path).unwrap().set_len(length - 1).unwrap();
        }),
        ("it grows large", true, |path| {
            File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap();
        }),
    ];
    for (what, good, change) in changes {
        for (file, clock) in
            [("b", later as fn() -> i64), ("b", memory::now), ("big", later), ("big", memory::now)]
        {
            let ground = Ground::new();
            let context = Context::new(ground.root.clone(), Ignore::default()).by(clock);
            selection(&context, &copy("."), &Cancel::new()).unwrap();
            let node = context.seen().unwrap().get(&Name::clean(file.as_bytes()).unwrap()).unwrap();
            let Kind::File { size } = node.entry.kind else { panic!("{file}") };
            let before = fs::read(ground.path(file)).unwrap();
            change(&ground.path(file));
            let mut content = Vec::new();
            let result = packed(&context, node.content, size, &mut Vec::new(), |from| {
                let count = from.take(size).read_to_end(&mut content)?;
                if count as u64 == size { Ok(()) } else { Err(std::io::Error::other("short")) }
            });
            match result {
                Ok(()) => {
                    assert!(*good && content == before, "{what}")
                }
                Err(StepError::Changed { name }) => {
                    assert!(!good && name.display() == file, "{what}: {file}");
                }
                Err(other) => panic!("{what}: {other}"),
            }
        }
    }
}

/// A link in the place of a folder or file leads nowhere, when it is there from the
/// beginning or comes later.
#[test]
fn no_link_leads_out() {
    let ground = Ground::new();
    fs::create_dir(ground.home.path().join("secret")).unwrap();
    fs::write(ground.home.path().join("secret/c"), "host").unwrap();
    let context = Context::new(ground.root.clone(), Ignore::default());
    let at = |name: &str| -> Located {
        let seen = context.seen().unwrap();
        seen.get(&Name::clean(name.as_bytes()).unwrap()).unwrap().content
    };
    let (inside, file) = (at("dir/c"), at("b"));
    fs::rename(ground.path("dir"), ground.path("moved")).unwrap();
    symlink("../secret", ground.path("dir")).unwrap();
    fs::remove_file(ground.path("b")).unwrap();
    symlink("../secret/c", ground.path("b")).unwrap();
    for at in [inside, file] {
        assert!(context.open(at).is_err());
        assert!(context.hashed(at, &|| false).is_err());
    }
    fs::remove_file(ground.path("b")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, ground.path("b"), 0o600.into()).unwrap();
    let error = context.hashed(file, &|| false).unwrap_err().to_string();
    assert!(error.contains("no regular file"), "{error}");
}
