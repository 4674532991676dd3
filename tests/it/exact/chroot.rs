//! What real root makes of an experiment in a chroot: no line of kiln takes part.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use super::clock::Started;
use super::compare::{self, Files};
use super::experiment::Experiment;
use super::shared::Shared;
use crate::parity::tree::{File, hex, short, shown};

/// Runs one step; the script says what it is given.
const STEP: &str = include_str!("step.sh");

/// The tree of a base image, with what the steps made of it.
#[expect(clippy::print_stderr, reason = "how long each takes is of interest")]
pub(super) fn run(shared: &Shared, experiment: &Experiment) -> Files {
    let folder = tempfile::Builder::new().prefix("kiln-exact-root-").tempdir().unwrap();
    let root = folder.path().join("root");
    unpack(&shared.image(), &root);
    let started = Started::now();
    let (mut user, mut workdir) = ("0".to_owned(), "/".to_owned());
    for step in &experiment.steps {
        user = step.user.clone().unwrap_or(user);
        workdir = step.workdir.clone().unwrap_or(workdir);
        let output = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts"])
            .args(["sh", "-euc", STEP, "sh"])
            .args([root.as_path(), &shared.steps(), &shared.debs()])
            .args([&user, &workdir, &step.file])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{} in a chroot: {said}", step.file);
        for made in ["steps", "debs"] {
            fs::remove_dir(root.join(made)).unwrap();
        }
        for made in ["etc/hosts", "etc/resolv.conf"] {
            let path = root.join(made);
            // The mount point, unless a package brought the file.
            if path.metadata().is_ok_and(|meta| meta.len() == 0) {
                fs::remove_file(path).unwrap();
            }
        }
    }
    eprintln!("{}: a chroot: {}", experiment.name, started.told());
    list(&root)
}

/// By tar: the image has one layer, without whiteouts.
fn unpack(image: &Path, root: &Path) {
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(image.join(name)).unwrap()).unwrap()
    };
    let blob = |descriptor: &Value| {
        format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
    };
    let manifest = json(&blob(&json("index.json")["manifests"][0]));
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "the image `debian` has one layer");
    fs::create_dir(root).unwrap();
    let status = Command::new("tar")
        .args(["--extract", "--gzip", "--numeric-owner", "--preserve-permissions"])
        .args(["--xattrs", "--xattrs-include=*", "--file"])
        .arg(image.join(blob(&layers[0])))
        .arg("--directory")
        .arg(root)
        .status();
    assert!(status.unwrap().success());
}

/// By the system calls alone. As in layers, sockets are left out.
fn list(root: &Path) -> Files {
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let meta = entry.metadata().unwrap();
        if !meta.file_type().is_socket() {
            all.insert(name, (entry.path().to_owned(), meta));
        }
    }
    let mut first = HashMap::new();
    let files = all.iter().map(|(name, (path, meta))| {
        let mut file = file(path, meta);
        let first = first.entry(meta.ino()).or_insert(name);
        if *first != name {
            file.fields.insert("linked_to".into(), shown(first).into());
        }
        (shown(name), file)
    });
    files.collect()
}

fn file(path: &Path, meta: &fs::Metadata) -> File {
    let mut fields = Map::new();
    let mut content = None;
    let kind = match meta.file_type() {
        kind if kind.is_dir() => "dir",
        kind if kind.is_symlink() => "symlink",
        kind if kind.is_fifo() => "fifo",
        kind if kind.is_char_device() => "char",
        kind if kind.is_block_device() => "block",
        _ => "file",
    };
    fields.insert("type".into(), kind.into());
    if kind == "symlink" {
        let target = fs::read_link(path).unwrap();
        fields.insert("target".into(), shown(target.as_os_str().as_bytes()).into());
    } else {
        fields.insert("mode".into(), format!("{:04o}", meta.mode() & 0o7777).into());
    }
    if (meta.uid(), meta.gid()) != (0, 0) {
        fields.insert("owner".into(), format!("{}:{}", meta.uid(), meta.gid()).into());
    }
    if kind == "char" || kind == "block" {
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        fields.insert("device".into(), format!("{major}:{minor}").into());
    }
    let xattrs = xattrs(path);
    if !xattrs.is_empty() {
        fields.insert("xattrs".into(), xattrs.into());
    }
    if kind == "file" {
        let bytes = fs::read(path).unwrap();
        if let Some(text) = short(&bytes, compare::TEXT) {
            fields.insert("text".into(), text.into());
        }
        content = Some((hex(&bytes), bytes.len() as u64));
    }
    File { fields, content }
}

fn xattrs(path: &Path) -> Map<String, Value> {
    let mut names: Vec<u8> = Vec::with_capacity(1 << 16);
    rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut names)).unwrap();
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let all = names.map(|name| {
        let name = str::from_utf8(name).unwrap();
        let mut value: Vec<u8> = Vec::with_capacity(1 << 16);
        rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value)).unwrap();
        (name.to_owned(), shown(&value).into())
    });
    all.collect()
}
