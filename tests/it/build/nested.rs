//! kiln in the containers of others, and in its own steps.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::bench::{Bench, Caller, busybox, callers, dir, file, ordinary};
use crate::support::CAPABILITIES;

/// Calls that an engine's profile refuses who has no CAP_SYS_ADMIN.
const REFUSED: &[&str] = &[
    "add_key",
    "bpf",
    "fsconfig",
    "fsmount",
    "fsopen",
    "keyctl",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount2",
    "unshare",
];

/// A bundle for runc whose root is an overlay of this machine's, as an engine makes
/// one of an image: kiln's store lies on it.
fn config(call: &Command, home: &Path, uid: u32, capabilities: &[&str]) -> serde_json::Value {
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let args: Vec<String> =
        std::iter::once(call.get_program()).chain(call.get_args()).map(text).collect();
    let env: Vec<String> = call
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", text(name), text(value?))))
        .collect();
    let capabilities: Vec<String> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    let mount = |destination: &str, kind: &str, options: &[&str]| {
        serde_json::json!({"destination": destination, "type": kind, "source": kind,
            "options": options})
    };
    serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": uid, "gid": uid}, "args": args, "env": env,
            "cwd": home, "noNewPrivileges": false,
            "capabilities": {"bounding": capabilities, "effective": capabilities,
                "permitted": capabilities},
        },
        "root": {"path": "merged", "readonly": false},
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
            mount("/dev/pts", "devpts", &["newinstance"]),
            mount("/dev/shm", "tmpfs", &["mode=1777"]),
            mount("/sys", "sysfs", &["ro"]),
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
                {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [
                    {"index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000,
                        "op": "SCMP_CMP_MASKED_EQ"}]},
            ]},
        },
    })
}

/// The call in such a container.
pub(super) fn contained(bench: &Bench, call: &Command, uid: u32, capabilities: &[&str]) -> Command {
    const SCRIPT: &str = r#"cd "$0" && mkdir upper work merged state &&
        mount -t tmpfs box upper && mkdir upper/u upper/w &&
        mount -t overlay -o lowerdir=/,upperdir=upper/u,workdir=upper/w overlay merged &&
        exec runc --root state run "$1""#;
    // Not below the home, which is seen in the container as it was.
    let bundle = tempfile::tempdir().unwrap().keep();
    let config = config(call, &bench.path(""), uid, capabilities);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", SCRIPT]).arg(&bundle).arg(bundle.file_name().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const TEXT: &str = "FROM busybox\nRUN mkdir /a && echo x >/a/x && chown 33:34 /a/x && ln /a/x /a/y\n\
    RUN rm /a/y && mkdir -m 1777 /b && chmod 4755 /a/x && id >/id\nUSER 7\nRUN echo >/b/own\n\
    RUN grep -w \"$(busybox hostname)\" /etc/hosts\n";

fn arguments(bench: &Bench) -> Command {
    fs::write(bench.path("Dockerfile"), TEXT).unwrap();
    bench.call("build -v --progress=plain -t out -f Dockerfile context".split(' '))
}

#[test]
fn build_nested_in_a_default_container() {
    // Only root starts such a container.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::with_busybox(callers()[0]);
    let expected = bench.built(TEXT);
    let bench = Bench::with_busybox(callers()[0]);
    let call = arguments(&bench);
    let output = bench.run(&mut contained(&bench, &call, 0, CAPABILITIES)).success();
    assert_eq!(output.text().trim(), expected, "{}", output.stderr);
    assert!(output.stderr.contains("sandbox: chroot"), "{}", output.stderr);
    // Without a capability, or for another user, there is nothing; and what to change.
    let fewer: Vec<&str> = CAPABILITIES.iter().copied().filter(|one| *one != "FOWNER").collect();
    for (uid, capabilities, says) in
        [(0, fewer.as_slice(), "without the capabilities FOWNER"), (1234, &[], "seccomp")]
    {
        let bench = Bench::with_busybox(callers()[0]);
        let call = arguments(&bench);
        if uid != 0 {
            let mut chown = Command::new("chown");
            chown.arg("-R").arg(uid.to_string()).arg(bench.path(""));
            assert!(chown.status().unwrap().success());
        }
        let output = bench.run(&mut contained(&bench, &call, uid, capabilities)).failure(1);
        assert!(output.stderr.contains(says), "{}", output.stderr);
    }
}

/// Where an ordinary user is in a container of namespaces already, with all of `/proc`
/// or with parts of it masked.
#[test]
fn build_nested_in_bubblewrap() {
    let Some(caller) = ordinary() else { return };
    for masked in [false, true] {
        let bench = Bench::with_busybox(caller);
        fs::write(
            bench.path("Dockerfile"),
            "FROM busybox\nRUN echo x >/x; cat /proc/self/status >/status; ls /proc/self/fd; \
             echo $$ >/pid; echo y >/dev/null; cat /dev/null\n",
        )
        .unwrap();
        let call = bench.call("build -v --progress=plain -t out -f Dockerfile context".split(' '));
        let mut words: Vec<std::ffi::OsString> =
            std::iter::once(call.get_program()).chain(call.get_args()).map(Into::into).collect();
        let at = words.iter().position(|word| word == "--").map_or(0, |at| at + 1);
        let mut wrap: Vec<std::ffi::OsString> =
            "bwrap --unshare-all --share-net --die-with-parent --ro-bind / / --dev /dev --proc /proc"
                .split(' ')
                .map(Into::into)
                .collect();
        let home = bench.path("").into_os_string();
        wrap.extend(["--bind".into(), home.clone(), home]);
        if masked {
            wrap.extend("--ro-bind /dev/null /proc/version".split(' ').map(Into::into));
        }
        words.splice(at..at, wrap);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear();
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = bench.run(command.current_dir(bench.path(""))).success();
        let said = &output.stderr;
        assert!(said.contains("sandbox: single-id"), "{said}");
        assert_eq!(said.contains("\n/proc: "), masked, "{said}");
        assert_eq!(bench.content("pid"), "1\n");
        assert!(bench.content("status").contains("Name:\tcat"));
        bench.clean();
    }
}

/// A step of kiln's has the rights of a default container, and so has kiln in it.
#[test]
fn build_nested_in_its_own_step() {
    let program = fs::read(crate::support::kiln::program()).unwrap();
    for caller in callers() {
        let tiers: &[&str] = match caller {
            Caller::Own if rustix::process::geteuid().is_root() => &["root", "single-id"],
            _ => &["subuid", "single-id"],
        };
        let bench = Bench::new(caller);
        bench.base("busybox", &[busybox(), vec![file("kiln", 0o755, program.clone())]]);
        for tier in tiers {
            let text = "FROM busybox\nWORKDIR /ctx\nENV KILN_STORE=/store HOME=/ctx\n\
                RUN cp /bin/busybox . && printf 'FROM scratch\\nCOPY busybox /bin/sh\\n\
                RUN echo inner >/made; echo >/dev/null\\n\
                RUN read line </made; echo $line again >/made\\n' >Dockerfile && \
                /kiln build -v --progress=plain -t in . >/digest 2>/said; \
                cat /said; /kiln save -o /in.tar in && tar xf /in.tar -C /tmp; ls /tmp\n";
            let output = bench.build(text, &format!("--no-cache --sandbox={tier}")).success();
            let said = bench.content("said");
            assert!(said.contains("sandbox: chroot"), "{tier}: {said}");
            // Where calls wait for the outer kiln they cannot wait for another.
            let refused = said.contains("are empty in steps: no listener of system calls");
            assert_eq!(refused, *tier != "root", "{tier}: {said}");
            assert!(bench.content("digest").starts_with("sha256:"), "{said} {}", output.stderr);
            bench.clean();
        }
    }
}

/// A container that kiln runs has the rights of a default container as well.
#[test]
fn build_nested_in_its_own_container() {
    let program = fs::read(crate::support::kiln::program()).unwrap();
    let inner = "FROM scratch\nCOPY busybox /bin/sh\nRUN echo inner >/made; echo >/dev/null\n\
        RUN read line </made; echo $line again >/made\n";
    for caller in callers() {
        let tiers: &[&str] = match caller {
            Caller::Own if rustix::process::geteuid().is_root() => &["root", "single-id"],
            _ => &["subuid", "single-id"],
        };
        let bench = Bench::new(caller);
        let context = vec![
            dir("ctx", 0o755),
            file("ctx/Dockerfile", 0o644, inner),
            file("ctx/busybox", 0o755, fs::read("/bin/busybox").unwrap()),
        ];
        bench.base("box", &[busybox(), context, vec![file("kiln", 0o755, program.clone())]]);
        let script = "cd /ctx && export HOME=/ctx KILN_STORE=/store && \
            /kiln build -v --progress=plain -t in -o type=tar,dest=- . | tar xO made";
        for tier in tiers {
            let sandbox = format!("--sandbox={tier}");
            let args = ["run", "--rm", &sandbox, "box", "sh", "-c", script];
            let output = bench.run(&mut bench.call(args)).success();
            assert!(output.stderr.contains("sandbox: chroot"), "{tier}: {}", output.stderr);
            assert_eq!(output.text(), "inner again\n", "{tier}: {}", output.stderr);
        }
        bench.clean();
    }
}

/// A script's folder for control groups is the one of version 2, since the crun that
/// podman uses refuses what a machine with both versions has.
const ROOTLESS: &str = r#"mount --make-rshared / &&
    if [ -d /sys/fs/cgroup/unified ]; then mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; fi &&
    exec "$@""#;

/// podman keeps a process for its namespace, which is to end with the test.
const PODMAN: &str = r#"mkdir -p "$XDG_RUNTIME_DIR" && podman --events-backend=file \
    --storage-driver=vfs --runtime=crun run --rm --cgroups=disabled --network=host "$@"; code=$?
    kill "$(cat "$XDG_RUNTIME_DIR/libpod/tmp/pause.pid")"; exit $code"#;

/// The call in a container of an ordinary user's podman.
fn in_podman(bench: &Bench, call: &Command, options: &[&str]) -> Command {
    let Caller::User { uid, gid } = bench.caller else { panic!("root has no such container") };
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let home = text(bench.path("").as_os_str()).trim_end_matches('/').to_owned();
    let root = text(bench.path("root").as_os_str());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", ROOTLESS, "sh", "setpriv", "--init-groups"]);
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--".into()]);
    command.args(["sh", "-c", PODMAN, "sh"]).args(options);
    command.args(["-v".into(), format!("{home}:{home}"), "-w".into(), home.clone()]);
    for (name, value) in call.get_envs() {
        command.arg("-e").arg(format!("{}={}", text(name), text(value.unwrap())));
    }
    command.args(["--rootfs".into(), root, "/kiln".to_owned()]);
    command.args(call.get_args().skip_while(|word| *word != "build"));
    command.env_clear().env("HOME", &home).env("XDG_RUNTIME_DIR", format!("{home}/run"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(home);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// With podman's own profile; with one that forbids user namespaces; with all rights.
#[test]
fn build_nested_in_rootless_podman() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::root_only("a user's podman is given control groups of version 2");
    }
    let Some(caller) = ordinary() else { return };
    let bench = Bench::with_busybox(caller);
    let expected = bench.built(TEXT);
    let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]});
    for (options, tier, notes) in [
        (&[][..], "single-id", &["the host name of steps"][..]),
        (&["--security-opt", "seccomp=profile.json"], "chroot", &["without namespaces"]),
        (&["--privileged"], "root", &[]),
    ] {
        let bench = Bench::with_busybox(caller);
        fs::write(bench.path("profile.json"), profile.to_string()).unwrap();
        for folder in ["proc", "sys", "dev", "tmp", "etc", "run"] {
            fs::create_dir_all(bench.path("root").join(folder)).unwrap();
        }
        fs::copy(crate::support::kiln::program(), bench.path("root/kiln")).unwrap();
        let call = arguments(&bench);
        let output = bench.run(&mut in_podman(&bench, &call, options)).success();
        let said = &output.stderr;
        assert!(said.contains(&format!("sandbox: {tier}\n")), "{options:?}: {said}");
        assert!(notes.iter().all(|note| said.contains(note)), "{options:?}: {said}");
        assert_eq!(output.text().trim(), expected, "{options:?}: {said}");
    }
}
