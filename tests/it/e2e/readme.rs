//! The README's commands, run from its own text.

use super::{GREETING, Port8080, free_port, get, namespace, parts, testdata, traces};
use crate::deploy::world::world;
use crate::support::kiln::{Output, program};
use crate::support::registry::TestRegistry;

const README: &str = include_str!("../../../README.md");
/// What the README's registry is called.
const REGISTRY: &str = "127.0.0.1:5000";

/// The commands below "What it does", without their comments. Those above it
/// are what `.ci/run` runs.
fn commands() -> Vec<&'static str> {
    let (_, rest) = README.split_once("## What it does\n").expect("the README says what it does");
    let (_, block) = rest.split_once("```sh\n").expect("it shows commands");
    let (block, _) = block.split_once("```").expect("the block ends");
    block.lines().map(|line| line.split(" #").next().unwrap_or(line).trim()).collect()
}

#[test]
fn what_it_does() {
    let Some(parts) = parts() else { return };
    let Some(world) = world() else { return };
    let mut kiln = parts.kiln();
    let password = "pass-word-of-the-readme";
    let registry = TestRegistry::start(Some(("me", password)));
    let space = namespace(world, "readme", &registry.addr, "me", password);
    let config = kiln.path("kubeconfig");
    std::fs::copy(&world.kubeconfig, &config).unwrap();
    world.kubectl_as(&config, &["config", "set-context", "--current", "--namespace", &space]);

    // The folder that the README's reader is in.
    std::fs::write(kiln.path("password"), format!("{password}\n")).unwrap();
    std::os::unix::fs::symlink(testdata(""), kiln.path("testdata")).unwrap();
    std::fs::create_dir(kiln.path("bin")).unwrap();
    std::os::unix::fs::symlink(program(), kiln.path("bin/kiln")).unwrap();
    kiln.set("PATH", format!("{}:/usr/bin:/bin:/usr/sbin", kiln.path("bin").display()));
    kiln.set("KUBECONFIG", config);

    let port = Port8080::take();
    let other = (!port.free).then(free_port);
    let address = format!("127.0.0.1:{}", other.unwrap_or(8080));
    let run = |line: &str| -> Output {
        let mut line = line.replace(REGISTRY, &registry.addr);
        if let Some(port) = other {
            line = line.replace("127.0.0.1:8080", &address);
            line = line.replace("kiln run -d", &format!("kiln run -d -p {port}:8080"));
        }
        let mut call = kiln.program("sh");
        call.command.args(["-ec", &line]);
        call.run()
    };
    let block = commands();
    let mut digest = String::new();
    for line in &block {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "curl" {
            // It takes the program a moment to listen.
            get(&address);
            assert!(run(line).success().text().contains(GREETING));
            continue;
        }
        let output = run(line);
        if words[1] == "update" && output.code != Some(0) {
            // Where no control group may be made the message says what is missing.
            output.failure(1).says("limits on").says("may not be written");
            continue;
        }
        let said = output.success().text();
        let pinned = format!("{}/hello@{digest}", registry.addr);
        match words[1] {
            "build" => digest = said.trim().to_owned(),
            "login" => assert!(said.contains("Login Succeeded"), "{said}"),
            "push" => assert_eq!(said.trim(), pinned),
            "run" | "update" | "stop" => assert_eq!(said.trim(), "hello"),
            "deploy" => assert_eq!(said, format!("deployment/hello created, running\n{pinned}\n")),
            "up" => {
                let joints = format!("built {digest}\npushed {pinned}\n");
                assert_eq!(
                    said,
                    format!("{joints}deployment/hello unchanged, running\n{pinned}\n")
                );
            }
            other => panic!("nobody checks `kiln {other}`"),
        }
    }
    let verbs: Vec<&str> = block.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    for verb in ["build", "login", "push", "run", "update", "stop", "deploy", "up"] {
        assert!(verbs.contains(&verb), "the README does not show `kiln {verb}`");
    }
    let object = world.object(&space, "deployment/hello");
    assert_eq!(object["status"]["availableReplicas"], 2);
    kiln.ok("rm hello");
    traces::none(&kiln);
}
