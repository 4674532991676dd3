//! Files of keys: which are taken, what is said of the others, and that nothing shows.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn all_forms_sign_and_verify() {
    let desk = Desk::new(&["sealed"]);
    desk.image("app");
    for (key, make) in [
        ("pkcs8", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("sec1", "ecparam -name prime256v1 -genkey"),
        ("p384", "ecparam -name secp384r1 -genkey -noout"),
        ("ed25519", "genpkey -algorithm ED25519"),
        ("pkcs1", "genrsa -traditional 2048"),
        ("rsa", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
    ] {
        desk.openssl(key, make);
        desk.fails(&format!("verify --key {key}.pub app"), "has not signed it");
        desk.ok(&format!("sign --key {key}.pem app"));
        desk.ok(&format!("verify --key {key}.pub app"));
    }
    desk.ok("sign --key sealed.key app");
    desk.ok("verify --key sealed.pub app");
    let mode = |name: &str| desk.kiln.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("sealed.key"), mode("sealed.pub")), (0o600, 0o644));
}

#[test]
fn what_is_no_key_is_named() {
    let desk = Desk::new(&["k"]);
    desk.image("app");
    desk.openssl("weak", "genrsa 1024");
    desk.openssl("p521", "ecparam -name secp521r1 -genkey -noout");
    desk.write("empty", "");
    desk.write("large", &"x".repeat(70_000));
    desk.write("cut", "-----BEGIN PUBLIC KEY-----\nMFkw\n");
    desk.write("bad", "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n");
    desk.write("other", "-----BEGIN CERTIFICATE-----\nMFkw\n-----END CERTIFICATE-----\n");
    let header = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMFkw\n";
    desk.write("old", &format!("{header}-----END RSA PRIVATE KEY-----\n"));
    let sealed =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMFkw\n-----END ENCRYPTED PRIVATE KEY-----\n";
    desk.write("sealed", sealed);
    for (file, says) in [
        ("weak.pub", "is weak"),
        ("p521.pub", "neither ECDSA (P-256, P-384), Ed25519 nor RSA"),
        ("k.key", "it is a private key"),
        ("empty", "no key in PEM"),
        ("large", "more than 65536 bytes"),
        ("cut", "no key in PEM"),
        ("bad", "malformed"),
        ("other", "`CERTIFICATE`, which is no key"),
        ("absent", "absent"),
    ] {
        desk.fails(&format!("verify --key {file} app"), says);
    }
    for (file, says) in [
        ("weak.pem", "malformed, or neither"),
        ("p521.pem", "malformed, or neither"),
        ("k.pub", "it is a public key"),
        ("old", "not as cosign does it"),
        ("sealed", "not as cosign does it"),
    ] {
        desk.fails(&format!("sign --key {file} app"), says);
    }
}

#[test]
fn a_password_opens_a_key_and_shows_nowhere() {
    let desk = Desk::new(&["k"]);
    desk.image("app");
    let sign = |password: Option<&str>, stdin: Option<&str>| {
        let mut line = vec!["sign", "--key", "k.key", "app", "-vv"];
        line.extend(stdin.map(|_| "--password-stdin"));
        let mut call = desk.kiln.args(line);
        call.command.env_remove("COSIGN_PASSWORD").envs(password.map(|p| ("COSIGN_PASSWORD", p)));
        let output = match stdin {
            Some(text) => call.stdin(text).run(),
            None => call.run(),
        };
        assert!(!output.stderr.contains("wrong one") && !output.stderr.contains(PASSWORD));
        output
    };
    sign(None, None).failure(1).says("no password was given").says("COSIGN_PASSWORD");
    sign(Some("wrong one"), None).failure(1).says("the password is wrong");
    sign(None, Some(PASSWORD)).success();
    sign(Some("wrong one"), Some(PASSWORD)).success();
    sign(Some(PASSWORD), None).success();
    let secret = std::fs::read(desk.kiln.path("k.key")).unwrap();
    // Never overwritten, and not half made.
    let both = "k.key is there already";
    desk.fails("generate-key-pair --output-key-prefix k", both);
    std::fs::remove_file(desk.kiln.path("k.key")).unwrap();
    desk.fails("generate-key-pair --output-key-prefix k", "k.pub is there already");
    assert!(!desk.kiln.path("k.key").exists());
    std::fs::write(desk.kiln.path("k.key"), &secret).unwrap();
    // A byte of the file changed.
    let text = String::from_utf8(secret).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut other = lines[..lines.len() - 2].to_vec();
    other.push(lines[lines.len() - 1]);
    desk.write("k.key", &other.join("\n"));
    desk.fails("sign --key k.key app", "k.key: it");
}
