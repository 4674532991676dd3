//! Who may do what, and what garbage does: nothing.

use super::*;
use crate::support::registry::tool;

#[test]
fn without_writable_nothing_is_written() {
    let kiln = Kiln::new();
    let store = kiln.store();
    let one = AnyImage::Image(image(&store, &amd64(), &[b"one"]));
    store.keep(&name("app:1"), &one).unwrap();
    let serving = Serving::start(&kiln, &[]);
    let digest = one.digest();
    for (method, path) in [
        ("POST", "app/blobs/uploads/".to_owned()),
        ("POST", format!("app/blobs/uploads/?digest={digest}")),
        ("POST", format!("app/blobs/uploads/?mount={digest}")),
        ("PATCH", "app/blobs/uploads/x".into()),
        ("PUT", "app/blobs/uploads/x".into()),
        ("GET", "app/blobs/uploads/x".into()),
        ("DELETE", "app/blobs/uploads/x".into()),
        ("PUT", "app/manifests/1".into()),
        ("DELETE", "app/manifests/1".into()),
        ("DELETE", format!("app/manifests/{digest}")),
        ("DELETE", format!("app/blobs/{digest}")),
    ] {
        let reply = serving.ask(method, &format!("/v2/{path}"), &[MANIFEST], b"{}");
        reply.refused(405, "UNSUPPORTED", "--writable");
    }
    for (method, path) in [
        ("PUT", "/v2/"),
        ("POST", "/v2/_catalog"),
        ("DELETE", "/v2/app/tags/list"),
        ("PATCH", "/v2/app/manifests/1"),
        ("OPTIONS", "/v2/"),
    ] {
        serving.ask(method, path, &[], b"").refused(405, "UNSUPPORTED", "is not for this");
    }
    // A body is no reason to hang up before the answer.
    let large = noise(4 << 20);
    serving.ask("PUT", "/v2/app/manifests/1", &[], &large).refused(405, "UNSUPPORTED", "");
    let to = serving.name("app:2");
    kiln.fails(1, &format!("push app:1 {to}")).says("--writable");
    assert_eq!(serving.get("/v2/app/tags/list").json()["tags"], serde_json::json!(["1"]));
    serving.stop();
}

/// A key and a certificate for `localhost` that is nobody's authority, and its own.
fn leaf(kiln: &Kiln) -> (std::path::PathBuf, std::path::PathBuf) {
    let (key, certificate) = (kiln.path("key.pem"), kiln.path("cert.pem"));
    let config = "[req]\ndistinguished_name = dn\nx509_extensions = more\nprompt = no\n\
                  [dn]\nCN = localhost\n[more]\nbasicConstraints = critical, CA:FALSE\n\
                  subjectAltName = DNS:localhost, IP:127.0.0.1\n";
    std::fs::write(kiln.path("openssl.cnf"), config).unwrap();
    let path = |name: &str| kiln.path(name).to_str().unwrap().to_owned();
    let files =
        ["-config", &path("openssl.cnf"), "-keyout", &path("key.pem"), "-out", &path("cert.pem")];
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    tool("openssl", "openssl", &[&request[..], &files].concat());
    (key, certificate)
}

#[test]
fn tls_and_passwords() {
    let kiln = Kiln::new();
    let store = kiln.store();
    let one = AnyImage::Image(image(&store, &amd64(), &[b"one"]));
    store.keep(&name("app:1"), &one).unwrap();
    let (key, certificate) = leaf(&kiln);
    let table = tool("htpasswd", "apache2-utils", &["-Bbn", "me", "secret word"]);
    std::fs::write(kiln.path("htpasswd"), table.stdout).unwrap();
    let (key, chain) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let htpasswd = kiln.path("htpasswd");
    let htpasswd = htpasswd.to_str().unwrap();
    let flags = ["--tls-cert", chain, "--tls-key", key, "--htpasswd", htpasswd, "--writable"];
    let serving = Serving::start(&kiln, &flags);
    let port = serving.addr.rsplit(':').next().unwrap();
    let host = format!("localhost:{port}");

    let layout = kiln.path("copy");
    let from = format!("docker://{host}/app:1");
    let certificates = kiln.path("certs");
    std::fs::create_dir(&certificates).unwrap();
    std::fs::copy(&certificate, certificates.join("ca.crt")).unwrap();
    let trust = format!("--src-cert-dir={}", certificates.display());
    let copy = |creds: &[&str]| {
        let all = [&["--insecure-policy", "copy", "--quiet", &trust][..], creds].concat();
        std::process::Command::new("skopeo")
            .args(all)
            .args([&from, &oci(&layout, "x")])
            .env("HOME", kiln.path(""))
            .output()
            .unwrap()
    };
    assert!(copy(&["--src-creds=me:secret word"]).status.success());
    for creds in [&[][..], &["--src-creds=me:secret"], &["--src-creds=you:secret word"]] {
        let said = String::from_utf8_lossy(&copy(creds).stderr).into_owned();
        assert!(
            said.contains("authentication required") || said.contains("unauthorized"),
            "{said}"
        );
    }
    let mut other = Kiln::new();
    other.set("SSL_CERT_FILE", &certificate);
    other.args(["login", &host, "-u", "me", "--password-stdin"]).stdin("wrong").run().failure(1);
    other
        .args(["login", &host, "-u", "me", "--password-stdin"])
        .stdin("secret word")
        .run()
        .success();
    other.ok(&format!("pull {host}/app:1"));
    other.ok(&format!("push {host}/app:1 {host}/app:2"));
    // Plain HTTP has no answer there.
    let mut stream = connect(&serving.addr);
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP/1.1 200"));
    let log = serving.stop();
    assert!(log.contains(" me \"PUT /v2/app/manifests/2\" 201"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    assert!(kiln.store().find(&name("app:2")).unwrap().is_some());

    // Every path asks, also where nothing is written.
    let serving = Serving::start(&kiln, &["--htpasswd", htpasswd]);
    for path in ["/v2/", "/v2/app/manifests/1", "/v2/_catalog", "/", "/v2/app/blobs/uploads/x"] {
        let reply = serving.get(path).refused(401, "UNAUTHORIZED", "");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Basic realm="));
    }
    let right = [("Authorization", "Basic bWU6c2VjcmV0IHdvcmQ=")];
    serving.ask("GET", "/v2/", &right, b"").is(200);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let kiln = Kiln::new();
    std::fs::write(kiln.path("weak"), "me:$apr1$x$y\n").unwrap();
    std::fs::write(kiln.path("none.pem"), "no certificate").unwrap();
    let table = tool("htpasswd", "apache2-utils", &["-Bbn", "me", "x"]);
    std::fs::write(kiln.path("good"), table.stdout).unwrap();
    kiln.fails(1, "serve --addr 127.0.0.1:0 --htpasswd weak").says("only bcrypt is taken");
    kiln.fails(1, "serve --addr 127.0.0.1:0 --htpasswd absent").says("absent");
    kiln.fails(1, "serve --addr 127.0.0.1:0 --tls-cert none.pem --tls-key none.pem")
        .says("no certificate in PEM form");
    kiln.fails(2, "serve --addr 127.0.0.1:0 --tls-cert none.pem").says("--tls-key");
    kiln.fails(2, "serve --addr 0.0.0.0:0 --htpasswd good").says("--allow-plain-passwords");
    kiln.fails(2, "serve --addr example.com:1").says("IP address");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    kiln.fails(1, &format!("serve --addr {addr}")).says("cannot listen on");
    let serving = Serving::on(&kiln, "0.0.0.0:0", &["--writable"]);
    let log = serving.stop();
    assert!(log.contains("not encrypted") && log.contains("may push and delete"), "{log}");
    let flags = ["--htpasswd", "good", "--allow-plain-passwords"];
    assert!(!Serving::on(&kiln, "0.0.0.0:0", &flags).stop().contains("may push"));
}

#[test]
fn garbage_is_answered_and_harms_nobody() {
    let kiln = Kiln::new();
    let serving = Serving::start(&kiln, &["--writable"]);
    let long = "x".repeat(100_000);
    let noise = noise(50_000);
    let texts: Vec<Vec<u8>> = vec![
        noise.clone(),
        b"\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET /v2/ HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /v2/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"PUT /v2/a/manifests/1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"
            .to_vec(),
        format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes(),
        format!("GET /v2/ HTTP/1.1\r\nX: {long}\r\n\r\n").into_bytes(),
        format!("GET /v2/ HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000)).into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET /v2/%ff%fe/../../../etc/passwd/tags/list HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_vec(),
        b"GET http://[::1 HTTP/1.1\r\n\r\n".to_vec(),
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        Vec::new(),
    ];
    for text in &texts {
        let mut stream = connect(&serving.addr);
        // It may hang up before it has read all.
        let _ = stream.write_all(text);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let shown = String::from_utf8_lossy(&answer);
        let good =
            answer.is_empty() || shown.starts_with("HTTP/1.1 4") || shown.starts_with("HTTP/1.1 5");
        assert!(good && !shown.contains("root:"), "{shown}");
    }
    for path in [
        "/v2/..%2f..%2fetc/manifests/passwd",
        "/v2/a/manifests/..%2f..",
        "/v2/a/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
        "/v2/a/blobs/uploads/..%2f..%2fx",
        "/v2/a/tags/list?n=x",
        "/v2/a/tags/list?n=99999999999999999999999",
        "/v2/a/tags/list?last=%00%ff",
        "/v2/_catalog?n=-1",
        "/v2/a/manifests/%0d%0aX:%20y",
        "/v2/a/referrers/x",
    ] {
        let status = serving.get(path).status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    // A body that never ends is not waited for by others; one that is too short is no blob.
    let mut hanging = connect(&serving.addr);
    hanging.write_all(head_of("POST", "/v2/a/blobs/uploads/", &[], 10).as_bytes()).unwrap();
    serving.get("/v2/").is(200);
    let log = serving.said();
    assert!(!log.contains("panicked") && log.is_ascii(), "{log}");
    drop(hanging);
    serving.stop();
    assert!(kiln.store().names().unwrap().is_empty());
}

/// What is on its way comes to its end, and nothing new begins.
#[test]
fn the_end_waits_for_transfers() {
    let kiln = Kiln::new();
    let store = kiln.store();
    let big = noise(40 << 20);
    let one = AnyImage::Image(image(&store, &amd64(), &[&big]));
    store.keep(&name("app:1"), &one).unwrap();
    let mut serving = Serving::start(&kiln, &["--progress", "rawjson"]);
    let layer = &one.images()[0].layers()[0];
    let mut stream = connect(&serving.addr);
    let path = format!("/v2/app/blobs/{}", layer.digest);
    stream.write_all(head_of("GET", &path, &[], 0).as_bytes()).unwrap();
    let mut first = [0; 1000];
    stream.read_exact(&mut first).unwrap();
    // One that asks nothing is no reason to wait.
    let _idle = connect(&serving.addr);
    serving.signal(rustix::process::Signal::INT);
    while TcpStream::connect(&serving.addr).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let rest = reply(first.chain(stream)).is(200);
    assert_eq!(BlobDigest::of(&rest.body), layer.digest);
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
    let log = serving.said();
    let line = log.lines().find(|line| line.contains("\"request\"")).unwrap();
    let request = serde_json::from_str::<serde_json::Value>(line).unwrap()["request"].clone();
    assert_eq!((&request["status"], &request["sent"]), (&200.into(), &layer.size.into()));
    assert_eq!((&request["method"], &request["path"]), (&"GET".into(), &path.into()));
}
