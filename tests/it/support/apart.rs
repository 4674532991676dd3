//! A test in a network and an `/etc` of its own: addresses that are no loopback, names,
//! a machine's configuration, and no root certificates.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Set in the process that is apart.
const INSIDE: &str = "KILN_TEST_APART";

/// Two addresses that are there, and are none of the loopback's.
pub(crate) const HERE: &str = "10.77.0.1";
pub(crate) const THERE: &str = "10.77.0.2";
/// A name of [`HERE`].
pub(crate) const NAMED: &str = "registry.corp.example";

/// Runs the test of this name (`registry::tls::…`) in a process that is apart; `body` is
/// what it does there, where it may write to `/etc`.
#[track_caller]
pub(crate) fn apart(name: &str, body: impl FnOnce()) {
    part(name, "alone", Path::new("/"), |_| body());
}

/// The same of a test that has several parts, each in a network that the others do not reach;
/// `which` tells them apart. What they share is a folder.
#[track_caller]
pub(crate) fn part(name: &str, which: &str, shared: &Path, body: impl FnOnce(&Path)) {
    if let Some(inside) = kiln::env::text(INSIDE) {
        // Or this is another part's process.
        if let Some(shared) = inside.strip_prefix(which).and_then(|rest| rest.strip_prefix(':')) {
            body(Path::new(shared));
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc");
    std::fs::create_dir_all(etc.join("containers/registries.conf.d")).unwrap();
    std::fs::create_dir_all(etc.join("containers/certs.d")).unwrap();
    std::fs::create_dir_all(etc.join("docker/certs.d")).unwrap();
    for file in ["passwd", "group", "nsswitch.conf", "subuid", "subgid", "ld.so.cache"] {
        let _ = std::fs::copy(format!("/etc/{file}"), etc.join(file));
    }
    // openssl does nothing without its settings; roots of trust are not copied.
    std::fs::create_dir_all(etc.join("ssl/certs")).unwrap();
    let _ = std::fs::copy("/etc/ssl/openssl.cnf", etc.join("ssl/openssl.cnf"));
    symlink("/proc/mounts", etc.join("mtab")).unwrap();
    let hosts = format!("127.0.0.1 localhost\n{HERE} {NAMED}\n{THERE} other.corp.example\n");
    std::fs::write(etc.join("hosts"), hosts).unwrap();
    let script = format!(
        "set -e; ip link set lo up; ip addr add {HERE}/32 dev lo; ip addr add {THERE}/32 dev lo\n\
         mount --make-rprivate /; mount --bind \"$0\" /etc; exec \"$@\""
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let output = unshare
        .args(["sh", "-c", &script])
        .arg(&etc)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, format!("{which}:{}", shared.display()))
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .expect("unshare is needed: apt-get install util-linux");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    // A name that is none of a test's would run nothing.
    assert!(stdout.contains("1 passed"), "{stdout}\n{stderr}");
}
