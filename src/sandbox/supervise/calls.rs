//! Which calls wait for the supervisor, on which architecture under which number,
//! and what their arguments mean.
//!
//! On x86-64 the calls of i386 programs are here too, those with 16-bit IDs among
//! them (the kernel's arch/x86/entry/syscalls/syscall_32.tbl). Where a call exists on
//! one architecture only, the other has no number for it.

use libc::c_long;

use super::super::spec::Emulation;

/// A call, whatever its number and the width of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Chown,
    Lchown,
    Fchown,
    Fchownat,
    Mknod,
    Mknodat,
    Stat,
    Lstat,
    Fstat,
    Fstatat,
    Statx,
    ListXattr,
    LlistXattr,
    FlistXattr,
    ListXattrAt,
    SetXattr,
    LsetXattr,
    FsetXattr,
    SetXattrAt,
    GetXattr,
    LgetXattr,
    FgetXattr,
    GetXattrAt,
    Chroot,
    Open,
    Openat,
    Openat2,
    Creat,
    Mkdir,
    Mkdirat,
    Symlink,
    Symlinkat,
    Execve,
    Execveat,
    Umask,
    Getuid,
    Geteuid,
    Getgid,
    Getegid,
    Getresuid,
    Getresgid,
    Getgroups,
    Setuid,
    Setgid,
    Setreuid,
    Setregid,
    Setresuid,
    Setresgid,
    Setfsuid,
    Setfsgid,
    Setgroups,
    Prctl,
    Getsockopt,
    #[cfg(target_arch = "x86_64")]
    Socketcall,
    Setrlimit,
    Getrlimit,
    Prlimit,
    Capget,
    Capset,
    Chmod,
    Fchmod,
    Fchmodat,
    Fchmodat2,
    RemoveXattr,
    LremoveXattr,
    FremoveXattr,
    RemoveXattrAt,
    Rename,
    Renameat,
    Link,
    Linkat,
    Access,
    Faccessat,
    Faccessat2,
    Rmdir,
    Unlink,
    Unlinkat,
    Truncate,
    Utime,
    Futimesat,
    Utimensat,
    Chdir,
    Fchdir,
    Readlink,
    Readlinkat,
    Statfs,
    InotifyAddWatch,
    Bind,
    Connect,
}

impl Call {
    pub(super) fn sets_attribute(self) -> bool {
        matches!(self, Self::SetXattr | Self::LsetXattr | Self::FsetXattr | Self::SetXattrAt)
    }

    pub(super) fn gets_attribute(self) -> bool {
        matches!(self, Self::GetXattr | Self::LgetXattr | Self::FgetXattr | Self::GetXattrAt)
    }
}

/// A condition on an argument, which the filter tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum When {
    Always,
    /// The lower word of this argument has one of these bits.
    Bits(u8, u32),
    /// The lower word of this argument is one of these.
    Is(u8, &'static [u32]),
    /// The lower word of this argument has none of these bits.
    Without(u8, u32),
}

/// How a caller lays out what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    Native,
    #[cfg(target_arch = "x86_64")]
    I386,
    /// The first calls of i386: IDs of 16 bits.
    #[cfg(target_arch = "x86_64")]
    I386Short,
}

struct Row {
    call: Call,
    native: c_long,
    #[cfg(target_arch = "x86_64")]
    i386: c_long,
    #[cfg(target_arch = "x86_64")]
    short: c_long,
    when: When,
}

const NONE: c_long = -1;
/// `O_CREAT` and `__O_TMPFILE`; the numbers are the same on all architectures of kiln's.
const CREATES: u32 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)).cast_unsigned();
const LOCKS: &[u32] = &[super::notify::RLIMIT_LOCKS];
const PEER: &[u32] = &[libc::SO_PEERCRED.cast_unsigned()];
const PRCTLS: &[u32] = &[
    libc::PR_SET_KEEPCAPS.cast_unsigned(),
    libc::PR_SET_NO_NEW_PRIVS.cast_unsigned(),
    libc::PR_GET_NO_NEW_PRIVS.cast_unsigned(),
];
/// socketcall(2)'s number for getsockopt.
#[cfg(target_arch = "x86_64")]
const SOCKETCALL_GETSOCKOPT: &[u32] = &[15];

/// A line of the table: the call, its name in `libc` (`-` where only i386 has it;
/// `old` before a name that only x86-64 has), i386's number, that of its first form
/// with short IDs, and when it waits.
macro_rules! row {
    ($call:ident, old $native:ident, $i386:expr, $short:expr, $when:expr) => {
        Row {
            call: Call::$call,
            #[cfg(target_arch = "x86_64")]
            native: libc::$native,
            #[cfg(not(target_arch = "x86_64"))]
            native: NONE,
            #[cfg(target_arch = "x86_64")]
            i386: $i386,
            #[cfg(target_arch = "x86_64")]
            short: $short,
            when: $when,
        }
    };
    ($call:ident, -, $i386:expr, $short:expr, $when:expr) => {
        Row { call: Call::$call, native: NONE, i386: $i386, short: $short, when: $when }
    };
    ($call:ident, $native:expr, $i386:expr, $short:expr, $when:expr) => {
        Row {
            call: Call::$call,
            native: $native,
            #[cfg(target_arch = "x86_64")]
            i386: $i386,
            #[cfg(target_arch = "x86_64")]
            short: $short,
            when: $when,
        }
    };
}

use When::{Always, Bits, Is, Without};

/// What waits wherever owners or devices beyond the kernel's are recorded.
const RECORDS: &[Row] = &[
    row!(Chown, old SYS_chown, 212, 182, Always),
    row!(Lchown, old SYS_lchown, 198, 16, Always),
    row!(Fchown, libc::SYS_fchown, 207, 95, Always),
    row!(Fchownat, libc::SYS_fchownat, 298, NONE, Always),
    row!(Mknod, old SYS_mknod, 14, NONE, Always),
    row!(Mknodat, libc::SYS_mknodat, 297, NONE, Always),
    row!(Stat, old SYS_stat, 195, 106, Always),
    row!(Lstat, old SYS_lstat, 196, 107, Always),
    row!(Fstat, libc::SYS_fstat, 197, 108, Always),
    row!(Fstatat, libc::SYS_newfstatat, 300, NONE, Always),
    row!(Statx, libc::SYS_statx, 383, NONE, Always),
    row!(ListXattr, libc::SYS_listxattr, 232, NONE, Always),
    row!(LlistXattr, libc::SYS_llistxattr, 233, NONE, Always),
    row!(FlistXattr, libc::SYS_flistxattr, 234, NONE, Always),
    // Since Linux 6.13, with one number everywhere.
    row!(ListXattrAt, 465, 465, NONE, Always),
    row!(SetXattr, libc::SYS_setxattr, 226, NONE, Always),
    row!(LsetXattr, libc::SYS_lsetxattr, 227, NONE, Always),
    row!(FsetXattr, libc::SYS_fsetxattr, 228, NONE, Always),
    row!(SetXattrAt, 463, 463, NONE, Always),
    row!(GetXattr, libc::SYS_getxattr, 229, NONE, Always),
    row!(LgetXattr, libc::SYS_lgetxattr, 230, NONE, Always),
    row!(FgetXattr, libc::SYS_fgetxattr, 231, NONE, Always),
    row!(GetXattrAt, 464, 464, NONE, Always),
    row!(RemoveXattr, libc::SYS_removexattr, 235, NONE, Always),
    row!(LremoveXattr, libc::SYS_lremovexattr, 236, NONE, Always),
    row!(FremoveXattr, libc::SYS_fremovexattr, 237, NONE, Always),
    row!(RemoveXattrAt, 466, 466, NONE, Always),
    row!(Chroot, libc::SYS_chroot, 61, NONE, Always),
];

/// What waits besides where the namespace has one ID only.
const IDS: &[Row] = &[
    row!(Access, old SYS_access, 33, NONE, Always),
    row!(Faccessat, libc::SYS_faccessat, 307, NONE, Always),
    row!(Faccessat2, libc::SYS_faccessat2, 439, NONE, Always),
    row!(Openat2, libc::SYS_openat2, 437, NONE, Always),
    row!(Creat, old SYS_creat, 8, NONE, Always),
    row!(Mkdir, old SYS_mkdir, 39, NONE, Always),
    row!(Mkdirat, libc::SYS_mkdirat, 296, NONE, Always),
    row!(Symlink, old SYS_symlink, 83, NONE, Always),
    row!(Symlinkat, libc::SYS_symlinkat, 304, NONE, Always),
    row!(Execve, libc::SYS_execve, 11, NONE, Always),
    row!(Execveat, libc::SYS_execveat, 358, NONE, Always),
    row!(Umask, libc::SYS_umask, 60, NONE, Always),
    row!(Getuid, libc::SYS_getuid, 199, 24, Always),
    row!(Geteuid, libc::SYS_geteuid, 201, 49, Always),
    row!(Getgid, libc::SYS_getgid, 200, 47, Always),
    row!(Getegid, libc::SYS_getegid, 202, 50, Always),
    row!(Getresuid, libc::SYS_getresuid, 209, 165, Always),
    row!(Getresgid, libc::SYS_getresgid, 211, 171, Always),
    row!(Getgroups, libc::SYS_getgroups, 205, 80, Always),
    row!(Setuid, libc::SYS_setuid, 213, 23, Always),
    row!(Setgid, libc::SYS_setgid, 214, 46, Always),
    row!(Setreuid, libc::SYS_setreuid, 203, 70, Always),
    row!(Setregid, libc::SYS_setregid, 204, 71, Always),
    row!(Setresuid, libc::SYS_setresuid, 208, 164, Always),
    row!(Setresgid, libc::SYS_setresgid, 210, 170, Always),
    row!(Setfsuid, libc::SYS_setfsuid, 215, 138, Always),
    row!(Setfsgid, libc::SYS_setfsgid, 216, 139, Always),
    row!(Setgroups, libc::SYS_setgroups, 206, 81, Always),
    row!(Prctl, libc::SYS_prctl, 172, NONE, Is(0, PRCTLS)),
    row!(Capget, libc::SYS_capget, 184, NONE, Always),
    row!(Capset, libc::SYS_capset, 185, NONE, Always),
    row!(Chmod, old SYS_chmod, 15, NONE, Always),
    row!(Fchmod, libc::SYS_fchmod, 94, NONE, Always),
    row!(Fchmodat, libc::SYS_fchmodat, 306, NONE, Always),
    // Since Linux 6.6, with one number everywhere.
    row!(Fchmodat2, 452, 452, NONE, Always),
    row!(Getsockopt, libc::SYS_getsockopt, 365, NONE, Is(2, PEER)),
    #[cfg(target_arch = "x86_64")]
    row!(Socketcall, -, 102, NONE, Is(0, SOCKETCALL_GETSOCKOPT)),
    row!(Setrlimit, old SYS_setrlimit, 75, NONE, Is(0, LOCKS)),
    row!(Getrlimit, old SYS_getrlimit, 191, 76, Is(0, LOCKS)),
    row!(Prlimit, libc::SYS_prlimit64, 340, NONE, Is(1, LOCKS)),
];

/// Opening waits where it makes a file.
const MAKES: &[Row] = &[
    row!(Open, old SYS_open, 5, NONE, Bits(1, CREATES)),
    row!(Openat, libc::SYS_openat, 295, NONE, Bits(2, CREATES)),
];

/// A file that has no name yet gets one from another process than opened it.
const NAMELESS: &[Row] =
    &[row!(Linkat, libc::SYS_linkat, 303, NONE, Bits(4, libc::AT_EMPTY_PATH.cast_unsigned()))];

/// What waits besides where lower layers list owners by path: the file gets another.
const NAMES: &[Row] = &[
    row!(Rename, old SYS_rename, 38, NONE, Always),
    row!(Renameat, libc::SYS_renameat, 302, NONE, Always),
    row!(Renameat, libc::SYS_renameat2, 353, NONE, Always),
    row!(Link, old SYS_link, 9, NONE, Always),
    row!(Linkat, libc::SYS_linkat, 303, NONE, Always),
];

const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH.cast_unsigned();
/// The name of a file without one is made by its descriptor.
const FOLLOW: u32 = libc::AT_SYMLINK_FOLLOW.cast_unsigned();
/// What must be new is none of the kernel's files.
const NEW: u32 = libc::O_EXCL.cast_unsigned();

/// What waits where the kernel's file systems cannot be mounted: paths. Those that may be
/// empty are of an open file, mostly, and do not wait then.
const PATHS: &[Row] = &[
    row!(Open, old SYS_open, 5, NONE, Without(1, NEW)),
    row!(Openat, libc::SYS_openat, 295, NONE, Without(2, NEW)),
    row!(Openat2, libc::SYS_openat2, 437, NONE, Always),
    row!(Creat, old SYS_creat, 8, NONE, Always),
    row!(Stat, old SYS_stat, 195, 106, Always),
    row!(Lstat, old SYS_lstat, 196, 107, Always),
    row!(Fstatat, libc::SYS_newfstatat, 300, NONE, Without(3, EMPTY_PATH)),
    row!(Statx, libc::SYS_statx, 383, NONE, Without(2, EMPTY_PATH)),
    row!(Access, old SYS_access, 33, NONE, Always),
    row!(Faccessat, libc::SYS_faccessat, 307, NONE, Always),
    row!(Faccessat2, libc::SYS_faccessat2, 439, NONE, Without(3, EMPTY_PATH)),
    row!(Readlink, old SYS_readlink, 85, NONE, Always),
    row!(Readlinkat, libc::SYS_readlinkat, 305, NONE, Always),
    row!(Execve, libc::SYS_execve, 11, NONE, Always),
    row!(Execveat, libc::SYS_execveat, 358, NONE, Without(4, EMPTY_PATH)),
    row!(Chdir, libc::SYS_chdir, 12, NONE, Always),
    // i386 has another form.
    row!(Statfs, libc::SYS_statfs, NONE, NONE, Always),
    row!(GetXattr, libc::SYS_getxattr, 229, NONE, Always),
    row!(LgetXattr, libc::SYS_lgetxattr, 230, NONE, Always),
    row!(ListXattr, libc::SYS_listxattr, 232, NONE, Always),
    row!(LlistXattr, libc::SYS_llistxattr, 233, NONE, Always),
    row!(SetXattr, libc::SYS_setxattr, 226, NONE, Always),
    row!(LsetXattr, libc::SYS_lsetxattr, 227, NONE, Always),
    row!(RemoveXattr, libc::SYS_removexattr, 235, NONE, Always),
    row!(LremoveXattr, libc::SYS_lremovexattr, 236, NONE, Always),
    // By `/proc/self/fd`, which is how C libraries change what they opened as a place.
    row!(Chmod, old SYS_chmod, 15, NONE, Always),
    row!(Fchmodat, libc::SYS_fchmodat, 306, NONE, Always),
    row!(Chown, old SYS_chown, 212, 182, Always),
    row!(Fchownat, libc::SYS_fchownat, 298, NONE, Without(4, EMPTY_PATH)),
    row!(Linkat, libc::SYS_linkat, 303, NONE, Bits(4, FOLLOW)),
];

/// What waits besides [`RECORDS`], [`IDS`] and [`NAMES`] where a step begins as a user to
/// whom things are denied.
const DENIALS: &[Row] = &[
    row!(Open, old SYS_open, 5, NONE, Always),
    row!(Openat, libc::SYS_openat, 295, NONE, Always),
    row!(Rmdir, old SYS_rmdir, 40, NONE, Always),
    row!(Unlink, old SYS_unlink, 10, NONE, Always),
    row!(Unlinkat, libc::SYS_unlinkat, 301, NONE, Always),
    row!(Truncate, libc::SYS_truncate, 92, 193, Always),
    row!(Utime, old SYS_utime, 30, NONE, Always),
    row!(Utime, old SYS_utimes, 271, NONE, Always),
    row!(Futimesat, old SYS_futimesat, 299, NONE, Always),
    // The first form is that of 32-bit times.
    row!(Utimensat, libc::SYS_utimensat, 412, 320, Always),
    row!(Chdir, libc::SYS_chdir, 12, NONE, Always),
    row!(Fchdir, libc::SYS_fchdir, 133, NONE, Always),
    row!(Readlink, old SYS_readlink, 85, NONE, Always),
    row!(Readlinkat, libc::SYS_readlinkat, 305, NONE, Always),
    row!(Statfs, libc::SYS_statfs, 99, 268, Always),
    row!(InotifyAddWatch, libc::SYS_inotify_add_watch, 292, NONE, Always),
    row!(Bind, libc::SYS_bind, 361, NONE, Always),
    row!(Connect, libc::SYS_connect, 362, NONE, Always),
];

/// Which calls wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Waiting {
    pub(in super::super) emulation: Emulation,
    /// Those that change names too.
    pub(in super::super) names: bool,
    /// Those that may be denied to the step's user.
    pub(in super::super) denials: bool,
}

const ALL: Waiting = Waiting { emulation: Emulation::Ids, names: true, denials: true };
const FILES: Waiting = Waiting { emulation: Emulation::Files, names: false, denials: false };

fn rows(waiting: Waiting) -> impl Iterator<Item = &'static Row> {
    let is_ids = waiting.emulation == Emulation::Ids;
    let of = |holds: bool, rows: &'static [Row]| if holds { rows } else { &[] };
    let (names, denials) = (waiting.names || waiting.denials, waiting.denials);
    let records = if waiting.emulation == Emulation::Files { PATHS } else { RECORDS };
    records
        .iter()
        .chain(of(is_ids, IDS))
        .chain(of(is_ids && !denials, MAKES))
        .chain(of(denials, DENIALS))
        .chain(of(names, NAMES))
        // `NAMES` has the call too.
        .chain(of(is_ids && !names, NAMELESS))
}

/// The numbers that wait, of programs for this architecture.
pub(in super::super) fn native(waiting: Waiting) -> Vec<(c_long, When)> {
    rows(waiting).filter(|row| row.native != NONE).map(|row| (row.native, row.when)).collect()
}

/// The numbers that wait, of programs for i386.
#[cfg(target_arch = "x86_64")]
pub(in super::super) fn i386(waiting: Waiting) -> Vec<(c_long, When)> {
    let numbers = |row: &'static Row| [(row.i386, row.when), (row.short, row.when)];
    rows(waiting).flat_map(numbers).filter(|(number, _)| *number != NONE).collect()
}

/// What a number means.
pub(super) fn meaning(architecture: u32, number: i32) -> Option<(Call, Abi)> {
    meaning_of(ALL, architecture, number)
}

/// What it means where paths wait.
pub(super) fn meaning_of_path(architecture: u32, number: i32) -> Option<(Call, Abi)> {
    meaning_of(FILES, architecture, number)
}

fn meaning_of(waiting: Waiting, architecture: u32, number: i32) -> Option<(Call, Abi)> {
    let number = c_long::from(number);
    let find = |matches: fn(&Row, c_long) -> bool| {
        let mut rows = rows(waiting);
        rows.find(|row| matches(row, number)).map(|row| row.call)
    };
    #[cfg(target_arch = "x86_64")]
    if architecture == super::super::seccomp::I386_ARCHITECTURE {
        let long = find(|row, number| row.i386 == number).map(|call| (call, Abi::I386));
        return long.or_else(|| {
            find(|row, number| row.short == number).map(|call| (call, Abi::I386Short))
        });
    }
    let _ = architecture;
    find(|row, number| row.native == number).map(|call| (call, Abi::Native))
}

impl Abi {
    /// An ID as an argument: the short "leave it" is the long one.
    pub(super) fn id(self, argument: u64) -> u32 {
        // The kernel reads the lower word.
        let id = argument as u32;
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::I386Short => match id as u16 {
                u16::MAX => u32::MAX,
                id => u32::from(id),
            },
            _ => id,
        }
    }

    /// An ID in the caller's width; one that does not fit is nobody's.
    pub(super) fn told(self, id: u32) -> Vec<u8> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::I386Short => u16::try_from(id).unwrap_or(65534).to_ne_bytes().to_vec(),
            _ => id.to_ne_bytes().to_vec(),
        }
    }

    /// Bytes of one ID in a list.
    pub(super) fn id_size(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::I386Short => 2,
            _ => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_one_call() {
        let mut lists = vec![native(ALL), native(FILES)];
        #[cfg(target_arch = "x86_64")]
        lists.extend([i386(ALL), i386(FILES)]);
        for mut list in lists {
            let count = list.len();
            list.sort_by_key(|(number, _)| *number);
            list.dedup_by_key(|(number, _)| *number);
            assert_eq!(list.len(), count);
        }
        let records = Waiting { emulation: Emulation::Records, names: false, denials: false };
        let more = IDS.len() + NAMES.len() + DENIALS.len();
        assert_eq!(native(records).len() + more, native(ALL).len() + without());
    }

    /// Rows without a number here.
    fn without() -> usize {
        rows(ALL).filter(|row| row.native == NONE).count()
    }

    #[test]
    fn meanings() {
        let number = |call: c_long| i32::try_from(call).unwrap();
        assert_eq!(meaning(0, number(libc::SYS_getuid)), Some((Call::Getuid, Abi::Native)));
        assert_eq!(meaning(0, number(libc::SYS_read)), None);
        let stat = Some((Call::Fstatat, Abi::Native));
        assert_eq!(meaning_of_path(0, number(libc::SYS_newfstatat)), stat);
        assert_eq!(meaning_of_path(0, number(libc::SYS_getuid)), None);
        #[cfg(target_arch = "x86_64")]
        for (number, expected) in [
            (199, Some((Call::Getuid, Abi::I386))),
            (24, Some((Call::Getuid, Abi::I386Short))),
            (102, Some((Call::Socketcall, Abi::I386))),
            (3, None),
        ] {
            assert_eq!(meaning(super::super::super::seccomp::I386_ARCHITECTURE, number), expected);
        }
        assert_eq!(Abi::Native.id(u64::MAX), u32::MAX);
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(Abi::I386Short.id(0xffff), u32::MAX);
            assert_eq!(Abi::I386Short.told(70_000), 65534_u16.to_ne_bytes());
        }
    }
}
