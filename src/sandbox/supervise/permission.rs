//! Who may do what to a file: the kernel's rules (path_resolution(7), unlink(2), and the
//! settings of fs.protected_* in proc_sys_fs(5)), for who is not privileged. ACLs are left
//! out: those of others than owner and group cannot be made where this is asked.

use std::sync::Arc;

use super::super::record::Owner;
use super::ids::Credentials;

/// What is asked for, as in a mode and in access(2).
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;

/// On whose behalf something is done. It has no capabilities.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    uid: u32,
    gid: u32,
    credentials: Arc<Credentials>,
}

/// What a rule looks at: whose a file is, and its type and mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owned {
    pub(super) owner: Owner,
    pub(super) mode: u32,
}

impl Owned {
    fn is_sticky(self) -> bool {
        self.mode & libc::S_ISVTX != 0
    }

    fn is_of(self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }
}

/// What the mode alone says, if it says the same to its owner, the group and others.
pub(super) fn by_mode_alone(mode: u32, want: u32) -> Option<bool> {
    let granted = |shift: u32| mode >> shift & want == want;
    let [owner, group, others] = [granted(6), granted(3), granted(0)];
    (owner == group && group == others).then_some(owner)
}

impl Viewer {
    /// Whoever acts on files; `None` if nothing is denied to them.
    pub(super) fn acting(credentials: &Arc<Credentials>) -> Option<Self> {
        let Credentials { uid, gid, .. } = **credentials;
        let credentials = credentials.clone();
        (!credentials.rules_files()).then_some(Self { uid: uid.file, gid: gid.file, credentials })
    }

    /// Who access(2) asks for: the real user, who has root's rights if it is root.
    pub(super) fn real(credentials: &Arc<Credentials>) -> Option<Self> {
        let Credentials { uid, gid, .. } = **credentials;
        let credentials = credentials.clone();
        let root = uid.real == 0 && credentials.permitted();
        (!root).then_some(Self { uid: uid.real, gid: gid.real, credentials })
    }

    pub(super) fn own(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    pub(super) fn owns(&self, file: Owned) -> bool {
        file.owner.uid == self.uid
    }

    /// The class of the mode that holds for this one: just one does.
    pub(super) fn may(&self, file: Owned, want: u32) -> bool {
        let Owned { owner, mode } = file;
        let shift = if owner.uid == self.uid {
            6
        } else if owner.gid == self.gid || self.credentials.groups.contains(&owner.gid) {
            3
        } else {
            0
        };
        mode >> shift & want == want
    }

    /// Whether a sticky folder that this one may write lets them take a file's name away.
    pub(super) fn may_unname(&self, folder: Owned, file: Owned) -> bool {
        !folder.is_sticky() || self.owns(file) || self.owns(folder)
    }

    /// Whether it may give another name to a file (fs.protected_hardlinks).
    pub(super) fn may_link(&self, file: Owned, settings: Settings) -> bool {
        let marked = libc::S_ISGID | libc::S_IXGRP;
        let safe = file.is_of(libc::S_IFREG)
            && file.mode & libc::S_ISUID == 0
            && file.mode & marked != marked
            && self.may(file, READ | WRITE);
        settings.hard_links == 0 || safe || self.owns(file)
    }

    /// Whether it may follow the symbolic link at a path's end (fs.protected_symlinks).
    pub(super) fn may_follow(&self, folder: Owned, link: Owned, settings: Settings) -> bool {
        let shared = folder.is_sticky() && folder.mode & libc::S_IWOTH != 0;
        settings.symbolic_links == 0
            || !shared
            || self.owns(link)
            || folder.owner.uid == link.owner.uid
    }

    /// Whether it may open what is there though it asked to make it (fs.protected_regular,
    /// fs.protected_fifos).
    pub(super) fn may_take(&self, folder: Owned, file: Owned, settings: Settings) -> bool {
        let level = match file.mode & libc::S_IFMT {
            libc::S_IFREG => settings.regular,
            libc::S_IFIFO => settings.fifos,
            _ => 0,
        };
        let shared = match level {
            0 => 0,
            1 => libc::S_IWOTH,
            _ => libc::S_IWOTH | libc::S_IWGRP,
        };
        !folder.is_sticky()
            || folder.mode & shared == 0
            || self.owns(file)
            || file.owner.uid == folder.owner.uid
    }
}

/// The machine's settings, fs.protected_*.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) hard_links: u32,
    pub(super) symbolic_links: u32,
    pub(super) regular: u32,
    pub(super) fifos: u32,
}

impl Settings {
    /// Those of this machine; one that it does not have is off.
    pub(super) fn read() -> Self {
        let one = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/fs/protected_{name}"));
            text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            hard_links: one("hardlinks"),
            symbolic_links: one("symlinks"),
            regular: one("regular"),
            fifos: one("fifos"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::Ids;
    use super::super::ids::{Change, KEEP};
    use super::*;

    fn credentials(uid: u32, gid: u32, groups: &[u32]) -> Arc<Credentials> {
        Arc::new(Credentials::new(&Ids { uid, gid, groups: groups.to_vec() }))
    }

    fn ann() -> Viewer {
        Viewer::acting(&credentials(7, 8, &[8, 9])).unwrap()
    }

    fn owned(uid: u32, gid: u32, mode: u32) -> Owned {
        Owned { owner: Owner { uid, gid }, mode }
    }

    const FILE: u32 = libc::S_IFREG;

    #[test]
    fn one_class_counts() {
        for (uid, gid, mode, want, expected) in [
            (7, 8, 0o400, READ, true),
            (7, 8, 0o400, WRITE, false),
            // The owner's, though others may more.
            (7, 8, 0o077, READ, false),
            (7, 8, 0o700, READ | WRITE | EXECUTE, true),
            (1, 8, 0o040, READ, true),
            (1, 9, 0o040, READ, true),
            (1, 9, 0o706, READ, false),
            (1, 2, 0o770, READ, false),
            (1, 2, 0o005, READ | EXECUTE, true),
            (1, 2, 0o005, READ | WRITE, false),
            (1, 2, 0o000, 0, true),
        ] {
            assert_eq!(ann().may(owned(uid, gid, mode), want), expected, "{uid}:{gid} {mode:o}");
        }
    }

    #[test]
    fn modes_that_say_it_alone() {
        for (mode, want, expected) in [
            (0o755, EXECUTE, Some(true)),
            (0o755, READ | EXECUTE, Some(true)),
            (0o755, WRITE, None),
            (0o700, EXECUTE, None),
            (0o644, EXECUTE, Some(false)),
            (0o000, READ, Some(false)),
            (0o000, 0, Some(true)),
        ] {
            assert_eq!(by_mode_alone(mode, want), expected, "{mode:o} {want}");
        }
    }

    #[test]
    fn names_in_sticky_folders() {
        for (folder, file, expected) in [
            (owned(0, 0, 0o777), owned(0, 0, 0), true),
            (owned(0, 0, 0o1777), owned(0, 0, 0), false),
            (owned(0, 0, 0o1777), owned(7, 0, 0), true),
            (owned(7, 0, 0o1777), owned(0, 0, 0), true),
            (owned(0, 8, 0o1777), owned(0, 8, 0o777), false),
        ] {
            assert_eq!(ann().may_unname(folder, file), expected, "{folder:?} {file:?}");
        }
    }

    #[test]
    fn settings_of_the_machine() {
        let on = Settings { hard_links: 1, symbolic_links: 1, regular: 2, fifos: 1 };
        let off = Settings::default();
        for (file, expected) in [
            (owned(7, 0, FILE), true),
            (owned(0, 0, FILE | 0o666), true),
            (owned(0, 0, FILE | 0o644), false),
            (owned(0, 0, FILE | 0o4666), false),
            (owned(0, 0, FILE | 0o2676), false),
            (owned(0, 0, FILE | 0o2666), true),
            (owned(0, 0, libc::S_IFLNK | 0o777), false),
        ] {
            assert_eq!(ann().may_link(file, on), expected, "{file:?}");
            assert!(ann().may_link(file, off));
        }
        for (folder, link, expected) in [
            (owned(0, 0, 0o1777), owned(7, 0, 0), true),
            (owned(0, 0, 0o1777), owned(0, 0, 0), true),
            (owned(0, 0, 0o1777), owned(5, 0, 0), false),
            (owned(0, 0, 0o0777), owned(5, 0, 0), true),
            (owned(0, 0, 0o1775), owned(5, 0, 0), true),
        ] {
            assert_eq!(ann().may_follow(folder, link, on), expected, "{folder:?} {link:?}");
            assert!(ann().may_follow(folder, link, off));
        }
        let fifo = libc::S_IFIFO;
        for (folder, file, expected) in [
            (owned(0, 0, 0o1777), owned(5, 0, FILE), false),
            (owned(0, 0, 0o1775), owned(5, 0, FILE), false),
            (owned(0, 0, 0o1755), owned(5, 0, FILE), true),
            (owned(0, 0, 0o0777), owned(5, 0, FILE), true),
            (owned(0, 0, 0o1777), owned(7, 0, FILE), true),
            (owned(5, 0, 0o1777), owned(5, 0, FILE), true),
            (owned(0, 0, 0o1777), owned(5, 0, fifo), false),
            (owned(0, 0, 0o1775), owned(5, 0, fifo), true),
            (owned(0, 0, 0o1777), owned(5, 0, libc::S_IFCHR), true),
        ] {
            assert_eq!(ann().may_take(folder, file, on), expected, "{folder:?} {file:?}");
            assert!(ann().may_take(folder, file, off));
        }
    }

    #[test]
    fn who_is_looked_at() {
        let root = credentials(0, 0, &[]);
        assert!(Viewer::acting(&root).is_none() && Viewer::real(&root).is_none());
        let set = |ids| Arc::new(root.change_uid(Change::Three(ids)).unwrap());
        // A set-user-ID program of root's, and root that stepped aside.
        let raised = set([7, 0, 0]);
        assert!(Viewer::acting(&raised).is_none());
        assert_eq!(Viewer::real(&raised).unwrap().uid, 7);
        let aside = set([KEEP, 7, KEEP]);
        assert_eq!(Viewer::acting(&aside).unwrap().uid, 7);
        assert!(Viewer::real(&aside).is_none());
        let files = Arc::new(root.change_uid(Change::File(7)).unwrap());
        assert_eq!(Viewer::acting(&files).unwrap().uid, 7);
    }
}
