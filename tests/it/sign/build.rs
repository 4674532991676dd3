//! Images that are signed as they are built.

use super::*;
use crate::support::registry::TestRegistry;

#[test]
fn a_build_is_signed_before_it_leaves() {
    let desk = Desk::new(&["k"]);
    std::fs::create_dir(desk.kiln.path("context")).unwrap();
    desk.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    desk.fails("build --sign-key k.pub -t app context", "k.pub: it is a public key");
    desk.fails("verify --key k.pub app", "no image `app");
    let nowhere = desk.kiln.fails(2, "build --sign-key k.key -o files context");
    nowhere.says("no output of this build can hold");
    desk.ok("build --sign-key k.key -t app context");
    desk.ok("verify --key k.pub app");
    let registry = TestRegistry::start(None);
    let name = format!("{}/app:1", registry.addr);
    desk.ok(&format!("build --sign-key k.key -t {name} --push context"));
    desk.ok(&format!("verify --key k.pub docker://{name}"));
    desk.write(
        "policy.toml",
        &format!(
            "version = 1\nkeys = {{ k = 'k.pub' }}\n[[image]]\nnames = ['{}/*']\n\
         signed-by = ['k']\nsame-name = true\n",
            registry.addr
        ),
    );
    desk.ok(&format!("verify --policy policy.toml docker://{name}"));
    // And wherever it is carried.
    for place in ["oci:layout:v1", "oci-archive:app.tar:v1"] {
        desk.ok(&format!("copy --referrers {name} {place}"));
        desk.ok(&format!("verify --key k.pub {place}"));
    }
    desk.ok(&format!("copy {name} oci:bare:v1"));
    desk.fails("verify --key k.pub oci:bare:v1", "it has no signature");
    // An archive has the signature and what was attached, and is the same each time.
    let build = "build --sign-key k.key --provenance mode=max -t app";
    let types = "--type slsaprovenance1";
    desk.ok(&format!("{build} -o type=oci,dest=one.tar context"));
    desk.ok(&format!("{build} -o type=oci,dest=two.tar context"));
    desk.ok(&format!("verify --key k.pub {types} oci-archive:one.tar"));
    let read = |name: &str| std::fs::read(desk.kiln.path(name)).unwrap();
    assert!(read("one.tar") == read("two.tar"), "what was said is not said again");
    if let Some(cosign) = desk.cosign() {
        cosign.verify(&format!("verify --key k.pub {name}")).success();
    }
}
