//! A place to build in: a home with a store, a context, and who builds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use kiln::image::{AnyImage, Image, ImageConfig};
use kiln::layer::{
    Entry, Kind, Layer, LayerForm, LayerIndex, LayerWriter, Located, Name, RawBytes, whiteout_of,
};
use kiln::platform::Platform;
use kiln::rootfs::Rootfs;
use kiln::store::Store;

use crate::support::kiln::Output;

/// Who calls kiln.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever runs the tests.
    Own,
    /// An ordinary user, when root runs the tests.
    User { uid: u32, gid: u32 },
}

/// Root and an ordinary user where root runs the tests, else that user alone.
pub(crate) fn callers() -> Vec<Caller> {
    let mut all = vec![Caller::Own];
    all.extend(user());
    all
}

/// An ordinary user, if there is one.
pub(crate) fn ordinary() -> Option<Caller> {
    if rustix::process::geteuid().is_root() { user() } else { Some(Caller::Own) }
}

fn user() -> Option<Caller> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let named = kiln::env::text("KILN_TEST_BUILDER");
    let names = named.map_or_else(|| vec!["kiln-test".into(), "builder".into()], |name| vec![name]);
    let table = fs::read_to_string("/etc/passwd").unwrap();
    let found = names.iter().find_map(|name| {
        let line = table.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(|field| field.parse().unwrap());
        Some(Caller::User { uid: numbers.next()?, gid: numbers.next()? })
    });
    if found.is_none() {
        crate::support::skip(&format!(
            "nothing is built as an ordinary user: there is none named {names:?}"
        ));
    }
    found
}

/// The program where every user can execute it.
pub(super) fn program() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let own = crate::support::kiln::program();
        // Folders above it may be closed to other users.
        let open = own.ancestors().skip(1).all(|folder| {
            folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o005 == 0o005)
        });
        if open {
            return own;
        }
        let folder = tempfile::tempdir().unwrap().keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(&own, folder.join("kiln")).unwrap();
        folder.join("kiln")
    })
}

pub(crate) struct Bench {
    home: tempfile::TempDir,
    pub(crate) caller: Caller,
}

impl Bench {
    pub(crate) fn new(caller: Caller) -> Self {
        Self::new_in(std::env::temp_dir(), caller)
    }

    /// With all of it below another folder than that of temporary files.
    pub(super) fn new_in(folder: impl AsRef<Path>, caller: Caller) -> Self {
        let home = tempfile::Builder::new().prefix("kiln-build-").tempdir_in(folder).unwrap();
        fs::create_dir(home.path().join("context")).unwrap();
        Self { home, caller }
    }

    /// With the image `busybox` in its store.
    pub(crate) fn with_busybox(caller: Caller) -> Self {
        Self::new(caller).busybox()
    }

    fn busybox(self) -> Self {
        self.base("busybox", &[busybox()]);
        self
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.path("context")
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.store_path()).unwrap()
    }

    /// Writes a file of the context, with the folders above it.
    pub(crate) fn file(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> &Self {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    /// Puts an image into the store, made of layers.
    pub(crate) fn base(&self, name: &str, layers: &[Vec<(Entry, Vec<u8>)>]) {
        {
            let store = self.store();
            let layers: Vec<Layer> = layers.iter().map(|layer| written(&store, layer)).collect();
            let mut config = ImageConfig::scratch(&Platform::host());
            config.config.env = vec!["PATH=/bin".into()];
            config.config.cmd = Some(vec!["sh".into()]);
            let image = kiln::image::assemble(config, &layers).unwrap();
            store.keep(&name.parse().unwrap(), &AnyImage::Image(image)).unwrap();
        }
        self.give();
    }

    /// Makes everything the caller's, whom kiln is run as.
    fn give(&self) {
        let Caller::User { uid, gid } = self.caller else { return };
        // Trees and caches hold files of other owners, which they keep.
        let kept = [self.path("store/trees"), self.path("store/caches")];
        let theirs = |path: &Path| {
            let below =
                |kept: &PathBuf| path.strip_prefix(kept).is_ok_and(|p| p.iter().count() > 1);
            kept.iter().any(below)
        };
        let walk = walkdir::WalkDir::new(self.home.path()).into_iter();
        let walk = walk.filter_entry(|entry| !theirs(entry.path()));
        for entry in walk {
            let entry = entry.unwrap();
            if entry.path_is_symlink() {
                std::os::unix::fs::lchown(entry.path(), Some(uid), Some(gid)).unwrap();
            } else {
                chown_keeping_mode(entry.path(), uid, gid);
            }
        }
    }

    /// A call of kiln that is not made yet.
    pub(crate) fn call<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(program());
        command.args(args);
        command
    }

    /// As [`Bench::call`], of any program, without arguments.
    pub(super) fn command(&self, program: &Path) -> Command {
        self.give();
        let mut command = match self.caller {
            Caller::Own => Command::new(program),
            Caller::User { uid, gid } => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={uid}"), format!("--regid={gid}")])
                    .args(["--init-groups", "--"])
                    .arg(program);
                command
            }
        };
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("KILN_STORE", self.store_path())
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, command: &mut Command) -> Output {
        let output = command.output().unwrap();
        Output {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Builds `context` with a Dockerfile and further arguments.
    pub(crate) fn build(&self, dockerfile: &str, more: &str) -> Output {
        fs::write(self.path("Dockerfile"), dockerfile).unwrap();
        let args = "build --progress=plain -f Dockerfile -t out context";
        self.run(&mut self.call(args.split(' ').chain(more.split_whitespace())))
    }

    /// Builds it, which must succeed; gives the digest.
    #[track_caller]
    pub(crate) fn built(&self, dockerfile: &str) -> String {
        self.build(dockerfile, "").success().text().trim().to_owned()
    }

    /// The image that was built last.
    pub(crate) fn image(&self) -> Image {
        self.store().image_for(&"out".parse().unwrap(), &Platform::host()).unwrap()
    }

    /// What the last build's layer holds, sorted, a line each; 0 is the topmost.
    pub(super) fn layer(&self, from_top: usize) -> Vec<String> {
        let image = self.image();
        let layer = image.layers().iter().rev().nth(from_top).unwrap();
        let store = self.store();
        let blob = store.open_blob(&layer.digest).unwrap();
        let tar = kiln::layer::Decompressor::new(std::io::BufReader::new(blob), layer.compression);
        let index = LayerIndex::read(tar.unwrap()).unwrap();
        let mut lines: Vec<String> = index.iter().map(|entry| line(&entry)).collect();
        lines.sort_by(|a, b| a.split(' ').nth(3).cmp(&b.split(' ').nth(3)));
        lines
    }

    /// The merged tree of the image that was built last.
    pub(super) fn tree(&self) -> BTreeMap<String, String> {
        let store = self.store();
        tree(&store, self.image().layers())
    }

    /// A file of the image that was built last, as text.
    #[track_caller]
    pub(super) fn content(&self, path: &str) -> String {
        String::from_utf8(self.bytes(path)).unwrap()
    }

    #[track_caller]
    pub(super) fn bytes(&self, path: &str) -> Vec<u8> {
        let store = self.store();
        let rootfs = Rootfs::open(&store, self.image().layers()).unwrap();
        let bytes = rootfs.read(&store, path, 1 << 20).unwrap();
        bytes.unwrap_or_else(|| panic!("no file {path}"))
    }

    /// Checks that nothing of a build is left behind.
    #[track_caller]
    pub(crate) fn clean(&self) {
        let left: Vec<_> = fs::read_dir(self.path("store/tmp")).unwrap().flatten().collect();
        assert!(left.is_empty(), "left in tmp: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let home = self.home.path().to_str().unwrap();
        assert!(!mounts.contains(home), "mounts are left: {mounts}");
        assert_eq!(self.processes(), Vec::<String>::new());
    }

    /// True if no layer has become a folder.
    pub(super) fn clean_trees(&self) -> bool {
        let kinds = fs::read_dir(self.path("store/trees")).unwrap().flatten();
        kinds.flat_map(|kind| fs::read_dir(kind.path()).unwrap()).next().is_none()
    }

    /// Command lines of processes that work for this bench: its home is in their
    /// environment, which a step gets by an `ENV`.
    pub(super) fn processes(&self) -> Vec<String> {
        let home = self.home.path().as_os_str().as_encoded_bytes();
        let has = |text: &[u8]| text.windows(home.len()).any(|part| part == home);
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            has(&read("environ")).then(|| format!("{pid} {command}"))
        })
        .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Files of mapped owners, and folders closed to their owner.
        if !rustix::process::geteuid().is_root() {
            let _ = Command::new("unshare")
                .args(["--map-auto", "--map-root-user", "rm", "-rf"])
                .arg(self.home.path())
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn chown_keeping_mode(path: &Path, uid: u32, gid: u32) {
    let mode = path.metadata().unwrap().permissions();
    chown(path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

/// A layer of one static busybox with a link for each tool that the tests use.
pub(super) fn busybox() -> Vec<(Entry, Vec<u8>)> {
    let mut all = vec![dir("bin", 0o755), dir("etc", 0o755), dir("tmp", 0o1777)];
    all.push(file(
        "bin/busybox",
        0o755,
        fs::read("/bin/busybox").expect("busybox-static is needed"),
    ));
    let applets = "cat chmod chown cp date dd echo env false find grep head id ln ls mkdir mkfifo \
                   mknod mv ps pwd rm rmdir seq setpriv sh sleep sort stat sync tar test touch true wc";
    for applet in applets.split_whitespace() {
        all.push(symlink(&format!("bin/{applet}"), "busybox"));
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\n";
    all.push(file("etc/passwd", 0o644, passwd));
    all.push(file("etc/group", 0o644, "root:x:0:\nwww:x:34:\nextra:x:60:web\n"));
    all
}

pub(super) fn dir(name: &str, mode: u32) -> (Entry, Vec<u8>) {
    entry(name, Kind::Dir, mode, Vec::new())
}

pub(super) fn file(name: &str, mode: u32, content: impl Into<Vec<u8>>) -> (Entry, Vec<u8>) {
    let content = content.into();
    entry(name, Kind::File { size: content.len() as u64 }, mode, content)
}

pub(super) fn symlink(name: &str, target: &str) -> (Entry, Vec<u8>) {
    entry(name, Kind::Symlink { target: RawBytes(target.into()) }, 0o777, Vec::new())
}

pub(super) fn entry(name: &str, kind: Kind, mode: u32, content: Vec<u8>) -> (Entry, Vec<u8>) {
    let name = Name::clean(name.as_bytes()).unwrap();
    (Entry { kind, mode, ..Entry::dir(name, 1_000_000) }, content)
}

fn written(store: &Store, entries: &[(Entry, Vec<u8>)]) -> Layer {
    let form = LayerForm::default();
    let mut writer = LayerWriter::new(store.writer().unwrap(), form);
    for (entry, content) in entries {
        writer.entry(entry, &mut content.as_slice()).unwrap();
    }
    let (blob, diff_id) = writer.finish().unwrap();
    let (digest, size) = blob.commit(None).unwrap();
    Layer { diff_id, digest, size, compression: form.compression }
}

/// `kind mode uid:gid name`, then what the kind has.
pub(super) fn line(entry: &Entry) -> String {
    let (kind, more) = match &entry.kind {
        Kind::Dir => ("d", String::new()),
        Kind::File { size } if whiteout_of(&entry.name).is_some() => {
            assert_eq!(*size, 0);
            ("w", String::new())
        }
        Kind::File { size } => ("f", format!(" {size}")),
        Kind::Symlink { target } => ("l", format!(" -> {}", String::from(target.clone()))),
        Kind::Hardlink { target } => ("h", format!(" = {}", target.display())),
        Kind::Char { major, minor } => ("c", format!(" {major},{minor}")),
        Kind::Block { major, minor } => ("b", format!(" {major},{minor}")),
        Kind::Fifo => ("p", String::new()),
    };
    let name = String::from(entry.name.clone());
    let name = if name.is_empty() { "." } else { &name };
    format!("{kind} {:o} {}:{} {name}{more}", entry.mode, entry.uid, entry.gid)
}

/// What a stack of layers amounts to: by name, kind, mode, owner, attributes,
/// link target and a digest of the content.
pub(super) fn tree(store: &Store, layers: &[Layer]) -> BTreeMap<String, String> {
    let rootfs = Rootfs::open(store, layers).unwrap();
    let mut wanted: BTreeMap<Located, Vec<String>> = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for node in rootfs.view().below(&Name::root()) {
        let name = String::from(node.entry.name.clone());
        if matches!(node.entry.kind, Kind::File { .. }) {
            wanted.entry(node.content).or_default().push(name.clone());
        }
        let mut text = line(&node.entry);
        for (key, value) in &node.entry.xattrs {
            text.push_str(&format!(" {key}={value:?}"));
        }
        lines.insert(name, text);
    }
    rootfs
        .contents(store, &wanted, |names, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            for name in names {
                let digest = kiln::digest::Digest::of(&bytes).to_string();
                lines.get_mut(name).unwrap().push_str(&format!(" {digest}"));
            }
            Ok(())
        })
        .unwrap();
    lines
}
