//! A filter over what the capabilities do not refuse but a build step has no use
//! for: parts of the kernel that are known as ways out, and what the process would
//! share with others in spite of its namespaces. Everything else is allowed.
//!
//! Refused with EPERM: loading modules and kernels, opening by handle, BPF,
//! performance counters, keyrings, userfaultfd, and new user namespaces (through
//! which a process would regain all capabilities over its own mounts). `clone3`
//! and io_uring answer ENOSYS, as on kernels without them: the flags of the
//! first cannot be seen by a filter, and the operations of the second bypass it.
//! On x86-64 programs for i386 run under the same rules. Calls of any other
//! architecture or ABI (x32; 32-bit ARM) answer ENOSYS.
//!
//! The same filter makes calls wait for the supervisor where there is one. A
//! privileged process has that part alone; io_uring is refused to it there too. Where only
//! the kernel's files are emulated nothing is refused: who goes past the filter finds none.
#![expect(unsafe_code, reason = "the filter is handed to the kernel")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use libc::{c_long, sock_filter};

use super::spec::Emulation;
use super::supervise::{self, Waiting, When};

/// One architecture's numbers for the calls.
struct Calls {
    /// `AUDIT_ARCH_*` of linux/audit.h.
    architecture: u32,
    denied: &'static [c_long],
    absent: &'static [c_long],
    /// Those whose first argument holds `CLONE_*` flags.
    flags: &'static [c_long],
}

/// The architecture kiln is built for.
const NATIVE: Calls = Calls {
    #[cfg(target_arch = "x86_64")]
    architecture: 0xC000_003E,
    #[cfg(target_arch = "aarch64")]
    architecture: 0xC000_00B7,
    denied: &[
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_init_module,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_open_by_handle_at,
        libc::SYS_perf_event_open,
        libc::SYS_request_key,
        libc::SYS_userfaultfd,
    ],
    absent: &[
        libc::SYS_clone3,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
    ],
    flags: &[libc::SYS_clone, libc::SYS_unshare],
};

/// `AUDIT_ARCH_I386`.
#[cfg(target_arch = "x86_64")]
pub(super) const I386_ARCHITECTURE: u32 = 0x4000_0003;

/// The same calls of i386, in the same order (there is no `kexec_file_load`).
#[cfg(target_arch = "x86_64")]
const I386: Calls = Calls {
    architecture: I386_ARCHITECTURE,
    denied: &[286, 357, 129, 350, 128, 283, 288, 342, 336, 287, 374],
    absent: &[435, 426, 427, 425],
    flags: &[120, 310],
};

/// The x32 ABI of x86-64: the same calls under other numbers.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
#[cfg(target_arch = "x86_64")]
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// What a filter is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    /// Refuses what a build step has no use for.
    pub(super) confine: bool,
    /// Lets calls wait for the supervisor.
    pub(super) waiting: Option<Waiting>,
}

impl Purpose {
    /// Whether calls that a filter cannot look into must not be had.
    fn closed(self) -> bool {
        self.confine || self.waiting.is_none_or(|waiting| waiting.emulation != Emulation::Files)
    }
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Returns `action` if the test holds, else goes on.
fn when(code: u16, k: u32, action: u32) -> [sock_filter; 2] {
    [sock_filter { code, jt: 0, jf: 1, k }, op(RETURN, action)]
}

/// A call's number as the filter sees it: they are small and positive.
fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

fn filter(purpose: Purpose) -> Vec<sock_filter> {
    let mut filter = vec![op(LOAD, ARCHITECTURE)];
    let waiting =
        |of: fn(Waiting) -> Vec<(c_long, When)>| purpose.waiting.map(of).unwrap_or_default();
    let all = [
        (NATIVE, waiting(supervise::native)),
        #[cfg(target_arch = "x86_64")]
        (I386, waiting(supervise::i386)),
    ];
    for (calls, waiting) in all {
        let rules = rules(&calls, purpose, &waiting);
        // Some two hundred instructions: a conditional jump might not reach over them.
        let over = u32::try_from(rules.len()).unwrap_or(u32::MAX);
        filter.push(sock_filter { code: EQUAL, jt: 1, jf: 0, k: calls.architecture });
        filter.push(op(JUMP, over));
        filter.extend(rules);
    }
    let others = if purpose.closed() { errno(libc::ENOSYS) } else { libc::SECCOMP_RET_ALLOW };
    filter.push(op(RETURN, others));
    filter
}

/// What holds for one architecture; never falls through.
fn rules(calls: &Calls, purpose: Purpose, waiting: &[(c_long, When)]) -> Vec<sock_filter> {
    let mut rules = vec![op(LOAD, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    if purpose.closed() {
        rules.extend(when(AT_LEAST, X32, errno(libc::ENOSYS)));
    }
    if purpose.confine {
        for call in calls.denied {
            rules.extend(when(EQUAL, number(*call), errno(libc::EPERM)));
        }
        for call in calls.flags {
            rules.push(sock_filter { code: EQUAL, jt: 0, jf: 4, k: number(*call) });
            rules.push(op(LOAD, FIRST_ARGUMENT));
            rules.extend(when(ANY_BIT, libc::CLONE_NEWUSER.unsigned_abs(), errno(libc::EPERM)));
            rules.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
        }
    }
    for call in calls.absent.iter().filter(|_| purpose.closed()) {
        rules.extend(when(EQUAL, number(*call), errno(libc::ENOSYS)));
    }
    for (call, on) in waiting {
        let argument = |at: u8| FIRST_ARGUMENT + 8 * u32::from(at);
        let (test, at, values) = match *on {
            When::Always => {
                rules.extend(when(EQUAL, number(*call), libc::SECCOMP_RET_USER_NOTIF));
                continue;
            }
            When::Bits(at, bits) => (ANY_BIT, at, &[bits][..]),
            When::Is(at, values) => (EQUAL, at, values),
            When::Without(at, bits) => {
                rules.push(sock_filter { code: EQUAL, jt: 0, jf: 4, k: number(*call) });
                rules.push(op(LOAD, argument(at)));
                rules.extend(when(ANY_BIT, bits, libc::SECCOMP_RET_ALLOW));
                rules.push(op(RETURN, libc::SECCOMP_RET_USER_NOTIF));
                continue;
            }
        };
        // A handful of values at most.
        let over = u8::try_from(2 + 2 * values.len()).unwrap_or(u8::MAX);
        rules.push(sock_filter { code: EQUAL, jt: 0, jf: over, k: number(*call) });
        rules.push(op(LOAD, argument(at)));
        for value in values {
            rules.extend(when(test, *value, libc::SECCOMP_RET_USER_NOTIF));
        }
        rules.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    rules.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
    rules
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: once a worker looks at a call, only a
/// deadly signal interrupts it, so that none is carried out twice. Since Linux 5.19.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// Installs the filter, and gives the descriptor that calls wait at if some do. While a
/// process still has `CAP_SYS_ADMIN`, `no_new_privs` is not needed and `sudo` keeps
/// working; else it must be set.
pub(super) fn install(purpose: Purpose) -> io::Result<Option<OwnedFd>> {
    let mut filter = filter(purpose);
    let program = libc::sock_fprog {
        // A few hundred instructions.
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_mut_ptr(),
    };
    let set = |flags: libc::c_ulong| {
        // SAFETY: the program and its instructions live through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    };
    if purpose.waiting.is_none() {
        return set(0).map(|_| None);
    }
    let listener = match set(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            set(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
        }
        other => other,
    }?;
    let listener = i32::try_from(listener).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel made the descriptor for this process.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: Waiting = Waiting { emulation: Emulation::Ids, names: false, denials: false };
    const RECORDS: Waiting = Waiting { emulation: Emulation::Records, names: true, denials: false };
    const WHOLE: Purpose = Purpose { confine: true, waiting: Some(IDS) };
    const USER: Purpose =
        Purpose { confine: true, waiting: Some(Waiting { denials: true, ..IDS }) };

    #[test]
    fn every_jump_lands_inside() {
        let filter = filter(USER);
        for (at, op) in filter.iter().enumerate() {
            if op.jt != 0 || op.jf != 0 {
                let far = usize::from(op.jt.max(op.jf));
                assert!(far < usize::from(u8::MAX) && at + 1 + far < filter.len(), "{at}");
            }
            if op.code == JUMP {
                assert!(at + 1 + (op.k as usize) < filter.len(), "{at}");
            }
        }
        assert_eq!(filter.last().map(|op| op.code), Some(RETURN));
    }

    /// Runs the filter as the kernel would.
    fn answer(purpose: Purpose, architecture: u32, number: u32, argument: u32) -> u32 {
        let filter = filter(purpose);
        let (mut at, mut loaded) = (0, 0);
        loop {
            let op = filter[at];
            let holds = match op.code {
                LOAD => {
                    loaded = match op.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        // All are the same here.
                        _ => argument,
                    };
                    at += 1;
                    continue;
                }
                RETURN => return op.k,
                JUMP => {
                    at += 1 + op.k as usize;
                    continue;
                }
                EQUAL => loaded == op.k,
                #[cfg(target_arch = "x86_64")]
                AT_LEAST => loaded >= op.k,
                ANY_BIT => loaded & op.k != 0,
                other => panic!("code {other}"),
            };
            at += 1 + usize::from(if holds { op.jt } else { op.jf });
        }
    }

    #[test]
    fn calls_and_answers() {
        const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
        let native = NATIVE.architecture;
        for (architecture, call, argument, expected) in [
            (native, libc::SYS_openat, 0, ALLOW),
            (native, libc::SYS_bpf, 0, errno(libc::EPERM)),
            (native, libc::SYS_userfaultfd, 0, errno(libc::EPERM)),
            (native, libc::SYS_clone3, 0, errno(libc::ENOSYS)),
            (native, libc::SYS_clone, 17, ALLOW),
            (native, libc::SYS_clone, 0x1000_0011, errno(libc::EPERM)),
            (native, libc::SYS_unshare, 0x0002_0000, ALLOW),
            (native, libc::SYS_unshare, 0x1002_0000, errno(libc::EPERM)),
            (native, libc::SYS_mount, 0x1000_0000, ALLOW),
            (0x1234, libc::SYS_openat, 0, errno(libc::ENOSYS)),
            #[cfg(target_arch = "x86_64")]
            (native, libc::SYS_openat | 0x4000_0000, 0, errno(libc::ENOSYS)),
            #[cfg(target_arch = "x86_64")]
            (0x4000_0003, 5, 0, ALLOW),
            #[cfg(target_arch = "x86_64")]
            (0x4000_0003, 357, 0, errno(libc::EPERM)),
            #[cfg(target_arch = "x86_64")]
            (0x4000_0003, 310, 0x1000_0000, errno(libc::EPERM)),
        ] {
            let plain = Purpose { confine: true, waiting: None };
            assert_eq!(answer(plain, architecture, number(call), argument), expected, "{call}");
        }
    }

    #[test]
    fn what_waits() {
        const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
        const WAIT: u32 = libc::SECCOMP_RET_USER_NOTIF;
        let native = NATIVE.architecture;
        let records = Purpose { confine: true, waiting: Some(RECORDS) };
        let privileged = Purpose { confine: false, waiting: Some(IDS) };
        let files = Waiting { emulation: Emulation::Files, names: false, denials: false };
        let files = Purpose { confine: false, waiting: Some(files) };
        for (purpose, architecture, call, argument, expected) in [
            (WHOLE, native, libc::SYS_openat, 0, ALLOW),
            (WHOLE, native, libc::SYS_openat, 0o101, WAIT),
            (WHOLE, native, libc::SYS_openat, 0o20_200_002, WAIT),
            (WHOLE, native, libc::SYS_openat, 0o200_000, ALLOW),
            (WHOLE, native, libc::SYS_getuid, 0, WAIT),
            (WHOLE, native, libc::SYS_prlimit64, 10, WAIT),
            (WHOLE, native, libc::SYS_prlimit64, 7, ALLOW),
            (WHOLE, native, libc::SYS_io_uring_setup, 0, errno(libc::ENOSYS)),
            (WHOLE, native, libc::SYS_renameat2, 0, ALLOW),
            (WHOLE, native, libc::SYS_faccessat, 0, WAIT),
            (WHOLE, native, libc::SYS_unlinkat, 0, ALLOW),
            (WHOLE, native, libc::SYS_linkat, 0, ALLOW),
            (USER, native, libc::SYS_openat, 0, WAIT),
            (USER, native, libc::SYS_unlinkat, 0, WAIT),
            (USER, native, libc::SYS_linkat, 0, WAIT),
            (USER, native, libc::SYS_renameat2, 0, WAIT),
            (records, native, libc::SYS_renameat2, 0, WAIT),
            (records, native, libc::SYS_fchown, 0, WAIT),
            (records, native, libc::SYS_getuid, 0, ALLOW),
            (records, native, libc::SYS_bpf, 0, errno(libc::EPERM)),
            (privileged, native, libc::SYS_bpf, 0, ALLOW),
            (privileged, native, libc::SYS_fchown, 0, WAIT),
            (privileged, native, libc::SYS_io_uring_setup, 0, errno(libc::ENOSYS)),
            (files, native, libc::SYS_openat, 0o101, WAIT),
            (files, native, libc::SYS_openat, 0o301, ALLOW),
            (files, native, libc::SYS_newfstatat, 0x100, WAIT),
            (files, native, libc::SYS_newfstatat, 0x1000, ALLOW),
            (files, native, libc::SYS_readlinkat, 0, WAIT),
            (files, native, libc::SYS_getuid, 0, ALLOW),
            (files, native, libc::SYS_bpf, 0, ALLOW),
            (files, native, libc::SYS_io_uring_setup, 0, ALLOW),
            (files, 0x1234, libc::SYS_openat, 0, ALLOW),
            #[cfg(target_arch = "x86_64")]
            (files, native, libc::SYS_openat | 0x4000_0000, 0, ALLOW),
            #[cfg(target_arch = "x86_64")]
            (files, I386_ARCHITECTURE, 195, 0, WAIT),
            #[cfg(target_arch = "x86_64")]
            (WHOLE, I386_ARCHITECTURE, 5, 0o101, WAIT),
            #[cfg(target_arch = "x86_64")]
            (WHOLE, I386_ARCHITECTURE, 199, 0, WAIT),
            #[cfg(target_arch = "x86_64")]
            (WHOLE, I386_ARCHITECTURE, 3, 0, ALLOW),
        ] {
            let answer = answer(purpose, architecture, number(call), argument);
            assert_eq!(answer, expected, "{call} {argument:o}");
        }
    }
}
