//! What `--normalize` does to the files that a `RUN` leaves, before they become its layer:
//! those of which every build has others, and nothing that runs needs what differs.
//!
//! | rule | files | deed | why nothing misses it |
//! |---|---|---|---|
//! | `package-logs` | logs of apt, dpkg, alternatives, apk, dnf, yum, pacman in `/var/log` | removed | their writers make them anew |
//! | `ldconfig-cache` | `/var/cache/ldconfig/aux-cache` | removed | it only spares the next `ldconfig` work; programs are loaded by `/etc/ld.so.cache` |
//! | `apt-cache` | `/var/cache/apt/*.bin` | removed | apt makes them of its lists |
//! | `debconf-backups` | `/var/cache/debconf/*-old` | removed | copies from before the last change |
//! | `user-backups` | `/etc/passwd-`, `shadow-`, `group-`, `gshadow-`, `subuid-`, `subgid-` | removed | copies from before the last change |
//! | `shadow-days` | days of the last change of a password in `/etc/shadow`, of users that the step added or changed | not after the epoch's day | they count for passwords that end; kiln's files have no later time either |
//! | `machine-id` | `/etc/machine-id`; `/var/lib/dbus/machine-id` | emptied; removed | made at the first start, and two machines must not share one |
//! | `pyc-times` | the source's time in `__pycache__/*.pyc` whose source the step wrote too | not after the epoch | the source gets that very time: without it Python would compile it again |
//!
//! A file that is as lower layers have it is not touched, nor is one with several names
//! changed. A rule is [named](super::super::Packed) if it has found a file, whether or not it had to
//! change it: the history of the image must not depend on the day of the build either.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::super::copy::{names, times};
use super::{Packer, below, same};
use crate::layer::{Entry, Kind, Name};

/// Larger ones are left alone.
const MAX_FILE: u64 = 64 << 20;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// A rule's name, as histories have it.
pub(super) type Rule = &'static str;

const SHADOW: Rule = "shadow-days";
const MACHINE: Rule = "machine-id";
const PYC: Rule = "pyc-times";

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Remove,
    Empty,
    /// The days of `/etc/shadow`.
    Days,
}

/// What is left of a file.
pub(super) enum Left {
    AsItIs,
    Changed(Stat),
    Gone,
}

impl<W: io::Write> Packer<W> {
    /// Applies the rules to what is no folder.
    pub(super) fn normalize(
        &mut self,
        entry: &Entry,
        base: &[u8],
        stat: &Stat,
        upper: &OwnedFd,
        lowers: &[OwnedFd],
    ) -> io::Result<Left> {
        let Some((rule, deed)) = self.deed(entry) else { return Ok(Left::AsItIs) };
        let path = OsStr::from_bytes(base);
        let before = below(base, lowers, self.marks)?;
        if deed == Deed::Remove {
            self.found(rule);
            unlinkat(upper, path, AtFlags::empty())?;
            if before.exists {
                self.marks.set_gone(upper.as_fd(), base)?;
                self.parents()?;
                self.writer.gone(&entry.name, self.epoch)?;
            }
            return Ok(Left::Gone);
        }
        let before = before.other.map(|(folder, _)| folder);
        if !change(upper, base, stat, deed, before.as_ref(), self.epoch)? {
            return Ok(Left::AsItIs);
        }
        self.found(rule);
        Ok(Left::Changed(statat(upper, path, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// What is to be normalized of an entry.
    fn deed(&self, entry: &Entry) -> Option<(Rule, Deed)> {
        self.normalized.as_ref()?;
        deed(entry.name.as_bytes()).filter(|_| matches!(entry.kind, Kind::File { .. }))
    }

    fn found(&mut self, rule: Rule) {
        self.normalized.get_or_insert_default().insert(rule);
    }

    /// Python's compiled files in a folder whose sources, in the folder above, will get
    /// another time in the layer.
    pub(super) fn normalize_compiled(
        &mut self,
        folder: &OwnedFd,
        lowers: &[OwnedFd],
        above: &OwnedFd,
        lowers_above: &[OwnedFd],
    ) -> io::Result<()> {
        let stat = |folder: &OwnedFd, base: &[u8]| match statat(
            folder,
            OsStr::from_bytes(base),
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        };
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        for base in names(folder)? {
            let Some(source) = source(&base) else { continue };
            let (Some(own), Some(written)) = (stat(folder, &base)?, stat(above, &source)?) else {
                continue;
            };
            let lower = below(&source, lowers_above, self.marks)?.other;
            let keeps = match lower.filter(|(_, lower)| time(lower) == time(&written)) {
                // What lower layers have keeps its time, unless it is listed again with another
                // mode or owner.
                Some((folder, lower)) => {
                    let entry = |folder: &OwnedFd, stat: &Stat| {
                        self.entry(folder.as_fd(), &source, Name::root(), stat)
                    };
                    same(&entry(above, &written)?, &entry(&folder, &lower)?)
                }
                // What was compiled of another source is as good as it was.
                None => {
                    let lower = below(&base, lowers, self.marks)?.other;
                    lower.is_some_and(|(_, lower)| time(&lower) == time(&own))
                }
            };
            if keeps {
                continue;
            }
            if let Some(rule) = change_compiled(folder, &base, &own, self.epoch)? {
                self.found(rule);
            }
        }
        Ok(())
    }
}

/// What is to be done with a regular file; the path is that within the root.
fn deed(path: &[u8]) -> Option<(Rule, Deed)> {
    let (folder, name) = match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    let removed = |rule| Some((rule, Deed::Remove));
    match (folder, name) {
        (b"var/log/apt", _) => removed("package-logs"),
        (
            b"var/log",
            b"dpkg.log" | b"alternatives.log" | b"apk.log" | b"hawkey.log" | b"yum.log"
            | b"pacman.log",
        ) => removed("package-logs"),
        (b"var/log", _) if name.starts_with(b"dnf") && name.ends_with(b".log") => {
            removed("package-logs")
        }
        (b"var/cache/ldconfig", b"aux-cache") => removed("ldconfig-cache"),
        (b"var/cache/apt", _) if name.ends_with(b".bin") => removed("apt-cache"),
        (b"var/cache/debconf", _) if name.ends_with(b"-old") => removed("debconf-backups"),
        (b"etc", b"passwd-" | b"shadow-" | b"group-" | b"gshadow-" | b"subuid-" | b"subgid-") => {
            removed("user-backups")
        }
        (b"etc", b"shadow") => Some((SHADOW, Deed::Days)),
        (b"etc", b"machine-id") => Some((MACHINE, Deed::Empty)),
        (b"var/lib/dbus", b"machine-id") => removed(MACHINE),
        _ => None,
    }
}

/// Changes a regular file of one name as a deed other than removal says. True if the rule has
/// found something.
fn change(
    folder: &OwnedFd,
    base: &[u8],
    stat: &Stat,
    deed: Deed,
    before: Option<&OwnedFd>,
    epoch: i64,
) -> io::Result<bool> {
    let Some(content) = read(folder, base, stat)? else { return Ok(false) };
    let new = match deed {
        Deed::Remove => return Ok(false),
        // systemd's word for a machine that was not started yet says as much.
        Deed::Empty if content.is_empty() || content == b"uninitialized\n" => None,
        Deed::Empty => Some(Vec::new()),
        Deed::Days => {
            let before = before.map(|folder| -> io::Result<_> {
                let stat = statat(folder, OsStr::from_bytes(base), AtFlags::SYMLINK_NOFOLLOW)?;
                read(folder, base, &stat)
            });
            days(
                &content,
                &before.transpose()?.flatten().unwrap_or_default(),
                epoch.div_euclid(DAY),
            )
        }
    };
    let Some(new) = new else { return Ok(false) };
    write(folder, base, stat, &content, &new)?;
    Ok(true)
}

/// What a file holds, if it is a regular one of an ordinary size and of one name.
fn read(folder: &OwnedFd, base: &[u8], stat: &Stat) -> io::Result<Option<Vec<u8>>> {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || stat.st_nlink > 1 || !u64::try_from(stat.st_size).is_ok_and(|n| n <= MAX_FILE) {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(folder, OsStr::from_bytes(base), flags, Mode::empty())?);
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Replaces what a file holds, and leaves its times.
fn write(folder: &OwnedFd, base: &[u8], stat: &Stat, old: &[u8], new: &[u8]) -> io::Result<()> {
    if old == new {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::from(openat(folder, OsStr::from_bytes(base), flags, Mode::empty())?).write_all(new)?;
    times(folder, base, stat)
}

/// The days of the last change in lines that `before` has not (shadow(5)), cut to a day; `None`
/// if there is no such line. No day is 0, which would ask for another password at once.
fn days(content: &[u8], before: &[u8], day: i64) -> Option<Vec<u8>> {
    let before: BTreeSet<&[u8]> = before.split(|c| *c == b'\n').collect();
    let mut found = false;
    let lines = content.split(|c| *c == b'\n').map(|line| {
        let mut fields: Vec<&[u8]> = line.split(|c| *c == b':').collect();
        let number = |text: &&[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
        let old = fields.get(2).and_then(number).filter(|old| *old > 0);
        let Some(old) = old.filter(|_| !before.contains(line)) else { return line.to_vec() };
        found = true;
        let new = match old.min(day) {
            ..=0 => String::new(),
            new => new.to_string(),
        };
        fields[2] = new.as_bytes();
        fields.join(&b':')
    });
    let lines: Vec<Vec<u8>> = lines.collect();
    found.then(|| lines.join(&b'\n'))
}

/// The source's name of a file in `__pycache__` (PEP 3147, PEP 488): `m.cpython-312.opt-1.pyc`
/// is of `m.py`.
fn source(pyc: &[u8]) -> Option<Vec<u8>> {
    let cut = |name: &[u8]| {
        let at = name.iter().rposition(|c| *c == b'.').filter(|at| *at > 0)?;
        Some((name[..at].to_vec(), name[at + 1..].to_vec()))
    };
    let (mut rest, _) = cut(pyc).filter(|(_, last)| last == b"pyc")?;
    if let Some((shorter, last)) = cut(&rest)
        && last.starts_with(b"opt-")
    {
        rest = shorter;
    }
    let (module, _) = cut(&rest)?;
    Some([&module, &b".py"[..]].concat())
}

/// Cuts the source's time in a compiled file to the epoch; `None` if it has none (PEP 552).
fn compiled(content: &[u8], epoch: i64) -> Option<Vec<u8>> {
    let head = content.get(..16)?;
    if head[2..8] != *b"\r\n\0\0\0\0" {
        return None;
    }
    let time = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let epoch = u32::try_from(epoch).ok()?;
    let mut new = content.to_vec();
    new[8..12].copy_from_slice(&time.min(epoch).to_le_bytes());
    Some(new)
}

/// Has a compiled file know its source's time as the layer will have it.
fn change_compiled(
    folder: &OwnedFd,
    base: &[u8],
    stat: &Stat,
    epoch: i64,
) -> io::Result<Option<Rule>> {
    let Some(content) = read(folder, base, stat)? else { return Ok(None) };
    let Some(new) = compiled(&content, epoch) else { return Ok(None) };
    write(folder, base, stat, &content, &new)?;
    Ok(Some(PYC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_files() {
        for (path, rule) in [
            ("var/log/apt/history.log", "package-logs"),
            ("var/log/apt/eipp.log.xz", "package-logs"),
            ("var/log/dpkg.log", "package-logs"),
            ("var/log/alternatives.log", "package-logs"),
            ("var/log/dnf.rpm.log", "package-logs"),
            ("var/cache/ldconfig/aux-cache", "ldconfig-cache"),
            ("var/cache/apt/pkgcache.bin", "apt-cache"),
            ("var/cache/debconf/config.dat-old", "debconf-backups"),
            ("etc/gshadow-", "user-backups"),
            ("etc/shadow", SHADOW),
            ("etc/machine-id", MACHINE),
            ("var/lib/dbus/machine-id", MACHINE),
        ] {
            assert_eq!(deed(path.as_bytes()).map(|(rule, _)| rule), Some(rule), "{path}");
        }
        for path in [
            "",
            "etc/passwd",
            "var/log/mine.log",
            "var/log/apt/x/y",
            "srv/var/log/dpkg.log",
            "var/cache/apt/archives/a.deb",
            "etc/ld.so.cache",
            "etc/ssh/ssh_host_rsa_key",
        ] {
            assert_eq!(deed(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn days_of_shadow() {
        let before = "root:*:19000:0:99999:7:::\n";
        for (content, day, expected) in [
            ("root:*:19000:0:99999:7:::\n", 3652, None),
            (
                "root:*:19000:0:99999:7:::\na:!:20000:0:99999:7:::\n",
                3652,
                Some("root:*:19000:0:99999:7:::\na:!:3652:0:99999:7:::\n"),
            ),
            // The day of the build is the epoch's, or before it: it is found all the same.
            ("a:!:20000:0:::::\n", 20000, Some("a:!:20000:0:::::\n")),
            ("a:!:20000:0:::::", 20001, Some("a:!:20000:0:::::")),
            // Day 0 is an order to change the password.
            ("a:!:20000::::::\n", 0, Some("a:!:::::::\n")),
            ("a:!:0::::::\nb:!:::::::\n\nno line\nc:x\n", 5, None),
        ] {
            let new = days(content.as_bytes(), before.as_bytes(), day);
            assert_eq!(new.as_deref(), expected.map(str::as_bytes), "{content}");
        }
    }

    #[test]
    fn compiled_files() {
        for (pyc, py) in [
            ("m.cpython-312.pyc", Some("m.py")),
            ("m.cpython-312.opt-1.pyc", Some("m.py")),
            ("a.b.pypy39.pyc", Some("a.b.py")),
            ("m.pyc", None),
            ("m.cpython-312.pyo", None),
            (".pyc", None),
        ] {
            let found = source(pyc.as_bytes());
            assert_eq!(found.as_deref(), py.map(str::as_bytes), "{pyc}");
        }
        let file = |flags: u8, time: u32| {
            [&b"\xcb\x0d\r\n"[..], &[flags, 0, 0, 0], &time.to_le_bytes(), b"sizecode"].concat()
        };
        assert_eq!(compiled(&file(0, 2000), 1000), Some(file(0, 1000)));
        assert_eq!(compiled(&file(0, 500), 1000), Some(file(0, 500)));
        assert_eq!(compiled(&file(1, 2000), 1000), None, "it has a hash");
        assert_eq!(compiled(&file(0, 2000)[..15], 1000), None);
        assert_eq!(compiled(b"", 1000), None);
    }
}
