//! The table of mounts as a step has it: its root and the kernel's file systems. The
//! kernel's own lists nothing for a process whose root is a plain folder.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, MemfdFlags, Mode, OFlags, StatxFlags, memfd_create, openat, statx};
use rustix::io::Errno;

use super::walk::{File, process_of};

#[derive(Debug)]
pub(super) struct Mounts {
    /// `mounts` of a process.
    table: String,
    /// `mountinfo`.
    info: String,
}

/// What is said of the kernel's file systems.
const OPTIONS: &str = "nosuid,nodev,noexec,relatime";

impl Mounts {
    /// Read by a process that sees them all.
    pub(super) fn read(root: &OwnedFd, proc: &OwnedFd, sys: &OwnedFd) -> std::io::Result<Self> {
        let all = std::fs::read_to_string("/proc/self/mountinfo")?;
        let place = |file: &OwnedFd| -> Result<(u64, String), Errno> {
            let mask = StatxFlags::MNT_ID | StatxFlags::INO;
            let found = statx(file, "", AtFlags::EMPTY_PATH, mask)?;
            Ok((found.stx_mnt_id, format!("{}:{}", found.stx_dev_major, found.stx_dev_minor)))
        };
        let (root, proc, sys) = (place(root)?, place(proc)?, place(sys)?);
        let (kind, source) = of_mount(&all, root.0).unwrap_or(("none", "none"));
        Ok(Self::made(kind, source, [&root, &proc, &sys]))
    }

    fn made(kind: &str, source: &str, [root, proc, sys]: [&(u64, String); 3]) -> Self {
        let table = format!(
            "{source} / {kind} rw,relatime 0 0\nproc /proc proc rw,{OPTIONS} 0 0\n\
             sysfs /sys sysfs ro,{OPTIONS} 0 0\n"
        );
        let info = format!(
            "{0} 1 {1} / / rw,relatime - {kind} {source} rw\n\
             {2} {0} {3} / /proc rw,{OPTIONS} - proc proc rw\n\
             {4} {0} {5} / /sys ro,{OPTIONS} - sysfs sysfs ro\n",
            root.0, root.1, proc.0, proc.1, sys.0, sys.1
        );
        Self { table, info }
    }

    /// The file in the place of one of a process's.
    pub(super) fn of(&self, file: &File) -> Option<&str> {
        process_of(&file.path)?;
        match file.path.split(|&byte| byte == b'/').next_back()? {
            b"mounts" => Some(&self.table),
            b"mountinfo" => Some(&self.info),
            _ => None,
        }
    }
}

/// The type and the source of a mount, by its number (proc(5)).
fn of_mount(all: &str, id: u64) -> Option<(&str, &str)> {
    let id = id.to_string();
    let line = all.lines().find(|line| line.split(' ').next() == Some(&id))?;
    let mut words = line.split_once(" - ")?.1.split(' ');
    Some((words.next()?, words.next()?))
}

/// A file that holds a text and can only be read.
pub(super) fn readable(text: &str) -> Result<OwnedFd, Errno> {
    let file = memfd_create("mounts", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes()).map_err(|_| Errno::IO)?;
    Ok(file.into())
}

/// The same file opened anew, for reading.
pub(super) fn opened(proc: &OwnedFd, file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat(proc, format!("self/fd/{}", file.as_raw_fd()), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::super::walk::Area;
    use super::*;

    #[test]
    fn tables() {
        let all = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                   22 21 0:5 / /tmp rw - tmpfs some\\040name rw,size=1k\n";
        assert_eq!(of_mount(all, 21), Some(("ext4", "/dev/sda1")));
        assert_eq!(of_mount(all, 22), Some(("tmpfs", "some\\040name")));
        assert_eq!(of_mount(all, 2), None);
        let place = |id: u64| (id, format!("0:{id}"));
        let made = Mounts::made("ext4", "/dev/sda1", [&place(21), &place(5), &place(6)]);
        let file = |path: &str| File { area: Area::Proc, path: path.into(), magic: false };
        for (path, starts) in [
            ("7/mounts", Some("/dev/sda1 / ext4 rw,relatime 0 0\nproc /proc")),
            ("7/task/8/mountinfo", Some("21 1 0:21 / / rw,relatime - ext4 /dev/sda1 rw\n5 21 ")),
            ("7/status", None),
            ("mounts", None),
        ] {
            let text = made.of(&file(path));
            assert_eq!(text.is_some(), starts.is_some(), "{path}");
            assert!(text.unwrap_or("").starts_with(starts.unwrap_or("")), "{text:?}");
        }
    }
}
