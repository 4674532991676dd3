//! Changes of owner, and attributes that records are kept in.

use rustix::fs::{AtFlags, FileType, Gid, Mode, Statx, Uid, chownat};
use rustix::io::Errno;

use super::super::record::{self, Owner};
use super::super::spec::Emulation;
use super::Supervisor;
use super::calls::Call;
use super::ids::{Credentials, KEEP};
use super::notify::{Answer, Notice};
use super::place::{Named, look, of_fd};

/// The kernel's limit of a list of names, and that of one name.
const LIST_MAX: usize = 1 << 16;
const NAME_MAX: usize = 256;

/// The overflow ID, and by custom the user with no rights.
pub(super) const NOBODY: u32 = 65534;

/// `CAP_CHOWN`, in a set of capabilities.
const CAP_CHOWN: u32 = 0;

impl Supervisor {
    pub(super) fn chown(
        &self,
        notice: &Notice,
        named: &Named,
        uid: u32,
        gid: u32,
    ) -> Result<Answer, Errno> {
        if self.stays_roots(notice, named, uid, gid) {
            return Ok(Answer::Continue);
        }
        self.change_owner(notice, named, uid, gid)
    }

    /// By a descriptor, which must be open for more than its place.
    pub(super) fn fchown(
        &self,
        notice: &Notice,
        fd: u64,
        uid: u32,
        gid: u32,
    ) -> Result<Answer, Errno> {
        let named = Named::descriptor(fd);
        if self.stays_roots(notice, &named, uid, gid) || is_place(notice.pid, named.folder) {
            return Ok(Answer::Continue);
        }
        self.change_owner(notice, &named, uid, gid)
    }

    fn change_owner(
        &self,
        notice: &Notice,
        named: &Named,
        uid: u32,
        gid: u32,
    ) -> Result<Answer, Errno> {
        let Ok(fd) = self.open(notice, named) else { return Ok(Answer::Continue) };
        let stat = look(&fd)?;
        let recorded = self.recorded(&fd, &stat)?;
        let old = recorded.unwrap_or(Owner { uid: stat.stx_uid, gid: stat.stx_gid });
        let pick = |id: u32, old: u32| if id == KEEP { old } else { id };
        let new = Owner { uid: pick(uid, old.uid), gid: pick(gid, old.gid) };
        match self.emulation {
            Emulation::Ids => {
                let known = self.sets.of(notice.pid);
                if recorded.is_some() || !is_socket(&stat) {
                    may_change(&known.credentials, old, uid, gid)?;
                }
                // For what a change of owner does besides: it copies the file up, clears
                // set-ID bits and capabilities, and sets the time of change.
                let root = |id: u32| if id == KEEP { KEEP } else { 0 };
                let changed =
                    chownat(&fd, "", uid_of(root(uid)), gid_of(root(gid)), AtFlags::EMPTY_PATH);
                if changed.is_err() && !is_borrowed_device(&stat, changed) {
                    return Err(changed.err().unwrap_or(Errno::PERM));
                }
                if new != old || recorded.is_some() {
                    let device = self.recorded_device(&fd, &stat).is_some();
                    self.record(&fd, &stat, new, device || !new.is_root())?;
                }
            }
            Emulation::Records | Emulation::Files => {
                let inside = |id: u32| u64::from(id) < self.ids;
                if inside(new.uid) && inside(new.gid) && recorded.is_none() {
                    return Ok(Answer::Continue);
                }
                if !holds_capability(notice.pid, CAP_CHOWN) {
                    return Ok(Answer::Continue);
                }
                // What the kernel cannot express is nobody's to it: not root's, whose
                // rights a set-ID bit would give away.
                let nobody = u64::from(NOBODY).min(self.ids - 1) as u32;
                let real = |id: u32| if inside(id) { id } else { nobody };
                chownat(
                    &fd,
                    "",
                    uid_of(real(new.uid)),
                    gid_of(real(new.gid)),
                    AtFlags::EMPTY_PATH,
                )?;
                let device = self.recorded_device(&fd, &stat).is_some();
                let needed = device || !inside(new.uid) || !inside(new.gid);
                self.record(&fd, &stat, new, needed)?;
            }
        }
        Ok(Answer::Value(0))
    }

    /// Whether root gives to root what is root's, as package managers do with most files:
    /// the kernel does that alone.
    fn stays_roots(&self, notice: &Notice, named: &Named, uid: u32, gid: u32) -> bool {
        let root = |id: u32| id == 0 || id == KEEP;
        if self.emulation != Emulation::Ids || !root(uid) || !root(gid) || self.specials.any() {
            return false;
        }
        let follow = named.follow || named.path.is_empty();
        let unrecorded = || {
            // A device in `/dev` is not the kernel's to give away.
            let found = self.at(notice, named, |path| match self.recorded_at(path, follow) {
                Some(_) => Ok(false),
                None => Ok(!path.to_bytes().starts_with(b"/dev/")),
            });
            found.unwrap_or(false)
        };
        self.sets.of(notice.pid).credentials.rules_files() && unrecorded()
    }

    /// Files are about to get other names: one that a lower layer lists by its path is
    /// copied up first, and its owner recorded.
    pub(super) fn carry(&self, notice: &Notice, files: &[Named]) -> Result<Answer, Errno> {
        for named in files {
            let Ok(fd) = self.open(notice, named) else { continue };
            let stat = look(&fd)?;
            let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
            if matches!(kind, FileType::RegularFile | FileType::Directory) {
                continue;
            }
            if let Some(owner) = self.recorded(&fd, &stat)? {
                chownat(&fd, "", uid_of(0), gid_of(0), AtFlags::EMPTY_PATH)?;
                self.record(&fd, &stat, owner, true)?;
            }
        }
        Ok(Answer::Continue)
    }

    /// The names of attributes without kiln's own.
    pub(super) fn list_attributes(
        &self,
        notice: &Notice,
        named: &Named,
        out: u64,
        size: u64,
    ) -> Result<Answer, Errno> {
        let follow = named.follow || named.path.is_empty();
        let recorded = self.at(notice, named, |path| Ok(self.recorded_at(path, follow)));
        if !matches!(recorded, Ok(Some(_))) {
            return Ok(Answer::Continue);
        }
        let fd = self.open(notice, named)?;
        let mut names: Vec<u8> = Vec::with_capacity(LIST_MAX);
        rustix::fs::listxattr(of_fd(&fd), rustix::buffer::spare_capacity(&mut names))?;
        let own = record::PREFIX.as_bytes();
        let kept: Vec<u8> = names
            .split_inclusive(|&byte| byte == 0)
            .filter(|name| !name.starts_with(own))
            .flatten()
            .copied()
            .collect();
        // The kernel's lists are at most 64 KiB.
        let length = i64::try_from(kept.len()).map_err(|_| Errno::TOOBIG)?;
        if size != 0 {
            if (kept.len() as u64) > size {
                return Err(Errno::RANGE);
            }
            self.still(notice)?;
            notice.write(out, &kept)?;
        }
        Ok(Answer::Value(length))
    }

    /// A record is no attribute to a program, which can neither see, take away nor make
    /// one; and some attributes are for root to change.
    pub(super) fn one_attribute(
        &self,
        notice: &Notice,
        call: Call,
        name: u64,
    ) -> Result<Answer, Errno> {
        let Ok(name) = notice.text(name, NAME_MAX) else { return Ok(Answer::Continue) };
        let (sets, gets) = (call.sets_attribute(), call.gets_attribute());
        if name.starts_with(record::PREFIX.as_bytes()) {
            return Err(if sets { Errno::NOTSUP } else { Errno::NODATA });
        }
        let rooted = name.starts_with(b"security.") && self.emulation == Emulation::Ids && !gets;
        if rooted && !self.sets.of(notice.pid).credentials.rules_files() {
            return Err(Errno::PERM);
        }
        Ok(Answer::Continue)
    }

    pub(super) fn fchmod(&self, notice: &Notice, fd: u64, mode: u32) -> Result<Answer, Errno> {
        let named = Named::descriptor(fd);
        let rules = self.sets.of(notice.pid).credentials.rules_files();
        if rules || is_place(notice.pid, named.folder) {
            return Ok(Answer::Continue);
        }
        self.chmod(notice, &named, mode)
    }

    /// A change of mode: for the owner, who marks no file with a group of others.
    pub(super) fn chmod(&self, notice: &Notice, named: &Named, mode: u32) -> Result<Answer, Errno> {
        let who = self.sets.of(notice.pid).credentials;
        if who.rules_files() {
            return Ok(Answer::Continue);
        }
        let Ok(fd) = self.open(notice, named) else { return Ok(Answer::Continue) };
        let stat = look(&fd)?;
        let recorded = self.recorded(&fd, &stat)?;
        if recorded.is_none() && is_socket(&stat) {
            return Ok(Answer::Continue);
        }
        let kernels = Owner { uid: stat.stx_uid, gid: stat.stx_gid };
        let owner = recorded.unwrap_or(kernels);
        if owner.uid != who.uid.file {
            return Err(Errno::PERM);
        }
        if mode & libc::S_ISGID == 0 || who.in_group(owner.gid) {
            return Ok(Answer::Continue);
        }
        rustix::fs::chmod(of_fd(&fd), Mode::from_raw_mode(mode & 0o7777 & !libc::S_ISGID))?;
        Ok(Answer::Value(0))
    }
}

/// Whether a descriptor names a file only (`O_PATH`): its owner and mode are not to be
/// changed by it.
fn is_place(pid: u32, fd: i32) -> bool {
    let info = std::fs::read_to_string(format!("{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_PATH != 0)
}

fn uid_of(id: u32) -> Option<Uid> {
    (id != KEEP).then(|| Uid::from_raw(id))
}

fn gid_of(id: u32) -> Option<Gid> {
    (id != KEEP).then(|| Gid::from_raw(id))
}

/// The kernel's rule (chown(2)): only root gives a file away; its owner may change
/// the group to one of their own.
fn may_change(who: &Credentials, old: Owner, uid: u32, gid: u32) -> Result<(), Errno> {
    if who.rules_files() || (uid, gid) == (KEEP, KEEP) {
        return Ok(());
    }
    let owns = old.uid == who.uid.file;
    let uid_fits = uid == KEEP || (owns && uid == old.uid);
    let gid_fits = gid == KEEP || (owns && (gid == old.gid || who.in_group(gid)));
    if uid_fits && gid_fits { Ok(()) } else { Err(Errno::PERM) }
}

/// Whose a socket is that `bind` made, nothing tells; most likely the caller's.
fn is_socket(stat: &Statx) -> bool {
    FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Socket
}

/// A device of the machine's own, put into `/dev`: nobody's here, and as good as
/// root's.
fn is_borrowed_device(stat: &Statx, changed: rustix::io::Result<()>) -> bool {
    let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
    changed == Err(Errno::PERM) && kind == FileType::CharacterDevice
}

/// Whether a capability is in effect for a process.
pub(super) fn holds_capability(pid: u32, capability: u32) -> bool {
    held(pid, "CapEff:") >> capability & 1 == 1
}

/// A set of capabilities of a process, as the kernel knows it: `CapEff:` and the like.
pub(super) fn held(pid: u32, set: &str) -> u64 {
    let status = std::fs::read_to_string(format!("{pid}/status")).unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix(set));
    held.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Whether a path leads to a folder whose set-group-ID bit gives new files its group.
pub(super) fn gives_group(folder: impl std::os::fd::AsFd) -> bool {
    rustix::fs::fstat(folder).is_ok_and(|stat| stat.st_mode & libc::S_ISGID != 0)
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::Ids;
    use super::*;

    #[test]
    fn who_may_change_an_owner() {
        let root = Credentials::new(&Ids::default());
        let user = Credentials::new(&Ids { uid: 7, gid: 8, groups: vec![8, 9] });
        let own = Owner { uid: 7, gid: 8 };
        let other = Owner { uid: 1, gid: 8 };
        for (who, old, uid, gid, allowed) in [
            (&root, other, 5, 5, true),
            (&user, own, KEEP, 9, true),
            (&user, own, 7, 9, true),
            (&user, own, 7, 8, true),
            (&user, own, KEEP, 10, false),
            (&user, own, 1, KEEP, false),
            (&user, other, KEEP, 9, false),
            (&user, other, 1, KEEP, false),
            (&user, other, KEEP, KEEP, true),
        ] {
            assert_eq!(may_change(who, old, uid, gid).is_ok(), allowed, "{old:?} {uid} {gid}");
        }
    }
}
