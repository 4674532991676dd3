//! What is said about each tier, in one place: what it means, and what to change
//! where it is refused.

use std::fs;
use std::path::Path;

use super::idmap;
use super::tier::Tier;

impl Tier {
    /// What it is, in a few words.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Self::Root => "Real root: kiln itself runs as root",
            Self::Subuid => "The ranges of /etc/subuid and /etc/subgid",
            Self::SingleId => "Root alone, which is the caller outside",
            Self::Chroot => "Real root that may not mount: without namespaces",
        }
    }

    /// What steps are run as, and what becomes of the owners of their files.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Root => "steps run as real root, every owner is exact",
            Self::Subuid => {
                "steps run in a user namespace with the ranges of /etc/subuid and /etc/subgid, \
                 every owner is exact"
            }
            Self::SingleId => {
                "steps run in a user namespace with root alone; a supervisor emulates the other \
                 users, every owner is exact"
            }
            Self::Chroot => {
                "steps run as root of this container, without namespaces of their own: every \
                 owner is exact, processes and network are the container's; /proc and /sys are \
                 served to steps of uid 0, where set-user-ID programs gain nothing, and empty \
                 for a USER, who has sudo"
            }
        }
    }

    /// What to change on this machine to have it, where it is refused.
    #[must_use]
    pub fn change(self) -> String {
        change(self, &Facts::of_machine())
    }
}

/// What a tier may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    root: bool,
    no_new_privs: bool,
    /// A filter of system calls is in force, as in a container.
    filtered: bool,
    /// sysctl `user.max_user_namespaces`.
    most: Option<u64>,
    /// sysctl `kernel.unprivileged_userns_clone`, of Debian's kernels until 2022.
    clone: Option<u64>,
    /// sysctl `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    apparmor: Option<u64>,
    /// `newuidmap` and `newgidmap` are installed.
    helpers: bool,
    /// The user has ranges in both files.
    ranges: bool,
}

impl Facts {
    fn of_machine() -> Self {
        let sysctl = |name: &str| {
            let path = Path::new("/proc/sys").join(name);
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self {
            root: uid.is_root(),
            no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
            filtered: status.lines().any(|line| line == "Seccomp:\t2"),
            most: sysctl("user/max_user_namespaces"),
            clone: sysctl("kernel/unprivileged_userns_clone"),
            apparmor: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
            helpers: ["newuidmap", "newgidmap"].iter().all(|name| idmap::find(name).is_some()),
            ranges: idmap::Maps::of_user(uid.as_raw(), gid.as_raw()).is_ok(),
        }
    }
}

fn change(tier: Tier, facts: &Facts) -> String {
    match tier {
        Tier::Root if facts.root => {
            "give the container that kiln is root of CAP_SYS_ADMIN, as `--privileged` does".into()
        }
        Tier::Root => "start kiln as root, as by `sudo`".into(),
        Tier::Subuid if facts.no_new_privs => {
            "start kiln without no_new_privs: NoNewPrivileges=no of systemd, \
             allowPrivilegeEscalation: true of Kubernetes"
                .into()
        }
        Tier::Subuid if !facts.helpers => {
            "install newuidmap and newgidmap: the package uidmap of Debian and Ubuntu, \
             shadow-utils of Fedora, shadow-uidmap of Alpine"
                .into()
        }
        Tier::Subuid if !facts.ranges => {
            "give the user ranges that nobody else has, as root: `usermod --add-subuids \
             100000-165535 --add-subgids 100000-165535 USER`, or lines USER:100000:65536 in \
             /etc/subuid and /etc/subgid"
                .into()
        }
        Tier::Subuid => namespaces(facts).unwrap_or_else(|| {
            "have newuidmap and newgidmap be set-user-ID root, or carry cap_setuid=ep and \
             cap_setgid=ep"
                .into()
        }),
        Tier::SingleId => namespaces(facts).unwrap_or_else(|| {
            "let users make user namespaces: in a container, by its profiles of seccomp and \
             AppArmor; in a chroot they cannot be made"
                .into()
        }),
        Tier::Chroot if facts.root => {
            "give the container the capabilities that engines give by default: SYS_CHROOT, \
             CHOWN, DAC_OVERRIDE, FOWNER, SETUID, SETGID, SETPCAP"
                .into()
        }
        Tier::Chroot => "run the container as uid 0".into(),
    }
}

/// What keeps users from making user namespaces.
fn namespaces(facts: &Facts) -> Option<String> {
    if facts.most == Some(0) {
        return Some("as root: `sysctl -w user.max_user_namespaces=15000`".into());
    }
    if facts.clone == Some(0) && !facts.root {
        return Some("as root: `sysctl -w kernel.unprivileged_userns_clone=1`".into());
    }
    if facts.apparmor.is_some_and(|on| on > 0) && !facts.root {
        return Some(
            "as root: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or a profile \
             for kiln in /etc/apparmor.d with `userns,`"
                .into(),
        );
    }
    facts.filtered.then(|| {
        "give the container a seccomp profile that allows unshare, setns, mount and pivot_root, \
         as `--security-opt seccomp=unconfined` or seccompProfile: Unconfined of Kubernetes does"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let good = Facts {
            root: false,
            no_new_privs: false,
            filtered: false,
            most: Some(9),
            clone: None,
            apparmor: None,
            helpers: true,
            ranges: true,
        };
        let facts = |edit: fn(&mut Facts)| {
            let mut facts = good.clone();
            edit(&mut facts);
            facts
        };
        for (tier, facts, says) in [
            (Tier::Root, facts(|_| ()), "sudo"),
            (Tier::Root, facts(|facts| facts.root = true), "CAP_SYS_ADMIN"),
            (Tier::Subuid, facts(|facts| facts.no_new_privs = true), "allowPrivilegeEscalation"),
            (Tier::Subuid, facts(|facts| facts.helpers = false), "package uidmap"),
            (Tier::Subuid, facts(|facts| facts.ranges = false), "usermod"),
            (Tier::Subuid, facts(|facts| facts.most = Some(0)), "max_user_namespaces="),
            (Tier::Subuid, facts(|_| ()), "set-user-ID"),
            (Tier::SingleId, facts(|facts| facts.most = Some(0)), "max_user_namespaces="),
            (Tier::SingleId, facts(|facts| facts.clone = Some(0)), "unprivileged_userns_clone="),
            (Tier::SingleId, facts(|facts| facts.apparmor = Some(1)), "`userns,`"),
            (Tier::SingleId, facts(|facts| facts.filtered = true), "seccompProfile"),
            (Tier::SingleId, facts(|_| ()), "in a chroot"),
            (Tier::Chroot, facts(|_| ()), "uid 0"),
            (Tier::Chroot, facts(|facts| facts.root = true), "SYS_CHROOT"),
        ] {
            assert!(change(tier, &facts).contains(says), "{tier} {facts:?}");
        }
    }
}
