//! `/proc` and `/sys` in the tier for root that may not mount.

use std::path::Path;
use std::process::{Command, Stdio};

use super::bench::{Bench, Caller, callers};
use super::nested::contained;
use crate::support::CAPABILITIES;

/// Only root can have the tier; the image has what an image usually has.
fn debian() -> Option<(Caller, String)> {
    let Some(images) = kiln::env::path("KILN_TEST_IMAGES") else {
        crate::support::skip("no programs are run: KILN_TEST_IMAGES names no images");
        return None;
    };
    let root = rustix::process::geteuid().is_root();
    root.then(|| {
        (
            callers()[0],
            format!("--build-context=debian=oci-layout://{}/debian:latest", images.display()),
        )
    })
}

/// The call with the rights of a default container, and with a value in its environment
/// that no step may see.
fn limited(call: &Command) -> Command {
    let granted: Vec<String> =
        CAPABILITIES.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set=-all,{}", granted.join(","))).arg("--");
    command.arg(call.get_program()).args(call.get_args()).env_clear();
    command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("CANARY", "canary-of-the-environment");
    command.current_dir(call.get_current_dir().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What scripts say, each a step of its own with everything that the step said at its end.
fn said(bench: &Bench, image: &str, wrap: impl Fn(&Command) -> Command, steps: &str) -> String {
    let text = numbered(&format!("FROM debian\n{steps}"));
    std::fs::write(bench.path("Dockerfile"), text).unwrap();
    let args =
        format!("build -v --sandbox=chroot --progress=plain -t out -f Dockerfile {image} context");
    let output = bench.run(&mut wrap(&bench.call(args.split(' ')))).success();
    output.stderr
}

/// Scripts, and the words that they must say for it.
const SCRIPTS: &[(&str, &str)] = &[
    ("bash -c 'cat <(echo by-a-pipe)'", "by-a-pipe"),
    ("echo by-stdin | cat /dev/stdin", "by-stdin"),
    ("echo to-stderr >/dev/stderr", "to-stderr"),
    ("echo to-stdout >>/dev/stdout", "to-stdout"),
    ("echo x >/tmp/f; exec 5</tmp/f; cat /dev/fd/5 /proc/self/fd/5 | uniq -c", "      2 x"),
    ("grep -c '^MemTotal: *[1-9][0-9]* kB' /proc/meminfo", "1"),
    ("test $(grep -c ^processor /proc/cpuinfo) -ge $(nproc) && echo processors", "processors"),
    ("grep Name: /proc/self/status", "Name:\tgrep"),
    ("grep Name: /proc/thread-self/status", "Name:\tgrep"),
    (
        "test $(readlink /proc/self/) != x; cd /; stat -c %F-%N /proc/self | sed 's/[0-9]//g'",
        "symbolic link-'/proc/self' -> ''",
    ),
    ("cat /proc/sys/kernel/ostype", "Linux"),
    ("readlink -f /proc/self/exe", "/usr/bin/readlink"),
    ("ls -ld /proc/self/cwd/ /proc/$$/root/ | cut -c1-4 | sort -u", "drwx"),
    ("ls -l /proc/self/fd/ | grep -c -- '-> pipe:'", "2"),
    ("find /proc/self/fd -type l | grep -c fd/1", "1"),
    ("df / | tail -1 | grep -o '%.*'", "% /"),
    ("df -h | grep -c ' /$'", "1"),
    ("cd /proc && cat uptime self/comm && echo $PWD $(cat mounts | grep -c ^)", "/proc 3"),
    ("cd /proc/$$ && ls -d ../$$/fd && cat comm", "sh"),
    (
        "ln -s /proc/meminfo /m; ln -s /proc/self/mounts /etc/mtab; ls /proc >/dev/null; \
      grep -c MemFree /m; grep -c ' / ' /etc/mtab; rm /m /etc/mtab",
        "1",
    ),
    (
        "perl -e 'opendir(D, \"/proc/self/task\"); print grep { /^\\d+$/ } readdir(D)' | grep -c .",
        "1",
    ),
    // A program executed by its own link, by a descriptor, and by one to a script.
    ("perl -e 'exec {\"/proc/self/exe\"} (\"x\", \"-e\", \"print qq(again\\n)\")'", "again"),
    (
        "perl -e '$^F = 9; open(F, \"/bin/echo\"); exec \"/proc/self/fd/\" . fileno(F), \"by-fd\"'",
        "by-fd",
    ),
    (
        "printf '#!/bin/sh\\necho script $0 | tr -d 0-9\\n' >/s; chmod 755 /s; \
      perl -e '$^F = 9; open(F, \"/s\"); $a = \"\"; syscall(EXECVEAT, fileno(F), $a, 0, 0, 0x1000)'; \
      rm /s",
        "script /dev/fd/",
    ),
    (
        "start-stop-daemon --start --background --make-pidfile --pidfile /run/x.pid \
      --exec /bin/sleep -- 60; sleep 0.3; \
      start-stop-daemon --status --pidfile /run/x.pid --exec /bin/sleep && echo it-runs; \
      start-stop-daemon --stop --pidfile /run/x.pid --exec /bin/sleep --retry 5 && \
      echo stopped; rm /run/x.pid",
        "stopped",
    ),
    // Of other users, who have their own rights.
    (
        "setpriv --reuid=5 --regid=6 --clear-groups bash -c \
      'cat <(grep Uid: /proc/self/status) && readlink /proc/self/exe'",
        "/usr/bin/readlink",
    ),
    (
        "setpriv --reuid=5 --regid=6 --clear-groups sh -c \
      'cat /proc/self/environ >/dev/null && echo own; cat /proc/'$$'/environ; ls /proc/'$$'/fd'; \
      true",
        "Permission denied",
    ),
    // What C libraries open as a place they change by its descriptor.
    (
        "mkdir /t && cd /t && mkdir -m 2755 a && touch a/f && chmod 640 a/f && mkfifo -m 600 a/p && \
      ln -s f a/l && tar -cpf x a && rm -r a && tar -xpf x && stat -c %a a a/f a/p | paste -sd' '; \
      rm -r /t",
        "2755 640 600",
    ),
    (
        "touch /c; exec 7</c; chmod 604 /proc/self/fd/7; chown 7:8 /proc/self/fd/7; \
      stat -c %a-%u-%g /c; chmod 600 /proc/uptime; rm /c",
        "604-7-8",
    ),
    (
        "mkdir /t && cd /t && cp /bin/true cap && \
      perl -e '$f = \"cap\"; $n = \"user.note\"; syscall(188, $f, $n, $n, 9, 0)' && \
      tar --xattrs --xattrs-include='*' -cpf x cap && mkdir b && \
      tar --xattrs --xattrs-include='*' -xpf x -C b && \
      perl -e '$f = \"b/cap\"; $n = \"user.note\"; $v = \" \" x 9; syscall(191, $f, $n, $v, 9); print \"$v\\n\"'; \
      rm -r /t",
        "user.note",
    ),
    // What is not of the step.
    ("echo 1 >/proc/sys/vm/drop_caches || true", "Read-only file system"),
    ("test -w /proc/sys/kernel/hostname || echo not-writable", "not-writable"),
    ("echo 500 >/proc/self/oom_score_adj && echo adjusted", "adjusted"),
    ("test -e /proc/kcore || echo hidden", "hidden"),
    ("ls /sys/class/net/lo/ | grep mtu; cat /sys/class/net/lo/mtu", "mtu"),
    ("ls /sys/firmware 2>&1 || true", "No such file"),
    ("touch /proc/new-file; mkdir -p /new && ls /new /nowhere || true", "/nowhere"),
    ("find / -xdev | grep -c -e ^/proc/ -e ^/sys/ | sed s/^/below-/", "below-0"),
    ("find /proc/self/task -name status | wc -l | sed s/^/status-/", "status-1"),
    ("mountpoint /proc", "/proc is a mountpoint"),
    ("rm -rf /new; test -e /proc/self/fd/99 || echo no-99", "no-99"),
];

#[test]
fn build_chroot_files_for_programs() {
    let Some((caller, image)) = debian() else { return };
    let bench = Bench::new(caller);
    let steps: String = SCRIPTS.iter().map(|(script, _)| format!("RUN {script}\n")).collect();
    let said = said(&bench, &image, limited, &steps);
    for (at, (script, expected)) in SCRIPTS.iter().enumerate() {
        // The first line of a step repeats the script.
        let number = format!(" [{:>2}/{}] RUN ", at + 2, SCRIPTS.len() + 1);
        let first = said.lines().find(|line| line.contains(&number));
        let name = first.unwrap_or_else(|| panic!("{number}: {said}")).split(' ').next().unwrap();
        let of_step =
            |line: &&str| line.starts_with(&format!("{name} ")) && !line.contains(&number);
        let lines: Vec<&str> = said.lines().filter(of_step).collect();
        assert!(lines.iter().any(|line| line.contains(expected)), "{script}: {lines:?}");
    }
    // Nothing of it is in the layers.
    for layer in 0..SCRIPTS.len() {
        let names = bench.layer(layer);
        let lost = |name: &&String| {
            let name = name.split(' ').nth(3).unwrap();
            ["proc", "sys"].iter().any(|own| Path::new(name).starts_with(own))
        };
        assert!(!names.iter().any(|name| lost(&name)), "{names:?}");
    }
    bench.clean();
}

/// What a step must not reach: processes, environments and folders around it.
const REACH: &str = r#"FROM debian
RUN mkdir /inside
RUN <<END
set -e
first=$(($$ > 60 ? $$ - 60 : 1))
for pid in 1 $(seq $first $(($$ - 1))); do
  cat /proc/$pid/environ /proc/$pid/cmdline 2>/dev/null || true
  ls -d /proc/$pid /proc/$pid/root /proc/$pid/cwd 2>/dev/null || true
done >/seen
kill -0 1
if [ -s /seen ]; then cat /seen; exit 2; fi
grep -q HOME= /proc/$$/environ
ls /proc | grep '^[0-9]' >/listed
grep -qx $$ /listed
if grep -x 1 /listed; then exit 3; fi
cat >/up.pl <<'PERL'
chdir("/"); $root = join(" ", glob("*"));
for $own ("/proc", "/proc/self", "/proc/self/fd", "/proc/$$/task", "/sys", "/sys/class/net") {
  opendir(D, $own) or die "$own: $!"; chdir(D) or die; chdir("..") for 1..9;
  $up = join(" ", glob("*")); $up eq $root or die "$own leads up to $up";
  for (0, 010000000) {
    $name = $own; $open = syscall(OPENAT, -100, $name, FOLDER | $_, 0); $open > 2 or die $!;
    $path = "../../../../../../inside"; $buffer = "x" x 256;
    syscall(FSTATAT, $open, $path, $buffer, 0) == 0 or die "$own leads out";
  }
}
print "stays inside\n";
PERL
perl /up.pl
END
"#;

/// With the numbers of this architecture for names of calls and flags.
fn numbered(script: &str) -> String {
    let numbers = [
        ("OPENAT", libc::SYS_openat),
        ("FSTATAT", libc::SYS_newfstatat),
        ("EXECVEAT", libc::SYS_execveat),
        ("FOLDER", libc::O_DIRECTORY.into()),
    ];
    let mut text = script.to_owned();
    for (name, number) in numbers {
        text = text.replace(name, &number.to_string());
    }
    text
}

#[test]
fn build_chroot_files_end_at_the_step() {
    let Some((caller, image)) = debian() else { return };
    for in_container in [false, true] {
        let bench = Bench::new(caller);
        std::fs::write(bench.path("Dockerfile"), numbered(REACH)).unwrap();
        let args = format!(
            "build -v --sandbox=chroot --progress=plain -t out -f Dockerfile {image} context"
        );
        let mut call = bench.call(args.split(' '));
        let output = if in_container {
            call.env("CANARY", "canary-of-the-environment");
            bench.run(&mut contained(&bench, &call, 0, CAPABILITIES))
        } else {
            bench.run(&mut limited(&call))
        };
        let said = output.success().stderr;
        assert!(said.contains("stays inside") && !said.contains("canary"), "{said}");
        assert!(!said.contains("are empty in steps"), "{said}");
    }
}

/// Whose programs with set-user-ID bits work is another's choice than who has `/proc`.
#[test]
fn build_chroot_files_or_set_user_id() {
    let Some((caller, image)) = debian() else { return };
    let text = "RUN cp /usr/bin/id /id && chmod 4755 /id && \
                setpriv --reuid=5 --regid=5 --clear-groups /id -u | sed s/^/in-a-step-of-root-/\n\
                RUN grep NoNewPrivs /proc/self/status | tr '\\t' -\n\
                USER 5\nRUN /id -u | sed s/^/in-a-step-of-another-/; ls -A /proc /sys; \
                test ! -e /proc/self && echo empty\n";
    let bench = Bench::new(caller);
    let limits = said(&bench, &image, limited, text);
    for expected in [
        "root-5",
        "NoNewPrivs:-1",
        "another-0",
        "empty",
        "no_new_privs), which",
        "secret is a fifo",
    ] {
        let expected = if expected.starts_with("no_new") { "(no_new_privs)" } else { expected };
        assert!(limits.contains(expected), "{expected}: {limits}");
    }
    // With CAP_SYS_ADMIN both are to be had.
    let bench = Bench::new(caller);
    let text =
        text.replace("ls -A /proc /sys; test ! -e /proc/self && echo empty", "cat /proc/self/comm");
    let whole = said(&bench, &image, again, &text);
    for expected in ["root-0", "NoNewPrivs:-0", "another-0", " cat\n"] {
        assert!(whole.contains(expected), "{expected}: {whole}");
    }
    assert!(!whole.contains("(no_new_privs)"), "{whole}");
}

/// The same call.
fn again(call: &Command) -> Command {
    let mut command = Command::new(call.get_program());
    command.args(call.get_args()).env_clear().current_dir(call.get_current_dir().unwrap());
    command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
