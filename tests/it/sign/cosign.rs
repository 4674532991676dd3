//! cosign as the peer: what kiln signs in a registry of each kind it verifies, and the other
//! way round, in both of its forms.

use super::*;
use crate::support::Ended;
use crate::support::registry::{TestRegistry, free_address, listening, retried};

const TYPES: [&str; 3] = ["slsaprovenance1", "spdxjson", "cyclonedx"];

/// As small as cosign takes them.
const PREDICATES: [&str; 3] = [
    r#"{"buildDefinition":{"buildType":"https://a/b","externalParameters":{"c":1},"resolvedDependencies":[]},"runDetails":{"builder":{"id":"https://builder"}}}"#,
    r#"{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"a"}"#,
    r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":[]}"#,
];

#[test]
fn docker_registry() {
    let registry = TestRegistry::start(None);
    suite(&registry.addr);
}

#[test]
fn distribution_3() {
    let Some(program) = kiln::env::path("KILN_TEST_DISTRIBUTION") else {
        return skip("KILN_TEST_DISTRIBUTION is not set; tests/run builds it and sets it");
    };
    let registry = TestRegistry::of(&program, "", |_| String::new());
    suite(&registry.addr);
}

#[test]
fn kiln_serve() {
    let own = Kiln::new();
    let (addr, _server) = retried(|| {
        let addr = free_address("127.0.0.1");
        let mut call = own.args(["serve", "--writable", "--addr", &addr]);
        let child = listening(&mut call.command, &addr).unwrap()?;
        Some((addr, Ended(child)))
    });
    suite(&addr);
}

fn suite(addr: &str) {
    let desk = Desk::new(&["k", "other"]);
    let Some(cosign) = desk.cosign() else { return };
    desk.image("app");
    let pinned = desk.ok(&format!("push app {addr}/app:1")).text();
    let name = format!("{addr}/app:1");

    // kiln signs, cosign verifies.
    desk.fails(&format!("verify --key k.pub docker://{name}"), "k.pub has not signed it");
    let signed = desk.ok(&format!("sign --key k.key -a env=prod docker://{name}"));
    assert_eq!(signed.text(), pinned);
    let said = cosign.verify(&format!("verify --key k.pub -a env=prod {name}")).success();
    assert_eq!(said.json()[0]["optional"]["env"], "prod");
    for line in ["verify --key k.pub -a env=test", "verify --key other.pub"] {
        assert_ne!(cosign.verify(&format!("{line} {name}")).code, Some(0), "{line}");
    }
    for (kind, predicate) in TYPES.iter().zip(PREDICATES) {
        desk.write("predicate.json", predicate);
        let line = format!("attest --key k.key --type {kind} --predicate predicate.json");
        desk.ok(&format!("{line} docker://{name}"));
        cosign.verify(&format!("verify-attestation --key k.pub --type {kind} {name}")).success();
    }
    let types = TYPES.map(|kind| format!("--type {kind}")).join(" ");
    desk.ok(&format!("verify --key k.pub -a env=prod {types} docker://{name}"));
    desk.fails(
        &format!("verify --key other.pub {types} docker://{name}"),
        "other.pub has not signed it",
    );
    let unsaid = "none is signed by k.pub";
    desk.fails(&format!("verify --key k.pub --type openvex docker://{name}"), unsaid);
    // What was said is not said again.
    let count = || -> usize {
        let reference: Reference = name.parse().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let at = kiln::registry::Registries::load(kiln::registry::Options::default()).unwrap();
        let progress = kiln::progress::Progress::silent();
        let found = kiln::registry::referrers(&reference, None, &at, &progress);
        runtime.block_on(found).unwrap().1.len()
    };
    let before = count();
    desk.ok(&format!("sign --key k.key -a env=prod docker://{name}"));
    assert_eq!((before, count()), (4, 4));

    // cosign signs, kiln verifies: its form of today, and the one before.
    desk.kept("theirs", "linux/arm64");
    let name = format!("{addr}/theirs:1");
    desk.ok(&format!("push theirs {name}"));
    cosign.run("generate-key-pair --output-key-prefix c").success();
    cosign.run("generate-key-pair --output-key-prefix d").success();
    desk.write("predicate.json", PREDICATES[0]);
    for (key, old) in [("c", ""), ("d", "--new-bundle-format=false")] {
        cosign.signs(&format!("sign --key {key}.key -a env=prod {old} {name}"));
        desk.ok(&format!("verify --key {key}.pub -a env=prod docker://{name}"));
        desk.fails(
            &format!("verify --key {key}.pub -a env=test docker://{name}"),
            "other annotations",
        );
        let unsaid = format!("none is signed by {key}.pub");
        let line = format!("verify --key {key}.pub --type slsaprovenance1 docker://{name}");
        desk.fails(&line, &unsaid);
        cosign.signs(&format!(
            "attest --key {key}.key --type slsaprovenance1 --predicate predicate.json {old} {name}"
        ));
        desk.ok(&line);
    }
    desk.ok(&format!("verify --key c.pub --key d.pub docker://{name}"));
    desk.fails(&format!("verify --key c.pub --key k.pub docker://{name}"), "k.pub has not");
    // Its key signs here, too.
    desk.ok(&format!("sign --key c.key -a by=kiln docker://{name}"));
    cosign.verify(&format!("verify --key c.pub -a by=kiln {name}")).success();
}

/// Of each kind of key.
#[test]
fn cosign_takes_signatures_of_all_keys() {
    let desk = Desk::new(&[]);
    let Some(cosign) = desk.cosign() else { return };
    let registry = TestRegistry::start(None);
    desk.image("app");
    let name = format!("{}/app:1", registry.addr);
    desk.ok(&format!("push app {name}"));
    for (key, make, more) in [
        ("p256", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", ""),
        ("p384", "ecparam -name secp384r1 -genkey -noout", "--signature-digest-algorithm sha384"),
        ("ed25519", "genpkey -algorithm ED25519", ""),
        ("rsa", "genrsa -traditional 3072", ""),
    ] {
        desk.openssl(key, make);
        desk.ok(&format!("sign --key {key}.pem docker://{name}"));
        cosign.verify(&format!("verify --key {key}.pub {more} {name}")).success();
    }
}
