//! Files with a signature beside them.

use super::*;

#[test]
fn files_are_signed_and_verified_by_both() {
    let desk = Desk::new(&["k", "other"]);
    desk.write("inputs.tar", &"a bundle".repeat(100_000));
    desk.write("changed.tar", &"a bundlE".repeat(100_000));
    desk.ok("sign-blob --key k.key --bundle inputs.sigstore.json inputs.tar");
    let digest = desk.ok("verify-blob --key k.pub --bundle inputs.sigstore.json inputs.tar").text();
    assert!(digest.starts_with("sha256:"));
    // What a pipe gives is there once.
    let call = desk.kiln.args("sign-blob --key k.key --bundle piped.json /dev/stdin".split(' '));
    call.stdin("a bundle".repeat(100_000)).run().success();
    desk.ok("verify-blob --key k.pub --bundle piped.json inputs.tar");
    let line = |key: &str, file: &str| {
        format!("verify-blob --key {key} --bundle inputs.sigstore.json {file}")
    };
    desk.fails(&line("other.pub", "inputs.tar"), "by another key");
    desk.fails(&line("k.pub", "changed.tar"), "of another file");
    desk.fails("verify-blob --key k.pub --bundle inputs.tar inputs.tar", "bundle is malformed");
    let Some(cosign) = desk.cosign() else { return };
    let verify = |line: &str| cosign.run(&format!("{line} --insecure-ignore-tlog"));
    verify(&line("k.pub", "inputs.tar")).success();
    assert_ne!(verify(&line("k.pub", "changed.tar")).code, Some(0));
    // And cosign's own, which is over the file itself.
    cosign
        .run("sign-blob --key k.key --bundle theirs.json --use-signing-config=false --tlog-upload=false -y inputs.tar")
        .success();
    desk.ok("verify-blob --key k.pub --bundle theirs.json inputs.tar");
    desk.fails("verify-blob --key k.pub --bundle theirs.json changed.tar", "of another file");
    desk.fails("verify-blob --key other.pub --bundle theirs.json inputs.tar", "by another key");
}
