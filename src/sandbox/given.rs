//! The mounts that a specification asks for: folders and files of the host, stacks
//! of layers, files whose content was given, folders in memory.

use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, Uid, XattrFlags, fchmod, fchown, fsetxattr, fstat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

use super::message::{Doing as _, Failure, RunRequest};
use super::mount::{attach, copy_of, file_in, fresh, overlay, restrict};
use super::record::{self, Owner};
use super::spec::{Mount, MountKind, Root};
use super::target::{Kind, Places, find};

/// A folder that exists in every root by then, for a moment covered.
const BEHIND: &str = "/dev";

/// Mounts them, in order.
pub(super) fn mounts(places: &mut Places<'_>, run: &RunRequest) -> Result<(), Failure> {
    let mounts = &run.spec.mounts;
    let mut files = files(places, mounts)?.into_iter();
    for mount in mounts {
        let what = || format!("mount {}", mount.target.display());
        let plain = MountAttrFlags::MOUNT_ATTR_NODEV;
        let flags = |read_only: bool| {
            if read_only { plain | MountAttrFlags::MOUNT_ATTR_RDONLY } else { plain }
        };
        let tree = match &mount.what {
            MountKind::Bind { source, read_only } => {
                let what = || format!("mount {} on {}", source.display(), mount.target.display());
                let tree = copy_of(CWD, source).doing(what)?;
                restrict(&tree, flags(*read_only)).doing(what)?;
                tree
            }
            MountKind::Stack { lowers, upper, work, path, read_only, keep } => {
                let (lowers, upper, work) = (lowers.clone(), upper.clone(), work.clone());
                let root = Root::Overlay { lowers, upper, work };
                let whole = overlay(&root, run.user_xattr, run.volatile && !keep)?;
                let what = || format!("find `{}` to mount it", path.display());
                let tree = parts(places, &whole, std::slice::from_ref(path)).doing(what)?.remove(0);
                restrict(&tree, flags(*read_only)).doing(what)?;
                tree
            }
            MountKind::File { .. } | MountKind::Secret { .. } => {
                files.next().ok_or_else(|| Failure::new(what(), &io::ErrorKind::NotFound.into()))?
            }
            MountKind::Tmpfs { size, mode, read_only } => {
                let (mode, size) = (format!("{:o}", mode & 0o7777), size.map(|s| s.to_string()));
                let mut options = vec![("mode", mode.as_str())];
                options.extend(size.as_deref().map(|size| ("size", size)));
                let flags = flags(*read_only) | MountAttrFlags::MOUNT_ATTR_NOSUID;
                fresh("tmpfs", &options, flags).doing(what)?
            }
        };
        let folder = FileType::from_raw_mode(fstat(&tree).doing(what)?.st_mode).is_dir();
        let kind = if folder { Kind::Folder } else { Kind::File };
        let place = places.stub(&mount.target, kind)?;
        attach(&tree, &place).doing(what)?;
    }
    Ok(())
}

/// What is at some paths of a mount that is never seen whole. Kernels before 6.15
/// copy only from what is attached to the present namespace, so it is, for the
/// moment, behind another mount.
fn parts(places: &Places<'_>, whole: &OwnedFd, paths: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    attach(whole, &find(places.root(), Path::new(BEHIND))?)?;
    let copy = |path: &PathBuf| Ok(copy_of(find(whole, path)?, Path::new(""))?);
    let copies: io::Result<Vec<OwnedFd>> = paths.iter().map(copy).collect();
    let at = format!("/proc/self/fd/{}", whole.as_raw_fd());
    unmount(at.as_str(), UnmountFlags::DETACH)?;
    copies
}

/// The files whose content is given, in order, from one file system in memory.
fn files(places: &Places<'_>, mounts: &[Mount]) -> Result<Vec<OwnedFd>, Failure> {
    let files = || {
        mounts.iter().filter_map(|mount| match &mount.what {
            MountKind::File { content, mode, owner }
            | MountKind::Secret { content, mode, owner } => Some((mount, content, *mode, *owner)),
            _ => None,
        })
    };
    let count = files().count();
    if count == 0 {
        return Ok(Vec::new());
    }
    // Room to append a line, not to fill the memory.
    let bytes: usize = files().map(|(_, content, ..)| content.len()).sum();
    let size = (bytes + count * 65536 + (1 << 20)).to_string();
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tmpfs = fresh("tmpfs", &[("mode", "0700"), ("size", &size)], flags)
        .doing(|| "mount a tmpfs for files".to_owned())?;
    let mut names = Vec::new();
    for (number, (mount, content, mode, owner)) in files().enumerate() {
        let name = number.to_string();
        write(&tmpfs, &name, content, mode, owner)
            .doing(|| format!("make {}", mount.target.display()))?;
        names.push(PathBuf::from(name));
    }
    parts(places, &tmpfs, &names).doing(|| "mount files".to_owned())
}

fn write(
    tmpfs: &OwnedFd,
    name: &str,
    content: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    let mut file = std::fs::File::from(file_in(tmpfs.as_fd(), name, 0o600)?);
    file.write_all(content)?;
    if (uid, gid) != (0, 0) {
        match fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            // Nobody's in this namespace: the supervisor shows the record.
            Err(Errno::INVAL) => {
                let owner = Owner { uid, gid }.to_string();
                fsetxattr(&file, record::OWNER, owner.as_bytes(), XattrFlags::empty())?;
            }
            other => other?,
        }
    }
    fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    Ok(())
}
