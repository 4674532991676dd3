//! Who a caller is, and a worker that acts as it: with its IDs and capabilities.

use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, OFlags, Uid, openat};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, set_capabilities,
    set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::super::TO_KERNEL;

/// A thread that makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) process: u32,
    pub(super) umask: u32,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    permitted: CapabilitySet,
}

impl Caller {
    pub(super) fn read(proc: &OwnedFd, pid: u32) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let status = openat(proc, format!("{pid}/status"), flags, Mode::empty())?;
        let mut text = String::new();
        std::fs::File::from(status).read_to_string(&mut text).map_err(|_| TO_KERNEL)?;
        Self::parse(&text).ok_or(TO_KERNEL)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let id = |key: &str| -> Option<u32> {
            // That of file systems is the last of four.
            field(key)?.split_whitespace().nth(3)?.parse().ok()
        };
        Some(Self {
            process: field("Tgid:")?.trim().parse().ok()?,
            umask: u32::from_str_radix(field("Umask:")?.trim(), 8).ok()?,
            uid: id("Uid:")?,
            gid: id("Gid:")?,
            groups: field("Groups:")?.split_whitespace().map_while(|id| id.parse().ok()).collect(),
            permitted: CapabilitySet::from_bits_retain(
                u64::from_str_radix(field("CapPrm:")?.trim(), 16).ok()?,
            ),
        })
    }
}

/// A worker's own: it has the capabilities of kiln, and the IDs of whom it served last,
/// since without CAP_SYS_PTRACE only those let it look into a process (ptrace(2)).
#[derive(Debug)]
pub(super) struct Rights {
    all: CapabilitySet,
    ids: Option<(u32, u32, Vec<u32>)>,
}

impl Rights {
    /// Of this thread.
    pub(super) fn own() -> Result<Self, Errno> {
        // A change of IDs leaves the capabilities as they are.
        set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
        Ok(Self { all: capabilities(None)?.permitted, ids: Some((0, 0, Vec::new())) })
    }

    /// Takes on the caller's IDs; whether they were others.
    pub(super) fn be(&mut self, caller: &Caller) -> Result<bool, Errno> {
        let ids = (caller.uid, caller.gid, caller.groups.clone());
        if self.ids.as_ref() == Some(&ids) {
            return Ok(false);
        }
        self.ids = None;
        let groups: Vec<Gid> = caller.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (uid, gid) = (Uid::from_raw(caller.uid), Gid::from_raw(caller.gid));
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        self.ids = Some(ids);
        Ok(true)
    }

    /// Does something as the caller would.
    pub(super) fn acting<T>(
        &mut self,
        caller: &Caller,
        act: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.be(caller)?;
        // What it may have at any time it has here.
        self.set_effective(caller.permitted & self.all)?;
        let done = act();
        if self.set_effective(self.all).is_err() {
            // A worker that has lost its rights must not go on.
            std::process::abort();
        }
        done
    }

    fn set_effective(&self, effective: CapabilitySet) -> Result<(), Errno> {
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective, permitted: self.all, inheritable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers() {
        let status = "Name:\tx\nUmask:\t0027\nTgid:\t5\nPid:\t6\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n\
                      Groups:\t9 10 \nCapPrm:\t00000000000000ff\n";
        let expected = Caller {
            process: 5,
            umask: 0o27,
            uid: 4,
            gid: 8,
            groups: vec![9, 10],
            permitted: CapabilitySet::from_bits_retain(0xff),
        };
        assert_eq!(Caller::parse(status), Some(expected));
        assert_eq!(Caller::parse("Tgid:\t5\n"), None);
    }
}
