//! Which IDs a user namespace gets: `/etc/subuid` and `/etc/subgid`
//! (subuid(5)), and the set-user-ID helpers that write the maps (newuidmap(1)).
//!
//! The account's name is read from `/etc/passwd` by hand, since the C library's
//! look-up loads plug-ins, which a static program must not. Names that only a
//! directory service knows are therefore found by their number.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::env;

/// `count` IDs from `first` on, outside the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// What a user namespace of this user holds: 0 is the user, 1 and up the ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Maps {
    pub(super) uids: Vec<Range>,
    pub(super) gids: Vec<Range>,
}

impl Maps {
    /// The maps of the user, or why there are none.
    pub(super) fn of_user(uid: u32, gid: u32) -> Result<Self, String> {
        let name = fs::read_to_string("/etc/passwd").ok().and_then(|text| user_name(&text, uid));
        let read = |path: &str, own: u32| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let ranges = parse(&text, name.as_deref(), uid, own);
            let who = name.clone().unwrap_or_else(|| uid.to_string());
            if ranges.is_empty() {
                return Err(format!(
                    "{path} has no line for the user: add `{who}:100000:65536`, with a range \
                     that no other line has"
                ));
            }
            Ok(ranges)
        };
        Ok(Self { uids: read("/etc/subuid", uid)?, gids: read("/etc/subgid", gid)? })
    }

    /// IDs from 0 up to this exist as users and as groups.
    pub(super) fn count(&self) -> u32 {
        let sum = |ranges: &[Range]| {
            ranges.iter().fold(1_u32, |sum, range| sum.saturating_add(range.count))
        };
        sum(&self.uids).min(sum(&self.gids))
    }

    /// Writes the maps of the process, which waits in its new user namespace.
    pub(super) fn write(&self, pid: u32, uid: u32, gid: u32) -> Result<(), String> {
        run("newuidmap", pid, uid, &self.uids)?;
        run("newgidmap", pid, gid, &self.gids)
    }
}

/// The lines of the user by name or number. Ranges that overlap each other or
/// the user's own ID are cut, since the kernel refuses a map with them.
fn parse(text: &str, name: Option<&str>, uid: u32, own: u32) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(who), Some(first), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if Some(who) != name && who.parse() != Ok(uid) {
            continue;
        }
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else { continue };
        let end = u64::from(first) + u64::from(count);
        let overlaps = |other: &Range| {
            u64::from(first) < u64::from(other.first) + u64::from(other.count)
                && u64::from(other.first) < end
        };
        let holds_own = overlaps(&Range { first: own, count: 1 });
        if count == 0 || end > u64::from(u32::MAX) || holds_own || found.iter().any(overlaps) {
            continue;
        }
        found.push(Range { first, count });
    }
    found
}

/// The name of a uid in the text of a passwd(5) file.
fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

fn arguments(pid: u32, own: u32, ranges: &[Range]) -> Vec<u32> {
    let mut arguments = vec![pid, 0, own, 1];
    let mut inside = 1_u32;
    for range in ranges {
        arguments.extend([inside, range.first, range.count]);
        inside = inside.saturating_add(range.count);
    }
    arguments
}

fn run(program: &str, pid: u32, own: u32, ranges: &[Range]) -> Result<(), String> {
    let path = find(program)
        .ok_or_else(|| format!("{program} is not installed: install the package uidmap"))?;
    let output = Command::new(&path)
        .args(arguments(pid, own, ranges).iter().map(u32::to_string))
        .output()
        .map_err(|error| format!("run {}: {error}", path.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{} refused the map ({}): {}; it must be set-user-ID root or have the file capability \
         for it, and the ranges must be those of /etc/subuid and /etc/subgid",
        path.display(),
        output.status,
        said.trim().escape_debug()
    ))
}

/// Looks in `PATH` and then where distributions put it.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::get(env::PATH).unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(["/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_user() {
        let check = |text: &str, expected: &[(u32, u32)]| {
            let found: Vec<(u32, u32)> = parse(text, Some("ann"), 1000, 1000)
                .into_iter()
                .map(|range| (range.first, range.count))
                .collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("", &[]);
        check("ann:100000:65536\n", &[(100_000, 65536)]);
        check("1000:100000:65536", &[(100_000, 65536)]);
        check("bob:100000:65536\n# ann\nann\nann:x:y\nann:1:2:3", &[]);
        check("ann:100000:10\nbob:5:5\nann:300000:20", &[(100_000, 10), (300_000, 20)]);
        check("ann:100000:10\nann:100005:20", &[(100_000, 10)]);
        check("ann:100000:0\nann:4294967295:2", &[]);
        check("ann:999:10", &[]);
        check("annex:1:1\n10000:1:1", &[]);
    }

    #[test]
    fn names_in_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\n:x:7:7\nann:x:1000:1000::/:\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 0).as_deref(), Some("root"));
        assert_eq!(user_name(passwd, 7), None);
        assert_eq!(user_name(passwd, 5), None);
    }

    #[test]
    fn maps_are_contiguous_inside() {
        let ranges = [Range { first: 100_000, count: 10 }, Range { first: 300_000, count: 20 }];
        assert_eq!(arguments(42, 1000, &ranges), [42, 0, 1000, 1, 1, 100_000, 10, 11, 300_000, 20]);
        let maps = Maps { uids: ranges.to_vec(), gids: ranges[..1].to_vec() };
        assert_eq!(maps.count(), 11);
    }
}
