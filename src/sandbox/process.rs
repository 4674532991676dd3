//! What other processes of kiln need of the kernel that has no safe call.
#![expect(unsafe_code, reason = "real-time signals and foreign descriptors have no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

/// signal(7), in the kernel's numbers for x86 and arm.
pub const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Sends any signal, also a real-time one, to the process of a pidfd.
///
/// # Errors
/// What the kernel says: `ESRCH` if the process is gone.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers and a null pointer for the optional siginfo.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor above the standard ones: a process that outlives the
/// one that started it must not keep what that one had inherited. Only for the
/// beginning of `main`, before anything was opened.
pub fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above the standard ones
    // yet. An error is an old kernel's; then they stay open, which harms nobody
    // but who waits for their end.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Takes the descriptor that was given as standard input, and puts `/dev/null`
/// in its place.
///
/// # Errors
/// If there is none, or no `/dev/null`.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let own = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    // SAFETY: both are open descriptors; nobody owns descriptor 0.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(own)
}
