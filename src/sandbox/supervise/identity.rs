//! Who a process is told to be, and how that changes: the calls for IDs, the
//! execution of set-ID programs, the peer of a socket.
#![expect(unsafe_code, reason = "a descriptor is taken from the process that asks")]

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::fs::{FileType, StatVfsMountFlags, StatxFlags, fstatvfs, getxattr, statx};
use rustix::io::Errno;

use super::super::record::{self, Owner};
use super::calls::{Abi, Call};
use super::ids::{Capabilities, Change, Quad};
use super::notify::{Answer, Notice};
use super::own::held;
use super::place::{Named, look, of_fd};
use super::{Supervisor, TO_KERNEL};

/// `CAP_CHOWN`, `CAP_FOWNER`, `CAP_SETGID` and `CAP_SETUID`.
const RIGHTS: u32 = 1 << 0 | 1 << 3 | 1 << 6 | 1 << 7;
/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h, which everybody uses.
const VERSION_3: u32 = 0x2008_0522;
/// The kernel's limit of groups.
const GROUPS_MAX: u64 = 65536;

impl Supervisor {
    /// `getuid` and its relatives.
    pub(super) fn tell(&self, notice: &Notice, call: Call, abi: Abi) -> Answer {
        let who = self.sets.of(notice.pid).credentials;
        let id = match call {
            Call::Getuid => who.uid.real,
            Call::Geteuid => who.uid.effective,
            Call::Getgid => who.gid.real,
            _ => who.gid.effective,
        };
        Answer::Value(
            abi.told(id).iter().rev().fold(0, |value, byte| value << 8 | i64::from(*byte)),
        )
    }

    /// `getresuid` and `getresgid`.
    pub(super) fn tell_three(
        &self,
        notice: &Notice,
        call: Call,
        abi: Abi,
    ) -> Result<Answer, Errno> {
        let who = self.sets.of(notice.pid).credentials;
        let Quad { real, effective, saved, .. } =
            if call == Call::Getresuid { who.uid } else { who.gid };
        for (address, id) in notice.data.arguments.iter().zip([real, effective, saved]) {
            notice.write(*address, &abi.told(id))?;
        }
        Ok(Answer::Value(0))
    }

    pub(super) fn tell_groups(&self, notice: &Notice, abi: Abi) -> Result<Answer, Errno> {
        let who = self.sets.of(notice.pid).credentials;
        let [room, address, ..] = notice.data.arguments;
        let room = room as i32;
        let count = i32::try_from(who.groups.len()).map_err(|_| Errno::INVAL)?;
        if room < 0 || (room != 0 && room < count) {
            return Err(Errno::INVAL);
        }
        if room != 0 {
            let list: Vec<u8> = who.groups.iter().flat_map(|&group| abi.told(group)).collect();
            notice.write(address, &list)?;
        }
        Ok(Answer::Value(count.into()))
    }

    pub(super) fn take_groups(&self, notice: &Notice, abi: Abi) -> Result<Answer, Errno> {
        let known = self.sets.of(notice.pid);
        if !known.credentials.privileged() {
            return Err(Errno::PERM);
        }
        let [count, address, ..] = notice.data.arguments;
        let count = count & u64::from(u32::MAX);
        if count > GROUPS_MAX {
            return Err(Errno::INVAL);
        }
        // At most 256 KiB.
        let mut list = vec![0; count as usize * abi.id_size()];
        notice.read(address, &mut list)?;
        let id = |bytes: &[u8]| bytes.iter().rev().fold(0, |id, byte| id << 8 | u32::from(*byte));
        let groups: Vec<u32> = list.chunks(abi.id_size()).map(id).collect();
        if groups.contains(&u32::MAX) {
            return Err(Errno::INVAL);
        }
        self.sets.set(notice.pid, &known, known.credentials.change_groups(groups)?)?;
        Ok(Answer::Value(0))
    }

    /// `setuid` and its relatives.
    pub(super) fn take(&self, notice: &Notice, call: Call, abi: Abi) -> Result<Answer, Errno> {
        let known = self.sets.of(notice.pid);
        let who = &known.credentials;
        let [one, two, three, ..] = notice.data.arguments.map(|argument| abi.id(argument));
        let (change, users) = match call {
            Call::Setuid => (Change::One(one), true),
            Call::Setgid => (Change::One(one), false),
            Call::Setreuid => (Change::Two(one, two), true),
            Call::Setregid => (Change::Two(one, two), false),
            Call::Setresuid => (Change::Three([one, two, three]), true),
            Call::Setresgid => (Change::Three([one, two, three]), false),
            Call::Setfsuid => (Change::File(one), true),
            _ => (Change::File(one), false),
        };
        let new = if users { who.change_uid(change)? } else { who.change_gid(change)? };
        let old = if users { who.uid.file } else { who.gid.file };
        if new != **who {
            self.sets.set(notice.pid, &known, new)?;
        }
        Ok(Answer::Value(if matches!(change, Change::File(_)) { old.into() } else { 0 }))
    }

    /// The settings of prctl(2) that are kept here.
    pub(super) fn setting(&self, notice: &Notice) -> Result<Answer, Errno> {
        let known = self.sets.of(notice.pid);
        let [setting, value, rest @ ..] = notice.data.arguments;
        let new = match setting as i32 {
            libc::PR_SET_KEEPCAPS => known.credentials.keep_capabilities(value == 1),
            libc::PR_SET_NO_NEW_PRIVS if value == 1 && rest[..3] == [0; 3] => {
                known.credentials.refuse_privileges()
            }
            // Kiln itself may have been started with it: the step does not have it by that.
            libc::PR_GET_NO_NEW_PRIVS if value == 0 && rest[..3] == [0; 3] => {
                return Ok(Answer::Value(known.credentials.no_new_privileges.into()));
            }
            _ => return Ok(Answer::Continue),
        };
        if new != *known.credentials {
            self.sets.set(notice.pid, &known, new)?;
        }
        Ok(Answer::Continue)
    }

    /// capget(2) for a process that has lost its capabilities by its belief, or part of them;
    /// others have what the kernel says.
    pub(super) fn tell_capabilities(&self, notice: &Notice) -> Result<Answer, Errno> {
        let who = self.sets.of(notice.pid).credentials;
        let [header, data, ..] = notice.data.arguments;
        let mut words = [0; 8];
        if who.privileged() || data == 0 || notice.read(header, &mut words).is_err() {
            return Ok(Answer::Continue);
        }
        let (version, pid) = words.split_at(4);
        if version != VERSION_3.to_ne_bytes() || pid != [0; 4] {
            return Ok(Answer::Continue);
        }
        let permitted = if who.permitted() { held(notice.pid, "CapPrm:") } else { 0 };
        // Effective, permitted, inheritable: the lower words, then the upper ones.
        let told = [0, permitted as u32, 0, 0, (permitted >> 32) as u32, 0].map(u32::to_ne_bytes);
        self.still(notice)?;
        notice.write(data, told.as_flattened())?;
        Ok(Answer::Value(0))
    }

    /// capset(2): the rights that count here are in the first word of each set.
    pub(super) fn take_capabilities(&self, notice: &Notice) -> Result<Answer, Errno> {
        let [_, address, ..] = notice.data.arguments;
        let mut words = [0; 8];
        if notice.read(address, &mut words).is_err() {
            return Ok(Answer::Continue);
        }
        let held = |bytes: &[u8]| {
            let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
            word & RIGHTS != 0
        };
        let (effective, permitted) = words.split_at(4);
        let asked = Capabilities { effective: held(effective), permitted: held(permitted) };
        let known = self.sets.of(notice.pid);
        let new = known.credentials.change_capabilities(asked)?;
        if new != *known.credentials {
            self.sets.set(notice.pid, &known, new)?;
        }
        Ok(Answer::Continue)
    }

    pub(super) fn take_umask(&self, notice: &Notice) -> Result<Answer, Errno> {
        let known = self.sets.of(notice.pid);
        let [umask, ..] = notice.data.arguments;
        let umask = umask as u32 & 0o777;
        if umask != known.umask {
            self.sets.set_umask(notice.pid, &known, umask)?;
        }
        Ok(Answer::Continue)
    }

    /// A program is about to be executed: its set-ID bits are of recorded owners.
    pub(super) fn execute(&self, notice: &Notice, named: &Named) -> Result<Answer, Errno> {
        let known = self.sets.of(notice.pid);
        let (mut set_uid, mut set_gid) = (None, None);
        let bits = self.at(notice, named, |path| {
            let stat = statx(
                rustix::fs::CWD,
                path,
                rustix::fs::AtFlags::empty(),
                StatxFlags::TYPE | StatxFlags::MODE,
            )?;
            Ok(u32::from(stat.stx_mode))
        });
        // The kernel says what is wrong with a program that cannot be found.
        let Ok(bits) = bits else { return Ok(Answer::Continue) };
        if FileType::from_raw_mode(bits) != FileType::RegularFile || bits & 0o111 == 0 {
            return Ok(Answer::Continue);
        }
        if bits & (libc::S_ISUID | libc::S_ISGID) != 0 {
            let fd = self.open(notice, named)?;
            let gains = !known.credentials.no_new_privileges;
            if gains && takes_set_id(&fd) && is_mounted(notice.pid, &fd) {
                let mut value = [0; 64];
                let recorded = getxattr(of_fd(&fd), record::OWNER, &mut value);
                let recorded = recorded.ok().and_then(|got| Owner::parse(value.get(..got)?));
                let owner = recorded.unwrap_or_default();
                set_uid = (bits & libc::S_ISUID != 0).then_some(owner.uid);
                // Without the group's right to execute it marks a mandatory lock.
                let group = libc::S_ISGID | libc::S_IXGRP;
                set_gid = (bits & group == group).then_some(owner.gid);
            }
        }
        let new = known.credentials.executed(set_uid, set_gid);
        if new != *known.credentials {
            self.sets.set(notice.pid, &known, new)?;
        }
        Ok(Answer::Continue)
    }

    /// Who is at the other end of a socket: the process that the kernel names, as
    /// who it believes to be by now.
    pub(super) fn peer(
        &self,
        notice: &Notice,
        [socket, _, _, value, length]: [u64; 5],
    ) -> Result<Answer, Errno> {
        const SIZE: usize = 12;
        let Ok(socket) = taken(notice, socket) else { return Ok(Answer::Continue) };
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&socket) else {
            return Ok(Answer::Continue);
        };
        let pid = peer.pid.as_raw_nonzero().get();
        let who = self.sets.of(pid.unsigned_abs()).credentials;
        let Some(inner) = inner_pid(pid) else { return Ok(Answer::Continue) };
        let mut room = [0; 4];
        notice.read(length, &mut room)?;
        let room = u32::from_ne_bytes(room) as usize;
        if i32::try_from(room).is_err() {
            return Err(Errno::INVAL);
        }
        let words = [inner, who.uid.effective, who.gid.effective].map(u32::to_ne_bytes);
        let told = words.as_flattened();
        let told = told.get(..room.min(SIZE)).unwrap_or(told);
        self.still(notice)?;
        notice.write(value, told)?;
        // At most twelve.
        notice.write(length, &(told.len() as u32).to_ne_bytes())?;
        Ok(Answer::Value(0))
    }

    /// As getsockopt(2), by way of i386's socketcall(2).
    #[cfg(target_arch = "x86_64")]
    pub(super) fn peer_by_socketcall(&self, notice: &Notice) -> Result<Answer, Errno> {
        let [_, address, ..] = notice.data.arguments;
        let mut words = [0; 20];
        notice.read(address, &mut words)?;
        let mut arguments = [0; 5];
        for (argument, word) in arguments.iter_mut().zip(words.chunks_exact(4)) {
            *argument = word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        if arguments[2] == libc::SO_PEERCRED as u64 {
            return self.peer(notice, arguments);
        }
        Ok(Answer::Continue)
    }

    /// A process sees no limit of locks, and sets none: the mark is kept there.
    pub(super) fn tell_limit(
        &self,
        notice: &Notice,
        address: u64,
        abi: Abi,
    ) -> Result<Answer, Errno> {
        let words = if abi == Abi::Native { 16 } else { 8 };
        if address != 0 {
            // RLIM_INFINITY in either width.
            notice.write(address, &[0xff; 16][..words])?;
        }
        Ok(Answer::Value(0))
    }
}

/// A copy of a descriptor of the caller's.
fn taken(notice: &Notice, fd: u64) -> Result<OwnedFd, Errno> {
    // A thread's number will not do where it is not its group's leader.
    let status = std::fs::read_to_string(format!("{}/status", notice.pid));
    let status = status.map_err(|_| TO_KERNEL)?;
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let group = group.and_then(|text| text.trim().parse::<i32>().ok()).ok_or(TO_KERNEL)?;
    let group = rustix::process::Pid::from_raw(group).ok_or(TO_KERNEL)?;
    let process = rustix::process::pidfd_open(group, rustix::process::PidfdFlags::empty())?;
    // SAFETY: the call takes numbers.
    let copy =
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd as i32, 0_u32) };
    let copy = i32::try_from(copy).ok().filter(|copy| *copy >= 0).ok_or(Errno::BADF)?;
    // SAFETY: the kernel made the descriptor for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The number of a process in its own pid namespace.
fn inner_pid(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Whether set-ID bits of this file count: they do not for scripts, nor on mounts
/// without them.
fn takes_set_id(fd: &OwnedFd) -> bool {
    let allowed = fstatvfs(fd).is_ok_and(|fs| !fs.f_flag.contains(StatVfsMountFlags::NOSUID));
    let mut start = [0; 2];
    let read = std::fs::File::open(of_fd(fd)).and_then(|mut file| file.read_exact(&mut start));
    allowed && read.is_ok() && &start != b"#!"
}

/// Whether the file is on a mount of the process's namespace: set-ID bits count on no
/// other, as on those of files in memory.
fn is_mounted(pid: u32, fd: &OwnedFd) -> bool {
    let Ok(stat) = look(fd) else { return false };
    let mounts = std::fs::read_to_string(format!("{pid}/mountinfo")).unwrap_or_default();
    let mount = stat.stx_mnt_id.to_string();
    mounts.lines().any(|line| line.split(' ').next() == Some(&mount))
}
