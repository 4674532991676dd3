//! The rules for secrets and the sandbox, by whole builds; `life` has rule 29.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::bench::{Bench, callers};
use crate::support::kiln::Output;

/// Words that nobody has but the test.
const CANARY: &str = "c4n4ry-0f-th3-c4ll3r";

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Files below a folder that hold a text, or whose name does.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| {
            let content = fs::read(entry.path()).unwrap_or_default();
            has(&content, text) || has(entry.path().as_os_str().as_encoded_bytes(), text)
        })
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// A call of kiln by a shell that does something before.
fn after(bench: &Bench, before: &str, args: &str, variables: &[(&str, &str)]) -> Command {
    let call = bench.call(args.split(' '));
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}; exec \"$@\""), "sh"]).arg(call.get_program());
    shell.args(call.get_args()).current_dir(bench.path(".")).env_clear();
    shell.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.envs(variables.iter().copied());
    shell
}

/// Neither while the step runs nor afterwards is a secret anywhere but in the step.
#[test]
fn rule_26_secrets_stay_in_memory() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        fs::write(bench.path("given"), CANARY).unwrap();
        let file = "FROM busybox\n\
            RUN --mount=type=secret,id=f,target=/deep/down/s --mount=type=secret,id=e,env=E \
            test \"$(cat /deep/down/s)\" = \"$E\" && test -n \"$E\" && \
            grep ' /deep/down/s tmpfs ' /proc/mounts && echo begun && sleep 1\n";
        fs::write(bench.path("Dockerfile"), file).unwrap();
        let args = "build --progress=rawjson -v --no-cache -t out -f Dockerfile \
                    --secret id=f,src=given --secret id=e,env=SECRET -o type=oci,dest=out.tar context";
        let args = args.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut call = bench.call(args.split(' '));
        let mut child = call.env("SECRET", CANARY).process_group(0).spawn().unwrap();
        let mut said = String::new();
        let mut reader = BufReader::new(child.stderr.take().unwrap());
        // `begun` in base64 and a newline, as the output of a step is in JSON.
        while !said.contains("YmVndW4K") {
            assert_ne!(reader.read_line(&mut said).unwrap(), 0, "the step begins: {said}");
        }
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            assert!(!has(&line, CANARY), "{:?}", String::from_utf8_lossy(&line));
        }
        let during = holding(&bench.path("store"), CANARY);
        assert_eq!(during, Vec::<String>::new());
        while reader.read_line(&mut said).unwrap() > 0 {}
        assert!(child.wait().unwrap().success(), "{said}");
        assert!(!said.contains(CANARY), "{said}");
        assert_eq!(holding(&bench.path("store"), CANARY), Vec::<String>::new());
        assert!(!has(&fs::read(bench.path("out.tar")).unwrap(), CANARY));
        assert_eq!(bench.layer(0), Vec::<String>::new(), "the mount points are gone");
        // A step that fails shows its command, not its environment.
        let failing = file.replace("echo begun && sleep 1", "exit 3");
        let output = bench.build(&failing, "--secret id=f,src=given --secret id=e,src=given");
        assert!(!output.failure(1).stderr.contains(CANARY));
        bench.clean();
    }
}

/// Neither variables nor descriptors of whoever calls reach a step or a container.
#[test]
fn rule_27_nothing_of_the_callers_passes() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        fs::write(bench.path("open"), CANARY).unwrap();
        fs::write(
            bench.path("Dockerfile"),
            "FROM busybox\nRUN env | sort >/env; ls /proc/self/fd >/fds; umask >/umask\n",
        )
        .unwrap();
        let variables = [
            ("CANARY", CANARY),
            ("HTTP_PROXY", CANARY),
            ("LD_PRELOAD", ""),
            ("BASH_ENV", CANARY),
            ("ENV", CANARY),
            ("TERM", CANARY),
        ];
        let before = "exec 9<open 7<&0 8>>open; umask 077; trap '' TERM";
        let args = "build --progress=plain --no-cache -t out -f Dockerfile context";
        bench.run(&mut after(&bench, before, args, &variables)).success();
        assert_eq!(bench.content("env"), "HOME=/root\nPATH=/bin\nPWD=/\nSHLVL=1\n", "{caller:?}");
        assert_eq!(bench.content("fds"), "0\n1\n2\n3\n");
        assert_eq!(bench.content("umask"), "0022\n");
        assert_eq!(holding(&bench.path("store"), CANARY), Vec::<String>::new());
        let args = "run --rm out sh -c env;ls@/proc/self/fd;cat@0<&9";
        let args: Vec<String> = args.split(' ').map(|word| word.replace('@', " ")).collect();
        let mut call = bench.call(args.iter().map(String::as_str));
        call.envs(variables);
        let output: Output = bench.run(&mut call);
        assert!(!output.text().contains(CANARY), "{}", output.text());
        assert!(output.text().ends_with("0\n1\n2\n3\n"), "{}", output.text());
        bench.clean();
    }
}

/// What a step has is its own: each kind of namespace, the rights, the filter.
#[test]
fn rule_28_the_sandbox_is_whole() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.built(
            "FROM busybox\nRUN for n in user mnt pid ipc uts net; do echo $n $(busybox readlink /proc/self/ns/$n); done >/ns; \
             grep -E '^(Cap|Seccomp:)' /proc/self/status >/status\n\
             RUN --network=none busybox readlink /proc/self/ns/net >/none\n\
             WORKDIR /gone/and/made\nRUN pwd >/pwd\n",
        );
        let text = bench.content("ns");
        let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let root = caller == super::bench::Caller::Own && rustix::process::geteuid().is_root();
        for line in text.lines() {
            let (name, link) = line.split_once(' ').unwrap();
            // Real root has no user namespace of its own; the network is the host's.
            let shared = name == "net" || (name == "user" && root);
            assert_eq!(own(name).to_str() == Some(link), shared, "{caller:?} {line}");
        }
        assert_eq!(text.lines().count(), 6);
        assert_ne!(bench.content("none").trim(), own("net").to_str().unwrap());
        let status = bench.content("status");
        for line in [
            "CapInh:\t0000000000000000",
            "CapBnd:\t00000000a80425fb",
            "CapAmb:\t0000000000000000",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
        assert_eq!(bench.content("pwd"), "/gone/and/made\n");
        bench.clean();
    }
}

/// Where one piece cannot be had, the error names it and nothing is run.
#[test]
fn rule_28_the_sandbox_fails_closed() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        fs::write(bench.path("Dockerfile"), "FROM busybox\nRUN echo ra''n\n").unwrap();
        // A machine that allows no host name of one's own.
        let script = "echo 0 >/proc/sys/user/max_uts_namespaces; exec \"$@\"";
        let kiln = bench.call("build --progress=plain -f Dockerfile context".split(' '));
        let words: Vec<_> = std::iter::once(kiln.get_program()).chain(kiln.get_args()).collect();
        let at = words.iter().position(|word| *word == "--").map_or(0, |at| at + 1);
        let mut command = Command::new("env");
        command.args(&words[..at]).args(["unshare", "-Urm", "sh", "-ec", script, "sh"]);
        command.args(&words[at..]).current_dir(bench.path(".")).env_clear();
        command.envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = bench.run(&mut command).failure(1);
        let output = output.says("make namespaces: ").says("No space left on device");
        assert!(!output.stderr.contains(" ran\n"), "{}", output.stderr);
        bench.clean();
    }
}

/// A Dockerfile widens nothing by itself: what it asks for is refused before anything
/// is run, or is of the context after all.
#[test]
fn rule_30_a_dockerfile_widens_nothing() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        fs::write(bench.path("outside"), CANARY).unwrap();
        for (run, says) in [
            ("--security=insecure id", "--allow security.insecure"),
            ("--device=/dev/null id", "device"),
            ("--privileged id", "privileged"),
            ("--mount=type=bind,source=../outside,target=/x cat /x", "outside"),
            ("--mount=type=bind,source=/etc/passwd,target=/x cat /x", "etc/passwd"),
            ("--mount=type=bind,from=/etc,target=/x ls /x", "/etc"),
            ("--mount=type=devpts,target=/x ls /x", "devpts"),
            ("--mount=type=bind,propagation=shared,target=/x ls /x", "propagation"),
            ("--mount=type=ssh,required id", "ssh"),
        ] {
            let file = format!("FROM busybox\nRUN {run} && echo wide''ned\n");
            let output = bench.build(&file, "--no-cache").failure(1).says(says);
            assert!(!output.stderr.contains(" widened\n"), "{run}: {}", output.stderr);
            assert!(!output.stderr.contains(CANARY), "{run}: {}", output.stderr);
        }
        // With the flag of whoever builds it is so.
        let file = "FROM busybox\nRUN --security=insecure echo wide''ned\n";
        bench.build(file, "--allow security.insecure").success().says(" widened\n");
        bench.clean();
    }
}
