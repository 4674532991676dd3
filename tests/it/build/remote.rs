//! `ADD` of what is not in the context.

use super::bench::{Bench, callers};
use crate::support::http::{Server, answer};

fn server(runtime: &tokio::runtime::Runtime) -> Server {
    runtime.block_on(Server::start(|request| {
        match request.path.split('?').next().unwrap_or_default() {
            "/a%20b.txt" => match request.header("if-none-match") {
                Some("\"1\"") => answer("304 Not Modified", &[], b""),
                _ => answer("200 OK", &[("ETag", "\"1\"")], b"hello\n"),
            },
            "/moved" => answer("302 Found", &[("Location", "/a%20b.txt")], b""),
            "/round" => answer("302 Found", &[("Location", "/round")], b""),
            "/plain" => answer("200 OK", &[], b"plain"),
            "/" => answer("200 OK", &[], b""),
            _ => answer("404 Not Found", &[], b"no"),
        }
    }))
}

#[test]
fn build_add_urls() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for caller in callers() {
        let server = server(&runtime);
        let bench = Bench::with_busybox(caller);
        bench.file("local", "l");
        let at = format!("http://user:hush@{}", server.addr);
        let text = format!(
            "FROM busybox\nADD local {at}/a%20b.txt {at}/moved?x=y {at}/ /d/\n\
             ADD --chown=33:34 --chmod=640 {at}/plain /p\n"
        );
        let built = bench.build(&text, "").success();
        assert!(!built.stderr.contains("hush"), "{}", built.stderr);
        let history = serde_json::to_string(bench.image().config()).unwrap();
        assert_eq!(history.matches("hush").count(), 0, "{history}");
        assert_eq!(
            bench.layer(1),
            [
                "d 755 0:0 d",
                "f 600 0:0 d/__unnamed__ 0",
                "f 600 0:0 d/a",
                "f 644 0:0 d/local 1",
                "f 600 0:0 d/moved 6",
            ]
            .map(|line| if line.ends_with("d/a") {
                "f 600 0:0 d/a b.txt 6"
            } else {
                line
            }),
            "{caller:?}"
        );
        assert_eq!(bench.layer(0), ["f 640 33:34 p 5"]);
        // Asked again, and nothing is made anew.
        let before = server.seen().len();
        let again = bench.build(&text, "").success();
        assert_eq!(again.stderr.matches("CACHED").count(), 2, "{}", again.stderr);
        assert_eq!(server.seen().len(), before + 5);
        bench.clean();
    }
}

#[test]
fn build_add_urls_with_checksums() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = server(&runtime);
    let bench = Bench::with_busybox(callers()[0]);
    let sum = kiln::digest::Digest::of(b"plain");
    let add = |sum: &str, what: &str| {
        format!("FROM busybox\nADD --checksum={sum} http://{}/{what} /p\n", server.addr)
    };
    bench.built(&add(&sum.to_string(), "plain"));
    let before = server.seen().len();
    bench.built(&add(&sum.to_string(), "plain"));
    assert_eq!(server.seen().len(), before, "what has the right digest is not asked for");
    let zero = format!("sha256:{}", "0".repeat(64));
    for (line, says) in [
        (add(&zero, "plain"), format!("/plain: its digest is {sum}, not {zero}")),
        (add("sha256:12", "plain"), "write --checksum=sha256:".to_owned()),
        (add(&zero, "gone"), "/gone: 404 Not Found".to_owned()),
        (add(&zero, "round"), "again and again".to_owned()),
        (format!("FROM busybox\nADD --checksum={sum} local /p\n"), "sources with a URL".to_owned()),
    ] {
        bench.build(&line, "").failure(1).says(&says).says("2 | ADD");
    }
    bench.clean();
}
