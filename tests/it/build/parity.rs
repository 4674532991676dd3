//! The same Dockerfile, built by kiln and by buildah, gives the same tree and the
//! same config. Where it does not, the reason is here.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use super::bench::{Bench, Caller, busybox, dir, tree};
use crate::support::kiln::data;
use crate::support::kiln::tool;
use crate::support::{root_only, skip};
use kiln::image::Image;
use kiln::platform::Platform;

/// Names that differ, each with a word why; `*` at the end is any rest.
type Explained<'a> = &'a [(&'a str, &'a str)];

/// What chroot isolation leaves, whatever is built.
const ALWAYS: Explained<'_> = &[
    ("etc", "mount points for hosts and resolv.conf are left in it"),
    ("etc/hosts", "a mount point of buildah's"),
    ("etc/hostname", "a mount point of buildah's"),
    ("etc/resolv.conf", "a mount point of buildah's"),
    ("run", "made by buildah for its own files"),
    ("run/*", "made by buildah for its own files"),
    ("proc", "a mount point of buildah's"),
    ("sys", "a mount point of buildah's"),
    ("dev", "a mount point of buildah's"),
    ("dev/*", "a mount point of buildah's"),
];

struct Buildah<'a> {
    bench: &'a Bench,
}

impl Buildah<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(self.bench.path("theirs/root"))
            .arg("--runroot")
            .arg(self.bench.path("theirs/run"))
            .args(["--storage-driver", "vfs"])
            .current_dir(self.bench.path("."))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Result<(), String> {
        let output = self.command().args(args).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("buildah {args:?}: {said}")) }
    }
}

fn context(bench: &Bench) {
    bench.file("a", "A\n").file("d/b", "B\n").file("d/sub/c", "C\n").file("with space", "S\n");
    let at = |name: &str| bench.context().join(name);
    fs::create_dir(at("d/empty")).unwrap();
    symlink("sub/c", at("d/link")).unwrap();
    symlink("/nowhere", at("d/sub/dangling")).unwrap();
    for (name, mode) in [("d", 0o755), ("d/sub", 0o750), ("d/empty", 0o700), ("d/b", 0o4711)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for options in [["-cf", "plain.tar"], ["-czf", "gzip.tgz"]] {
        let done = Command::new("tar")
            .current_dir(bench.context())
            .args(["--owner=33", "--group=34", "--sort=name", "--mtime=@1000", "-C", "d"])
            .args([options[0], bench.context().join(options[1]).to_str().unwrap()])
            .args(["b", "link", "sub", "empty"])
            .status();
        assert!(done.unwrap().success());
    }
}

/// Builds a case with both; `None` if buildah cannot work here.
fn both(bench: &Bench, name: &str) -> Option<(Image, Image)> {
    if !rustix::process::geteuid().is_root() {
        root_only("buildah is compared with");
        return None;
    }
    let mut exists = vec![
        dir("exists", 0o711),
        dir("exists/sub", 0o700),
        super::bench::symlink("link", "exists"),
    ];
    (exists[0].0.uid, exists[0].0.gid) = (33, 34);
    bench.base("localhost/base", &[busybox(), exists]);
    context(bench);
    // In testdata/build/parity.
    let file = data().join("build/parity").join(name);
    bench.build(&fs::read_to_string(file).unwrap(), "").success();
    let ours = bench.image();
    let buildah = Buildah { bench };
    if let Err(why) = buildah.run(&["version"]) {
        skip(&format!("buildah cannot run: {why}"));
        return None;
    }
    let from = format!("oci:{}:localhost/base:latest", bench.store_path().display());
    let (root, run) = (bench.path("theirs/root"), bench.path("theirs/run"));
    let to = format!("containers-storage:[vfs@{}+{}]", root.display(), run.display());
    let to = format!("{to}localhost/base:latest");
    tool("skopeo", &["--insecure-policy", "copy", "--quiet", &from, &to]);
    let build = ["bud", "--isolation", "chroot", "--timestamp", "315532800", "--pull-never"];
    buildah.run(&[&build[..], &["-t", "theirs", "-f", "Dockerfile", "context"]].concat()).unwrap();
    buildah.run(&["push", "theirs", "oci-archive:theirs.tar:localhost/theirs:latest"]).unwrap();
    bench.run(&mut bench.call(["load", "-q", "-i", "theirs.tar"])).success();
    let theirs = "localhost/theirs:latest".parse().unwrap();
    Some((ours, bench.store().image_for(&theirs, &Platform::host()).unwrap()))
}

fn covers(explained: Explained<'_>, name: &str) -> bool {
    explained.iter().any(|(known, _)| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => *known == name,
    })
}

#[track_caller]
fn same(name: &str, explained: Explained<'_>) {
    let bench = Bench::new(Caller::Own);
    let Some((ours, theirs)) = both(&bench, name) else { return };
    let store = bench.store();
    let (a, b) = (tree(&store, ours.layers()), tree(&store, theirs.layers()));
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differs = |name: &&&String| a.get(**name) != b.get(**name);
    let (known, new): (Vec<&String>, Vec<&String>) = names
        .iter()
        .filter(differs)
        .partition(|name| covers(ALWAYS, name) || covers(explained, name));
    let show =
        |name: &&String| format!("\n  kiln:    {:?}\n  buildah: {:?}", a.get(*name), b.get(*name));
    assert!(new.is_empty(), "{name}:{}", new.iter().map(show).collect::<String>());
    for (one, why) in explained {
        let used = known.iter().any(|name| covers(&[(one, why)], name));
        assert!(used, "{name}: `{one}` does not differ any more ({why})");
    }
    config(&ours, &theirs);
}

fn config(ours: &Image, theirs: &Image) {
    let text = |image: &Image| -> BTreeMap<String, serde_json::Value> {
        let mut fields: BTreeMap<String, serde_json::Value> =
            serde_json::from_value(serde_json::to_value(&image.config().config).unwrap()).unwrap();
        // buildah signs what it makes.
        if let Some(labels) = fields.get_mut("Labels").and_then(|labels| labels.as_object_mut()) {
            labels.remove("io.buildah.version");
        }
        fields.retain(|_, value| {
            value.as_object().is_none_or(|map| !map.is_empty())
                && value.as_array().is_none_or(|list| !list.is_empty())
        });
        // BuildKit, as kiln, changes a variable in its place; buildah at the end.
        if let Some(env) = fields.get_mut("Env").and_then(|env| env.as_array_mut()) {
            env.sort_by_key(ToString::to_string);
        }
        fields.insert("created".into(), image.config().created.clone().into());
        fields.insert("platform".into(), image.platform().to_string().into());
        fields
    };
    let (mut a, b) = (text(ours), text(theirs));
    // BuildKit, as kiln, says so with every CMD; buildah never does.
    a.remove("ArgsEscaped");
    // The OCI format that buildah writes has no place for SHELL.
    if !b.contains_key("Shell") {
        a.remove("Shell");
    }
    // BuildKit says so of every image; buildah leaves out what is the default.
    if !b.contains_key("WorkingDir") && a.get("WorkingDir") == Some(&"/".into()) {
        a.remove("WorkingDir");
    }
    assert_eq!(a, b);
}

#[test]
fn parity_run() {
    same("run.Dockerfile", &[]);
}

#[test]
fn parity_copy() {
    const BITS: &str =
        "buildah takes set-user-ID bits from files of the context; BuildKit does not";
    let explained = ["all/d/b", "exists/b", "five/b", "four/b", "six/seven/b", "three/b", "two/b"];
    same("copy.Dockerfile", &explained.map(|name| (name, BITS)));
}

#[test]
fn parity_add() {
    same(
        "add.Dockerfile",
        &[("two/b", "buildah takes set-user-ID bits from files of the context")],
    );
}

#[test]
fn parity_stages() {
    same("stages.Dockerfile", &[]);
}

#[test]
fn parity_config() {
    same("config.Dockerfile", &[]);
}

#[test]
fn parity_defaults() {
    same("defaults.Dockerfile", &[]);
}

#[test]
fn parity_scratch() {
    same("scratch.Dockerfile", &[]);
}
