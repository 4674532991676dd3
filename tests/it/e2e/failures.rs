//! What the user reads when something is wrong, and that nothing stays of it.

use std::fs;

use super::{Parts, context, free_port, parts, traces};
use crate::deploy::world::world;
use crate::support::kiln::{Kiln, Output};

/// What the store knows by name, and how many blobs it has.
fn state(kiln: &Kiln) -> (String, usize) {
    let blobs = fs::read_dir(kiln.store_path().join("blobs/sha256"));
    (kiln.ok("images").text(), blobs.map_or(0, Iterator::count))
}

/// A call that fails, and leaves what was there.
#[track_caller]
fn fails(kiln: &Kiln, line: &str, says: &[&str]) -> Output {
    let before = state(kiln);
    let mut output = kiln.fails(1, line);
    assert_eq!(output.text(), "", "{line}");
    for words in says {
        output = output.says(words);
    }
    assert_eq!(state(kiln), before, "{line}");
    traces::none(kiln);
    output
}

/// A home with one small image under a name of the closed registry.
fn with_image(parts: &Parts) -> (Kiln, String) {
    let kiln = parts.kiln();
    let folder = context(&kiln, "small", "FROM scratch\nLABEL a=b\nCOPY Dockerfile /\n");
    let name = format!("{}/failures/small", parts.closed);
    kiln.args(["build", "-t", &name, &folder]).run().success();
    (kiln, name)
}

#[test]
fn a_registry_that_is_down() {
    let Some(parts) = parts() else { return };
    let (kiln, name) = with_image(&parts);
    let down = format!("127.0.0.1:{}", free_port());
    let unreachable = format!("cannot reach {down}");
    let says = [unreachable.as_str(), "refused"];
    fails(&kiln, &format!("pull {down}/a"), &says);
    fails(&kiln, &format!("push {name} {down}/a"), &says);
    let output = kiln.fails(1, &format!("login {down} -u me -p secret-word"));
    let output = output.says(&unreachable);
    assert!(!output.stderr.contains("secret-word"), "{}", output.stderr);
    assert!(!kiln.path(".docker/config.json").exists());
    fails(&kiln, &format!("deploy --image {down}/a --kubeconfig none"), &says);
    kiln.fails(125, &format!("run {down}/a")).says(&unreachable);

    let folder = context(&kiln, "down", &format!("FROM {down}/base:1\nRUN true\n"));
    let says = ["base image", &unreachable, "Dockerfile:1:6", "1 | FROM", "^^^"];
    fails(&kiln, &format!("build -t x {folder}"), &says);
}

#[test]
fn a_password_that_is_wrong() {
    let Some(parts) = parts() else { return };
    let (kiln, name) = with_image(&parts);
    let login = ["login", &parts.closed, "-u", &parts.user, "--password-stdin"];
    let output = kiln.args(login).stdin("secret-word").run().failure(1);
    let output = output.says("asks for a login").says(&parts.user);
    assert!(!output.stderr.contains("secret-word"), "{}", output.stderr);
    assert!(!kiln.path(".docker/config.json").exists());
    for line in ["push --creds", "deploy --kubeconfig none --creds", "pull --creds"] {
        let (words, image) = (format!("{line} {}:secret-word", parts.user), "--image ");
        let image = if line.starts_with("deploy") { image } else { "" };
        let says = ["asks for a login", "hint: log in with `kiln login"];
        let output = fails(&kiln, &format!("{words} {image}{name}"), &says);
        assert!(!output.stderr.contains("secret-word"), "{}", output.stderr);
    }
    // With the right one nothing is in the way.
    parts.log_in(&kiln);
    kiln.ok(&format!("push {name}"));
    kiln.ok(&format!("logout {}", parts.closed));
    fails(&kiln, &format!("pull {name}"), &["asks for a login", "no credentials"]);
}

#[test]
fn a_tag_that_nobody_has() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    let name = format!("{}/library/busybox:nowhere", parts.open);
    let says = [&format!("{} has no manifest {name}", parts.open), "manifest unknown"];
    let says = says.map(|text: &str| text);
    fails(&kiln, &format!("pull {name}"), &says);
    fails(&kiln, &format!("deploy --image {name} --kubeconfig none"), &says);
    fails(&kiln, &format!("pull {}/no/such", parts.open), &[&format!("{}/no/such", parts.open)]);
    kiln.fails(125, &format!("run {name}")).says("manifest unknown");
    let folder = context(&kiln, "tag", &format!("FROM {name}\n"));
    let says = ["base image", "manifest unknown", "Dockerfile:1:6", "1 | FROM"];
    fails(&kiln, &format!("build {folder}"), &says);
    fails(&kiln, "push nobody:made", &["no image", "nobody:made", "kiln images"]);
}

#[test]
fn a_cluster_that_does_not_answer() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    let image = format!("{}/library/busybox", parts.open);
    let server = format!("https://127.0.0.1:{}", free_port());
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: \
         {{cluster: a, user: a}}}}]\nclusters: [{{name: a, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: a, user: {{}}}}]\n"
    );
    fs::write(kiln.path("down"), config).unwrap();
    let says = [&format!("cannot reach the cluster at {server}"), "refused", "hint: check that"];
    let says = says.map(|text: &str| text);
    fails(&kiln, &format!("deploy --kubeconfig down --image {image}"), &says);
    let says = ["no context `b`", "hint: it has: a"];
    fails(&kiln, &format!("deploy --kubeconfig down --context b --image {image}"), &says);
    let says = ["no cluster is configured", "KUBECONFIG"];
    fails(&kiln, &format!("deploy --image {image}"), &says);
}

/// `up` stops at the joint that fails, and says what was done before.
#[test]
fn up_fails_at_each_joint() {
    let Some(parts) = parts() else { return };
    let (kiln, name) = with_image(&parts);
    let (folder, tag) = (kiln.path("small"), format!("{}/failures/up", parts.closed));
    let (folder, before) = (folder.to_str().unwrap(), state(&kiln));
    let line = format!("up -t {tag} --kubeconfig none {folder}");
    let output = kiln.fails(1, &line).says("asks for a login");
    // Layers go up while the image is built: one that cannot ends the build.
    assert_eq!(output.text(), "");
    parts.log_in(&kiln);
    let output = kiln.fails(1, &line).says("kubeconfig");
    let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with(&format!("pushed {tag}@sha256:")), "{lines:?}");
    assert_eq!(state(&kiln).1, before.1, "the same content was built again");
    traces::none(&kiln);
    kiln.ok(&format!("rmi {name} {tag}"));
}

#[test]
fn a_dockerfile_that_is_broken() {
    let Some(parts) = parts() else { return };
    let kiln = parts.kiln();
    // The base image is there before, so that a failure has nothing to leave.
    kiln.ok("pull busybox");
    for (name, text, says) in [
        (
            "unknown",
            "FROM busybox\nRUNN echo x\n",
            &["unknown instruction `RUNN`", "Dockerfile:2:1", "2 | RUNN echo x", "^^^^", "RUN?"][..],
        ),
        (
            "failing",
            "FROM busybox\nRUN echo some words; echo a complaint >&2; exit 3\nRUN true\n",
            &["exit code 3", "Dockerfile:2:1", "2 | RUN echo", "some words", "a complaint"],
        ),
        (
            "absent",
            "FROM busybox\nRUN no-such-program --now\n",
            &["exit code 127", "not found", "Dockerfile:2:1", "hint: 127"],
        ),
        (
            "missing",
            "FROM busybox\nWORKDIR /\nCOPY nothing.txt /\n",
            &[
                "COPY source not found: nothing.txt",
                "Dockerfile:3:1",
                "3 | COPY nothing.txt /",
                "^^",
            ],
        ),
        (
            "stage",
            "FROM busybox\nCOPY --from=builder /x /\n",
            &["builder", "Dockerfile:2:", "2 | COPY --from=builder"],
        ),
        ("empty", "# nothing\n", &["Dockerfile"]),
    ] {
        let folder = context(&kiln, name, text);
        fails(&kiln, &format!("build --progress plain -t {name} {folder}"), says);
    }
    let says = ["no Dockerfile at", "hint: name it with --file"];
    fs::create_dir(kiln.path("none")).unwrap();
    fails(&kiln, "build none", &says);
    fails(&kiln, "build nowhere", &["build context `nowhere` is not a folder"]);
}

/// The image is there and the cluster may not have it: the cause, and what to do.
#[test]
fn a_rollout_without_the_login() {
    let Some(parts) = parts() else { return };
    let (kiln, name) = with_image(&parts);
    parts.log_in(&kiln);
    kiln.ok(&format!("push {name}"));
    let Some(world) = world() else { return };
    let space = world.namespace("without-login");
    let line = format!("deploy --image {name} --name bare -n {space} --timeout 60s");
    let call = kiln.args(line.split(' ')).env("KUBECONFIG", &world.kubeconfig);
    let output = call.run().failure(1).says("the rollout of deployment/bare failed");
    output.says("401 Unauthorized").says("hint: ");
    traces::none(&kiln);
}
