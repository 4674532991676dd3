//! The words of a table: numbers, constants, paths, descriptors.

use std::collections::BTreeMap;
use std::ffi::CString;

/// Descriptors by the names a case gave them.
pub(crate) type Names = BTreeMap<String, i64>;

macro_rules! constants {
    ($($name:literal $value:expr),* $(,)?) => { &[$(($name, $value as i64)),*] };
}

const CONSTANTS: &[(&str, i64)] = constants! {
    "CWD" libc::AT_FDCWD,
    "NOFOLLOW" libc::AT_SYMLINK_NOFOLLOW,
    "FOLLOW" libc::AT_SYMLINK_FOLLOW,
    "EMPTY_PATH" libc::AT_EMPTY_PATH,
    "REMOVEDIR" libc::AT_REMOVEDIR,
    "EACCESS" libc::AT_EACCESS,
    "RDONLY" libc::O_RDONLY, "WRONLY" libc::O_WRONLY, "RDWR" libc::O_RDWR,
    "CREAT" libc::O_CREAT, "EXCL" libc::O_EXCL, "TRUNC" libc::O_TRUNC, "PATH" libc::O_PATH,
    "DIRECTORY" libc::O_DIRECTORY, "TMPFILE" libc::O_TMPFILE, "O_NOFOLLOW" libc::O_NOFOLLOW,
    "NONBLOCK" libc::O_NONBLOCK, "NOATIME" libc::O_NOATIME,
    "NOW" libc::UTIME_NOW, "OMIT" libc::UTIME_OMIT, "IN_MODIFY" libc::IN_MODIFY, "APPEND" libc::O_APPEND, "CLOEXEC" libc::O_CLOEXEC,
    "NO_XDEV" libc::RESOLVE_NO_XDEV, "NO_MAGICLINKS" libc::RESOLVE_NO_MAGICLINKS,
    "NO_SYMLINKS" libc::RESOLVE_NO_SYMLINKS, "BENEATH" libc::RESOLVE_BENEATH,
    "IN_ROOT" libc::RESOLVE_IN_ROOT,
    "NOREPLACE" libc::RENAME_NOREPLACE, "EXCHANGE" libc::RENAME_EXCHANGE,
    "IFREG" libc::S_IFREG, "IFCHR" libc::S_IFCHR, "IFBLK" libc::S_IFBLK,
    "IFIFO" libc::S_IFIFO, "IFSOCK" libc::S_IFSOCK, "IFDIR" libc::S_IFDIR,
    "SET_KEEPCAPS" libc::PR_SET_KEEPCAPS, "GET_KEEPCAPS" libc::PR_GET_KEEPCAPS,
    "SET_NO_NEW_PRIVS" libc::PR_SET_NO_NEW_PRIVS, "SET_DUMPABLE" libc::PR_SET_DUMPABLE,
    "GET_DUMPABLE" libc::PR_GET_DUMPABLE, "GET_SECUREBITS" libc::PR_GET_SECUREBITS,
    "SET_SECUREBITS" libc::PR_SET_SECUREBITS, "CAPBSET_READ" libc::PR_CAPBSET_READ,
    "LOCKS" libc::RLIMIT_LOCKS, "NOFILE" libc::RLIMIT_NOFILE, "CORE" libc::RLIMIT_CORE,
    "INFINITY" -1, "XATTR_CREATE" libc::XATTR_CREATE, "XATTR_REPLACE" libc::XATTR_REPLACE,
    "R_OK" libc::R_OK, "W_OK" libc::W_OK, "X_OK" libc::X_OK, "F_OK" libc::F_OK,
    "BASIC" libc::STATX_BASIC_STATS, "STATX_UID" libc::STATX_UID, "STATX_MODE" libc::STATX_MODE,
    "STATX_TYPE" libc::STATX_TYPE, "STATX_INO" libc::STATX_INO, "STATX_BTIME" libc::STATX_BTIME,
    "NEWUSER" libc::CLONE_NEWUSER, "NULL" 0, "BAD" 1,
};

/// A number: decimal, octal, hexadecimal, of a device (`8:1`), of a descriptor (`$name`), or
/// constants with `|` between.
pub(crate) fn number(word: &str, names: &Names) -> Result<i64, String> {
    let mut all = 0;
    for part in word.split('|') {
        let digits = part.strip_prefix('-').unwrap_or(part);
        let value = if let Some(name) = part.strip_prefix('$') {
            *names.get(name).ok_or_else(|| format!("no descriptor is named {name}"))?
        } else if let Some((_, value)) = CONSTANTS.iter().find(|(name, _)| *name == part) {
            *value
        } else if let Some((major, minor)) = part.split_once(':') {
            let parse =
                |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no number"));
            libc::makedev(parse(major)?, parse(minor)?).cast_signed()
        } else if let Some(hex) = digits.strip_prefix("0x") {
            i64::from_str_radix(hex, 16).map_err(|_| format!("`{part}` is no number"))?
        } else if digits.len() > 1 && digits.starts_with('0') {
            i64::from_str_radix(digits, 8).map_err(|_| format!("`{part}` is no number"))?
        } else {
            part.parse().map_err(|_| format!("`{part}` is no number"))?
        };
        all |= value;
    }
    Ok(all)
}

/// A text: `''` is empty, `a*300` many of a letter as a part of a path, `$name` a descriptor's number.
pub(crate) fn text(word: &str, names: &Names) -> Result<CString, String> {
    if word == "''" {
        return Ok(CString::default());
    }
    let mut parts = Vec::new();
    for part in word.split('/') {
        parts.push(match (part.split_once('*'), part.strip_prefix('$')) {
            (Some((letter, count)), _) => {
                letter.repeat(count.parse().map_err(|_| format!("`{part}`: how many?"))?)
            }
            (_, Some(name)) => number(&format!("${name}"), names)?.to_string(),
            _ => part.to_owned(),
        });
    }
    CString::new(parts.join("/")).map_err(|error| error.to_string())
}

/// A pointer argument: a text, or what is no pointer on purpose.
pub(crate) enum Pointer {
    Text(CString),
    Number(usize),
}

pub(crate) fn pointer(word: &str, names: &Names) -> Result<Pointer, String> {
    Ok(match word {
        "NULL" => Pointer::Number(0),
        "BAD" => Pointer::Number(1),
        word => Pointer::Text(text(word, names)?),
    })
}

impl Pointer {
    pub(crate) fn address(&self) -> usize {
        match self {
            Self::Text(text) => text.as_ptr() as usize,
            Self::Number(number) => *number,
        }
    }
}

pub(crate) fn errno(number: i32) -> String {
    let names = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::EINTR, "EINTR"),
        (libc::EBADF, "EBADF"),
        (libc::ECHILD, "ECHILD"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::EROFS, "EROFS"),
        (libc::ERANGE, "ERANGE"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ENOTEMPTY, "ENOTEMPTY"),
        (libc::ELOOP, "ELOOP"),
        (libc::ENODATA, "ENODATA"),
        (libc::EOVERFLOW, "EOVERFLOW"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENXIO, "ENXIO"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::ENOEXEC, "ENOEXEC"),
    ];
    names
        .iter()
        .find(|(known, _)| *known == number)
        .map_or(format!("errno {number}"), |(_, n)| (*n).into())
}
