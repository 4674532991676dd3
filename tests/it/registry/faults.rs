//! Registries that fail, lie, or stop in the middle.

use super::*;

const FOREIGN: &str = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2,"urls":["https://elsewhere.example/x"]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn rule_15_wrong_bytes_leave_nothing() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(100_000));
    for fault in ["flipped", "longer", "manifest", "config"] {
        let memory = Arc::clone(&memory);
        let server = Server::start(move |request| {
            let config = request.path.contains("/blobs/") && !memory.is_layer(request);
            let mut bytes = match memory.files.get(&request.path) {
                Some((_, bytes)) => bytes.clone(),
                None => return memory.get(request),
            };
            match fault {
                "flipped" if memory.is_layer(request) => bytes[5000] ^= 1,
                "longer" if memory.is_layer(request) => bytes.push(0),
                "config" if config => bytes[5] ^= 1,
                _ => {}
            }
            let wrong = format!("sha256:{}", "0".repeat(64));
            let headers: &[(&str, &str)] = match fault {
                "manifest" if request.path.contains("/manifests/") => {
                    &[("Docker-Content-Digest", &wrong)]
                }
                _ => &[],
            };
            answer("200 OK", headers, &bytes)
        })
        .await;
        let into = here.other(fault);
        let before = blobs_in(&into);
        let error = pull_app(&server, &here, &into).await.unwrap_err();
        assert!(matches!(error, RegistryError::Mismatch { .. }), "{fault}: {error}");
        assert_eq!(blobs_in(&into), before, "{fault}");
        assert!(into.names().unwrap().is_empty(), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_22_what_may_pass_is_tried_again() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(200_000));
    for fault in ["503", "cut", "cut without ranges", "429", "no end"] {
        let (of_server, turn) = (Arc::clone(&memory), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            if !of_server.is_layer(request) {
                return of_server.get(request);
            }
            let bytes = of_server.layer_bytes();
            let begin: usize = request
                .header("range")
                .and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
                .unwrap_or(0);
            let first = turn.fetch_add(1, Ordering::SeqCst) == 0;
            match fault {
                "503" if first => answer("503 Service Unavailable", &[], b""),
                "429" if first => answer("429 Too Many Requests", &[("Retry-After", "1")], b""),
                "cut" | "cut without ranges" if first => {
                    let mut whole = answer("200 OK", &[], bytes);
                    whole.truncate(whole.len() / 2);
                    whole
                }
                // All bytes, and an end that looks like a break, every time.
                "no end" if begin == 0 => {
                    let whole = answer("200 OK", &[], bytes);
                    let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
                    let head = String::from_utf8(whole[..end].to_vec()).unwrap();
                    let head = head.replace(
                        &format!("Content-Length: {}", bytes.len()),
                        "Transfer-Encoding: chunked",
                    );
                    let length = format!("\r\n\r\n{:x}\r\n", bytes.len());
                    [head.as_bytes(), length.as_bytes(), bytes, b"\r\n"].concat()
                }
                "no end" => answer("416 Range Not Satisfiable", &[], b""),
                "cut" => {
                    assert!(begin > 0);
                    let range = format!("bytes {begin}-{}/{}", bytes.len() - 1, bytes.len());
                    answer("206 Partial Content", &[("Content-Range", &range)], &bytes[begin..])
                }
                _ => answer("200 OK", &[], bytes),
            }
        })
        .await;
        let into = here.other(fault);
        pull_app(&server, &here, &into).await.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert!(into.has_blob(&memory.layer.digest, memory.layer.size), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_final() {
    let here = here();
    for (status, headers, body, expected) in [
        ("429 Too Many Requests", vec![("Retry-After", "3600")], "slow down", "wait 3600 s"),
        (
            "403 Forbidden",
            vec![],
            r#"{"errors":[{"code":"DENIED","message":"not\u001b[1m you"}]}"#,
            "not\\u{1b}[1m you",
        ),
        (
            "400 Bad Request",
            vec![],
            r#"{"errors":[{"code":"NAME_INVALID","message":"odd"}]}"#,
            "does not accept the name `app`",
        ),
        (
            "200 OK",
            vec![("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")],
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            "schema version 1",
        ),
        ("200 OK", vec![], "{\"schemaVersion\":2,\"schemaVersion\":2}", "twice"),
        ("200 OK", vec![], FOREIGN, "outside the registry"),
        ("302 Found", vec![("Location", "http://registry.example/x")], "", "plain http"),
        ("302 Found", vec![("Location", "/v2/app/manifests/1")], "", "more than 5 redirects"),
        ("401 Unauthorized", vec![], "", "but not how"),
        (
            "401 Unauthorized",
            vec![("WWW-Authenticate", "Bearer realm=\"http://evil.example/token\"")],
            "",
            "plain http",
        ),
    ] {
        let server = Server::start(move |request| {
            if request.path == "/v2/" {
                return answer("200 OK", &[], b"");
            }
            answer(status, &headers, body.as_bytes())
        })
        .await;
        let error = pull_app(&server, &here, &here.store).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{status}: {error}");
    }
    // More than a document may have: reading stops.
    let server = Server::start(|_| answer("200 OK", &[], &vec![b' '; 5 << 20])).await;
    let error = pull_app(&server, &here, &here.store).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

/// A registry in memory that takes one push, with a fault.
pub(super) async fn taking(fault: &'static str) -> Server {
    let held: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    let puts = AtomicUsize::new(0);
    Server::start(move |request| {
        let mut held = held.lock().unwrap();
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        let digest = format!("sha256:{}", BlobDigest::of(&request.body).hex());
        match (request.method.as_str(), path.as_str()) {
            ("POST", _) => {
                answer("202 Accepted", &[("Location", "/v2/app/blobs/uploads/1?s=%2B")], b"")
            }
            ("PUT", "/v2/app/blobs/uploads/1") => {
                assert!(request.path.contains("?s=%2B&digest=sha256%3A"), "{}", request.path);
                let first = puts.fetch_add(1, Ordering::SeqCst) == 0;
                if fault == "cut" && first {
                    return Vec::new();
                }
                if fault == "502" && first {
                    return answer("502 Bad Gateway", &[], b"<html>\x1b[2J");
                }
                if fault == "full" {
                    return answer("507 Insufficient Storage", &[], b"disk is full");
                }
                held.insert(format!("/v2/app/blobs/{digest}"), request.body.clone());
                answer("201 Created", &[], b"")
            }
            ("PUT", _) => {
                if fault == "other manifest" {
                    let other = format!("sha256:{}", "1".repeat(64));
                    return answer("201 Created", &[("Docker-Content-Digest", &other)], b"");
                }
                if fault != "forgets" {
                    let path = format!("/v2/app/manifests/{digest}");
                    held.insert(path, request.body.clone());
                }
                answer("201 Created", &[], b"")
            }
            (_, "/v2/") => answer("200 OK", &[], b""),
            (_, path) => match held.get(path) {
                Some(_) if fault == "rewrites" => answer("200 OK", &[], b"{}"),
                Some(bytes) => answer("200 OK", &[], bytes),
                None => answer("404 Not Found", &[], b""),
            },
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_25_the_digest_is_what_the_registry_holds() {
    let here = here();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(700_000)]));
    for (fault, expected) in [
        ("none", None),
        ("cut", None),
        ("502", None),
        ("full", Some("disk is full")),
        ("other manifest", Some("does not match")),
        ("forgets", Some("has no manifest")),
        ("rewrites", Some("does not match")),
    ] {
        let server = taking(fault).await;
        let to = name(format!("{}/app:1", server.addr));
        let at = anonymous(here.path());
        let result = push(&image, &to, &here.store, &at, &Progress::silent()).await;
        match (result, expected) {
            (Ok(pinned), None) => assert_eq!(pinned.digest(), image.digest()),
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{fault}: {error}");
            }
            (result, _) => panic!("{fault}: {result:?}"),
        }
    }
}
