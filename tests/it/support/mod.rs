//! What tests of several areas need.

pub(crate) mod apart;
pub(crate) mod authority;
pub(crate) mod faults;
pub(crate) mod forward;
pub(crate) mod git;
pub(crate) mod http;
pub(crate) mod kiln;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod tokens;
pub(crate) mod trace;

/// What an engine grants root by default.
pub(crate) const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A program that ends with whoever started it, also if that fails.
pub(crate) struct Ended(pub(crate) std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says that a test is left to a run as root: it is missing in no run of both.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn root_only(what: &str) {
    eprintln!("SKIPPED: {what} as root only");
}

/// Says that the machine's kernel or hardware has not what a test is about; no set-up
/// could bring it.
#[cfg(target_arch = "x86_64")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn machine_lacks(what: &str) {
    eprintln!("SKIPPED: this machine has no {what}");
}

/// Says on stderr that a test does nothing, and why. `KILN_TEST_REQUIRE=1` makes
/// that a failure.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skip(why: &str) {
    let required = ::kiln::env::text("KILN_TEST_REQUIRE").is_some_and(|text| text == "1");
    assert!(!required, "a part of the tests is missing: {why}");
    eprintln!("SKIPPED: {why}");
}
