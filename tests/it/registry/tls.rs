//! Who is trusted, and what kiln shows of itself.

use super::*;
use crate::support::apart::{HERE, NAMED, apart};
use crate::support::authority::Authority;
use crate::support::kiln::Kiln;

/// A home with an image, `localhost/app:1`.
pub(super) fn home_with_image() -> Kiln {
    let kiln = Kiln::new();
    std::fs::create_dir(kiln.path("context")).unwrap();
    std::fs::write(kiln.path("context/hello"), "hello").unwrap();
    std::fs::write(kiln.path("context/Dockerfile"), "FROM scratch\nCOPY hello /\n").unwrap();
    kiln.ok("build -q -t localhost/app:1 context");
    kiln
}

/// The user's folder of certificates for a host.
fn own_folder(kiln: &Kiln, host: &str) -> std::path::PathBuf {
    let folder = kiln.path(format!(".config/containers/certs.d/{host}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn roots_of_a_host_count_for_it_alone() {
    let (kiln, authority) = (home_with_image(), Authority::new("roots"));
    let signed = authority.valid("server", "IP:127.0.0.1");
    let (one, other) = (signed.registry("127.0.0.1", None), signed.registry("127.0.0.1", None));
    let push = |addr: &str| format!("push localhost/app:1 {addr}/app:1");
    kiln.fails(1, &push(&one.addr))
        .says("signed by nobody that this machine trusts")
        .says(&format!(".config/containers/certs.d/{}", one.addr));

    let folder = own_folder(&kiln, &one.addr);
    std::fs::copy(authority.root(), folder.join("corp.crt")).unwrap();
    kiln.ok(&push(&one.addr));
    kiln.ok(&format!("pull {}/app:1", one.addr));
    kiln.fails(1, &push(&other.addr)).says("signed by nobody");
    // The roots of a flag are for whoever is spoken to.
    kiln.ok(&format!("{} --cert-dir {}", push(&other.addr), folder.display()));
    kiln.fails(1, &format!("{} --cert-dir absent", push(&other.addr))).says("absent");
    // A folder of the user's that is empty stands before the system's and adds nothing.
    std::fs::remove_file(folder.join("corp.crt")).unwrap();
    kiln.fails(1, &push(&one.addr)).says("signed by nobody");
}

#[test]
fn a_certificate_that_is_signed_by_itself_can_be_trusted() {
    let kiln = home_with_image();
    let (key, cert) = certificate(&kiln.path("context"));
    let http =
        format!(", tls: {{certificate: \"{}\", key: \"{}\"}}", cert.display(), key.display());
    let registry = TestRegistry::configured(&http, |_| String::new());
    let push = format!("push localhost/app:1 {}/app:1", registry.addr);
    kiln.fails(1, &push).says("signed by nobody that this machine trusts");
    // As one of the system's roots, or as the host's own.
    let call = kiln.args(push.split(' ')).env("SSL_CERT_FILE", &cert);
    call.run().success();
    std::fs::copy(&cert, own_folder(&kiln, &registry.addr).join("ca.crt")).unwrap();
    kiln.ok(&push);
    // It is for the names that are in it, all the same.
    let port = registry.addr.rsplit(':').next().unwrap();
    let other = format!("127.0.0.2:{port}");
    std::fs::copy(&cert, own_folder(&kiln, &other).join("ca.crt")).unwrap();
    let call = format!("push localhost/app:1 {other}/app:1");
    kiln.fails(1, &call);
    for flag in ["--tls-verify=false", &format!("--insecure {}", registry.addr)] {
        std::fs::remove_dir_all(kiln.path(".config")).ok();
        kiln.ok(&format!("pull {flag} {}/app:1", registry.addr));
    }
}

#[test]
fn a_client_certificate_is_shown_to_who_asks() {
    let kiln = home_with_image();
    let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
    let registry = authority.valid("server", "IP:127.0.0.1").registry("127.0.0.1", Some(&clients));
    let push = format!("push localhost/app:1 {}/app:1", registry.addr);
    let folder = own_folder(&kiln, &registry.addr);
    std::fs::copy(authority.root(), folder.join("ca.crt")).unwrap();
    kiln.fails(1, &push)
        .says("it asks for a client certificate, and there is none")
        .says("client.cert and client.key")
        .says(&folder.display().to_string());

    // Not one that somebody else has signed; of several the one that fits.
    let strangers = Authority::new("strangers");
    let strange = strangers.valid("stranger", "DNS:stranger");
    strange.put_into(&folder);
    kiln.fails(1, &push).says("does not take the client certificate");
    let known = clients.valid("me", "DNS:me");
    std::fs::copy(&known.cert, folder.join("known.cert")).unwrap();
    kiln.fails(1, &push).says("known.cert: there is no key").says("known.key is expected");
    std::fs::copy(&known.key, folder.join("known.key")).unwrap();
    kiln.ok(&push);

    // From a folder that a flag names, for commands of each kind; also where the server's
    // certificate is not looked at.
    let flag = kiln.path("flag");
    known.put_into(&flag);
    std::fs::remove_dir_all(kiln.path(".config")).unwrap();
    let insecure = format!("--tls-verify=false --cert-dir {}", flag.display());
    kiln.ok(&format!("pull {insecure} {}/app:1", registry.addr));
    std::fs::copy(authority.root(), flag.join("ca.crt")).unwrap();
    let flag = format!("--cert-dir {}", flag.display());
    kiln.ok(&format!("{push} {flag}"));
    let dockerfile = format!("FROM {}/app:1\nCOPY hello /again\n", registry.addr);
    std::fs::write(kiln.path("context/Dockerfile"), dockerfile).unwrap();
    let to = format!("{}/made:1", registry.addr);
    kiln.ok(&format!("build -q --pull --push {flag} -t {to} context"));
    let login = format!("login {flag} -u me -p pw {}", registry.addr);
    kiln.ok(&login);

    // Keys that do not fit are told before anybody is asked.
    let bad = kiln.path("bad");
    known.put_into(&bad);
    std::fs::copy(&strange.key, bad.join("client.key")).unwrap();
    let call = format!("{push} --cert-dir {}", bad.display());
    kiln.fails(1, &call).says("client.key: it is not the key of").says("client.cert");
    std::fs::remove_file(bad.join("client.cert")).unwrap();
    kiln.fails(1, &call).says("client.key: there is no certificate for this key");
}

#[test]
fn a_client_certificate_is_not_shown_to_where_a_registry_leads() {
    let kiln = home_with_image();
    let clients = Authority::new("clients");
    let authority = Authority::new("servers");
    let server = authority.valid("server", "IP:127.0.0.1");
    let elsewhere = server.registry("127.0.0.1", Some(&clients));
    let flag = kiln.path("flag");
    clients.valid("me", "DNS:me").put_into(&flag);
    std::fs::copy(authority.root(), flag.join("ca.crt")).unwrap();
    let flag = format!("--cert-dir {}", flag.display());
    kiln.ok(&format!("push {flag} localhost/app:1 {}/app:1", elsewhere.addr));

    // A registry that sends all requests to that one, under its own name.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let target = elsewhere.addr.clone();
    let leading = runtime.block_on(Server::start(move |request| {
        if request.path == "/v2/" {
            return answer("200 OK", &[], b"{}");
        }
        let to = format!("https://{target}{}", request.path);
        answer("307 Temporary Redirect", &[("Location", &to)], b"")
    }));
    let pull = format!("pull {}/app:1", leading.addr);
    kiln.fails(1, &format!("{pull} {flag}")).says("asks for a client certificate");
    // What is in the folder of that host is its own.
    let own = own_folder(&kiln, &elsewhere.addr);
    std::fs::copy(authority.root(), own.join("ca.crt")).unwrap();
    kiln.fails(1, &pull).says("asks for a client certificate");
    clients.valid("me", "DNS:me").put_into(&own);
    kiln.ok(&pull);
}

#[test]
fn certificates_that_do_not_hold_end_it_with_words() {
    let (kiln, authority) = (home_with_image(), Authority::new("roots"));
    let roots = kiln.path("roots");
    std::fs::create_dir(&roots).unwrap();
    std::fs::copy(authority.root(), roots.join("ca.crt")).unwrap();
    for (name, names, from, until, says, hint) in [
        (
            "expired",
            "IP:127.0.0.1",
            "20200101000000Z",
            "20200102000000Z",
            "has expired (it is valid until 2020-01-02",
            "renew it",
        ),
        (
            "early",
            "IP:127.0.0.1",
            "20480101000000Z",
            "20490101000000Z",
            "not valid yet (it is valid from 2048-01-01",
            "clock",
        ),
        (
            "named",
            "DNS:elsewhere.example",
            "20200101000000Z",
            "20490101000000Z",
            "is not for the name `127.0.0.1`, but for",
            "elsewhere.example",
        ),
    ] {
        let registry = authority.signs(name, names, from, until).registry("127.0.0.1", None);
        let push = format!("push localhost/app:1 {}/app:1", registry.addr);
        let call = format!("{push} --cert-dir {}", roots.display());
        kiln.fails(1, &call).says(says).says(hint);
        kiln.ok(&format!("{push} --tls-verify=false"));
    }
}

#[test]
fn roots_of_the_machine() {
    apart("registry::tls::roots_of_the_machine", || {
        let (kiln, authority) = (home_with_image(), Authority::new("roots"));
        let registry = authority.valid("server", &format!("DNS:{NAMED}")).registry(HERE, None);
        let host = format!("{NAMED}:{}", registry.addr.rsplit(':').next().unwrap());
        let push = format!("push localhost/app:1 {host}/app:1");
        let with = |name: &str, path: &Path| kiln.args(push.split(' ')).env(name, path).run();
        // No bundle here: Mozilla's roots are the ones that do not vouch for this host.
        kiln.fails(1, &push).says("signed by nobody that this machine trusts");
        with("SSL_CERT_FILE", &authority.root()).success();
        let folder = kiln.path("roots");
        std::fs::create_dir(&folder).unwrap();
        with("SSL_CERT_DIR", &folder).failure(1).says("SSL_CERT_DIR leads to no root");
        std::fs::copy(authority.root(), folder.join("corp.pem")).unwrap();
        with("SSL_CERT_DIR", &folder).success();
        with("SSL_CERT_FILE", Path::new("/absent")).failure(1).says("SSL_CERT_FILE leads to no");

        // The system's own folders, docker's last; with the user's before them.
        for place in ["/etc/docker/certs.d", "/etc/containers/certs.d"] {
            let folder = Path::new(place).join(&host);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::copy(authority.root(), folder.join("ca.crt")).unwrap();
            kiln.ok(&push);
            std::fs::write(folder.join("ca.crt"), "no certificate").unwrap();
            kiln.fails(1, &push).says(&format!("{place}/{host}/ca.crt: it holds no certificate"));
        }
        let own = own_folder(&kiln, &host);
        std::fs::copy(authority.root(), own.join("ca.crt")).unwrap();
        kiln.ok(&push);

        // In the clear only to hosts that are named so.
        let plain = TestRegistry::configured_at(HERE, "", |_| String::new());
        let push = format!("push localhost/app:1 {}/app:1", plain.addr);
        kiln.fails(1, &push).says("no secure connection").says("name it as insecure");
        kiln.ok(&format!("{push} --tls-verify=false"));
        kiln.ok(&format!("{push} --insecure {}", plain.addr));
        kiln.fails(1, &format!("{push} --insecure {host}")).says("name it as insecure");
    });
}
