//! What stat and its relatives say: recorded owners and devices. Where nothing is
//! recorded the kernel answers by itself.
#![expect(unsafe_code, reason = "stat is called in the kernel's own form")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, makedev, openat, statx};
use rustix::io::Errno;

use super::super::record::{Device, Owner};
use super::Supervisor;
use super::calls::Abi;
use super::notify::{Answer, Notice};
use super::own::NOBODY;
use super::place::{Named, look};

/// The form of the answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Stat(Abi),
    /// With the flags and the mask of the call.
    Statx {
        flags: u32,
        mask: u32,
    },
}

/// What differs from the kernel's view.
struct Seen {
    owner: Owner,
    device: Option<Device>,
}

impl Supervisor {
    pub(super) fn stat(
        &self,
        notice: &Notice,
        named: &Named,
        out: u64,
        form: Form,
    ) -> Result<Answer, Errno> {
        if !self.may_differ(notice, named)? {
            return Ok(Answer::Continue);
        }
        let fd = self.open(notice, named)?;
        let stat = look(&fd)?;
        let machines = || is_the_machines(&stat, named).then(Owner::default);
        let Some(owner) = self.recorded(&fd, &stat)?.or_else(machines) else {
            return Ok(Answer::Continue);
        };
        let seen = Seen { owner, device: self.recorded_device(&fd, &stat) };
        let bytes = match form {
            Form::Stat(abi) => seen.stat(&fd, abi)?,
            Form::Statx { flags, mask } => seen.statx(&fd, flags, mask)?,
        };
        self.still(notice)?;
        notice.write(out, &bytes)?;
        Ok(Answer::Value(0))
    }

    /// Whether there may be a record. Most files have none, and this finds it out
    /// with one call.
    fn may_differ(&self, notice: &Notice, named: &Named) -> Result<bool, Errno> {
        if is_the_kernels(&named.path) {
            return Ok(true);
        }
        let specials = self.specials.any();
        // A descriptor is where its link in `/proc` leads, whatever that is.
        let follow = named.follow || named.path.is_empty();
        self.at(notice, named, |path| {
            if self.recorded_at(path, follow).is_some() {
                return Ok(true);
            }
            if !specials {
                return Ok(false);
            }
            let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
            let stat = statx(CWD, path, flags, StatxFlags::TYPE)?;
            let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
            Ok(kind != FileType::Directory && kind != FileType::RegularFile
                || !self.takes_attributes(path, follow))
        })
    }

    /// Whether the file system of a file without a record could have kept one.
    fn takes_attributes(&self, path: &CStr, follow: bool) -> bool {
        let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow;
        let Ok(fd) = openat(CWD, path, flags, Mode::empty()) else { return true };
        let mut none: [u8; 0] = [];
        let got = rustix::fs::getxattr(
            super::place::of_fd(&fd),
            super::super::record::OWNER,
            &mut none[..],
        );
        got != Err(Errno::NOTSUP)
    }
}

/// Whether a path leads to files that are the machine's root's, who is nobody here.
fn is_the_kernels(path: &[u8]) -> bool {
    [&b"/dev/"[..], b"/proc/", b"/sys/"].iter().any(|prefix| path.starts_with(prefix))
}

fn is_the_machines(stat: &Statx, named: &Named) -> bool {
    is_the_kernels(&named.path) && (stat.stx_uid, stat.stx_gid) == (NOBODY, NOBODY)
}

impl Seen {
    fn mode(&self, mode: u32) -> u32 {
        match self.device {
            None => mode,
            Some(Device { block, .. }) => {
                mode & !libc::S_IFMT | if block { libc::S_IFBLK } else { libc::S_IFCHR }
            }
        }
    }

    fn stat(&self, fd: &OwnedFd, abi: Abi) -> Result<Vec<u8>, Errno> {
        let mut stat = stat_of(fd, c"", AtFlags::EMPTY_PATH)?;
        stat.st_mode = self.mode(stat.st_mode);
        stat.st_uid = self.owner.uid;
        stat.st_gid = self.owner.gid;
        if let Some(Device { major, minor, .. }) = self.device {
            stat.st_rdev = makedev(major, minor);
        }
        in_form(&stat, abi)
    }

    fn statx(&self, fd: &OwnedFd, flags: u32, mask: u32) -> Result<Vec<u8>, Errno> {
        let mut found = statx_of(fd, c"", AtFlags::EMPTY_PATH, flags, mask)?;
        // Modes fit: they are what the kernel gave, with another type.
        found.stx_mode = self.mode(u32::from(found.stx_mode)) as u16;
        found.stx_uid = self.owner.uid;
        found.stx_gid = self.owner.gid;
        if let Some(Device { major, minor, .. }) = self.device {
            found.stx_rdev_major = major;
            found.stx_rdev_minor = minor;
        }
        Ok(bytes_of(&found))
    }
}

/// What the kernel says of a file, in the form that a caller asked for.
pub(super) fn kernels(
    folder: impl AsFd,
    path: &CStr,
    at: AtFlags,
    form: Form,
) -> Result<Vec<u8>, Errno> {
    match form {
        Form::Stat(abi) => in_form(&stat_of(folder, path, at)?, abi),
        Form::Statx { flags, mask } => Ok(bytes_of(&statx_of(folder, path, at, flags, mask)?)),
    }
}

fn stat_of(folder: impl AsFd, path: &CStr, at: AtFlags) -> Result<libc::stat, Errno> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the string ends in NUL; the kernel fills the struct, which is its own
    // form on the 64-bit architectures.
    let result = unsafe {
        libc::syscall(
            libc::SYS_newfstatat,
            folder.as_fd().as_raw_fd(),
            path.as_ptr(),
            stat.as_mut_ptr(),
            at.bits(),
        )
    };
    if result != 0 {
        return Err(last_errno());
    }
    // SAFETY: zeroes are a valid value, and the kernel wrote over them.
    Ok(unsafe { stat.assume_init() })
}

/// The flags are those of the caller: of them counts how fresh the answer must be, since the
/// walk is over.
fn statx_of(
    folder: impl AsFd,
    path: &CStr,
    at: AtFlags,
    flags: u32,
    mask: u32,
) -> Result<libc::statx, Errno> {
    let sync = AtFlags::STATX_FORCE_SYNC | AtFlags::STATX_DONT_SYNC;
    let flags = AtFlags::from_bits_retain(flags) & sync | at;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: as above.
    let result = unsafe {
        libc::syscall(
            libc::SYS_statx,
            folder.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags.bits(),
            mask,
            found.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(last_errno());
    }
    // SAFETY: as above.
    Ok(unsafe { found.assume_init() })
}

/// What statfs(2) says of a file.
pub(super) fn file_system(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut found = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: as above.
    let result = unsafe { libc::syscall(libc::SYS_fstatfs, file.as_raw_fd(), found.as_mut_ptr()) };
    if result != 0 {
        return Err(last_errno());
    }
    // SAFETY: as above.
    Ok(bytes_of(&unsafe { found.assume_init() }))
}

fn in_form(stat: &libc::stat, abi: Abi) -> Result<Vec<u8>, Errno> {
    match abi {
        Abi::Native => Ok(bytes_of(stat)),
        #[cfg(target_arch = "x86_64")]
        Abi::I386 => Ok(i386::stat64(stat)),
        #[cfg(target_arch = "x86_64")]
        Abi::I386Short => i386::stat(stat),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The memory of one of the kernel's structs.
fn bytes_of<T>(value: &T) -> Vec<u8> {
    // SAFETY: the struct was zeroed before it was filled, padding too, so all of its
    // bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
        .to_vec()
}

/// The forms of arch/x86/include/uapi/asm/stat.h for 32-bit programs.
#[cfg(target_arch = "x86_64")]
mod i386 {
    use rustix::io::Errno;

    /// Little-endian words, one after the other.
    #[derive(Default)]
    struct Words(Vec<u8>);

    impl Words {
        fn short(mut self, value: u64) -> Self {
            self.0.extend_from_slice(&(value as u16).to_le_bytes());
            self
        }

        fn word(mut self, value: u64) -> Self {
            self.0.extend_from_slice(&(value as u32).to_le_bytes());
            self
        }

        fn long(mut self, value: u64) -> Self {
            self.0.extend_from_slice(&value.to_le_bytes());
            self
        }

        fn times(self, stat: &libc::stat) -> Self {
            self.word(stat.st_atime.cast_unsigned())
                .word(stat.st_atime_nsec.cast_unsigned())
                .word(stat.st_mtime.cast_unsigned())
                .word(stat.st_mtime_nsec.cast_unsigned())
                .word(stat.st_ctime.cast_unsigned())
                .word(stat.st_ctime_nsec.cast_unsigned())
        }
    }

    /// `struct stat64`.
    pub(super) fn stat64(stat: &libc::stat) -> Vec<u8> {
        Words::default()
            .long(stat.st_dev)
            .word(0)
            .word(stat.st_ino)
            .word(u64::from(stat.st_mode))
            .word(stat.st_nlink)
            .word(u64::from(stat.st_uid))
            .word(u64::from(stat.st_gid))
            .long(stat.st_rdev)
            .word(0)
            .long(stat.st_size.cast_unsigned())
            .word(stat.st_blksize.cast_unsigned())
            .long(stat.st_blocks.cast_unsigned())
            .times(stat)
            .long(stat.st_ino)
            .0
    }

    /// `struct stat`, with IDs of 16 bits. What does not fit is refused, as by the
    /// kernel; an ID that does not is nobody's.
    pub(super) fn stat(stat: &libc::stat) -> Result<Vec<u8>, Errno> {
        let id = |id: u32| u64::from(u16::try_from(id).unwrap_or(65534));
        let size = stat.st_size.cast_unsigned();
        if stat.st_ino > u64::from(u32::MAX) || size > i32::MAX.unsigned_abs().into() {
            return Err(Errno::OVERFLOW);
        }
        Ok(Words::default()
            .word(stat.st_dev)
            .word(stat.st_ino)
            .short(u64::from(stat.st_mode))
            .short(stat.st_nlink)
            .short(id(stat.st_uid))
            .short(id(stat.st_gid))
            .word(stat.st_rdev)
            .word(size)
            .word(stat.st_blksize.cast_unsigned())
            .word(stat.st_blocks.cast_unsigned())
            .times(stat)
            .word(0)
            .word(0)
            .0)
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn sizes_of_the_kernels_structs() {
            // SAFETY: zeroes are a valid value of the struct.
            let zero: libc::stat = unsafe { std::mem::zeroed() };
            assert_eq!(super::stat64(&zero).len(), 96);
            assert_eq!(super::stat(&zero).unwrap().len(), 64);
        }
    }
}
