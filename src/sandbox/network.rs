//! The loopback interface of a network namespace, which starts down.
#![expect(unsafe_code, reason = "an interface is brought up by ioctl")]

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::message::{Doing as _, Failure};

/// Brings `lo` up; the kernel then gives it 127.0.0.1 and ::1 (netdevice(7)).
pub(super) fn loopback_up() -> Result<(), Failure> {
    up().doing(|| "bring the loopback interface up".to_owned())
}

fn up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    // The constants are small bits; the field is a short.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid ifreq that lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
