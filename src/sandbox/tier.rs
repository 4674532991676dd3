//! How much of a sandbox this machine grants, found by trying: nothing but the
//! real calls tells whether a kernel setting, a security module or an outer
//! container refuses them.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::conditions::Conditions;
use super::helper::{Helper, Zygote};
use super::idmap::Maps;
use super::message::{Event, Failure, Setup, Space, What};
use super::mount::Proc;
use super::spec::Emulation;
use super::supervise::{self, files};
use crate::digest::Digest;

/// Best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// Real root: no user namespace.
    Root,
    /// A user namespace with the user's ranges of `/etc/subuid` and `/etc/subgid`.
    Subuid,
    /// A user namespace that holds the user alone, as root; a supervisor emulates the
    /// other users.
    SingleId,
    /// Root without the right to mount: a plain folder as the root, and no namespaces.
    Chroot,
}

impl Tier {
    /// All of them, in that order.
    pub const ALL: [Self; 4] = [Self::Root, Self::Subuid, Self::SingleId, Self::Chroot];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Subuid => "subuid",
            Self::SingleId => "single-id",
            Self::Chroot => "chroot",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a store's file system can carry.
#[derive(Debug)]
pub(super) enum Storage {
    Overlay,
    /// No overlay, for this reason; trees are of this kind then.
    Plain {
        why: String,
        kind: String,
    },
}

/// The way into the sandbox's user namespace. One serves a whole build; it is
/// shared by reference between threads.
#[derive(Debug)]
pub struct Sandbox {
    tier: Tier,
    kind: String,
    /// IDs below this exist in it.
    ids: u64,
    /// Overlay keeps its marks in `user.overlay.*`.
    user_xattr: bool,
    /// Helpers are forked off it.
    zygote: Arc<Zygote>,
    refused: Vec<(Tier, String)>,
    /// What was found out about the store.
    pub(super) storage: OnceLock<Storage>,
    /// Which `/proc` there is.
    proc: OnceLock<Proc>,
    /// Why none can be served where none can be mounted.
    unserved: Option<String>,
    /// Whether the host can be given a name.
    named: OnceLock<bool>,
    conditions: Conditions,
}

impl Sandbox {
    /// Finds the best tier by trying each, or only `force`.
    ///
    /// # Errors
    /// If no tier works; the reasons are in the error.
    pub fn open(force: Option<Tier>) -> Result<Self, SandboxError> {
        Self::open_under(force, Conditions::Usual)
    }

    /// As [`Sandbox::open`], with other conditions for what runs in it.
    ///
    /// # Errors
    /// As [`Sandbox::open`].
    pub fn open_under(force: Option<Tier>, conditions: Conditions) -> Result<Self, SandboxError> {
        let mut refused = Vec::new();
        for tier in Tier::ALL {
            if force.is_some_and(|forced| forced != tier) {
                continue;
            }
            let tried = match tier {
                Tier::Root => root(conditions),
                Tier::Subuid => subuid(conditions),
                Tier::SingleId => single_id(conditions),
                Tier::Chroot => without_namespaces(conditions),
            };
            match tried {
                Ok(mut sandbox) => {
                    sandbox.refused = refused;
                    return Ok(sandbox);
                }
                Err(why) => refused.push((tier, why)),
            }
        }
        Err(SandboxError::NoTier { refused })
    }

    /// The choice and what it was made against, a line each.
    #[must_use]
    pub fn choice(&self) -> Vec<String> {
        let refused = self.refused.iter().map(|(tier, why)| format!("sandbox: not {tier}: {why}"));
        refused.chain([format!("sandbox: {}", self.tier)]).collect()
    }

    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Why each better tier was refused.
    #[must_use]
    pub fn refused(&self) -> &[(Tier, String)] {
        &self.refused
    }

    /// The name of the owner mapping, for trees that are kept on disk: `root`,
    /// `map-HASH`, `one-UID`, each with `-plain` where overlayfs cannot use them. Two
    /// sandboxes with one kind read each other's trees.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self.storage.get() {
            Some(Storage::Plain { kind, .. }) => kind,
            Some(Storage::Overlay) | None => &self.kind,
        }
    }

    /// Whether roots are plain folders, and trees have no marks of overlayfs.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.no_overlay().is_some()
    }

    /// Why no overlay can be mounted on the store that was [tried](Sandbox::try_store).
    #[must_use]
    pub fn no_overlay(&self) -> Option<&str> {
        match self.storage.get() {
            Some(Storage::Plain { why, .. }) => Some(why),
            Some(Storage::Overlay) | None => None,
        }
    }

    /// What is different here from other machines in this tier, once a store was tried.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> =
            self.proc.get().and_then(|proc| proc.note()).into_iter().map(str::to_owned).collect();
        if let (Tier::Chroot, Some(why)) = (self.tier, &self.unserved) {
            notes.push(format!("/proc and /sys are empty in steps: {why}"));
        } else if self.tier == Tier::Chroot && !self.serves(1) {
            notes.push(
                "/proc and /sys are served to steps of uid 0, for which set-user-ID programs gain \
                 nothing (no_new_privs); for steps of another USER, which may need sudo, both are \
                 empty"
                    .to_owned(),
            );
        }
        if !self.names_host() && self.tier != Tier::Chroot {
            notes.push(
                "the host name of steps is that of the container around, whose seccomp profile \
                 refuses another"
                    .to_owned(),
            );
        }
        notes
    }

    /// Whether a step of this user is served the kernel's files: not if it lost by that
    /// what set-user-ID programs give it.
    fn serves(&self, uid: u32) -> bool {
        let free = || files::has_admin() || rustix::thread::no_new_privs().unwrap_or(false);
        self.unserved.is_none() && (uid == 0 || free())
    }

    /// Whether a process gets the host name of its specification, once a store was tried.
    #[must_use]
    pub fn names_host(&self) -> bool {
        self.tier != Tier::Chroot && self.named.get() != Some(&false)
    }

    /// Finds out whether overlays can be mounted on a file system, by mounting one on
    /// `lower`, `upper` and `work` in a folder of it. Only the first store counts.
    ///
    /// # Errors
    /// If no helper can be had.
    pub fn try_store(&self, folder: &Path) -> Result<(), SandboxError> {
        if self.storage.get().is_some() {
            return Ok(());
        }
        let what = What::TryStore { folder: folder.to_path_buf(), user_xattr: self.user_xattr };
        let helper = self.helper(&what)?;
        let storage = match helper.event("try the store") {
            Ok((Event::Tried { overlay: None, proc, named }, _)) => {
                let _ = self.proc.set(proc);
                let _ = self.named.set(named);
                match self.conditions {
                    Conditions::Usual => Storage::Overlay,
                    Conditions::Changed => Storage::Plain {
                        why: "the conditions are changed on purpose".to_owned(),
                        kind: format!("{}-plain", self.kind),
                    },
                }
            }
            Ok((
                Event::Tried { overlay: Some(Failure::Setup { what, errno }), proc, named },
                _,
            )) => {
                let _ = self.proc.set(proc);
                let _ = self.named.set(named);
                let why = format!("{what}: {}", io::Error::from_raw_os_error(errno));
                Storage::Plain { why, kind: format!("{}-plain", self.kind) }
            }
            Ok((Event::Tried { overlay: Some(failure), .. }, _)) => return Err(failure.into()),
            Ok(_) => return Err(SandboxError::Channel(io::ErrorKind::InvalidData.into())),
            Err(error) => return Err(error),
        };
        // Another thread found the same.
        let _ = self.storage.set(storage);
        Ok(())
    }

    /// Which conditions processes have in it.
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        self.conditions
    }

    /// A helper for one thing to do.
    pub(super) fn helper(&self, what: &What) -> Result<Helper, SandboxError> {
        Helper::fork(&self.zygote, what)
    }

    /// Whether the sandbox has a user namespace of its own.
    pub(super) fn has_user_namespace(&self) -> bool {
        matches!(self.tier, Tier::Subuid | Tier::SingleId)
    }

    /// IDs below this exist for the kernel.
    pub(super) fn ids(&self) -> u64 {
        self.ids
    }

    /// What the kernel does not do here by itself.
    pub(super) fn emulation(&self) -> Option<Emulation> {
        match (self.tier, self.ids) {
            // By `serves`.
            (Tier::Chroot, _) => None,
            (_, 1) => Some(Emulation::Ids),
            // Real root of the machine.
            (Tier::Root, _) if !self.user_xattr => None,
            _ => Some(Emulation::Records),
        }
    }

    /// The same of a process of this user.
    pub(super) fn emulation_for(&self, uid: u32) -> Option<Emulation> {
        match self.tier {
            Tier::Chroot => self.serves(uid).then_some(Emulation::Files),
            _ => self.emulation(),
        }
    }

    /// Whether a process may run as this user or group: one that exists, or any where
    /// IDs are emulated.
    #[must_use]
    pub fn has_id(&self, id: u32) -> bool {
        id != u32::MAX && (u64::from(id) < self.ids || self.emulation() == Some(Emulation::Ids))
    }

    /// The prefix of overlayfs's own attributes on whiteouts and opaque folders.
    #[must_use]
    pub fn overlay_xattr(&self) -> &'static str {
        if self.user_xattr { "user.overlay." } else { "trusted.overlay." }
    }

    /// Refuses an ID that the kernel could not represent, and says what to change.
    pub(super) fn check_id(&self, what: &'static str, id: u32) -> Result<(), SandboxError> {
        if self.has_id(id) {
            return Ok(());
        }
        let range = format!("0 to {}", self.ids.saturating_sub(1));
        let hint = match self.tier {
            Tier::Root | Tier::Chroot => "widen the map of the container kiln runs in",
            Tier::Subuid | Tier::SingleId => {
                "widen the user's ranges in /etc/subuid and /etc/subgid, or choose the tier \
                 single-id, which emulates all IDs"
            }
        };
        let hint = hint.to_owned();
        Err(SandboxError::Unmapped { what, id, range, hint })
    }
}

fn ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn root(conditions: Conditions) -> Result<Sandbox, String> {
    if ids().0 != 0 {
        return Err("kiln does not run as root".to_owned());
    }
    let zygote = Zygote::start(&Setup { space: Space::Own, bare: false, conditions }, |_| Ok(()))
        .map_err(|why| format!("uid 0 here, but without the rights of root: {why}"))?;
    // Root of an outer user namespace, as in a rootless container, has the
    // rights over mounts but not the host's attributes nor all of its IDs.
    let map = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let (uids, gids) = (map("/proc/self/uid_map")?, map("/proc/self/gid_map")?);
    let whole = is_whole(&uids) && is_whole(&gids);
    let kind = root_kind(&uids, &gids);
    // The last number means "no change" to the kernel and is nobody's.
    let ids = reach(&uids).min(reach(&gids)).min(u64::from(u32::MAX));
    Ok(Sandbox {
        tier: Tier::Root,
        kind,
        ids,
        user_xattr: !whole,
        zygote,
        refused: vec![],
        storage: OnceLock::new(),
        proc: OnceLock::new(),
        unserved: None,
        named: OnceLock::new(),
        conditions,
    })
}

/// Whether the text of a `uid_map` file is that of the initial user namespace.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// How many IDs from 0 on the text of a `uid_map` file maps without a gap.
fn reach(map: &str) -> u64 {
    let mut ranges: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse);
            match (fields.next(), fields.next(), fields.next()) {
                (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) => Some((inside, count)),
                _ => None,
            }
        })
        .collect();
    ranges.sort_unstable();
    ranges.into_iter().fold(0, |end, (inside, count)| {
        if inside <= end { end.max(inside.saturating_add(count)) } else { end }
    })
}

/// What the tier needs besides the change of root itself.
const NEEDED: [(CapabilitySet, &str); 6] = [
    (CapabilitySet::SYS_CHROOT, "SYS_CHROOT"),
    (CapabilitySet::CHOWN, "CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "FOWNER"),
    (CapabilitySet::SETUID, "SETUID"),
    (CapabilitySet::SETGID, "SETGID"),
];

fn without_namespaces(conditions: Conditions) -> Result<Sandbox, String> {
    if ids().0 != 0 {
        return Err("kiln does not run as root".to_owned());
    }
    let held = rustix::thread::capabilities(None).map_err(|error| error.to_string())?.effective;
    let lacking: Vec<&str> =
        NEEDED.iter().filter(|(one, _)| !held.contains(*one)).map(|(_, name)| *name).collect();
    if !lacking.is_empty() {
        return Err(format!(
            "uid 0 here, but without the capabilities {}: give them to the container",
            lacking.join(", ")
        ));
    }
    let zygote = Zygote::start(&Setup { space: Space::Own, bare: true, conditions }, |_| Ok(()))
        .map_err(|error| error.to_string())?;
    let helper = Helper::fork(&zygote, &What::TryFiles).map_err(|error| error.to_string())?;
    let unserved = match helper.event("try to serve /proc").map_err(|error| error.to_string())? {
        (Event::TriedFiles(files), _) => files.err(),
        (other, _) => return Err(format!("unexpected answer {other:?}")),
    };
    drop(helper);
    let map = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let (uids, gids) = (map("/proc/self/uid_map")?, map("/proc/self/gid_map")?);
    let kind = root_kind(&uids, &gids);
    let ids = reach(&uids).min(reach(&gids)).min(u64::from(u32::MAX));
    let storage = OnceLock::from(Storage::Plain {
        why: "nothing can be mounted".to_owned(),
        kind: format!("{kind}-plain"),
    });
    let tier = Tier::Chroot;
    Ok(Sandbox {
        tier,
        kind,
        ids,
        user_xattr: true,
        zygote,
        refused: vec![],
        storage,
        proc: OnceLock::new(),
        unserved,
        named: OnceLock::new(),
        conditions,
    })
}

/// Of root in the user namespace with these maps.
fn root_kind(uids: &str, gids: &str) -> String {
    if is_whole(uids) && is_whole(gids) {
        "root".to_owned()
    } else {
        format!("root-{}", Digest::of(format!("{uids}\n{gids}").as_bytes()).short())
    }
}

fn subuid(conditions: Conditions) -> Result<Sandbox, String> {
    let (uid, gid) = ids();
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return Err("the process may not gain privileges (no_new_privs is set), which newuidmap \
             needs: start kiln without that setting"
            .to_owned());
    }
    let maps = Maps::of_user(uid, gid)?;
    let zygote = new_user(Space::Mapped, conditions, |pid| maps.write(pid, uid, gid))?;
    let text = format!("{uid} {:?}\n{gid} {:?}", maps.uids, maps.gids);
    Ok(Sandbox {
        tier: Tier::Subuid,
        kind: format!("map-{}", Digest::of(text.as_bytes()).short()),
        ids: u64::from(maps.count()),
        user_xattr: true,
        zygote,
        refused: vec![],
        storage: OnceLock::new(),
        proc: OnceLock::new(),
        unserved: None,
        named: OnceLock::new(),
        conditions,
    })
}

fn single_id(conditions: Conditions) -> Result<Sandbox, String> {
    supervise::usable()?;
    let (uid, gid) = ids();
    let zygote = new_user(Space::Single { uid, gid }, conditions, |_| Ok(()))?;
    Ok(Sandbox {
        tier: Tier::SingleId,
        kind: format!("one-{uid}"),
        ids: 1,
        user_xattr: true,
        zygote,
        refused: vec![],
        storage: OnceLock::new(),
        proc: OnceLock::new(),
        unserved: None,
        named: OnceLock::new(),
        conditions,
    })
}

/// A zygote in a user namespace of its own. `map` writes the maps of the process that
/// made it.
fn new_user(
    space: Space,
    conditions: Conditions,
    map: impl FnOnce(u32) -> Result<(), String>,
) -> Result<Arc<Zygote>, String> {
    let hint = "; check the seccomp and AppArmor profiles of the container around, and \
                user.max_user_namespaces, kernel.unprivileged_userns_clone and \
                kernel.apparmor_restrict_unprivileged_userns with sysctl";
    Zygote::start(&Setup { space, bare: false, conditions }, map).map_err(|error| match error {
        SandboxError::Setup { .. } => format!("{error}{hint}"),
        error => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_an_outer_namespace() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("0 1000 1\n1 100000 65536\n"));
        for (map, expected) in [
            ("", 0),
            ("0 1000 1\n", 1),
            ("0 1000 1\n1 100000 65536\n", 65537),
            ("1 100000 65536\n0 1000 1\n", 65537),
            ("0 1000 1\n5 100000 10\n", 1),
            ("7 7 7\n", 0),
        ] {
            assert_eq!(reach(map), expected, "{map:?}");
        }
    }
}
