//! From a specification to an executed program: the search in `PATH`, the
//! streams, and the last step from which there is no way back.
#![expect(unsafe_code, reason = "descriptors are replaced and the program executed here")]

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};

use super::message::{Doing as _, Failure};
use super::spec::SandboxSpec;

/// Where programs are searched if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Refuses what could not be executed, before anything is set up.
pub(super) fn check(spec: &SandboxSpec) -> Result<(), Failure> {
    Image::new(spec).map(drop)
}

/// A program's arguments and environment in the kernel's form.
struct Image {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// What to try, in order.
    candidates: Vec<CString>,
    name: String,
}

impl Image {
    fn new(spec: &SandboxSpec) -> Result<Self, Failure> {
        let name = spec
            .argv
            .first()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Failure::Exec { program: String::new(), errno: libc::ENOENT })?
            .clone();
        let text = |what: &str, text: String| {
            CString::new(text).map_err(|error| Failure::Setup {
                what: format!("pass {what} with a NUL byte at {}", error.nul_position()),
                errno: libc::EINVAL,
            })
        };
        let argv = spec.argv.iter().map(|argument| text("an argument", argument.clone()));
        let argv = argv.collect::<Result<_, _>>()?;
        let env = spec.env.iter().map(|(key, value)| {
            if key.is_empty() || key.contains('=') {
                return Err(Failure::Setup {
                    what: format!("pass a variable named {key:?}"),
                    errno: libc::EINVAL,
                });
            }
            text("a variable", format!("{key}={value}"))
        });
        let env = env.collect::<Result<_, _>>()?;
        let candidates = if name.contains('/') {
            vec![text("a program", name.clone())?]
        } else {
            let path = spec.env.iter().rev().find(|(key, _)| key == "PATH");
            path.map_or(DEFAULT_PATH, |(_, path)| path)
                .split(':')
                .filter(|folder| !folder.is_empty())
                .map(|folder| text("a program", format!("{folder}/{name}")))
                .collect::<Result<_, _>>()?
        };
        Ok(Self { argv, env, candidates, name })
    }
}

/// Puts the streams in place; an absent one is the root's `/dev/null`.
pub(super) fn place_streams(streams: [Option<OwnedFd>; 3], uid: u32) -> Result<(), Failure> {
    for (target, stream) in (0..).zip(streams) {
        let stream = match stream {
            Some(stream) => stream,
            None => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .doing(|| "open /dev/null".to_owned())?,
        };
        let stat = rustix::fs::fstat(&stream).doing(|| "look at a stream".to_owned())?;
        if uid != 0 && rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo() {
            // `/dev/stdout` is opened anew by path, which the owner of the pipe may.
            // A pipe from outside the user namespace stays as it is.
            let _ = rustix::fs::fchown(&stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
        // SAFETY: 0, 1 and 2 have no owner in this process that is used or closed after
        // this: it executes a program next or ends.
        if unsafe { libc::dup2(stream.as_raw_fd(), target) } < 0 {
            return Err(Failure::new("place a stream", &std::io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// Signals as a new process expects them: kiln's runtime ignores SIGPIPE, and its
/// caller may have ignored or blocked others. By the bare call, since the C
/// library keeps two signals to itself that a caller may have ignored as well.
fn reset_signals() {
    const WORDS: usize = 8;
    // All zeroes is the default action with no flags and an empty mask in the
    // kernel's `struct sigaction`, which is no larger than this; and an empty set.
    let none = [0_u64; WORDS];
    for signal in 1..=64 {
        // SAFETY: the memory is larger than what the kernel reads, and nothing is returned.
        // KILL and STOP are refused, and have their default action anyway.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                none.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    // SAFETY: as above.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

/// Becomes the program. The search is execvp(3)'s: what is not there or may not
/// be executed is passed over, and the latter remembered.
pub(super) fn execute(spec: &SandboxSpec) -> Result<Infallible, Failure> {
    let image = Image::new(spec)?;
    let list = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (list(&image.argv), list(&image.env));
    reset_signals();
    // SAFETY: only marks the descriptors above the standard ones.
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if marked != 0 {
        return Err(Failure::new("close all descriptors", &std::io::Error::last_os_error()));
    }
    let mut errno = libc::ENOENT;
    for candidate in &image.candidates {
        // SAFETY: the strings and the lists, which end in null, live through the call.
        unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        match std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => errno = libc::EACCES,
            other => {
                errno = other;
                break;
            }
        }
    }
    Err(Failure::Exec { program: image.name, errno })
}
