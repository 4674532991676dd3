//! The library, by the example that the README names.

use std::path::PathBuf;

use super::{namespace, parts, testdata, traces};
use crate::deploy::world::world;
use crate::support::skip;

/// The example's binary: cargo builds it with the tests.
fn example() -> Result<PathBuf, String> {
    if let Some(path) = kiln::env::path("KILN_TEST_UP") {
        return Ok(path);
    }
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = test.parent().and_then(|deps| deps.parent()).ok_or("the test has no folder")?;
    let path = folder.join("examples/up");
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("the example is not at {}; set KILN_TEST_UP", path.display()))
}

#[test]
fn the_example_builds_pushes_and_deploys() {
    let Some(parts) = parts() else { return };
    let Some(world) = world() else { return };
    let example = match example() {
        Ok(path) => path,
        Err(why) => return skip(&why),
    };
    let kiln = parts.kiln();
    parts.log_in(&kiln);
    let space = namespace(world, "library", &parts.closed, &parts.user, &parts.password);
    let config = kiln.path("kubeconfig");
    std::fs::copy(&world.kubeconfig, &config).unwrap();
    let namespaced = format!("--namespace={space}");
    world.kubectl_as(&config, &["config", "set-context", "--current", &namespaced]);

    // The cheapest of the contexts: what is built is the chain's matter.
    let folder = super::context(&kiln, "small", "FROM busybox\nRUN echo built >/it\nCMD cat /it\n");
    let name = format!("{}/library/up-{}", parts.closed, std::process::id());
    let mut call = kiln.program(&example);
    call.command.args([&folder, &name]).arg(&config);
    let said = call.run().success().text();
    let (object, image) = said.trim().split_once(" runs ").unwrap();
    assert!(object.contains("up"), "{said}");
    assert!(image.starts_with(&format!("{name}@sha256:")), "{said}");
    let seen = world.object(&space, "deployment/up");
    assert_eq!(seen["status"]["availableReplicas"], 1);
    assert_eq!(seen["spec"]["template"]["spec"]["containers"][0]["image"], image);
    // Its store is the same one.
    assert_eq!(kiln.ok(&format!("run --rm {name}")).text(), "built\n");
    traces::none(&kiln);

    let mut call = kiln.program(&example);
    call.command.args([&testdata("nowhere"), &name]).arg(&config);
    call.run().failure(1).says("error: ").says("nowhere");
}
