//! Policies, and what is rolled out under them.

use kiln::lock::{Base, Entry, Git, Lock};

use super::*;
use crate::deploy::world::world;

const PREDICATE: &str = r#"{
  "buildDefinition": {"buildType": "https://a/b", "externalParameters": {}, "resolvedDependencies": [
    {"uri": "pkg:docker/debian@bookworm", "digest": {"sha256": "BASE"}},
    {"uri": "git+https://git.example/app", "digest": {"gitCommit": "COMMIT"}}]},
  "runDetails": {"builder": {"id": "https://ci.example/1"}}}"#;

/// A policy with what its only rule has beside a name.
fn policy(rule: &str) -> String {
    format!(
        "version = 1\nkeys = {{ one = 'one.pub', two = 'two.pub' }}\n\
         [[image]]\nnames = ['docker.io/library/*']\n{rule}\n"
    )
}

#[test]
fn who_signed() {
    let desk = Desk::new(&["one", "two"]);
    desk.image("app");
    desk.image("r.example/app");
    let verify = "verify --policy policy.toml";
    desk.write("policy.toml", &policy("signed-by = ['one', 'two']"));
    desk.fails(&format!("{verify} r.example/app"), "has no rule for `r.example/app`");
    desk.fails(&format!("{verify} app"), "one has not signed it, two has not signed it");
    desk.ok("sign --key one.key app");
    desk.fails(&format!("{verify} app"), "signatures of 2 of 2 keys: two has not signed it");
    desk.write("policy.toml", &policy("signed-by = ['one', 'two']\nthreshold = 1"));
    let said = desk.ok(&format!("{verify} app")).text();
    assert!(said.contains("ok   signatures of 1 of 2 keys: signed by one"), "{said}");
    desk.ok("sign --key two.key -a env=prod app");
    desk.write("policy.toml", &policy("signed-by = ['one', 'two']"));
    desk.ok(&format!("{verify} app"));
    desk.write("policy.toml", &policy("signed-by = ['one']\nannotations = { env = 'prod' }"));
    let failed = desk.fails(&format!("{verify} --format json app"), "with other annotations");
    let verdict = &failed.json()[0];
    assert_eq!((&verdict["verified"], &verdict["checks"][0]["ok"]), (&false.into(), &false.into()));
    desk.write("policy.toml", &policy("signed-by = ['two']\nannotations = { env = 'prod' }"));
    let done = desk.ok(&format!("{verify} --format json app")).json();
    assert_eq!(done[0]["checks"][0]["detail"], "signed by two");
    // The same image under another name.
    desk.ok("tag app other");
    desk.ok(&format!("{verify} other"));
    desk.write("policy.toml", &policy("signed-by = ['two']\nsame-name = true"));
    desk.ok(&format!("{verify} app"));
    desk.fails(&format!("{verify} other"), "under another name");
    // A slip in the file.
    desk.write("policy.toml", &policy("signed-by = ['two']\nthresold = 1"));
    desk.fails(&format!("{verify} app"), "thresold");
}

/// A lock with a base and a repository.
fn lock(base: &str, commit: &str) -> String {
    let mut lock = Lock::default();
    lock.insert(Entry::Base(Base {
        reference: "debian:bookworm".parse().unwrap(),
        platform: "linux/amd64".parse().unwrap(),
        digest: format!("sha256:{base}").parse().unwrap(),
        index: None,
    }));
    lock.insert(Entry::Git(Git {
        remote: "https://git.example/app".into(),
        reference: None,
        name: "refs/heads/main".into(),
        object: commit.into(),
        commit: commit.into(),
    }));
    lock.to_string()
}

#[test]
fn what_it_was_made_of() {
    let desk = Desk::new(&["one", "two"]);
    desk.image("app");
    let (base, commit) = ("ab".repeat(32), "cd".repeat(20));
    desk.write("p.json", &PREDICATE.replace("BASE", &base).replace("COMMIT", &commit));
    desk.ok("sign --key one.key app");
    let verify = "verify --policy policy.toml app";
    let rule = |more: &str| {
        let rule = "signed-by = ['one']\n[image.provenance]\nsigned-by = ['two']\n";
        desk.write("policy.toml", &policy(&format!("{rule}{more}")));
    };
    rule("");
    desk.fails(verify, "provenance: none is signed by two");
    desk.ok("attest --key one.key --type slsaprovenance1 --predicate p.json app");
    desk.fails(verify, "provenance: none is signed by two");
    desk.ok("attest --key two.key --type slsaprovenance1 --predicate p.json app");
    desk.write("good.lock", &lock(&base, &commit));
    desk.write("bad.lock", &lock(&base.replace('a', "e"), &commit));
    desk.write("no.lock", "version = 9\n");
    for (more, refused) in [
        ("", None),
        ("builders = ['https://ci.example/*']", None),
        ("builders = ['https://ci.example']", Some("the builder is `https://ci.example/1`")),
        ("materials = ['pkg:docker/**', 'git+https://git.example/**']", None),
        ("materials = ['pkg:docker/**']", Some("material `git+https://git.example/app` is not")),
        ("materials = ['sha256:BASE', 'git+**']", None),
        ("materials = ['sha256:EASE', 'git+**']", Some("material `pkg:docker/debian@bookworm`")),
        ("materials = []", Some("is not allowed")),
        ("complete = true", Some("it does not say that it lists all")),
        ("lock = 'good.lock'", None),
        ("lock = 'no.lock'", Some("no.lock: ")),
        ("lock = 'bad.lock'", Some("`pkg:docker/debian@bookworm` is not in")),
    ] {
        rule(&more.replace("BASE", &base).replace("EASE", &base.replace('a', "e")));
        match refused {
            None => {
                desk.ok(verify);
            }
            Some(why) => {
                desk.fails(verify, why);
            }
        }
    }
}

#[test]
fn provenance_that_does_not_say_what_went_in_is_none() {
    let desk = Desk::new(&["one", "two"]);
    desk.image("app");
    let silent = r#"{"buildDefinition":{},"runDetails":{"builder":{"id":"https://ci.example/1"}}}"#;
    desk.write("p.json", silent);
    desk.ok("sign --key one.key app");
    desk.ok("attest --key two.key --type slsaprovenance1 --predicate p.json app");
    let rule = "signed-by = ['one']\n[image.provenance]\nsigned-by = ['two']\nmaterials = ['**']";
    desk.write("policy.toml", &policy(rule));
    desk.fails("verify --policy policy.toml app", "it does not say what went in");
}

#[test]
fn the_readmes_policy_is_understood() {
    let desk = Desk::new(&["release", "ci"]);
    desk.image("app");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let Ok(text) = std::fs::read_to_string(readme) else {
        return crate::support::root_only("what the README shows is tried");
    };
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let shown = blocks.into_iter().find(|block| block.contains("[[image]]")).unwrap();
    desk.write("policy.toml", shown);
    desk.write("kiln.lock", &lock(&"ab".repeat(32), &"cd".repeat(20)));
    desk.fails("verify --policy policy.toml app", "has no rule for `docker.io/library/app`");
}

#[test]
fn attestations() {
    let desk = Desk::new(&["one", "two"]);
    desk.image("app");
    desk.ok("sign --key one.key app");
    let rule = "signed-by = ['one']\n[[image.attestation]]\ntype = 'spdxjson'\nsigned-by = ['two']";
    desk.write("policy.toml", &policy(rule));
    let verify = "verify --policy policy.toml app";
    desk.fails(verify, "attestation https://spdx.dev/Document: none is signed by two");
    desk.write("p.json", r#"{"spdxVersion":"SPDX-2.3"}"#);
    desk.ok("attest --key two.key --type cyclonedx --predicate p.json app");
    desk.fails(verify, "none is signed by two");
    desk.ok("attest --key two.key --type spdxjson --predicate p.json app");
    desk.ok(verify);
}

/// Nothing is applied before the image was verified, and what was verified is applied.
#[test]
fn deploy_refuses() {
    let Some(world) = world() else { return };
    let space = world.namespace("signed");
    let mut desk = Desk::new(&["one", "two"]);
    desk.kiln.set("KUBECONFIG", world.kubeconfig.clone());
    let pinned = world.push("signed", "first");
    let name = world.image("signed");
    let repository = name.name();
    let image = pinned.to_string();
    let deploy = format!("deploy --name signed -n {space} --image {image}");
    let nothing = || {
        let found = world.kubectl(&["get", "deployments", "-n", &space, "-o", "name"]);
        assert_eq!(found.trim(), "");
    };
    desk.fails(&format!("{deploy} --verify-key one.pub"), "one.pub has not signed it");
    nothing();
    desk.ok(&format!("sign --key one.key docker://{image}"));
    desk.fails(&format!("{deploy} --verify-key one.pub --verify-key two.pub"), "two.pub has not");
    let policy = format!(
        "version = 1\nkeys = {{ one = 'one.pub' }}\n[[image]]\nnames = ['{repository}']\n\
         signed-by = ['one']\nsame-name = true\n"
    );
    desk.write("policy.toml", &format!("{policy}[image.provenance]\nsigned-by = ['one']\n"));
    desk.fails(&format!("{deploy} --verify-policy policy.toml"), "provenance: none is signed");
    nothing();
    desk.write("policy.toml", &policy);
    desk.ok(&format!("{deploy} --verify-policy policy.toml"));
    let object = world.object(&space, "deployment/signed");
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], image);
}
