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
#![expect(unsafe_code, reason = "the filter is handed to the kernel")]

use std::io;

use libc::{c_long, sock_filter};

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

/// The same calls of i386, in the same order (there is no `kexec_file_load`).
#[cfg(target_arch = "x86_64")]
const I386: Calls = Calls {
    architecture: 0x4000_0003,
    denied: &[286, 357, 129, 350, 128, 283, 288, 342, 336, 287, 374],
    absent: &[435, 426, 427, 425],
    flags: &[120, 310],
};

/// The x32 ABI of x86-64: the same calls under other numbers.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

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

fn filter() -> Vec<sock_filter> {
    let mut filter = vec![op(LOAD, ARCHITECTURE)];
    #[cfg(target_arch = "x86_64")]
    let all = [NATIVE, I386];
    #[cfg(not(target_arch = "x86_64"))]
    let all = [NATIVE];
    for calls in all {
        let rules = rules(&calls);
        // Some fifty instructions: a jump reaches over 255.
        let over = u8::try_from(rules.len()).unwrap_or(u8::MAX);
        filter.push(sock_filter { code: EQUAL, jt: 0, jf: over, k: calls.architecture });
        filter.extend(rules);
    }
    filter.push(op(RETURN, errno(libc::ENOSYS)));
    filter
}

/// What holds for one architecture; never falls through.
fn rules(calls: &Calls) -> Vec<sock_filter> {
    let mut rules = vec![op(LOAD, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    rules.extend(when(AT_LEAST, X32, errno(libc::ENOSYS)));
    for call in calls.denied {
        rules.extend(when(EQUAL, number(*call), errno(libc::EPERM)));
    }
    for call in calls.absent {
        rules.extend(when(EQUAL, number(*call), errno(libc::ENOSYS)));
    }
    for call in calls.flags {
        rules.push(sock_filter { code: EQUAL, jt: 0, jf: 4, k: number(*call) });
        rules.push(op(LOAD, FIRST_ARGUMENT));
        rules.extend(when(ANY_BIT, libc::CLONE_NEWUSER.unsigned_abs(), errno(libc::EPERM)));
        rules.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    rules.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
    rules
}

/// Installs the filter. The process still has `CAP_SYS_ADMIN`, so
/// `no_new_privs` is not needed and `sudo` keeps working.
pub(super) fn install() -> io::Result<()> {
    let mut filter = filter();
    let program = libc::sock_fprog {
        // A few dozen instructions.
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions live through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_lands_inside() {
        let filter = filter();
        for (at, op) in filter.iter().enumerate() {
            if [EQUAL, AT_LEAST, ANY_BIT].contains(&op.code) {
                let far = usize::from(op.jt.max(op.jf));
                assert!(far < usize::from(u8::MAX) && at + 1 + far < filter.len(), "{at}");
            }
        }
        assert_eq!(filter.last().map(|op| op.code), Some(RETURN));
    }

    /// Runs the filter as the kernel would.
    fn answer(architecture: u32, number: u32, argument: u32) -> u32 {
        let filter = filter();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let op = filter[at];
            let holds = match op.code {
                LOAD => {
                    loaded = match op.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        FIRST_ARGUMENT => argument,
                        other => panic!("offset {other}"),
                    };
                    at += 1;
                    continue;
                }
                RETURN => return op.k,
                EQUAL => loaded == op.k,
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
            assert_eq!(answer(architecture, number(call), argument), expected, "{call}");
        }
    }
}
