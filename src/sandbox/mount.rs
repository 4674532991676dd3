//! What the process sees: its root and the kernel's file systems. The mounts it was
//! given are `given.rs`'s.
//!
//! Everything is put together by descriptors (fsopen(2), open_tree(2),
//! move_mount(2)) and attached to places found inside the root; no path of a
//! stranger is joined to one of the host. All mounts are `nodev` but the six
//! devices themselves, so a device node that real root may make opens nothing.
#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, XattrFlags, fstat, lsetxattr, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree, unmount,
};
use serde::{Deserialize, Serialize};

use super::message::{Doing as _, Failure};
use super::spec::Root;
use super::target::{Kind, Places, find};

/// Begins the error texts that have advice.
pub(super) const OVERLAY: &str = "mount the overlay";
pub(super) const PROC: &str = "mount /proc";

const NO_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Bytes of `/dev/shm`, as container engines have it.
const SHM: u64 = 64 << 20;

/// Hidden, as container engines do: what tells about or reaches the machine.
pub(super) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Settings of the kernel: readable only.
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The root as a mount that is attached nowhere yet.
pub(super) fn overlay(root: &Root, user_xattr: bool, volatile: bool) -> Result<OwnedFd, Failure> {
    let Root::Overlay { lowers, upper, work } = root;
    let open = |path: &Path| {
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("open {}", path.display()))
    };
    let lowers = lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let upper_fd = open(upper)?;
    let what = || format!("{OVERLAY} on {}", upper.display());
    if lowers.is_empty() {
        // An image from scratch: nothing is hidden or copied up.
        let root = copy_of(&upper_fd, Path::new("")).doing(what)?;
        restrict(&root, MountAttrFlags::MOUNT_ATTR_NODEV).doing(what)?;
        return Ok(root);
    }
    let work_fd = open(work)?;
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing(what)?;
    let set = |key: &str, value: &str| fsconfig_set_string(&fs, key, value);
    for (at, lower) in lowers.iter().enumerate() {
        match set("lowerdir+", &name(lower)) {
            Ok(()) => {}
            Err(Errno::INVAL) if at == 0 => {
                return overlay_by_options(
                    &lowers, upper, &upper_fd, &work_fd, user_xattr, volatile,
                )
                .map_err(|error| Failure::new(what(), &error));
            }
            Err(error) => return Err(Failure::new(what(), &error.into())),
        }
    }
    set("upperdir", &name(&upper_fd)).doing(what)?;
    set("workdir", &name(&work_fd)).doing(what)?;
    if user_xattr {
        fsconfig_set_flag(&fs, "userxattr").doing(what)?;
    }
    if volatile {
        fsconfig_set_flag(&fs, "volatile").doing(what)?;
    }
    fsconfig_create(&fs).doing(what)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV).doing(what)
}

/// Mounts an overlay on `lower`, `upper` and `work` of a folder, and makes the marks
/// there that trees need.
pub(super) fn try_overlay(folder: &Path, user_xattr: bool) -> Result<(), Failure> {
    let upper = folder.join("upper");
    let root = Root::Overlay {
        lowers: vec![folder.join("lower")],
        upper: upper.clone(),
        work: folder.join("work"),
    };
    drop(overlay(&root, user_xattr, true)?);
    let what = |mark: &str| format!("make overlayfs's mark of {mark} on {}", folder.display());
    mknodat(CWD, upper.join("gone"), FileType::CharacterDevice, Mode::empty(), 0)
        .doing(|| what("what is gone"))?;
    let key = if user_xattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    lsetxattr(&upper, key, b"y", XattrFlags::empty()).doing(|| what("an opaque folder"))
}

/// A descriptor as a path: short whatever the path is, free of characters that
/// mean something to overlayfs, and silent about the host in `/proc/mounts`.
fn name(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// For kernels before 6.5, which know no `lowerdir+`: one page of options.
fn overlay_by_options(
    lowers: &[OwnedFd],
    at: &Path,
    upper: &OwnedFd,
    work: &OwnedFd,
    user_xattr: bool,
    volatile: bool,
) -> io::Result<OwnedFd> {
    let lowers: Vec<String> = lowers.iter().map(name).collect();
    let mut options =
        format!("lowerdir={},upperdir={},workdir={}", lowers.join(":"), name(upper), name(work));
    options.push_str(if user_xattr { ",userxattr" } else { "" });
    options.push_str(if volatile { ",volatile" } else { "" });
    let options = CString::new(options)?;
    rustix::mount::mount("overlay", at, "overlay", MountFlags::NODEV, options.as_c_str())?;
    let tree =
        open_tree(CWD, at, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    unmount(at, UnmountFlags::DETACH)?;
    Ok(tree?)
}

/// Which `/proc` the machine grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Proc {
    /// That of the process's own namespace.
    Own,
    /// The same without anything but processes.
    Processes,
    /// That of the container around, with its masks and the numbers of its processes.
    Outer,
}

impl Proc {
    /// What is different.
    pub(super) fn note(self) -> Option<&'static str> {
        match self {
            Self::Own => None,
            Self::Processes => {
                Some("/proc: processes only, since parts of it are masked in the container around")
            }
            Self::Outer => Some(
                "/proc: that of the container around, since parts of it are masked there; it has \
                 other numbers for a step's processes than they have for themselves",
            ),
        }
    }
}

/// Attaches a mount to a place.
pub(super) fn attach(mount: &OwnedFd, place: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// A copy of what is mounted at a path, with all below it.
pub(super) fn copy_of(from: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(from, path, flags)
}

/// What is at a path, by a mount of its own that cannot be written through.
pub(super) fn read_only_copy(path: &Path) -> Result<OwnedFd, Failure> {
    let what = || format!("mount {} read-only", path.display());
    let copy = copy_of(CWD, path).doing(what)?;
    restrict(&copy, MountAttrFlags::MOUNT_ATTR_RDONLY).doing(what)?;
    Ok(copy)
}

/// Lets device nodes on a mount be opened.
pub(super) fn allow_devices(mount: &OwnedFd) -> io::Result<()> {
    change(mount, MountAttrFlags::empty(), MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// Adds attributes to a mount and all below it.
pub(super) fn restrict(mount: &OwnedFd, attributes: MountAttrFlags) -> io::Result<()> {
    change(mount, attributes, MountAttrFlags::empty())
}

fn change(mount: &OwnedFd, set: MountAttrFlags, clear: MountAttrFlags) -> io::Result<()> {
    /// `struct mount_attr` of mount_setattr(2).
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user: u64,
    }
    let (set, clear) = (u64::from(set.bits()), u64::from(clear.bits()));
    let attributes = Attributes { set, clear, propagation: 0, user: 0 };
    // SAFETY: the path is empty and ends in NUL, the struct and its size are the call's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A new file system, not attached.
pub(super) fn fresh(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&fs, *key, *value)?;
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// `/proc` of the pid namespace this process is the first of.
pub(super) fn proc(places: &mut Places<'_>) -> Result<(), Failure> {
    let place = places.stub(Path::new("/proc"), Kind::Folder)?;
    let (proc, _) = any_proc().doing(|| PROC.to_owned())?;
    attach(&proc, &place).doing(|| PROC.to_owned())
}

/// The best `/proc` there is. The kernel gives a whole one only to who sees a whole
/// one, which a container with masked parts of it does not.
pub(super) fn any_proc() -> io::Result<(OwnedFd, Proc)> {
    match fresh("proc", &[], NO_EXEC) {
        Err(Errno::PERM) => {}
        proc => return Ok((proc?, Proc::Own)),
    }
    if let Ok(proc) = fresh("proc", &[("subset", "pid")], NO_EXEC) {
        return Ok((proc, Proc::Processes));
    }
    let proc = copy_of(CWD, Path::new("/proc"))?;
    restrict(&proc, NO_EXEC)?;
    Ok((proc, Proc::Outer))
}

/// `/sys`: that of the own network namespace, or else a copy of the host's;
/// read-only unless it may be written.
pub(super) fn sys(places: &mut Places<'_>, writable: bool) -> Result<(), Failure> {
    let what = || "mount /sys".to_owned();
    let place = places.stub(Path::new("/sys"), Kind::Folder)?;
    let flags = if writable { NO_EXEC } else { NO_EXEC | MountAttrFlags::MOUNT_ATTR_RDONLY };
    let sys = match fresh("sysfs", &[], flags) {
        Ok(sys) => sys,
        // sysfs shows its network namespace, so that of the host is not for a user
        // namespace to mount; nor is any where the host's is masked, as in a container.
        Err(Errno::PERM) => {
            let sys = copy_of(CWD, Path::new("/sys")).doing(what)?;
            restrict(&sys, flags).doing(what)?;
            sys
        }
        Err(error) => return Err(Failure::new(what(), &error.into())),
    };
    attach(&sys, &place).doing(what)
}

/// `/dev`: six devices, a terminal multiplexer of its own, shared memory.
pub(super) fn dev(
    places: &mut Places<'_>,
    many_ids: bool,
    shm: Option<u64>,
) -> Result<(), Failure> {
    let what = |name: &str| format!("mount /dev/{name}");
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let place = places.stub(Path::new("/dev"), Kind::Folder)?;
    let dev = fresh("tmpfs", &[("mode", "0755"), ("size", "65536k")], flags)
        .and_then(|dev| attach(&dev, &place).map(|()| dev))
        .doing(|| what(""))?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let device = match copy_of(CWD, &Path::new("/dev").join(name)) {
            // A container around may have few.
            Err(Errno::NOENT) if name != "null" => continue,
            device => device.doing(|| what(name))?,
        };
        let file = file_in(dev.as_fd(), name, 0o666).doing(|| what(name))?;
        attach(&device, &file).doing(|| what(name))?;
    }
    for (link, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("core", "/proc/kcore"),
    ] {
        symlinkat(to, &dev, link).doing(|| what(link))?;
    }
    let mut pts = vec![("mode", "0620"), ("ptmxmode", "0666")];
    // The group tty of most distributions, which must exist in the namespace.
    pts.extend(many_ids.then_some(("gid", "5")));
    let pts = fresh("devpts", &pts, NO_EXEC.difference(MountAttrFlags::MOUNT_ATTR_NODEV));
    let size = shm.unwrap_or(SHM).to_string();
    let shm = fresh("tmpfs", &[("mode", "1777"), ("size", &size)], NO_EXEC);
    let mut below = vec![("pts", pts), ("shm", shm)];
    match fresh("mqueue", &[], NO_EXEC) {
        // The kernel was built without message queues; then nothing can use them.
        Err(Errno::NODEV) => {}
        queue => below.push(("mqueue", queue)),
    }
    for (name, mount) in below {
        mount
            .and_then(|mount| attach(&mount, &folder_in(dev.as_fd(), name)?))
            .doing(|| what(name))?;
    }
    Ok(())
}

pub(super) fn file_in(
    folder: BorrowedFd<'_>,
    name: &str,
    mode: u32,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::from_raw_mode(mode))
}

fn folder_in(folder: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
    openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Hides and protects what the kernel's file systems show too much of.
pub(super) fn mask(places: &Places<'_>) -> Result<(), Failure> {
    for path in MASKED {
        let what = || format!("hide {path}");
        let Some(place) = existing(places, path)? else { continue };
        let stat = fstat(&place).doing(what)?;
        let cover = if FileType::from_raw_mode(stat.st_mode).is_dir() {
            fresh("tmpfs", &[("mode", "0555")], NO_EXEC | MountAttrFlags::MOUNT_ATTR_RDONLY)
        } else {
            copy_of(CWD, Path::new("/dev/null"))
        };
        cover.and_then(|cover| attach(&cover, &place)).doing(what)?;
    }
    for path in READ_ONLY {
        let what = || format!("make {path} read-only");
        let Some(place) = existing(places, path)? else { continue };
        let tree = copy_of(&place, Path::new("")).doing(what)?;
        restrict(&tree, MountAttrFlags::MOUNT_ATTR_RDONLY).doing(what)?;
        attach(&tree, &place).doing(what)?;
    }
    Ok(())
}

fn existing(places: &Places<'_>, path: &str) -> Result<Option<OwnedFd>, Failure> {
    match find(places.root(), Path::new(path)) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Failure::new(format!("look for {path}"), &error.into())),
    }
}
