//! Files that a caller names, found as the caller would find them.
//!
//! A worker's root is the step's, and its working folder is the `/proc` of kiln's
//! side. A relative path is walked by the kernel from the caller's own folder or
//! descriptor, through the links there; an absolute one from the step's root. So no
//! walk leaves the root, and none is done here. A caller that changed its root is
//! followed into it for the moment of the walk.
//!
//! `/proc/self` would be the worker there: such a path is rewritten to the caller's
//! number in the step's own `/proc`.
#![expect(unsafe_code, reason = "chroot and prlimit have no safe form in use here")]

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat, openat2, statx,
};
use rustix::io::Errno;

use super::notify::Notice;
use super::{Place, Supervisor, TO_KERNEL};

/// The kernel's limit of a path, with its NUL.
const PATH_MAX: usize = 4096;

/// What a call names: a path from a descriptor, or the descriptor itself.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) folder: i32,
    /// Empty for the descriptor itself.
    pub(super) path: Vec<u8>,
    /// A symbolic link at its end is followed.
    pub(super) follow: bool,
}

impl Named {
    /// A path argument. Without `AT_EMPTY_PATH` an empty one names nothing.
    pub(super) fn read(
        notice: &Notice,
        folder: u64,
        address: u64,
        flags: u32,
    ) -> Result<Self, Errno> {
        let flags = AtFlags::from_bits_retain(flags);
        let empty = flags.contains(AtFlags::EMPTY_PATH);
        let path = match address {
            0 if empty => Vec::new(),
            // What is wrong with it the kernel says.
            _ => notice.text(address, PATH_MAX).map_err(|_| TO_KERNEL)?,
        };
        if path.is_empty() && !empty {
            return Err(TO_KERNEL);
        }
        // The kernel reads the lower word.
        let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
        Ok(Self { folder: folder as i32, path, follow })
    }

    /// A path from the working folder.
    pub(super) fn plain(notice: &Notice, address: u64, follow: bool) -> Result<Self, Errno> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        Self::read(notice, CWD_ARGUMENT, address, flags.bits())
    }

    pub(super) fn descriptor(fd: u64) -> Self {
        Self { folder: fd as i32, path: Vec::new(), follow: true }
    }

    /// The folder in which something is made, and its name there. `..` and the like
    /// make nothing: `None`.
    pub(super) fn parent(&self) -> Option<(Self, Vec<u8>)> {
        let end = self.path.iter().rposition(|&byte| byte != b'/')? + 1;
        let whole = &self.path[..end];
        let start = whole.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let base = &whole[start..];
        if base == b"." || base == b".." {
            return None;
        }
        let path = if start == 0 { b".".to_vec() } else { whole[..start].to_vec() };
        Some((Self { folder: self.folder, path, follow: true }, base.to_vec()))
    }
}

/// `AT_FDCWD` as an argument.
pub(super) const CWD_ARGUMENT: u64 = libc::AT_FDCWD as u64;

fn c_string(bytes: Vec<u8>) -> Result<CString, Errno> {
    // A path that was read up to its NUL has none.
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

impl Supervisor {
    /// The path as a worker walks it. It changes nothing on its own; what is to be
    /// changed is opened first, and the notice checked after that.
    pub(super) fn walked(&self, notice: &Notice, named: &Named) -> Result<CString, Errno> {
        let Named { folder, path, .. } = named;
        if path.first() == Some(&b'/') {
            return c_string(match own_proc(path) {
                Some(own) => own.path(notice)?,
                None => path.clone(),
            });
        }
        let mut walked = match *folder {
            libc::AT_FDCWD => format!("{}/cwd", notice.pid),
            fd => format!("{}/fd/{fd}", notice.pid),
        }
        .into_bytes();
        if !path.is_empty() {
            walked.push(b'/');
            walked.extend_from_slice(path);
        }
        c_string(walked)
    }

    /// Does something at a path, in the caller's root.
    pub(super) fn at<T>(
        &self,
        notice: &Notice,
        named: &Named,
        act: impl FnOnce(&CString) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let walked = self.walked(notice, named)?;
        self.in_root(notice, || act(&walked))
    }

    /// Does something with the caller's root as this thread's.
    pub(super) fn in_root<T>(
        &self,
        notice: &Notice,
        act: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if self.in_step_root(notice) {
            return act();
        }
        let root = c_string(format!("{}/root", notice.pid).into_bytes())?;
        // SAFETY: the string ends in NUL; the root is this thread's own.
        if unsafe { libc::chroot(root.as_ptr()) } != 0 {
            return Err(TO_KERNEL);
        }
        let done = act();
        // A worker that cannot come back must not go on anywhere else.
        if self.enter().is_err() {
            std::process::abort();
        }
        done
    }

    /// Makes the step's root this thread's, and the outer `/proc` its working folder.
    pub(super) fn enter(&self) -> rustix::io::Result<()> {
        rustix::process::fchdir(&self.root)?;
        // SAFETY: the string ends in NUL; the root is this thread's own.
        if unsafe { libc::chroot(c".".as_ptr()) } != 0 {
            return Err(Errno::PERM);
        }
        rustix::process::fchdir(&self.proc)
    }

    fn in_step_root(&self, notice: &Notice) -> bool {
        if !self.roots_differ.load(std::sync::atomic::Ordering::Acquire) {
            return true;
        }
        let root = format!("{}/root", notice.pid);
        statx(CWD, root, AtFlags::empty(), StatxFlags::INO | StatxFlags::MNT_ID)
            .is_ok_and(|found| Place::of(&found) == self.root_place)
    }

    /// Opens what is named as a mere place, for sure by the caller's names.
    pub(super) fn open(&self, notice: &Notice, named: &Named) -> Result<OwnedFd, Errno> {
        let nofollow =
            if named.follow || named.path.is_empty() { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow;
        let fd = self.at(notice, named, |path| openat(CWD, path, flags, Mode::empty()))?;
        self.still(notice).map(|()| fd)
    }

    /// Opens the folder in which something is to be made, and gives its name there.
    pub(super) fn open_parent(
        &self,
        notice: &Notice,
        named: &Named,
    ) -> Result<(OwnedFd, CString), Errno> {
        let (parent, base) = named.parent().ok_or(Errno::EXIST)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = self.at(notice, &parent, |path| openat(CWD, path, flags, Mode::empty()))?;
        self.still(notice)?;
        Ok((fd, c_string(base)?))
    }

    /// As [`Supervisor::open_parent`], for a path that must be walked as openat2(2) says.
    pub(super) fn open_parent_resolved(
        &self,
        notice: &Notice,
        named: &Named,
        resolve: ResolveFlags,
    ) -> Result<(OwnedFd, CString), Errno> {
        let (parent, base) = named.parent().ok_or(Errno::EXIST)?;
        let start = Named { folder: named.folder, path: Vec::new(), follow: true };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = self.at(notice, &start, |path| {
            let start = openat(CWD, path, flags, Mode::empty())?;
            openat2(&start, c_string(parent.path.clone())?, flags, Mode::empty(), resolve)
        })?;
        self.still(notice)?;
        Ok((fd, c_string(base)?))
    }

    /// Fails once the caller is gone, whose number may be another's by now.
    pub(super) fn still(&self, notice: &Notice) -> Result<(), Errno> {
        if self.listener.is_valid(notice) { Ok(()) } else { Err(TO_KERNEL) }
    }
}

/// An open file, as a path from the worker's working folder.
pub(super) fn of_fd(fd: &OwnedFd) -> String {
    format!("self/fd/{}", fd.as_raw_fd())
}

/// What the file is; its owner is the kernel's.
pub(super) fn look(fd: &OwnedFd) -> Result<Statx, Errno> {
    statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// A path that means the process which walks it.
#[derive(Debug, PartialEq, Eq)]
struct OwnProc<'a> {
    thread: bool,
    rest: &'a [u8],
}

fn own_proc(path: &[u8]) -> Option<OwnProc<'_>> {
    for (prefix, thread, keep) in
        [(&b"/proc/self"[..], false, 0), (b"/proc/thread-self", true, 0), (b"/dev/fd", false, 3)]
    {
        if let Some(rest) = path.strip_prefix(prefix)
            && (rest.is_empty() || rest[0] == b'/')
        {
            // `/dev/fd` is a link to `/proc/self/fd`.
            let start = prefix.len() - keep;
            return Some(OwnProc { thread, rest: if keep > 0 { &path[start..] } else { rest } });
        }
    }
    for (path_of_stream, rest) in [
        (&b"/dev/stdin"[..], &b"/fd/0"[..]),
        (b"/dev/stdout", b"/fd/1"),
        (b"/dev/stderr", b"/fd/2"),
    ] {
        if path == path_of_stream {
            return Some(OwnProc { thread: false, rest });
        }
    }
    None
}

/// The folder of a caller, or of its thread, in the step's `/proc`.
pub(super) fn proc_of(notice: &Notice, thread: bool) -> Result<Vec<u8>, Errno> {
    OwnProc { thread, rest: b"" }.path(notice)
}

impl OwnProc<'_> {
    /// With the caller's number in the step's pid namespace.
    fn path(&self, notice: &Notice) -> Result<Vec<u8>, Errno> {
        let status = std::fs::read_to_string(format!("{}/status", notice.pid));
        let status = status.map_err(|_| TO_KERNEL)?;
        let inner = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().last().map(str::to_owned)
        };
        let group = inner("NStgid:").ok_or(TO_KERNEL)?;
        let mut path = format!("/proc/{group}").into_bytes();
        if self.thread {
            let thread = inner("NSpid:").ok_or(TO_KERNEL)?;
            path.extend_from_slice(format!("/task/{thread}").as_bytes());
        }
        // A rest with a leading slash or none at all, or `/fd…` of `/dev/fd…`.
        if !self.rest.is_empty() && self.rest[0] != b'/' {
            path.push(b'/');
        }
        path.extend_from_slice(self.rest);
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_their_walker() {
        let rest = |path: &'static [u8]| own_proc(path).map(|own| (own.thread, own.rest));
        assert_eq!(rest(b"/proc/self/fd/3"), Some((false, &b"/fd/3"[..])));
        assert_eq!(rest(b"/proc/self"), Some((false, &b""[..])));
        assert_eq!(rest(b"/proc/thread-self/x"), Some((true, &b"/x"[..])));
        assert_eq!(rest(b"/dev/fd/7"), Some((false, &b"/fd/7"[..])));
        assert_eq!(rest(b"/dev/fd"), Some((false, &b"/fd"[..])));
        assert_eq!(rest(b"/dev/stdout"), Some((false, &b"/fd/1"[..])));
        for other in [&b"/proc/selfish"[..], b"/proc/1/fd", b"/dev/fdx", b"/dev/stdout/x", b"self"]
        {
            assert_eq!(rest(other), None);
        }
    }

    #[test]
    fn parents() {
        let of = |path: &[u8]| {
            let named = Named { folder: 3, path: path.to_vec(), follow: true };
            named.parent().map(|(parent, base)| (parent.path, base))
        };
        let pair = |parent: &[u8], base: &[u8]| Some((parent.to_vec(), base.to_vec()));
        assert_eq!(of(b"a"), pair(b".", b"a"));
        assert_eq!(of(b"/a"), pair(b"/", b"a"));
        assert_eq!(of(b"/a/b//"), pair(b"/a/", b"b"));
        assert_eq!(of(b"../a"), pair(b"../", b"a"));
        for nothing in [&b""[..], b"/", b"//", b".", b"a/..", b"a/."] {
            assert_eq!(of(nothing), None, "{nothing:?}");
        }
    }
}
