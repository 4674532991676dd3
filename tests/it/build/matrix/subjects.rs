//! What is built: the examples of `testdata`, twenty cases of the parity corpus, and a
//! Dockerfile with something of everything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build::bench::{Bench, callers};
use crate::parity::case;
use crate::support::kiln::data;
use crate::support::skip;

/// One of each area: special files, attributes, links, owners, archives, wildcards, ignore
/// files, heredocs, triggers, mounts, an index of two platforms, whiteouts, names, stages.
const CASES: &[&str] = &[
    "add/wildcard-archives",
    "from-stage/hardlink-in-lower",
    "heredoc/several",
    "ignore/double-star",
    "links/run-replaces-link-folder",
    "mounts/bind-rw",
    "multistage/diamond",
    "names/not-utf8-run",
    "onbuild/chain",
    "owners/run-changes-owner",
    "platforms/two-busybox",
    "run/many-files",
    "run/nested-opaque",
    "special/big",
    "special/capability",
    "special/fifo-run",
    "special/hardlinks-context",
    "special/set-bits-run",
    "special/sparse",
    "wildcard/all",
];

const EVERYTHING: &str = "\
FROM busybox AS made
COPY many /many
RUN mkdir -p /o/a /o/b && echo x >/o/f && ln /o/f /o/h && ln -s f /o/s && chmod 1777 /o/b && \
    chown -R 0:0 /o && date >/o/a/never-mind && rm /o/a/never-mind && find /many -name '*7' | sort >/o/list
FROM busybox
RUN rm -r /etc/group && mkdir /etc/group && mknod /pipe p
COPY --from=made /o /o
ADD many.tar /unpacked/
WORKDIR /w/x
RUN touch here; rm -r /unpacked/1*
";

/// The images that the examples stand on, of the image `debian` and Debian's packages.
const BASES: &[(&str, &str, &str)] = &[
    (
        "hello-debian",
        "debian:bookworm-slim",
        "FROM debian\nCOPY --from=debs Packages hello_* /debs/\n\
         RUN echo 'deb [trusted=yes] file:/debs ./' >/etc/apt/sources.list\n",
    ),
    (
        "hello-python",
        "python:3.11-slim",
        "FROM debian\nRUN --mount=from=debs,target=/debs \
         echo 'deb [trusted=yes] file:/debs ./' >/etc/apt/sources.list && apt-get update && \
         apt-get install --yes --no-install-recommends python3-pip && \
         ln -s python3 /usr/bin/python && rm /usr/lib/python3*/EXTERNALLY-MANAGED\n",
    ),
    (
        "hello-node",
        "node:18-slim",
        "FROM debian\nRUN --mount=from=debs,target=/debs \
         echo 'deb [trusted=yes] file:/debs ./' >/etc/apt/sources.list && apt-get update && \
         apt-get install --yes --no-install-recommends nodejs\n",
    ),
];

/// A column of the table: what is built together, in one store.
pub(super) struct Column {
    /// With a folder for each subject, as their builds find them.
    home: tempfile::TempDir,
    pub(super) subjects: Vec<Subject>,
    /// An archive of images that are loaded first.
    pub(super) base: Option<PathBuf>,
}

pub(super) struct Subject {
    pub(super) name: String,
    /// Where the build runs, with the folder `context`.
    folder: PathBuf,
    /// Arguments of `kiln build`, of which the last is `context`.
    pub(super) args: Vec<String>,
}

impl Column {
    fn empty() -> Self {
        let home = tempfile::Builder::new().prefix("kiln-matrix-").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { home, subjects: Vec::new(), base: None }
    }

    /// A folder of `testdata`; `None` if there is nothing that it could stand on.
    pub(super) fn example(name: &str) -> Option<Self> {
        let mut column = Self::empty();
        if let Some((_, image, text)) = BASES.iter().find(|(example, ..)| *example == name) {
            column.base = Some(base(column.home.path(), image, text)?);
        }
        let folder = column.folder(name);
        copy(&data().join(name), &folder.join("context"), Order::Forwards);
        column.subjects.push(Subject { name: name.into(), folder, args: vec!["context".into()] });
        Some(column)
    }

    pub(super) fn corpus() -> Self {
        let mut column = Self::empty();
        let folder = column.folder("everything");
        everything(&folder.join("context"));
        let args = vec!["context".into()];
        column.subjects.push(Subject { name: "everything".into(), folder, args });
        let all = case::all();
        for name in CASES {
            let case = all.iter().find(|case| case.name == *name);
            let fresh = case.unwrap_or_else(|| panic!("no case {name}")).fresh();
            let folder = column.folder(&name.replace('/', "-"));
            copy(&fresh.folder(), &folder, Order::Forwards);
            let flags = fresh.flags.iter().map(|(flag, value)| match value {
                Some(value) => format!("{flag}={value}"),
                None => flag.clone(),
            });
            let mut args = vec!["-f".to_owned(), fresh.file.clone()];
            args.extend(flags);
            args.push("context".into());
            column.subjects.push(Subject { name: (*name).into(), folder, args });
        }
        column
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }
}

impl Subject {
    pub(super) fn place(&self, to: &Path, order: Order) {
        copy(&self.folder, to, order);
    }
}

/// Something of everything: many files, and enough of one for several blocks to be
/// compressed at once.
fn everything(context: &Path) {
    let many = context.join("many");
    fs::create_dir_all(&many).unwrap();
    for number in 0..200 {
        fs::write(many.join(number.to_string()), format!("{number}").repeat(50)).unwrap();
    }
    let large: String = (0..1_000_000_u64).map(|n| format!("{}\n", n * n % 10_007)).collect();
    fs::write(many.join("large"), large).unwrap();
    fs::write(context.join("Dockerfile"), EVERYTHING).unwrap();
    let done = Command::new("tar")
        .current_dir(&many)
        .args(["--sort=name", "--mtime=@1234567", "--owner=0", "--group=0"])
        .args(["-cf", "../many.tar", "."])
        .status();
    assert!(done.unwrap().success());
}

/// Makes an image, and gives an archive of it.
fn base(home: &Path, image: &str, text: &str) -> Option<PathBuf> {
    let given = |name: &str| {
        let path = kiln::env::path(name);
        if path.is_none() {
            skip(&format!("{image} cannot be made: {name} is not set; see tests/run"));
        }
        path
    };
    let (images, debs) = (given("KILN_TEST_IMAGES")?, given("KILN_TEST_DEBS")?);
    let bench = Bench::new(callers()[0]);
    let debian =
        format!("--build-context=debian=oci-layout://{}:latest", images.join("debian").display());
    let debs = format!("--build-context=debs={}", debs.display());
    bench.build(text, &format!("{debian} {debs} -t {image}")).success();
    bench.run(&mut bench.call(["save", "-o", "base.tar", image])).success();
    let archive = home.join("base.tar");
    fs::copy(bench.path("base.tar"), &archive).unwrap();
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).unwrap();
    Some(archive)
}

/// In which order files are made, in which some filesystems list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Forwards,
    Backwards,
}

/// Copies a folder with its modes, times, links and attributes.
fn copy(from: &Path, to: &Path, order: Order) {
    fs::create_dir_all(to).unwrap();
    let walk = walkdir::WalkDir::new(from).sort_by_file_name().into_iter();
    let names = walk.map(|entry| entry.unwrap().into_path());
    let mut names: Vec<PathBuf> =
        names.map(|path| Path::new(".").join(path.strip_prefix(from).unwrap())).collect();
    if order == Order::Backwards {
        names.reverse();
    }
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [name.as_os_str().as_encoded_bytes(), b"\0"].concat())
        .collect();
    let names = to.with_extension("names");
    fs::write(&names, list).unwrap();
    let mut packer = Command::new("tar")
        .args(["--create", "--xattrs", "--directory"])
        .arg(from)
        .args(["--no-recursion", "--null", "--files-from"])
        .arg(&names)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let unpacked = Command::new("tar")
        .args(["--extract", "--xattrs", "--preserve-permissions", "--no-same-owner", "--directory"])
        .arg(to)
        .stdin(packer.stdout.take().unwrap())
        .status();
    assert!(unpacked.unwrap().success() && packer.wait().unwrap().success(), "{from:?}");
    fs::remove_file(names).unwrap();
}
