//! What nobody signed, or signed for something else, is not believed; and it does no harm to
//! what is good.

use kiln::image::{Annotations, Artifact, MediaType};

use super::*;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

impl Desk {
    /// The bundles that are attached to an image.
    fn bundles(&self, subject: &Descriptor) -> Vec<Vec<u8>> {
        let store = self.kiln.store();
        let attached = store.referrers(&subject.digest, Some(BUNDLE)).unwrap();
        let bundle = |entry: &Descriptor| {
            let manifest = store.document(&entry.digest).unwrap();
            let manifest = kiln::image::Manifest::read(&manifest).unwrap();
            store.document(&manifest.layers[0].digest).unwrap()
        };
        attached.iter().map(bundle).collect()
    }

    fn attach(&self, subject: &Descriptor, bytes: &[u8]) {
        let store = self.kiln.store();
        let digest = store.put(bytes).unwrap();
        let kind = MediaType::from(BUNDLE.to_owned());
        let layer = Descriptor::new(kind, digest, bytes.len() as u64);
        let made = Artifact::about(subject, BUNDLE, vec![layer], Annotations::new()).unwrap();
        store.attach(&made).unwrap();
    }

    /// Another image than [`Desk::image`]'s.
    fn another(&self, name: &str) -> Descriptor {
        self.kept(name, "linux/arm64")
    }
}

#[test]
fn a_signature_is_about_one_image() {
    let desk = Desk::new(&["k", "other"]);
    let (app, evil) = (desk.image("app"), desk.another("evil"));
    desk.ok("sign --key k.key app");
    let [good] = &desk.bundles(&app)[..] else { panic!("one signature") };
    desk.attach(&evil, good);
    let said = desk.fails("verify --key k.pub evil", "k.pub has not signed it");
    assert!(
        said.text().contains("signed by k.pub: statement is malformed: it is about something else")
    );
    // Signed by somebody else, whoever it claims to be.
    desk.ok("sign --key other.key evil");
    desk.fails("verify --key k.pub evil", "k.pub has not signed it");
}

#[test]
fn what_was_changed_is_not_believed_and_hides_nothing() {
    let desk = Desk::new(&["k"]);
    let (app, evil) = (desk.image("app"), desk.another("evil"));
    desk.ok("sign --key k.key app");
    let good = String::from_utf8(desk.bundles(&app).pop().unwrap()).unwrap();
    let bundle: serde_json::Value = serde_json::from_str(&good).unwrap();
    let envelope = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut bundle = bundle.clone();
        edit(&mut bundle);
        bundle.to_string()
    };
    let statement = crate::support::tokens::base64(
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
            evil.digest.hex()
        )
        .as_bytes(),
    );
    for text in [
        // Its payload is another's.
        envelope(&|all| all["dsseEnvelope"]["payload"] = statement.clone().into()),
        // It is said to be something else.
        envelope(&|all| all["dsseEnvelope"]["payloadType"] = "text/plain".into()),
        envelope(&|all| all["dsseEnvelope"]["signatures"] = serde_json::json!([])),
        envelope(&|all| all["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA".into()),
        envelope(&|all| all["verificationMaterial"] = serde_json::json!({"certificate": {}})),
        envelope(&|all| all["mediaType"] = "text/plain".into()),
        // Two readers could take different ones.
        good.replacen("\"payload\":", &format!("\"payload\":\"{statement}\",\"payload\":"), 1),
        good[..good.len() / 2].to_owned(),
        String::new(),
        "[".repeat(100_000),
        format!("{{\"mediaType\":\"{}\"}}", "x".repeat(5 << 20)),
    ] {
        desk.attach(&evil, text.as_bytes());
    }
    let said = desk.fails("verify --key k.pub evil", "k.pub has not signed it").text();
    for note in ["twice", "certificate, not with a key", "mediaType", "0 signatures", "bytes"] {
        assert!(said.contains(note), "{note}: {said}");
    }
    desk.ok("sign --key k.key evil");
    desk.ok("verify --key k.pub evil");
}

#[test]
fn an_attestation_is_no_signature() {
    let desk = Desk::new(&["k"]);
    desk.image("app");
    desk.write("p.json", "{}");
    desk.ok("attest --key k.key --type https://a/b --predicate p.json app");
    desk.fails("verify --key k.pub app", "k.pub has not signed it");
    desk.ok("sign --key k.key app");
    desk.ok("verify --key k.pub --type https://a/b app");
    desk.write("p.json", "[]");
    desk.fails("attest --key k.key --type https://a/b --predicate p.json app", "a JSON object");
    desk.kiln.fails(2, "attest --key k.key --type sbom --predicate p.json app").says("spdxjson");
}

#[test]
fn places_that_cannot_be_signed_in_say_so() {
    let desk = Desk::new(&["k"]);
    desk.image("app");
    desk.ok("save -o app.tar app");
    desk.fails("sign --key k.key oci-archive:app.tar", "can be read here, but not signed in");
    desk.fails("sign --key k.key absent", "no image `absent").says("docker://absent");
}
