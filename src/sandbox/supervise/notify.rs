//! The kernel's side of seccomp user notification (seccomp_unotify(2)): a call
//! that waits is received, looked into, and answered.
#![expect(unsafe_code, reason = "ioctls and the memory of other processes have no safe form")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// `struct seccomp_data` of linux/seccomp.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Data {
    pub(super) number: i32,
    pub(super) architecture: u32,
    pub(super) at: u64,
    pub(super) arguments: [u64; 6],
}

/// `struct seccomp_notif`: a call that waits for its answer.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Notice {
    pub(super) id: u64,
    /// The thread, as this process numbers it.
    pub(super) pid: u32,
    flags: u32,
    pub(super) data: Data,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
#[derive(Default)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    new: u32,
    new_flags: u32,
}

/// Lets the kernel carry the call out after all.
const CONTINUE: u32 = 1;
/// Answers the call with the descriptor it was given.
const ADDFD_SEND: u32 = 2;
/// The answering thread runs on the caller's processor, which halves a round trip.
const SYNC_WAKE_UP: u64 = 1;

const fn request(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | 0x21 << 8 | number
}

const RECEIVE: u64 = request(3, 0, size_of::<Notice>());
const SEND: u64 = request(3, 1, size_of::<Response>());
const IS_VALID: u64 = request(1, 2, size_of::<u64>());
const ADD_FD: u64 = request(1, 3, size_of::<AddFd>());
const SET_FLAGS: u64 = request(1, 4, size_of::<u64>());

/// What a call is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Value(i64),
    Error(Errno),
    /// The kernel carries it out.
    Continue,
    /// It has been answered, or its process is gone.
    Given,
}

impl From<Errno> for Answer {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

/// The descriptor that calls wait at.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

impl Listener {
    pub(super) fn new(fd: OwnedFd) -> Self {
        let listener = Self(fd);
        // Kernels before 6.6 do not know it, and are slower.
        let _ = listener.call(SET_FLAGS, SYNC_WAKE_UP);
        listener
    }

    fn call(&self, request: u64, argument: u64) -> io::Result<libc::c_long> {
        // SAFETY: a number, or the address of a struct of the request's size that
        // lives through the call.
        let result =
            unsafe { libc::syscall(libc::SYS_ioctl, self.0.as_raw_fd(), request, argument) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }

    /// The next call; `None` once no process is left.
    pub(super) fn next(&self) -> Option<Notice> {
        loop {
            let mut notice = Notice::default();
            match self.call(RECEIVE, (&raw mut notice) as u64) {
                Ok(_) => return Some(notice),
                // A signal here, or the caller was killed in the meantime.
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    if self.hung_up() {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
    }

    fn hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Whether the call still waits: what was learnt by its pid is of its process then.
    pub(super) fn is_valid(&self, notice: &Notice) -> bool {
        self.call(IS_VALID, (&raw const notice.id) as u64).is_ok()
    }

    pub(super) fn answer(&self, notice: &Notice, answer: Answer) {
        let mut response = Response { id: notice.id, ..Response::default() };
        match answer {
            Answer::Value(value) => response.value = value,
            Answer::Error(errno) => response.error = -errno.raw_os_error(),
            Answer::Continue => response.flags = CONTINUE,
            Answer::Given => return,
        }
        // Fails only if nobody waits for it any more.
        let _ = self.call(SEND, (&raw const response) as u64);
    }

    /// Whether calls can be answered with descriptors.
    pub(super) fn usable(&self) -> Result<(), String> {
        // No call has this number, which is looked at last.
        let give = AddFd {
            id: u64::MAX,
            flags: ADDFD_SEND,
            source: self.0.as_raw_fd().cast_unsigned(),
            new: 0,
            new_flags: 0,
        };
        match self.call(ADD_FD, (&raw const give) as u64) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            _ => return Err("the kernel is older than Linux 5.14".to_owned()),
        }
        let seen = [0; 1];
        let own = Notice { pid: std::process::id(), ..Notice::default() };
        own.read(seen.as_ptr() as u64, &mut [0; 1]).map_err(|_| {
            "an outer filter refuses process_vm_readv: allow it in the container's profile"
                .to_owned()
        })
    }

    /// Answers with a descriptor, which the caller gets in the same moment.
    pub(super) fn give(&self, notice: &Notice, fd: &OwnedFd, close_on_exec: bool) -> Answer {
        let give = AddFd {
            id: notice.id,
            flags: ADDFD_SEND,
            source: fd.as_raw_fd().cast_unsigned(),
            new: 0,
            new_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
        };
        match self.call(ADD_FD, (&raw const give) as u64) {
            // The caller is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Answer::Given,
            // Its table of descriptors is full, for example.
            Err(error) => Answer::Error(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            Ok(_) => Answer::Given,
        }
    }
}

/// Whether the kernel has all this. The last part came with Linux 5.14; what says so
/// is the call that tells the sizes, and a kernel's age nothing else tells.
pub(super) fn usable() -> Result<(), String> {
    let mut sizes = [0_u16; 3];
    // SAFETY: the kernel writes the three sizes of `struct seccomp_notif_sizes`.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, sizes.as_mut_ptr())
    };
    let expected = [size_of::<Notice>(), size_of::<Response>(), size_of::<Data>()];
    if result == 0 && sizes.map(usize::from) == expected {
        return Ok(());
    }
    Err("the kernel or an outer filter refuses seccomp user notification, which must be that of \
         Linux 5.14 or later: allow the call seccomp in the container's profile"
        .to_owned())
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Notice {
    fn pid(&self) -> libc::pid_t {
        self.pid.cast_signed()
    }

    /// Bytes of the caller's memory.
    pub(super) fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        if self.read_some(address, into)? == into.len() { Ok(()) } else { Err(Errno::FAULT) }
    }

    fn read_some(&self, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: pointer(address), iov_len: into.len() };
        // SAFETY: the local part is the slice; the remote one is checked by the kernel.
        let got = unsafe {
            libc::process_vm_readv(self.pid(), &raw const local, 1, &raw const remote, 1, 0)
        };
        usize::try_from(got).map_err(|_| Errno::FAULT)
    }

    /// Writes into the caller's memory.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let local =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: pointer(address), iov_len: bytes.len() };
        // SAFETY: the local part is only read; the remote one is checked by the kernel.
        let put = unsafe {
            libc::process_vm_writev(self.pid(), &raw const local, 1, &raw const remote, 1, 0)
        };
        if usize::try_from(put) == Ok(bytes.len()) { Ok(()) } else { Err(Errno::FAULT) }
    }

    /// A string that ends in NUL, of at most `limit` bytes. No page is touched that
    /// the string does not lie in.
    pub(super) fn text(&self, address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        const PAGE: u64 = 4096;
        let mut text = Vec::new();
        let mut address = address;
        loop {
            let mut page = [0; PAGE as usize];
            // Less than a page.
            let rest = (PAGE - address % PAGE) as usize;
            let part = &mut page[..rest];
            let got = self.read_some(address, part)?;
            let part = &part[..got];
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&part[..end]);
                return if text.len() < limit { Ok(text) } else { Err(Errno::NAMETOOLONG) };
            }
            text.extend_from_slice(part);
            if got == 0 {
                return Err(Errno::FAULT);
            }
            if text.len() >= limit {
                return Err(Errno::NAMETOOLONG);
            }
            address = address.checked_add(got as u64).ok_or(Errno::FAULT)?;
        }
    }
}

fn pointer(address: u64) -> *mut libc::c_void {
    // An address of the other process; a 64-bit one does not fit only where no
    // process has such memory.
    std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// The soft and the hard RLIMIT_LOCKS of a process.
pub(super) fn locks_limit(pid: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the old limit is written to the struct; no new one is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            RLIMIT_LOCKS,
            std::ptr::null::<libc::rlimit64>(),
            &raw mut limit,
        )
    };
    if result == 0 { Ok((limit.rlim_cur, limit.rlim_max)) } else { Err(io::Error::last_os_error()) }
}

/// Sets the soft one.
pub(super) fn set_locks_limit(pid: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit is read from the struct; no old one is asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            RLIMIT_LOCKS,
            &raw const limit,
            std::ptr::null::<libc::rlimit64>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number is the same on all architectures of kiln's.
pub(super) const RLIMIT_LOCKS: u32 = 10;
