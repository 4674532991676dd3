//! What is mounted elsewhere, put into the root for the time of a process: made there,
//! or moved there from where it lies in the store, which is the same file system. What
//! had the name waits beside the root, and comes back with the times of its folder.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmodat, fchmod, fchown,
    fstat, futimens, linkat, makedev, mkdirat, mknodat, open, openat, renameat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::super::message::{Doing as _, Failure, RunRequest};
use super::super::spec::{Mount, MountKind, Root};
use super::super::target::{self, Kind, Places, Stub, find, path_of};
use super::secret::{self, Secret};

/// A root with what is in it for a while.
pub(super) struct Given {
    root: OwnedFd,
    /// Where things wait that had the names.
    aside: PathBuf,
    put: Vec<Put>,
    stubs: Vec<Stub>,
}

/// One thing that was put in.
struct Put {
    folder: OwnedFd,
    name: OsString,
    /// What had the name waits under its number.
    aside: PathBuf,
    /// Where to bring it in the end, if it is not to be removed.
    back: Option<PathBuf>,
    /// The folder's time before and after.
    times: ((i64, i64), (i64, i64)),
}

impl Given {
    pub(super) fn new(run: &RunRequest) -> Result<Self, Failure> {
        let Root::Overlay { upper, work, .. } = &run.spec.root;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(upper, flags, Mode::empty())
            .doing(|| format!("open the root {}", upper.display()))?;
        Ok(Self { root, aside: work.clone(), put: Vec::new(), stubs: Vec::new() })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Puts everything in; gives the working folder.
    pub(super) fn put_in(&mut self, run: &RunRequest) -> Result<OwnedFd, Failure> {
        let root = self.root.try_clone().doing(|| "hold the root".to_owned())?;
        let mut places = Places::new(root.as_fd())?;
        let put = self.put_all(&mut places, run);
        let cwd = put.and_then(|()| places.folder(&Path::new("/").join(&run.spec.cwd)));
        self.stubs = places.stubs();
        cwd
    }

    fn put_all(&mut self, places: &mut Places<'_>, run: &RunRequest) -> Result<(), Failure> {
        for (name, mode) in [("/proc", 0o555), ("/sys", 0o555)] {
            self.put(places, Path::new(name), Kind::Folder, |folder, name| {
                mkdirat(folder, name, Mode::from_raw_mode(mode)).map(|()| None).map_err(Into::into)
            })?;
        }
        self.put(places, Path::new("/dev"), Kind::Folder, |folder, name| {
            dev(folder, name).map(|()| None)
        })?;
        for mount in &run.spec.mounts {
            self.mount(places, mount)?;
        }
        Ok(())
    }

    fn mount(&mut self, places: &mut Places<'_>, mount: &Mount) -> Result<(), Failure> {
        let target = mount.target.as_path();
        match &mount.what {
            MountKind::File { content, mode, owner } => {
                self.put(places, target, Kind::File, |folder, name| {
                    file(folder, name, content, *mode, *owner).map(|()| None)
                })
            }
            MountKind::Secret { content, mode, owner } => {
                let spare = self.aside.join("spare");
                let secret = Secret { content, mode: *mode, owner: *owner };
                let mut failed = None;
                self.put(places, target, Kind::File, |folder, name| {
                    failed = secret::serve(&secret, folder, name, &spare).err();
                    Ok(None)
                })?;
                failed.map_or(Ok(()), Err)
            }
            MountKind::Tmpfs { mode, .. } => {
                self.put(places, target, Kind::Folder, |folder, name| {
                    make_folder(folder, name, *mode).map(|()| None)
                })
            }
            MountKind::Bind { source, .. } => self.bind(places, target, source),
            MountKind::Stack { upper, path, .. } => {
                let what = || format!("find `{}` to mount it", path.display());
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let upper = open(upper, flags, Mode::empty()).doing(what)?;
                let source = find(&upper, path).doing(what)?;
                self.bind(places, target, &path_of(source.as_fd())?)
            }
        }
    }

    /// Moves a folder or file to the target for a while; a socket gets a further name.
    fn bind(
        &mut self,
        places: &mut Places<'_>,
        target: &Path,
        source: &Path,
    ) -> Result<(), Failure> {
        let stat = statat(CWD, source, AtFlags::SYMLINK_NOFOLLOW)
            .doing(|| format!("look at {}", source.display()))?;
        let (kind, move_it) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => (Kind::Folder, true),
            FileType::Socket => (Kind::File, false),
            _ => (Kind::File, true),
        };
        self.put(places, target, kind, |folder, name| {
            if move_it {
                renameat(CWD, source, folder, name)?;
                return Ok(Some(source.to_path_buf()));
            }
            linkat(CWD, source, folder, name, AtFlags::empty())?;
            Ok(None)
        })
    }

    /// Puts one thing in the place of what is at a path.
    fn put(
        &mut self,
        places: &mut Places<'_>,
        target: &Path,
        kind: Kind,
        make: impl FnOnce(&OwnedFd, &OsStr) -> io::Result<Option<PathBuf>>,
    ) -> Result<(), Failure> {
        let what = || format!("put {} into the root", target.display());
        let place = places.stub(target, kind)?;
        let path = path_of(place.as_fd())?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Failure::Job(format!("{} is the root itself", target.display())));
        };
        if path == path_of(self.root.as_fd())? {
            return Err(Failure::Job("a mount on `/` needs a mount namespace".to_owned()));
        }
        // Nothing runs in the root yet that could change the path.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = open(parent, flags, Mode::empty()).doing(what)?;
        let before = folder_time(&folder).doing(what)?;
        let aside = self.aside.join(self.put.len().to_string());
        renameat(&folder, name, CWD, &aside).doing(what)?;
        let made = make(&folder, name);
        let after = folder_time(&folder).doing(what)?;
        let (back, made) = match made {
            Ok(back) => (back, Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Even what was half made is taken out.
        let name = name.to_owned();
        self.put.push(Put { folder, name, aside, back, times: (before, after) });
        made.doing(what)
    }

    /// Takes everything out again, the last first. All of it is tried.
    pub(super) fn take_out(mut self) -> Result<(), Failure> {
        let mut first = Ok(());
        while let Some(put) = self.put.pop() {
            let what = || format!("take {} out of the root", Path::new(&put.name).display());
            let taken = take_out(&put).doing(what);
            first = first.and(taken);
        }
        first.and(target::remove(&self.root, &self.stubs))
    }
}

fn take_out(put: &Put) -> io::Result<()> {
    let Put { folder, name, aside, back, times: (before, after) } = put;
    let now = folder_time(folder)?;
    match back {
        Some(back) => match renameat(folder, name, CWD, back) {
            // The process has removed it.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        },
        None => remove(folder, name)?,
    }
    match renameat(CWD, aside, folder, name) {
        // The process has removed its folder, and it would have gone along.
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(set_folder_time(folder, if now == *after { *before } else { now })?)
}

/// Removes a name with all below it.
fn remove(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = openat(folder, name, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&inner)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(std::os::unix::ffi::OsStringExt::from_vec(name.to_vec()));
        }
    }
    for name in names {
        let name: OsString = name;
        remove(&inner, &name)?;
    }
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between platforms")]
pub(super) fn folder_time(folder: &OwnedFd) -> rustix::io::Result<(i64, i64)> {
    let stat = fstat(folder)?;
    Ok((stat.st_mtime as i64, stat.st_mtime_nsec as i64))
}

pub(super) fn set_folder_time(
    folder: &OwnedFd,
    (seconds, nanoseconds): (i64, i64),
) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    futimens(folder, &times)
}

fn make_folder(folder: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<()> {
    mkdirat(folder, name, Mode::from_raw_mode(0o700))?;
    // The umask has no say.
    Ok(chmodat(folder, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?)
}

fn file(
    folder: &OwnedFd,
    name: &OsStr,
    content: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let private = Mode::from_raw_mode(0o600);
    let mut file = std::fs::File::from(openat(folder, name, flags, private)?);
    file.write_all(content)?;
    fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?)
}

/// `/dev`, with nodes where they can be made and opened. Else `null` is a file, which
/// takes what is written and is empty to who reads first; the others are absent.
fn dev(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    make_folder(folder, name, 0o755)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dev = openat(folder, name, flags, Mode::empty())?;
    let any = Mode::from_raw_mode(0o666);
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        match mknodat(&dev, name, FileType::CharacterDevice, any, makedev(major, minor)) {
            Ok(()) => {}
            Err(Errno::PERM) => continue,
            Err(error) => return Err(error.into()),
        }
        chmodat(&dev, name, any, AtFlags::empty())?;
        // There is no terminal to open.
        let opens =
            name == "tty" || openat(&dev, name, OFlags::RDWR | OFlags::CLOEXEC, any).is_ok();
        if !opens {
            // The file system is mounted without devices.
            unlinkat(&dev, name, AtFlags::empty())?;
        }
    }
    if statat(&dev, "null", AtFlags::SYMLINK_NOFOLLOW).is_err() {
        file(&dev, OsStr::new("null"), b"", 0o666, (0, 0))?;
    }
    for (link, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlinkat(to, &dev, link)?;
    }
    make_folder(&dev, OsStr::new("pts"), 0o755)?;
    make_folder(&dev, OsStr::new("shm"), 0o1777)
}
