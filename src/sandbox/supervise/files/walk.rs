//! Where a path leads: to one of the kernel's files, or past them.
//!
//! The walk is by names alone, over what a [`Tree`] says of links. It is made only for a
//! path of which something says that it may lead there.

use rustix::io::Errno;

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// One of the two file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    Proc,
    Sys,
}

/// A file of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) area: Area,
    /// From the root of the file system; empty for that itself.
    pub(super) path: Vec<u8>,
    /// It is a link that leads to an open file, which is meant.
    pub(super) magic: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The kernel finds it by itself, or nothing.
    Outside,
    Kernels(File),
    /// It is in the step's root, by a way that only the worker can go.
    InRoot(Vec<u8>),
}

/// What lies where.
pub(super) trait Tree {
    /// The target of a link of the step's root; `None` of anything else.
    fn link(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Errno>;
    /// The same of the kernel's.
    fn kernels_link(&self, area: Area, path: &[u8]) -> Result<Option<Vec<u8>>, Errno>;
    /// Whether a process may be seen.
    fn shows(&self, pid: u32) -> bool;
    /// Who walks: the process and the thread.
    fn walker(&self) -> (u32, u32);
}

/// The part of a path below one of the file systems.
pub(super) fn split(path: &[u8]) -> Option<(Area, &[u8])> {
    for (name, area) in [(&b"/proc"[..], Area::Proc), (b"/sys", Area::Sys)] {
        match path.strip_prefix(name) {
            Some([]) => return Some((area, b"")),
            Some([b'/', rest @ ..]) => return Some((area, rest)),
            _ => {}
        }
    }
    None
}

/// Walks a path from a folder, which is absolute and has no link in it.
pub(super) fn walk(
    tree: &impl Tree,
    folder: &[u8],
    path: &[u8],
    follow: bool,
) -> Result<Found, Errno> {
    let mut at = if path.first() == Some(&b'/') { Vec::new() } else { trimmed(folder).to_vec() };
    // The next component is the last one here.
    let mut rest: Vec<Vec<u8>> = Vec::new();
    push(&mut rest, path);
    let follow = follow || path.ends_with(b"/") || path.ends_with(b"/.");
    let (mut links, mut magic_way) = (0, false);
    while let Some(name) = rest.pop() {
        if name == b".." {
            let parent = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            at.truncate(parent);
            continue;
        }
        at.push(b'/');
        at.extend_from_slice(&name);
        let last = rest.is_empty();
        let target = match split(&at) {
            // A name of kiln's own.
            Some((Area::Proc, [b'.', ..])) => return Ok(Found::Outside),
            Some((area, below)) if !below.is_empty() => {
                match seen(tree, area, below)? {
                    Some(_) if last && !follow => None,
                    Some(_) if last && is_magic(area, below) => {
                        let path = below.to_vec();
                        return Ok(Found::Kernels(File { area, path, magic: true }));
                    }
                    Some(target) if is_magic(area, below) => {
                        magic_way = true;
                        // `pipe:[1]` is no folder.
                        if target.first() != Some(&b'/') {
                            return Err(Errno::NOTDIR);
                        }
                        Some(target)
                    }
                    target => target,
                }
            }
            // The root of one of them, whatever it is in the step's root.
            Some(_) => None,
            None if last && !follow => None,
            None => match tree.link(&at) {
                Ok(target) => target,
                // It may be made; or else the kernel says the same.
                Err(Errno::NOENT) if magic_way && last => None,
                Err(error) if magic_way => return Err(error),
                Err(_) => return Ok(Found::Outside),
            },
        };
        if let Some(target) = target {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let parent = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            at.truncate(if target.first() == Some(&b'/') { 0 } else { parent });
            push(&mut rest, &target);
        }
    }
    Ok(match split(&at) {
        Some((area, below)) => Found::Kernels(File { area, path: below.to_vec(), magic: false }),
        None if magic_way && at.is_empty() => Found::InRoot(b"/".to_vec()),
        None if magic_way => Found::InRoot(at),
        None => Found::Outside,
    })
}

/// A path without slashes at its end.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    &path[..end]
}

fn push(rest: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    rest.extend(names.rev().map(<[u8]>::to_vec));
}

/// The target of a link of the kernel's, for the one who walks there.
fn seen(tree: &impl Tree, area: Area, below: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    if area == Area::Proc {
        let (process, thread) = tree.walker();
        match below {
            b"self" => return Ok(Some(process.to_string().into_bytes())),
            b"thread-self" => {
                return Ok(Some(format!("{process}/task/{thread}").into_bytes()));
            }
            _ => {}
        }
        if process_of(below).is_some_and(|pid| !tree.shows(pid)) {
            return Err(Errno::NOENT);
        }
    }
    if is_hidden(area, below) {
        return Err(Errno::NOENT);
    }
    tree.kernels_link(area, below)
}

/// The process whose folder of `/proc` a path leads into.
pub(super) fn process_of(below: &[u8]) -> Option<u32> {
    let first = below.split(|&byte| byte == b'/').next()?;
    str::from_utf8(first).ok()?.parse().ok()
}

/// What other tiers hide as well.
pub(super) fn is_hidden(area: Area, below: &[u8]) -> bool {
    super::super::super::mount::MASKED.iter().any(|masked| {
        split(masked.as_bytes()).is_some_and(|(of, name)| {
            let rest = below.strip_prefix(name);
            of == area && rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    })
}

/// Whether a link leads not to a name but to a file itself (proc(5)).
fn is_magic(area: Area, below: &[u8]) -> bool {
    if area != Area::Proc || process_of(below).is_none() {
        return false;
    }
    let names: Vec<&[u8]> = below.split(|&byte| byte == b'/').skip(1).collect();
    let own = match names.as_slice() {
        [b"task", _, own @ ..] => own,
        own => own,
    };
    matches!(own, [b"cwd" | b"root" | b"exe"] | [b"fd" | b"ns" | b"map_files", _])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table;

    impl Tree for Table {
        fn link(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
            let links: &[(&[u8], &[u8])] = &[
                (b"/etc/mtab", b"../proc/self/mounts"),
                (b"/dev/stdin", b"/proc/self/fd/0"),
                (b"/dev/fd", b"/proc/self/fd"),
                (b"/round", b"round"),
                (b"/kernel", b"/proc/sys/kernel/"),
            ];
            if path.starts_with(b"/gone") || path.ends_with(b"/new") {
                return Err(Errno::NOENT);
            }
            Ok(links.iter().find(|(name, _)| *name == path).map(|(_, target)| target.to_vec()))
        }

        fn kernels_link(&self, area: Area, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
            let links: &[(Area, &[u8], &[u8])] = &[
                (Area::Proc, b"mounts", b"self/mounts"),
                (Area::Proc, b"net", b"self/net"),
                (Area::Proc, b"7/fd/0", b"pipe:[1]"),
                (Area::Proc, b"7/fd/3", b"/srv/file"),
                (Area::Proc, b"7/cwd", b"/srv"),
                (Area::Proc, b"7/task/8/root", b"/"),
                (Area::Sys, b"class/net/lo", b"../../devices/virtual/net/lo"),
            ];
            if path == b"nothing" {
                return Err(Errno::NOENT);
            }
            let found = links.iter().find(|(of, name, _)| *of == area && *name == path);
            Ok(found.map(|(.., target)| target.to_vec()))
        }

        fn shows(&self, pid: u32) -> bool {
            pid != 1
        }

        fn walker(&self) -> (u32, u32) {
            (7, 8)
        }
    }

    #[test]
    fn where_paths_lead() {
        let file =
            |area, path: &str, magic| Ok(Found::Kernels(File { area, path: path.into(), magic }));
        let proc = |path: &str| file(Area::Proc, path, false);
        let magic = |path: &str| file(Area::Proc, path, true);
        let in_root = |path: &str| Ok(Found::InRoot(path.into()));
        for (folder, path, follow, expected) in [
            ("/", "/proc/meminfo", true, proc("meminfo")),
            ("/", "//proc//./meminfo", true, proc("meminfo")),
            ("/", "/usr/../proc/", true, proc("")),
            ("/", "/proc/self/status", true, proc("7/status")),
            ("/", "/proc/self", false, proc("self")),
            ("/", "/proc/self", true, proc("7")),
            ("/", "/proc/self/", false, proc("7")),
            ("/", "/proc/self/.", false, proc("7")),
            ("/", "/proc/thread-self/comm", true, proc("7/task/8/comm")),
            ("/", "/proc/mounts", true, proc("7/mounts")),
            ("/", "/proc/mounts", false, proc("mounts")),
            ("/", "/etc/mtab", true, proc("7/mounts")),
            ("/", "/etc/mtab", false, Ok(Found::Outside)),
            ("/", "/dev/stdin", true, magic("7/fd/0")),
            ("/", "/dev/fd/3", true, magic("7/fd/3")),
            ("/", "/dev/fd/3", false, proc("7/fd/3")),
            ("/", "/proc/self/fd/0/x", true, Err(Errno::NOTDIR)),
            ("/", "/proc/self/cwd", true, magic("7/cwd")),
            ("/", "/proc/self/cwd/a", true, in_root("/srv/a")),
            ("/", "/proc/self/cwd/new", true, in_root("/srv/new")),
            ("/", "/proc/self/cwd/new/b", true, Err(Errno::NOENT)),
            ("/", "/proc/self/cwd/../proc/stat", true, proc("stat")),
            ("/", "/proc/7/task/8/root/..", true, in_root("/")),
            ("/", "/proc/1/status", true, Err(Errno::NOENT)),
            ("/", "/proc/1", true, Err(Errno::NOENT)),
            ("/", "/proc/kcore", true, Err(Errno::NOENT)),
            ("/", "/proc/acpi/x", true, Err(Errno::NOENT)),
            ("/", "/proc/acpix", true, proc("acpix")),
            ("/", "/proc/nothing", true, Err(Errno::NOENT)),
            ("/", "/proc/../etc/passwd", true, Ok(Found::Outside)),
            ("/", "/proc/.0/exe", true, Ok(Found::Outside)),
            ("/", "/sys/firmware", true, Err(Errno::NOENT)),
            (
                "/",
                "/sys/class/net/lo/mtu",
                true,
                file(Area::Sys, "devices/virtual/net/lo/mtu", false),
            ),
            ("/", "/process", true, Ok(Found::Outside)),
            ("/", "/gone/x", true, Ok(Found::Outside)),
            ("/", "/round/x", true, Err(Errno::LOOP)),
            ("/", "/kernel/ostype", true, proc("sys/kernel/ostype")),
            ("/proc", "meminfo", true, proc("meminfo")),
            ("/proc", "..", true, Ok(Found::Outside)),
            ("/proc/7/fd", "../status", true, proc("7/status")),
            ("/srv", "../proc/stat", true, proc("stat")),
            ("/srv", "../../../proc/self/../stat", true, proc("stat")),
        ] {
            let found = walk(&Table, folder.as_bytes(), path.as_bytes(), follow);
            assert_eq!(found, expected, "{folder} {path}");
        }
    }
}
