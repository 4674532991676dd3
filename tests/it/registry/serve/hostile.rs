//! Clients that want more than they may have: names, memory, time, blobs of others.

use super::*;

/// An upload that is not there, at which bodies of any size are refused.
const NOWHERE: &str = "/v2/app/blobs/uploads/00000000000000000000000000000000";

#[test]
fn pushes_leave_an_index_that_can_be_read() {
    let kiln = Kiln::new();
    let path = kiln.store_path().join("index.json");
    kiln.store();
    let serving = Serving::start(&kiln, &["--writable"]);
    put_blob(&serving, "app", b"c");
    let put = |tag: &str, text: &str| {
        serving.ask("PUT", &format!("/v2/app/manifests/{tag}"), &[MANIFEST], text.as_bytes())
    };
    let text = artifact(b"c", &[], "");
    put("1", &text).is(201);
    // As after many pushes.
    let mut index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut large = index["manifests"][0].clone();
    large["urls"] = serde_json::json!(["x".repeat((2 << 20) - 700)]);
    large["annotations"]["org.opencontainers.image.ref.name"] = "docker.io/library/x:1".into();
    index["manifests"].as_array_mut().unwrap().push(large);
    std::fs::write(&path, index.to_string()).unwrap();

    let refused = (2..20).find_map(|tag| {
        let reply = put(&tag.to_string(), &text);
        (reply.status != 201).then_some(reply)
    });
    refused.expect("no end").refused(507, "DENIED", "`kiln rmi`");
    assert!(serving.said().contains("a request failed: the store has too many names"));
    put("1", &text).is(201);
    // All else goes on, and makes room.
    kiln.ok("images");
    kiln.ok("tag app:1 local:1");
    serving.get("/v2/app/manifests/1").is(200);
    let at = format!("/v2/app/manifests/{}", BlobDigest::of(text.as_bytes()));
    serving.ask("DELETE", "/v2/app/manifests/1", &[], b"").is(202);
    serving.ask("DELETE", &at, &[], b"").is(202);
    kiln.ok("rmi x:1 local:1");
    put("20", &text).is(201);
    serving.stop();
}

/// Layers that registries do not keep are not looked for when a manifest comes, so that
/// it must not lead to them either.
#[test]
fn a_foreign_layer_leads_to_no_blob() {
    let kiln = Kiln::new();
    let hidden = kiln.store().put(b"of a build").unwrap();
    let serving = Serving::start(&kiln, &["--writable"]);
    put_blob(&serving, "app", b"c");
    let text = artifact(b"c", &[b"of a build"], "");
    for (tag, kind) in [
        ("1", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
        ("2", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    ] {
        let text = text.replace("application/x-layer", kind);
        assert!(text.contains(&hidden.to_string()));
        let at = format!("/v2/app/manifests/{tag}");
        serving.ask("PUT", &at, &[MANIFEST], text.as_bytes()).is(201);
        assert_eq!(serving.get(&at).is(200).body, text.as_bytes());
    }
    serving.get(&format!("/v2/app/blobs/{hidden}")).refused(404, "BLOB_UNKNOWN", "");
    for query in [format!("mount={hidden}&from=app"), format!("mount={hidden}")] {
        let at = format!("/v2/other/blobs/uploads/?{query}");
        serving.ask("POST", &at, &[], b"").is(202);
    }
    serving.get(&format!("/v2/app/blobs/{}", BlobDigest::of(b"c"))).is(200);
    serving.stop();
}

/// Whoever sends first and listens then hears why nothing came of it.
#[test]
fn a_refusal_is_heard_after_a_large_body() {
    let kiln = Kiln::new();
    let serving = Serving::start(&kiln, &["--writable"]);
    let large = noise(6 << 20);
    for method in ["PATCH", "PUT"] {
        let at = format!("{NOWHERE}?digest={}", BlobDigest::of(b"x"));
        serving.ask(method, &at, &[], &large).refused(404, "BLOB_UPLOAD_UNKNOWN", "begin anew");
    }
    let at = "/v2/app/manifests/1";
    serving.ask("PUT", at, &[MANIFEST], &large).refused(413, "MANIFEST_INVALID", "4194304");
    serving.ask("PUT", at, &[("X", "y")], &large).refused(400, "MANIFEST_INVALID", "Content-Type");
    let at = "/v2/app/blobs/uploads/?digest=sha256:1";
    serving.ask("POST", at, &[], &large).refused(400, "DIGEST_INVALID", "");
    let begun = serving.ask("POST", "/v2/app/blobs/uploads/", &[], b"").is(202);
    let at = begun.header("location").unwrap();
    serving.ask("PUT", at, &[], &large).refused(400, "DIGEST_INVALID", "`digest`");
    let range = [("Content-Range", format!("5-{}", large.len() + 4))];
    let range = range.each_ref().map(|(name, value)| (*name, value.as_str()));
    serving.ask("PATCH", at, &range, &large).refused(416, "BLOB_UPLOAD_INVALID", "0 bytes");
    // Who asks before sending is not waited for.
    let mut stream = connect(&serving.addr);
    let head = head_of("PATCH", NOWHERE, &[("Expect", "100-continue")], large.len());
    stream.write_all(head.as_bytes()).unwrap();
    reply(stream).refused(404, "BLOB_UPLOAD_UNKNOWN", "");
    serving.stop();
}

/// One that takes all the room for manifests, and does not send its own.
#[test]
fn a_manifest_that_does_not_come_is_in_nobodys_way() {
    let kiln = Kiln::new();
    let serving = Serving::start(&kiln, &["--writable"]);
    let mut slow = connect(&serving.addr);
    let headers = [MANIFEST, ("Expect", "100-continue")];
    slow.write_all(head_of("PUT", "/v2/app/manifests/1", &headers, 4 << 20).as_bytes()).unwrap();
    // It is told to go on when it has the room.
    let mut told = [0; 25];
    slow.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    // What needs no room does not wait for it.
    for (at, header) in [("1", ("X", "y")), ("..", MANIFEST)] {
        let at = format!("/v2/app/manifests/{at}");
        serving.ask("PUT", &at, &[header], b"{}").refused(400, "MANIFEST_INVALID", "");
    }
    slow.set_nonblocking(true).unwrap();
    let error = slow.read(&mut told).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "the slow one has no answer yet");
    drop(slow);
    // Its room is free at once.
    put_blob(&serving, "app", b"c");
    let text = artifact(b"c", &[], "");
    serving.ask("PUT", "/v2/app/manifests/1", &[MANIFEST], text.as_bytes()).is(201);
    serving.stop();
}

/// Each byte a packet of its own: what arrives so takes no more memory than it has bytes.
#[test]
fn single_bytes_take_no_more_memory() {
    let kiln = Kiln::new();
    let serving = Serving::start(&kiln, &["--writable"]);
    let bytes = noise(2000);
    let digest = put_blob(&serving, "app", &bytes);
    let before = serving.memory("VmHWM");
    let streams: Vec<_> = (0..8).map(|_| connect(&serving.addr)).collect();
    std::thread::scope(|scope| {
        for mut stream in streams {
            let bytes = &bytes;
            scope.spawn(move || {
                stream.set_nodelay(true).unwrap();
                let at = format!("/v2/app/blobs/uploads/?digest={digest}");
                let head = head_of("POST", &at, &[], bytes.len());
                stream.write_all(head.as_bytes()).unwrap();
                for byte in bytes.chunks(1) {
                    stream.write_all(byte).unwrap();
                    // So that the server mostly has read it before the next comes.
                    std::thread::sleep(Duration::from_millis(1));
                }
                reply(stream).is(201);
            });
        }
    });
    let grown = serving.memory("VmHWM") - before;
    assert!(grown < 24 << 10, "{grown} KiB more for {} bytes", bytes.len() * 8);
    serving.stop();
}
