//! Whether this machine can run another platform's programs.

use std::path::Path;

use crate::platform::Platform;

/// True if programs of `platform` can be started here: it is the machine's own,
/// its 32-bit sibling, or the kernel knows an interpreter for it (binfmt_misc).
pub(super) fn runs_here(platform: &Platform) -> bool {
    let host = Platform::host();
    if platform.os != host.os {
        return false;
    }
    let own = platform.architecture == host.architecture;
    let sibling =
        matches!((host.architecture.as_str(), platform.architecture.as_str()), ("amd64", "386"));
    own || sibling || registered(&platform.architecture)
}

/// The name under which qemu's packages register an architecture.
#[must_use]
pub fn interpreter(architecture: &str) -> String {
    let qemu = match architecture {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        other => other,
    };
    format!("qemu-{qemu}")
}

fn registered(architecture: &str) -> bool {
    let entry = Path::new("/proc/sys/fs/binfmt_misc").join(interpreter(architecture));
    std::fs::read_to_string(entry).is_ok_and(|text| text.starts_with("enabled"))
}
