//! The calls themselves, by number: no library stands between.
#![expect(unsafe_code, reason = "this is the place where the kernel is called")]

use std::os::raw::c_long;

/// An error number.
pub(crate) type Errno = i32;

pub(crate) type Answer = Result<i64, Errno>;

/// What a call takes, one letter each: `p` a path, `i` a number; `>` says that it
/// gives a descriptor.
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) number: c_long,
    pub(crate) takes: &'static str,
}

macro_rules! signatures {
    ($($name:literal $call:ident $takes:literal)*) => {
        &[$(Signature { name: $name, number: libc::$call, takes: $takes }),*]
    };
}

const ALL: &[Signature] = signatures! {
    "fchown" SYS_fchown "iii"
    "fchownat" SYS_fchownat "ipiii"
    "fchmod" SYS_fchmod "ii"
    "fchmodat" SYS_fchmodat "ipi"
    "fchmodat2" SYS_fchmodat2 "ipii"
    "mkdirat" SYS_mkdirat "ipi"
    "mknodat" SYS_mknodat "ipii"
    "symlinkat" SYS_symlinkat "pip"
    "linkat" SYS_linkat "ipipi"
    "renameat2" SYS_renameat2 "ipipi"
    "unlinkat" SYS_unlinkat "ipi"
    "setuid" SYS_setuid "i"
    "setgid" SYS_setgid "i"
    "setreuid" SYS_setreuid "ii"
    "setregid" SYS_setregid "ii"
    "setresuid" SYS_setresuid "iii"
    "setresgid" SYS_setresgid "iii"
    "setfsuid" SYS_setfsuid "i"
    "setfsgid" SYS_setfsgid "i"
    "getuid" SYS_getuid ""
    "geteuid" SYS_geteuid ""
    "getgid" SYS_getgid ""
    "getegid" SYS_getegid ""
    "getresuid-raw" SYS_getresuid "iii"
    "getgroups-raw" SYS_getgroups "ii"
    "setgroups-raw" SYS_setgroups "ii"
    "umask" SYS_umask "i"
    "chroot" SYS_chroot "p"
    "chdir" SYS_chdir "p"
    "fchdir" SYS_fchdir "i"
    "openat" SYS_openat "ipii>"
    "close" SYS_close "i"
    "dup" SYS_dup "i>"
    "prctl" SYS_prctl "iiiii"
    "truncate" SYS_truncate "pi"
    "ftruncate" SYS_ftruncate "ii"
    "faccessat" SYS_faccessat "ipi"
    "faccessat2" SYS_faccessat2 "ipii"
    "utimensat" SYS_utimensat "ipii"
    "inotify_init1" SYS_inotify_init1 "i>"
    "inotify_add_watch" SYS_inotify_add_watch "ipi"
    "io_uring_setup" SYS_io_uring_setup "ii"
    "unshare" SYS_unshare "i"
    "newfstatat-raw" SYS_newfstatat "ipii"
    "statx-raw" SYS_statx "ipiii"
    "setsid" SYS_setsid ""
};

/// Those that newer architectures lack.
#[cfg(target_arch = "x86_64")]
const OLD: &[Signature] = signatures! {
    "chown" SYS_chown "pii"
    "lchown" SYS_lchown "pii"
    "chmod" SYS_chmod "pi"
    "mkdir" SYS_mkdir "pi"
    "rmdir" SYS_rmdir "p"
    "mknod" SYS_mknod "pii"
    "symlink" SYS_symlink "pp"
    "link" SYS_link "pp"
    "rename" SYS_rename "pp"
    "unlink" SYS_unlink "p"
    "open" SYS_open "pii>"
    "creat" SYS_creat "pi>"
    "access" SYS_access "pi"
    "utime" SYS_utime "pi"
    "utimes" SYS_utimes "pi"
    "futimesat" SYS_futimesat "ipi"
};

#[cfg(not(target_arch = "x86_64"))]
const OLD: &[Signature] = &[];

pub(crate) fn signature(name: &str) -> Option<&'static Signature> {
    ALL.iter().chain(OLD).find(|signature| signature.name == name)
}

/// The newer form of an old call, for machines that have only that.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn newer<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let with =
        |name: &'a str, rest: &[&'a str], last: &[&'a str]| [&[name, "CWD"], rest, last].concat();
    match words {
        ["chown", rest @ ..] => with("fchownat", rest, &["0"]),
        ["lchown", rest @ ..] => with("fchownat", rest, &["NOFOLLOW"]),
        ["chmod", rest @ ..] => with("fchmodat", rest, &[]),
        ["mkdir", rest @ ..] => with("mkdirat", rest, &[]),
        ["rmdir", path] => with("unlinkat", &[path], &["REMOVEDIR"]),
        ["mknod", rest @ ..] => with("mknodat", rest, &[]),
        ["symlink", to, path] => vec!["symlinkat", to, "CWD", path],
        ["link", a, b] => vec!["linkat", "CWD", a, "CWD", b, "0"],
        ["rename", a, b] => vec!["renameat2", "CWD", a, "CWD", b, "0"],
        ["unlink", path] => with("unlinkat", &[path], &["0"]),
        ["open", set, rest @ ..] => [&["openat", set, "CWD"], rest].concat(),
        ["creat", set, path, mode] => vec!["openat", set, "CWD", path, "CREAT|WRONLY|TRUNC", mode],
        ["utime" | "utimes", file, times] => vec!["utimensat", "CWD", file, times, "0"],
        ["futimesat", dir, file, times] => vec!["utimensat", dir, file, times, "0"],
        ["access", rest @ ..] => with("faccessat", rest, &[]),
        ["stat", path] => vec!["newfstatat", "CWD", path, "0"],
        ["lstat", path] => vec!["newfstatat", "CWD", path, "NOFOLLOW"],
        other => other.to_vec(),
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn newer<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.to_vec()
}

/// One call.
pub(crate) fn call(number: c_long, args: &[usize]) -> Answer {
    let mut all = [0_usize; 6];
    for (to, from) in all.iter_mut().zip(args) {
        *to = *from;
    }
    let [a, b, c, d, e, f] = all;
    // SAFETY: pointers among the numbers are of buffers that the caller holds, or bad on
    // purpose, which the kernel refuses.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        Ok(result)
    }
}

/// `None` in the child.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: the program has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// The status of a child that ended.
pub(crate) fn wait(child: i32) -> Result<i32, Errno> {
    let mut status = 0_i32;
    let args = [child as usize, &raw mut status as usize, 0, 0];
    call(libc::SYS_wait4, &args).map(|_| status)
}

pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: nothing is left to be flushed: standard output is written line by line.
    unsafe { libc::_exit(code) }
}
