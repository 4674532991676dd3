//! What the process may do: the capabilities that container engines grant by
//! default, and the IDs it runs as.

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::message::{Doing as _, Failure};
use super::spec::Ids;

/// The default set of container engines: enough for package managers, nothing
/// over mounts, devices in use, kernel settings or other namespaces.
const GRANTED: CapabilitySet = CapabilitySet::AUDIT_WRITE
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Takes on the IDs, if they are for the kernel to know, and keeps every capability over a
/// change of user and the execution of a program.
pub(super) fn keep_as(user: Option<&Ids>) -> Result<(), Failure> {
    // Root keeps them by itself.
    let Some(user) = user else { return Ok(()) };
    let what = || "keep capabilities".to_owned();
    rustix::thread::set_keep_capabilities(true).doing(what)?;
    become_user(user)?;
    let held = rustix::thread::capabilities(None).doing(what)?.permitted;
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: held };
    rustix::thread::set_capabilities(None, sets).doing(what)?;
    for bit in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        if held.contains(bit) {
            rustix::thread::configure_capability_in_ambient_set(bit, true).doing(what)?;
        }
    }
    Ok(())
}

/// Takes on the IDs, if they are for the kernel to know, and gives up all other
/// capabilities, for good.
pub(super) fn drop_to(user: Option<&Ids>) -> Result<(), Failure> {
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if GRANTED.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Above the last capability this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => {
                return Err(Failure::new(format!("drop capability {bit}"), &error.into()));
            }
        }
    }
    rustix::thread::clear_ambient_capability_set()
        .doing(|| "clear the ambient capabilities".to_owned())?;
    // To the kernel an emulated user is root, who has what is left when the program is
    // executed.
    let Some(user) = user else { return Ok(()) };
    become_user(user)?;
    let own = if user.uid == 0 { GRANTED } else { CapabilitySet::empty() };
    // What the outer container withholds cannot be taken.
    let held = rustix::thread::capabilities(None).doing(|| "read capabilities".to_owned())?;
    let own = own & held.permitted;
    let sets =
        CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).doing(|| "give up capabilities".to_owned())
}

fn become_user(user: &Ids) -> Result<(), Failure> {
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    rustix::thread::set_thread_groups(&groups)
        .doing(|| format!("take on the groups {:?}", user.groups))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .doing(|| format!("become gid {}", user.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing(|| format!("become uid {}", user.uid))
}
