//! A filter for real root: what its capabilities do not already refuse but a
//! build step has no use for, since here the kernel is shared with root's own
//! rights. In a user namespace the kernel's own checks against the initial
//! namespace do this, so there is none.
//!
//! Refused with EPERM: loading modules and kernels, opening by handle, BPF,
//! performance counters, keyrings, userfaultfd, and new user namespaces (through
//! which a process would regain all capabilities over its own mounts). `clone3`
//! and io_uring answer ENOSYS, as on kernels without them: the flags of the
//! first cannot be seen by a filter, and the operations of the second bypass it.
//! Calls of another architecture than the program's own are refused whole.
#![expect(unsafe_code, reason = "the filter is handed to the kernel")]

use std::io;

use libc::{c_long, sock_filter};

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7;

/// The x32 ABI of x86-64: the same calls under other numbers.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const DENIED: &[c_long] = &[
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
];

const ABSENT: &[c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];

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

fn filter() -> Vec<sock_filter> {
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    let mut filter = vec![
        op(LOAD, ARCHITECTURE),
        sock_filter { code: EQUAL, jt: 1, jf: 0, k: ARCH },
        op(RETURN, errno(libc::ENOSYS)),
        op(LOAD, NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    filter.extend(when(AT_LEAST, X32, errno(libc::ENOSYS)));
    for call in DENIED {
        filter.extend(when(EQUAL, number(*call), errno(libc::EPERM)));
    }
    for call in ABSENT {
        filter.extend(when(EQUAL, number(*call), errno(libc::ENOSYS)));
    }
    let new_user = libc::CLONE_NEWUSER.unsigned_abs();
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        filter.push(sock_filter { code: EQUAL, jt: 0, jf: 4, k: number(call) });
        filter.push(op(LOAD, FIRST_ARGUMENT));
        filter.extend(when(ANY_BIT, new_user, errno(libc::EPERM)));
        filter.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    filter.push(op(RETURN, libc::SECCOMP_RET_ALLOW));
    filter
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
