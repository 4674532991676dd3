//! Programs of other architectures, by a handler that is registered in a user
//! namespace of the test's own (binfmt_misc is one for each since Linux 6.7).

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use kiln::platform::Platform;

use super::bench::{Bench, callers};
use crate::support::kiln::Output;

/// The head of a program for mips64, which nobody has here.
const HEAD: &[u8] = b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x08";
const RULE: &str = r":kiln-test:M::\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x08:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff:";

/// A caller's bench with a program for mips64, and an interpreter that prints it.
fn bench(caller: super::bench::Caller) -> Bench {
    let bench = Bench::with_busybox(caller);
    bench.file("program", [HEAD, b"\nhello from mips64\n"].concat());
    fs::copy("/bin/busybox", bench.path("cat")).unwrap();
    let file = "FROM scratch\nCOPY --chmod=755 program /program\nRUN [\"/program\"]\n\
                CMD [\"/program\"]\n";
    fs::write(bench.path("Dockerfile"), file).unwrap();
    bench
}

/// Calls kiln where the interpreter is registered with flags; `more` is done after
/// that. None where the kernel has no binfmt_misc for user namespaces.
fn call(bench: &Bench, flags: &str, more: &str, args: &str) -> Option<Output> {
    let script = format!(
        "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 77; \
         cd /proc/sys/fs/binfmt_misc; printf '%s' \"$1$2:{flags}\" >register; {more}; cd \"$3\"; \
         shift 3; exec \"$@\""
    );
    let kiln = bench.call(args.split(' '));
    let mut words: Vec<OsString> =
        std::iter::once(kiln.get_program()).chain(kiln.get_args()).map(OsString::from).collect();
    // The namespace is that of the user that kiln is called as.
    let at = words.iter().position(|word| word == "--").map_or(0, |at| at + 1);
    let enter = ["unshare", "-Urm", "sh", "-ec", &script, "sh", RULE].map(OsString::from);
    let folders = [bench.path("cat"), bench.path(".")].map(OsString::from);
    words.splice(at..at, enter.into_iter().chain(folders));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(bench.path(".")).env_clear();
    command.envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = bench.run(&mut command);
    if output.code == Some(77) {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
        assert!(version < (6, 7), "binfmt_misc cannot be mounted: {}", output.stderr);
        crate::support::skip("binfmt_misc is for the whole machine on this kernel");
        return None;
    }
    Some(output)
}

/// Calls kiln where a program for mips64 has a handler.
pub(super) fn with_handler(bench: &Bench, flags: &str, args: &str) -> Option<Output> {
    fs::copy("/bin/busybox", bench.path("cat")).unwrap();
    call(bench, flags, ":", args)
}

#[test]
fn build_run_with_a_handler() {
    for caller in callers() {
        let bench = bench(caller);
        let build = "build --progress=plain --platform linux/mips64 -t out -f Dockerfile context";
        let Some(output) = call(&bench, "F", ":", build) else { return };
        output.success().says(" hello from mips64\n");
        let run = |args: &str| call(&bench, "F", ":", args).unwrap();
        let output = run("run --rm --platform linux/mips64 out").success();
        assert!(output.text().contains("hello from mips64\n"), "{}", output.text());
        // Without it nothing starts.
        let output = bench.run(&mut bench.call(build.split(' '))).failure(1);
        output.says("RUN for linux/mips64 cannot run").says("3 | RUN [\"/program\"]");
        let output = bench.run(&mut bench.call("run --rm out".split(' '))).failure(125);
        output.says("image out is for linux/mips64, which cannot run").says("qemu-user-static");
        assert_eq!(fs::read_dir(bench.path("store/containers")).map_or(0, |all| all.count()), 1);
    }
}

#[test]
fn build_run_with_a_handler_of_no_use() {
    for caller in callers() {
        let bench = bench(caller);
        let build = "build --progress=plain --platform linux/mips64 -f Dockerfile context";
        for (flags, more, says, hint) in [
            ("", ":", "has no flag F, so that its interpreter", "register it anew with flag F"),
            (
                "F",
                "echo 0 >kiln-test",
                "`kiln-test` in /proc/sys/fs/binfmt_misc is disabled",
                "echo 1 >",
            ),
            (
                "F",
                "echo 0 >status",
                "`kiln-test` in /proc/sys/fs/binfmt_misc is disabled",
                "echo 1 >",
            ),
            (
                "F",
                "echo -1 >kiln-test",
                "the kernel has no handler `qemu-mips64`",
                "qemu-user-static",
            ),
        ] {
            let Some(output) = call(&bench, flags, more, build) else { return };
            let output = output.failure(1).says(says).says(hint);
            assert!(!output.stderr.contains("#1 "), "nothing starts: {}", output.stderr);
        }
        bench.clean();
    }
}

/// exit(0) for i386.
const TINY: &str = "7f454c460101010000000000000000000200030001000000540001003400000000000000\
    0000000034002000010000000000000001000000000000000000010000000100\
    5b0000005b000000050000000000010031db31c040cd80";

#[test]
fn build_run_of_32_bits() {
    let host = Platform::host().architecture;
    if host != "amd64" {
        return crate::support::root_only("i386 runs on amd64, and this is not it;");
    }
    let digit = |at: usize| u8::from_str_radix(&TINY[at..at + 2], 16).unwrap();
    let tiny: Vec<u8> = (0..TINY.len()).step_by(2).map(digit).collect();
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("tiny", &tiny);
        let file = "FROM scratch\nCOPY --chmod=755 tiny /tiny\nRUN [\"/tiny\"]\n";
        let output = bench.build(file, "--platform linux/386");
        // It is the kernel's to say.
        let native = bench.path("context/tiny");
        fs::set_permissions(&native, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        match Command::new(&native).status() {
            Ok(status) => {
                assert!(status.success(), "{status}");
                output.success();
            }
            Err(_) => drop(output.failure(1).says("this kernel runs no 32-bit programs")),
        }
        bench.clean();
    }
}
