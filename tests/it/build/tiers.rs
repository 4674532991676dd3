//! Which sandbox a build and a container take, and what is said about it.

use std::collections::BTreeSet;
use std::process::Command;

use kiln::sandbox::Tier;

use super::bench::{Bench, Caller, busybox, callers, dir, file, ordinary, symlink};
use crate::support::kiln::Output;

/// Lines about the choice.
fn said(output: &Output) -> Vec<&str> {
    output.stderr.lines().filter(|line| line.starts_with("sandbox: ")).collect()
}

/// The best tier of a caller, by what kiln needs for it.
fn best(caller: Caller) -> Tier {
    let root = caller == Caller::Own && rustix::process::geteuid().is_root();
    if root { Tier::Root } else { Tier::Subuid }
}

#[test]
fn build_says_its_sandbox_once_and_only_where_something_runs() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("a", "A");
        let file = "FROM busybox AS one\nRUN echo 1 >/1\nRUN echo 2 >/2\n\
                    FROM busybox AS two\nRUN echo 3 >/3\n\
                    FROM busybox\nCOPY --from=one / /\nCOPY --from=two / /\n";
        let output = bench.build(file, "-v").success();
        let lines = said(&output);
        let (tier, refused) = lines.split_last().unwrap();
        assert_eq!(*tier, format!("sandbox: {}", best(caller)), "{lines:?}");
        let better = Tier::ALL.into_iter().take_while(|tier| *tier != best(caller));
        assert_eq!(refused.len(), better.clone().count(), "{lines:?}");
        for (line, tier) in refused.iter().zip(better) {
            let begin = format!("sandbox: not {tier}: ");
            assert!(line.starts_with(&begin) && line.len() > begin.len(), "{line}");
        }
        // Nothing is run for what is there, or for files alone; and nobody asked.
        for (file, flags) in
            [(file, "-v"), ("FROM busybox\nCOPY a /a\n", "-v"), (file, "--no-cache")]
        {
            assert_eq!(said(&bench.build(file, flags).success()), Vec::<&str>::new(), "{flags}");
        }
        let run = |args: &str| bench.run(&mut bench.call(args.split(' ')));
        let output = run("run --rm --verbose out true").success();
        assert_eq!(said(&output).last(), Some(&&*format!("sandbox: {}", best(caller))));
        assert_eq!(said(&run("run --rm out true").success()), Vec::<&str>::new());
        bench.clean();
    }
}

#[test]
fn build_and_run_in_the_sandbox_that_is_asked_for() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let file = "FROM busybox\nRUN cat /proc/self/uid_map >/map\n";
        let run = |args: String| bench.run(&mut bench.call(args.split(' ')));
        for tier in [best(caller), Tier::SingleId] {
            let flags = format!("-v --no-cache --sandbox={tier}");
            let output = bench.build(file, &flags).success();
            assert_eq!(said(&output), [format!("sandbox: {tier}")]);
            let rows = bench.content("map").lines().count();
            assert_eq!(rows, if tier == Tier::Subuid { 2 } else { 1 }, "{tier}");
            let map = run(format!("run --rm --sandbox={tier} out cat /proc/self/uid_map"));
            assert_eq!(map.success().text(), bench.content("map"), "{tier}");
        }
        // What is refused says why; root has no ranges, the user is not root.
        let (tier, why) = match best(caller) {
            Tier::Root => (Tier::Subuid, "/etc/subuid has no line for the user"),
            Tier::Subuid | Tier::SingleId | Tier::Chroot => {
                (Tier::Root, "kiln does not run as root")
            }
        };
        let output = bench.build(file, &format!("--no-cache --sandbox={tier}")).failure(1);
        output.says(&format!("no sandbox can be had here: {tier}: {why}")).says("kiln doctor");
        let output = run(format!("run --sandbox={tier} out true")).failure(125);
        output.says(&format!("{tier}: {why}"));
        run("build --sandbox=best .".to_owned()).failure(2).says("single-id");
        bench.clean();
    }
}

/// With one ID, owners that only the base image has stay what they are.
#[test]
fn build_with_one_id_keeps_the_owners_of_the_base() {
    let mut digests = Vec::new();
    for caller in callers() {
        for tier in ["", "--sandbox single-id"] {
            let bench = Bench::new(caller);
            let mut theirs = vec![
                dir("own", 0o755),
                file("own/f", 0o644, "f"),
                symlink("own/l", "f"),
                dir("own/d", 0o750),
            ];
            for (entry, _) in &mut theirs {
                (entry.uid, entry.gid) = (33, 34);
            }
            bench.base("busybox", &[busybox(), theirs]);
            bench
                .build(
                    "FROM busybox\nRUN chmod 600 /own/f; touch /own/d/new; chmod 711 /own\n",
                    tier,
                )
                .success();
            assert_eq!(
                bench.layer(0),
                [
                    "d 711 33:34 own",
                    "d 750 33:34 own/d",
                    "f 644 0:0 own/d/new 0",
                    "f 600 33:34 own/f 1"
                ],
                "{caller:?} {tier}"
            );
            digests.push(bench.image().digest());
            // A link cannot carry the record of its owner, which goes with it all the same.
            bench.build("FROM busybox\nRUN mv /own/l /own/m\n", tier).success();
            assert_eq!(
                bench.layer(0),
                ["d 755 33:34 own", "w 0 0:0 own/.wh.l", "l 777 33:34 own/m -> f"],
                "{caller:?}"
            );
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

/// The fields of the long help, as paths.
fn documented() -> BTreeSet<String> {
    let fields = [
        "sandbox",
        "tiers",
        "run",
        "overlay",
        "cgroups",
        "user_namespaces",
        "no_new_privs",
        "seccomp_notification",
        "binfmt",
        "kernel",
    ];
    fields.map(str::to_owned).into()
}

#[test]
fn doctor_says_what_the_machine_allows() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let run = |args: &str| bench.run(&mut bench.call(args.split(' ')));
        let found = run("doctor --json").success().json();
        let keys: BTreeSet<String> = found.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, documented());
        let help = run("doctor --help").success().text();
        for key in &keys {
            let line = help.lines().any(|line| line.trim_start().starts_with(key.as_str()));
            assert!(line, "{key} is not in the help");
        }
        assert_eq!(found["sandbox"], best(caller).name());
        let tiers = found["tiers"].as_array().unwrap();
        let names: Vec<&str> = tiers.iter().map(|one| one["tier"].as_str().unwrap()).collect();
        assert_eq!(names, Tier::ALL.map(Tier::name));
        for one in tiers {
            let usable = one["usable"].as_bool().unwrap();
            for key in ["reason", "change"] {
                assert_eq!(one[key].is_null(), usable, "{one}");
            }
        }
        for path in ["/run", "/overlay", "/user_namespaces", "/seccomp_notification"] {
            assert_eq!(found.pointer(path).unwrap()["usable"], true, "{path}: {found}");
        }
        assert_eq!(found["overlay"]["store"], bench.store_path().to_str().unwrap());
        assert!(found["overlay"]["filesystem"].is_string());
        for controller in ["memory", "cpu", "pids"] {
            let one = &found["cgroups"][controller];
            assert_ne!(one["usable"].as_bool().unwrap(), one["reason"].is_string(), "{one}");
        }
        assert_eq!(found["no_new_privs"], false);
        let text = run("doctor").success().text();
        for tier in Tier::ALL {
            let line = text.lines().find(|line| line[5..].starts_with(&format!("{tier}: ")));
            assert_eq!(line.unwrap().contains("taken; "), tier == best(caller), "{text}");
        }
        bench.clean();
    }
}

/// As in a pod of Kubernetes: no range helps, since newuidmap has no rights.
#[test]
fn doctor_where_no_privileges_can_be_gained() {
    let Some(caller) = ordinary() else { return };
    let bench = Bench::with_busybox(caller);
    let run = |args: &str| {
        let call = bench.call(args.split(' '));
        let mut command = Command::new("setpriv");
        // The change of user comes first.
        command.args(["--no-new-privs", "--"]).arg(call.get_program()).args(call.get_args());
        command.current_dir(bench.path(".")).env_clear();
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bench.run(&mut command)
    };
    let found = run("doctor --json").success().json();
    assert_eq!((&found["sandbox"], &found["no_new_privs"]), (&"single-id".into(), &true.into()));
    let subuid = &found["tiers"][1];
    assert!(subuid["reason"].as_str().unwrap().contains("no_new_privs"), "{subuid}");
    assert!(subuid["change"].as_str().unwrap().contains("allowPrivilegeEscalation"), "{subuid}");
    let text = run("doctor").success().text();
    assert!(text.contains("\n       change: start kiln without no_new_privs"), "{text}");
    bench.clean();
}

/// A handler of binfmt_misc is shown with what it is for.
#[test]
fn doctor_shows_handlers() {
    let bench = Bench::with_busybox(callers()[0]);
    let Some(output) = super::foreign::with_handler(&bench, "F", "doctor --json") else { return };
    let found = output.success().json();
    let handler = &found["binfmt"]["handlers"][0];
    assert_eq!((&handler["name"], &handler["fixed"]), (&"kiln-test".into(), &true.into()));
    assert_eq!(handler["architectures"], serde_json::json!(["mips64"]));
    let text = super::foreign::with_handler(&bench, "", "doctor").unwrap().success().text();
    assert!(
        text.contains("no   other architectures: mips64 by kiln-test, without flag F"),
        "{text}"
    );
}
