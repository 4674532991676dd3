//! The IDs that processes believe they have, and the kernel's rules for changing
//! them (credentials(7), setresuid(2), capabilities(7)).

use rustix::io::Errno;

use super::super::spec::Ids;

/// The four IDs of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Quad {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    /// Of the file system.
    pub(super) file: u32,
}

/// "Leave it as it is".
pub(super) const KEEP: u32 = u32::MAX;

impl Quad {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, file: id }
    }

    /// Whether an unprivileged process may take this for its effective ID.
    fn holds(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    fn set(self, id: u32, privileged: bool) -> Result<Self, Errno> {
        match id {
            KEEP => Err(Errno::INVAL),
            _ if privileged => Ok(Self::all(id)),
            _ if id == self.real || id == self.saved => {
                Ok(Self { effective: id, file: id, ..self })
            }
            _ => Err(Errno::PERM),
        }
    }

    fn set_two(self, real: u32, effective: u32, privileged: bool) -> Result<Self, Errno> {
        let mut new = self;
        if real != KEEP {
            if !privileged && real != self.real && real != self.effective {
                return Err(Errno::PERM);
            }
            new.real = real;
        }
        if effective != KEEP {
            if !privileged && !self.holds(effective) {
                return Err(Errno::PERM);
            }
            new.effective = effective;
        }
        if real != KEEP || (effective != KEEP && effective != self.real) {
            new.saved = new.effective;
        }
        new.file = new.effective;
        Ok(new)
    }

    fn set_three(self, ids: [u32; 3], privileged: bool) -> Result<Self, Errno> {
        if !privileged && ids.iter().any(|&id| id != KEEP && !self.holds(id)) {
            return Err(Errno::PERM);
        }
        let pick = |id: u32, old: u32| if id == KEEP { old } else { id };
        let [real, effective, saved] = ids;
        let effective = pick(effective, self.effective);
        Ok(Self {
            real: pick(real, self.real),
            effective,
            saved: pick(saved, self.saved),
            file: effective,
        })
    }

    /// The new IDs; unchanged if it is not allowed, as the call has no error.
    fn set_file(self, id: u32, privileged: bool) -> Self {
        if id != KEEP && (privileged || self.holds(id) || id == self.file) {
            return Self { file: id, ..self };
        }
        self
    }
}

/// How a call changes IDs of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// `setuid`.
    One(u32),
    /// `setreuid`.
    Two(u32, u32),
    /// `setresuid`.
    Three([u32; 3]),
    /// `setfsuid`, which answers with the old ID.
    File(u32),
}

impl Change {
    fn of(self, old: Quad, privileged: bool) -> Result<Quad, Errno> {
        match self {
            Self::One(id) => old.set(id, privileged),
            Self::Two(real, effective) => old.set_two(real, effective, privileged),
            Self::Three(ids) => old.set_three(ids, privileged),
            Self::File(id) => Ok(old.set_file(id, privileged)),
        }
    }
}

/// Who a process believes to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    pub(super) uid: Quad,
    pub(super) gid: Quad,
    pub(super) groups: Vec<u32>,
    /// It may have root's capabilities.
    permitted: bool,
    /// It has them at the moment.
    effective: bool,
    /// It asked to keep them when it ceases to be root.
    keep: bool,
    /// The execution of a set-ID program gains it nothing.
    pub(super) no_new_privileges: bool,
}

/// What a process asks its capabilities to be, of those that count here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capabilities {
    pub(super) permitted: bool,
    pub(super) effective: bool,
}

impl Credentials {
    pub(super) fn new(ids: &Ids) -> Self {
        let root = ids.uid == 0;
        Self {
            uid: Quad::all(ids.uid),
            gid: Quad::all(ids.gid),
            groups: ids.groups.clone(),
            permitted: root,
            effective: root,
            keep: false,
            no_new_privileges: false,
        }
    }

    /// Whether root's rights over IDs are in effect.
    pub(super) fn privileged(&self) -> bool {
        self.effective
    }

    /// Whether it may have them in effect.
    pub(super) fn permitted(&self) -> bool {
        self.permitted
    }

    /// Whether files it makes are root's.
    pub(super) fn root_of_files(&self) -> bool {
        self.uid.file == 0
    }

    /// Whether it may do anything to files of others. These rights go with the ID of the
    /// file system; one that is no longer root may have raised them again.
    pub(super) fn rules_files(&self) -> bool {
        self.effective && (self.uid.file == 0 || self.uid.effective != 0)
    }

    /// Whether it is root in every way, so that nothing is denied to it.
    pub(super) fn is_wholly_root(&self) -> bool {
        self.rules_files() && self.uid.real == 0
    }

    /// Whether it is in this group when files are concerned.
    pub(super) fn in_group(&self, gid: u32) -> bool {
        self.gid.file == gid || self.groups.contains(&gid)
    }

    /// With the kernel's rules for capabilities (capabilities(7), "Effect of user ID
    /// changes on capabilities").
    pub(super) fn change_uid(&self, change: Change) -> Result<Self, Errno> {
        let old = self.uid;
        let uid = change.of(old, self.privileged())?;
        let mut new = Self { uid, ..self.clone() };
        if old.holds(0) && !uid.holds(0) {
            new.permitted &= self.keep;
        }
        if uid.effective == 0 && old.effective != 0 {
            new.effective = new.permitted;
        } else if uid.effective != 0 && old.effective == 0 {
            new.effective = false;
        }
        new.effective &= new.permitted;
        Ok(new)
    }

    /// By capset(2).
    pub(super) fn change_capabilities(&self, asked: Capabilities) -> Result<Self, Errno> {
        let Capabilities { permitted, effective } = asked;
        if permitted && !self.permitted || effective && !permitted {
            return Err(Errno::PERM);
        }
        Ok(Self { permitted, effective, ..self.clone() })
    }

    pub(super) fn change_gid(&self, change: Change) -> Result<Self, Errno> {
        Ok(Self { gid: change.of(self.gid, self.privileged())?, ..self.clone() })
    }

    pub(super) fn change_groups(&self, groups: Vec<u32>) -> Result<Self, Errno> {
        if !self.privileged() {
            return Err(Errno::PERM);
        }
        let mut groups = groups;
        // The kernel keeps and shows them sorted.
        groups.sort_unstable();
        Ok(Self { groups, ..self.clone() })
    }

    pub(super) fn keep_capabilities(&self, keep: bool) -> Self {
        Self { keep, ..self.clone() }
    }

    /// From now on set-ID programs gain it nothing.
    pub(super) fn refuse_privileges(&self) -> Self {
        Self { no_new_privileges: true, ..self.clone() }
    }

    /// After a program was executed whose file has set-ID bits of these owners.
    pub(super) fn executed(&self, set_uid: Option<u32>, set_gid: Option<u32>) -> Self {
        let with = |old: Quad, id: Option<u32>| {
            let effective = id.unwrap_or(old.effective);
            Quad { effective, saved: effective, file: effective, ..old }
        };
        let (uid, gid) = (with(self.uid, set_uid), with(self.gid, set_gid));
        let permitted = uid.real == 0 || uid.effective == 0;
        let effective = uid.effective == 0;
        Self { uid, gid, permitted, effective, keep: false, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Credentials {
        Credentials::new(&Ids { uid, gid: uid, groups: vec![uid] })
    }

    fn quad(real: u32, effective: u32, saved: u32) -> Quad {
        Quad { real, effective, saved, file: effective }
    }

    #[test]
    fn changes() {
        let root = quad(0, 0, 0);
        let aside = quad(0, 7, 0);
        let plain = quad(7, 7, 7);
        let raised = quad(7, 0, 0);
        let no = Err(Errno::PERM);
        for (old, change, privileged, expected) in [
            (root, Change::One(7), true, Ok(plain)),
            (root, Change::One(KEEP), true, Err(Errno::INVAL)),
            (plain, Change::One(0), false, no),
            (plain, Change::One(7), false, Ok(plain)),
            (aside, Change::One(0), false, Ok(root)),
            (root, Change::Two(7, KEEP), true, Ok(quad(7, 0, 0))),
            (root, Change::Two(KEEP, 7), true, Ok(quad(0, 7, 7))),
            (aside, Change::Two(KEEP, 0), false, Ok(quad(0, 0, 0))),
            (plain, Change::Two(KEEP, 0), false, no),
            (raised, Change::Two(0, 7), true, Ok(quad(0, 7, 7))),
            (root, Change::Three([7, 8, 9]), true, Ok(quad(7, 8, 9))),
            (root, Change::Three([KEEP, 7, KEEP]), true, Ok(aside)),
            (aside, Change::Three([KEEP, 0, KEEP]), false, Ok(root)),
            (plain, Change::Three([0, KEEP, KEEP]), false, no),
            (quad(7, 8, 9), Change::Three([9, 7, 8]), false, Ok(quad(9, 7, 8))),
            (root, Change::File(7), true, Ok(Quad { file: 7, ..root })),
            (plain, Change::File(0), false, Ok(plain)),
            (plain, Change::File(KEEP), false, Ok(plain)),
        ] {
            assert_eq!(change.of(old, privileged), expected, "{old:?} {change:?}");
        }
    }

    #[test]
    fn privileges() {
        let root = user(0);
        assert!(root.privileged() && root.root_of_files());
        let dropped = root.change_uid(Change::One(7)).unwrap();
        assert!(!dropped.privileged() && !dropped.root_of_files());
        assert_eq!(dropped.change_groups(vec![]), Err(Errno::PERM));
        let aside = root.change_uid(Change::Three([KEEP, 7, KEEP])).unwrap();
        assert!(!aside.privileged());
        assert!(aside.change_uid(Change::Three([KEEP, 0, KEEP])).unwrap().privileged());

        // setpriv takes on the user first, raises its rights again, and then the groups.
        let all = Capabilities { permitted: true, effective: true };
        let kept = root.keep_capabilities(true).change_uid(Change::Three([7; 3])).unwrap();
        assert!(!kept.privileged());
        let kept = kept.change_capabilities(all).unwrap();
        assert!(kept.privileged() && !kept.root_of_files() && kept.rules_files());
        let raised = aside.change_capabilities(all).unwrap();
        assert!(raised.privileged());
        assert_eq!(dropped.change_capabilities(all), Err(Errno::PERM));
        assert!(!root.change_uid(Change::File(7)).unwrap().rules_files());
        let kept = kept.keep_capabilities(false);
        assert_eq!(kept.change_groups(vec![9, 8]).unwrap().groups, [8, 9]);
        assert!(!kept.executed(None, None).privileged());

        // sudo: the real user stays.
        let sudo = user(7).executed(Some(0), None);
        assert!(sudo.privileged());
        assert_eq!(sudo.uid, quad(7, 0, 0));
        assert_eq!(sudo.change_uid(Change::One(0)).unwrap().uid, quad(0, 0, 0));
        assert_eq!(user(7).executed(None, Some(42)).gid, quad(7, 42, 42));
        // Real root that executes another user's set-user-ID program.
        let man = root.executed(Some(6), None);
        assert!(!man.privileged());
        assert!(man.change_uid(Change::One(0)).unwrap().privileged());
    }
}
