//! Devices of the host for a process that may have them: those that container
//! engines give to privileged ones.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;

use super::message::{Doing as _, Failure};
use super::mount::{attach, copy_of};
use super::target::{Kind, Places};

const NAMES: &[&str] =
    &["kmsg", "cuse", "fuse", "kvm", "net/tun", "loop-control", "mapper/control"];
/// A kernel makes eight of them unless it is told otherwise.
const LOOPS: u32 = 16;

/// Those that the host has, in `/dev`, by mounts of their own.
pub(super) fn host(places: &mut Places<'_>) -> Result<(), Failure> {
    let loops = (0..LOOPS).map(|number| format!("loop{number}"));
    for name in NAMES.iter().map(|name| (*name).to_owned()).chain(loops) {
        let path = Path::new("/dev").join(name);
        let what = || format!("mount {}", path.display());
        let device: OwnedFd = match copy_of(CWD, &path) {
            Ok(device) => device,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(error) => return Err(Failure::new(what(), &error.into())),
        };
        let place = places.stub(&path, Kind::File)?;
        attach(&device, &place).doing(what)?;
    }
    Ok(())
}
