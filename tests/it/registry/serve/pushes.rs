//! What is written to a server, and what the store makes of it.

use super::*;

fn local(kiln: &Kiln, text: &str, contents: &[&[u8]]) -> AnyImage {
    let store = kiln.store();
    let image = AnyImage::Image(image(&store, &amd64(), contents));
    store.keep(&name(text), &image).unwrap();
    image
}

#[test]
fn images_are_pushed_by_kiln_and_other_tools() {
    let (from, kiln) = (Kiln::new(), Kiln::new());
    let big = noise(3 << 20);
    let one = local(&from, "app:1", &[b"one", &big]);
    let arm = Platform::new("linux", "arm64");
    let store = from.store();
    let images = vec![image(&store, &amd64(), &[b"two"]), image(&store, &arm, &[b"three"])];
    let both = assemble_index(images, kiln::image::Dialect::Oci, Default::default()).unwrap();
    store.keep(&name("both:1"), &both).unwrap();
    let serving = Serving::start(&kiln, &["--writable"]);

    let pushed = from.ok(&format!("push app:1 {}", serving.name("app:1"))).text();
    assert_eq!(pushed.trim(), format!("{}@{}", serving.name("app"), one.digest()));
    from.ok(&format!("push both:1 {}", serving.name("registry.example/team/both:1")));
    let layout = from.path("layout");
    let at = format!("docker://{}", serving.name("app:1"));
    skopeo_copy(&[], &at, &oci(&layout, "x"));
    let to = format!("docker://{}", serving.name("by-skopeo:1"));
    skopeo_copy(&["--preserve-digests"], &oci(&layout, "x"), &to);
    if let Some(crane) = kiln::env::path("KILN_TEST_CRANE") {
        let mut call = from.program(crane);
        let (source, to) = (serving.name("registry.example/team/both:1"), serving.name("crane:1"));
        call.command.args(["copy", &source, &to, "--insecure"]);
        call.run().success();
        assert_eq!(kiln.store().image_named(&name("crane:1")).unwrap().digest(), both.digest());
    }

    let rows = kiln.ok("images --json").json();
    let rows: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    for expected in ["docker.io/library/app:1", "registry.example/team/both:1"] {
        assert!(rows.contains(&expected), "{rows:?}");
    }
    // Manifests that an index lists are no images of their own.
    assert!(!rows.iter().any(|row| row.contains('@')), "{rows:?}");
    for (text, image) in [("app:1", &one), ("by-skopeo:1", &one)] {
        let there = kiln.store().image_named(&name(text)).unwrap();
        assert_eq!(there.digest(), image.digest());
        assert!(kiln.store().has_layers(there.images()[0].layers()));
    }
    kiln.ok("save -o archive.tar registry.example/team/both:1 --format oci");

    // A tag that moves leaves what somebody may have pinned.
    let two = local(&from, "app:1", &[b"two"]);
    from.ok(&format!("push app:1 {}", serving.name("app:1")));
    assert_eq!(kiln.store().image_named(&name("app:1")).unwrap().digest(), two.digest());
    serving.get(&format!("/v2/app/manifests/{}", one.digest())).is(200);
    kiln.ok("prune --all --force");
    let other = Kiln::new();
    other.ok(&format!("pull {}@{}", serving.name("app"), one.digest()));
    let log = serving.stop();
    assert!(log.contains("\"PUT /v2/app/manifests/1\" 201"), "{log}");
}

/// What is no image is kept, listed and given out, and is in nobody's way.
#[test]
fn artifacts() {
    let kiln = Kiln::new();
    local(&kiln, "app:1", &[b"one"]);
    let serving = Serving::start(&kiln, &["--writable"]);
    let subject = kiln.store().find(&name("app:1")).unwrap().unwrap();
    let (config, layer) = (b"no JSON at all", b"signature");
    put_blob(&serving, "app", config);
    put_blob(&serving, "app", layer);
    let about = format!(
        r#","artifactType":"application/x-sig","annotations":{{"a":"b"}},"subject":{{"mediaType":"{}","digest":"{}","size":{}}}"#,
        subject.media_type, subject.digest, subject.size
    );
    let manifest = artifact(config, &[layer], &about);
    let digest = BlobDigest::of(manifest.as_bytes());
    let at = format!("/v2/app/manifests/{digest}");
    let put = serving.ask("PUT", &at, &[MANIFEST], manifest.as_bytes()).is(201);
    assert_eq!(put.header("oci-subject"), Some(subject.digest.to_string().as_str()));
    assert_eq!(put.header("location"), Some(at.as_str()));
    serving.ask("PUT", "/v2/app/manifests/sig", &[MANIFEST], manifest.as_bytes()).is(201);
    assert_eq!(serving.get("/v2/app/manifests/sig").is(200).body, manifest.as_bytes());

    let referrers = format!("/v2/app/referrers/{}", subject.digest);
    let found = serving.get(&referrers).is(200);
    assert_eq!(found.header("content-type"), Some(INDEX.1));
    let listed = &found.json()["manifests"][0];
    assert_eq!(listed["digest"], digest.to_string());
    assert_eq!(listed["artifactType"], "application/x-sig");
    assert_eq!(listed["annotations"]["a"], "b");
    let filtered = serving.get(&format!("{referrers}?artifactType=application/x-sig")).is(200);
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);
    let none = serving.get(&format!("{referrers}?artifactType=x")).is(200).json();
    assert_eq!(none["manifests"], serde_json::json!([]));
    let nobody = serving.get(&format!("/v2/nothing/referrers/{digest}")).is(200).json();
    assert_eq!(nobody["manifests"], serde_json::json!([]));

    let images = kiln.ok("images --json");
    assert!(images.stderr.is_empty(), "{}", images.stderr);
    let rows = images.json();
    let row = rows.as_array().unwrap().iter().find(|row| row["tag"] == "sig").unwrap();
    let size = manifest.len() + config.len() + layer.len();
    assert_eq!((&row["size"], &row["platforms"]), (&size.into(), &serde_json::json!([])));
    kiln.ok("images");
    kiln.ok("du");
    kiln.ok("prune --all --force");
    kiln.fails(1, "save -o x.tar app:sig").says("this is an artifact, not an image");
    kiln.ok("tag app:sig app:copy");
    serving.get(&format!("/v2/app/blobs/{}", BlobDigest::of(layer))).is(200);
    serving.stop();
    kiln.ok("prune --all --force");
    let serving = Serving::start(&kiln, &[]);
    serving.get(&format!("/v2/app/blobs/{}", BlobDigest::of(layer))).is(200);
    // A name is all that it needs to go, and to stay.
    kiln.ok("rmi app:copy app:sig");
    serving.get(&format!("/v2/app/blobs/{}", BlobDigest::of(layer))).is(404);
}

#[test]
fn manifests_are_checked() {
    let kiln = Kiln::new();
    local(&kiln, "other:1", &[b"of another image"]);
    let hidden = kiln.store().put(b"of a build").unwrap();
    let serving = Serving::start(&kiln, &["--writable"]);
    put_blob(&serving, "app", b"c");
    put_blob(&serving, "app", b"l");
    let put = |selector: &str, header: (&str, &str), text: &str| {
        serving.ask("PUT", &format!("/v2/app/manifests/{selector}"), &[header], text.as_bytes())
    };
    let good = artifact(b"c", &[b"l"], "");
    put("1", MANIFEST, &good).is(201);
    let wrong = BlobDigest::of(b"x").to_string();
    put(&wrong, MANIFEST, &good).refused(400, "DIGEST_INVALID", "the manifest is sha256:");
    put("sha256:12", MANIFEST, &good).refused(400, "DIGEST_INVALID", "");
    put("..", MANIFEST, &good).refused(400, "MANIFEST_INVALID", "`..` is no tag");
    put("2", INDEX, &good).refused(400, "MANIFEST_INVALID", "");
    put("2", ("Content-Type", "text/plain"), &good).refused(400, "MANIFEST_INVALID", "text/plain");
    put("2", ("X", "y"), &good).refused(400, "MANIFEST_INVALID", "Content-Type");
    put("2", MANIFEST, "{").refused(400, "MANIFEST_INVALID", "malformed");
    put("2", MANIFEST, &artifact(b"c", &[b"x"], "")).refused(
        400,
        "MANIFEST_BLOB_UNKNOWN",
        &BlobDigest::of(b"x").to_string(),
    );
    // What is in the store, but not in this repository, is unknown too: else a manifest
    // would lead to it.
    put("2", MANIFEST, &artifact(b"c", &[b"of a build"], "")).refused(
        400,
        "MANIFEST_BLOB_UNKNOWN",
        &hidden.to_string(),
    );
    let size = good.replace("\"size\":1", "\"size\":2");
    put("2", MANIFEST, &size).refused(400, "MANIFEST_BLOB_UNKNOWN", "of 2 bytes");
    put("2", MANIFEST, &good.replace("\"size\":1", "\"size\":-1")).refused(
        400,
        "MANIFEST_INVALID",
        "",
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{wrong}","size":1}}]}}"#,
        MANIFEST.1
    );
    put("2", INDEX, &index).refused(400, "MANIFEST_BLOB_UNKNOWN", &wrong);
    let large = format!("{good}{}", " ".repeat(5 << 20));
    put("2", MANIFEST, &large).refused(413, "MANIFEST_INVALID", "4194304");
    let deep = "[".repeat(1 << 20);
    put("2", MANIFEST, &deep).refused(400, "MANIFEST_INVALID", "");
    assert_eq!(serving.get("/v2/app/tags/list").json()["tags"], serde_json::json!(["1"]));

    // A blob of another repository is taken by a mount, and not with a guess.
    let layer = kiln.store().image_named(&name("other:1")).unwrap().images()[0].layers()[0].digest;
    let mount =
        |query: &str| serving.ask("POST", &format!("/v2/app/blobs/uploads/?{query}"), &[], b"");
    mount(&format!("mount={hidden}")).is(202);
    mount(&format!("mount={hidden}&from=other")).is(202);
    mount(&format!("mount={layer}&from=nothing")).is(202);
    let mounted = mount(&format!("mount={layer}&from=other")).is(201);
    assert_eq!(mounted.header("location"), Some(format!("/v2/app/blobs/{layer}").as_str()));
    serving.get(&format!("/v2/app/blobs/{layer}")).is(200);
    mount("mount=sha256:1&from=other").refused(400, "DIGEST_INVALID", "");

    // What goes.
    let delete = |path: &str| serving.ask("DELETE", &format!("/v2/app/{path}"), &[], b"");
    let (digest, blob) = (BlobDigest::of(good.as_bytes()), BlobDigest::of(b"l"));
    delete(&format!("blobs/{blob}")).refused(405, "UNSUPPORTED", "app:1 needs it");
    delete("manifests/1").is(202);
    delete("manifests/1").refused(404, "MANIFEST_UNKNOWN", "");
    serving.get(&format!("/v2/app/manifests/{digest}")).is(200);
    delete(&format!("manifests/{digest}")).is(202);
    delete(&format!("manifests/{digest}")).refused(404, "MANIFEST_UNKNOWN", "");
    delete(&format!("blobs/{blob}")).is(202);
    serving.get(&format!("/v2/app/blobs/{blob}")).refused(404, "BLOB_UNKNOWN", "");
    delete(&format!("blobs/{blob}")).refused(404, "BLOB_UNKNOWN", "");
}

/// Pieces in order, and what to do when one is lost.
#[test]
fn an_upload_goes_on_where_it_broke_off() {
    let kiln = Kiln::new();
    let serving = Serving::start(&kiln, &["--writable"]);
    let bytes = noise(2 << 20);
    let digest = BlobDigest::of(&bytes);
    let begun = serving.ask("POST", "/v2/app/blobs/uploads/", &[], b"").is(202);
    let at = begun.header("location").unwrap().to_owned();
    assert_eq!(begun.header("range"), Some("0-0"));
    let range = format!("0-{}", (1 << 20) - 1);
    serving.ask("PATCH", &at, &[("Content-Range", &range)], &bytes[..1 << 20]).is(202);

    // A connection that ends in the middle of a piece.
    let mut stream = connect(&serving.addr);
    stream.write_all(head_of("PATCH", &at, &[], 1 << 20).as_bytes()).unwrap();
    stream.write_all(&bytes[1 << 20..(1 << 20) + 300_000]).unwrap();
    drop(stream);
    let there = loop {
        let reply = serving.get(&at).is(204);
        let end: usize =
            reply.header("range").unwrap().strip_prefix("0-").unwrap().parse().unwrap();
        if end + 1 > 1 << 20 {
            break end + 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // It is not known how much arrived before the end did.
    let mut there = there;
    for (ahead, status) in [(1, 416), (0, 202)] {
        let start = there + ahead;
        let range = format!("{start}-{}", start + 99);
        let reply =
            serving.ask("PATCH", &at, &[("Content-Range", &range)], &bytes[start..start + 100]);
        if reply.status == 416 && status == 202 {
            panic!("{}", reply.text());
        }
        assert_eq!(reply.status, status);
        let end = reply.header("range").unwrap().strip_prefix("0-").unwrap();
        there = end.parse::<usize>().unwrap() + 1;
    }
    let bad = [("Content-Range", "0-5")];
    serving.ask("PATCH", &at, &bad, b"1234").refused(400, "SIZE_INVALID", "Content-Length is 4");
    let bad = [("Content-Range", "x")];
    serving.ask("PATCH", &at, &bad, b"1").refused(400, "BLOB_UPLOAD_INVALID", "Content-Range");
    // Of another repository it is not.
    let other = at.replace("/app/", "/other/");
    serving.get(&other).refused(404, "BLOB_UPLOAD_UNKNOWN", "");
    serving.ask("PUT", &at, &[], b"").refused(400, "DIGEST_INVALID", "`digest`");
    let close = format!("{at}?digest={digest}");
    let done = serving.ask("PUT", &close, &[], &bytes[there..]).is(201);
    assert_eq!(done.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert!(serving.get(done.header("location").unwrap()).is(200).body == bytes);
    serving.get(&at).refused(404, "BLOB_UPLOAD_UNKNOWN", "begin anew");

    // A wrong digest keeps nothing.
    let wrong = BlobDigest::of(b"wrong");
    let at = format!("/v2/app/blobs/uploads/?digest={wrong}");
    serving.ask("POST", &at, &[], b"right").refused(400, "DIGEST_INVALID", "what came is");
    serving.get(&format!("/v2/app/blobs/{wrong}")).is(404);
    let begun = serving.ask("POST", "/v2/app/blobs/uploads/", &[], b"").is(202);
    let at = begun.header("location").unwrap().to_owned();
    serving.ask("DELETE", &at, &[], b"").is(204);
    serving.ask("PATCH", &at, &[], b"x").refused(404, "BLOB_UPLOAD_UNKNOWN", "");
    let tmp = kiln.store_path().join("tmp");
    assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0, "what is left of uploads");
    serving.stop();
}

/// The same image at once, by several, and clean-ups beside it.
#[test]
fn several_push_at_once() {
    let (from, kiln) = (Kiln::new(), Kiln::new());
    let big = noise(1 << 20);
    let image = local(&from, "app:1", &[b"one", &big]);
    let serving = Serving::start(&kiln, &["--writable"]);
    let waiting = put_blob(&serving, "app", b"of a manifest that comes later");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (from, serving) = (&from, &serving);
            scope.spawn(move || {
                from.ok(&format!("push app:1 {}", serving.name(&format!("app:{number}"))));
            });
        }
        scope.spawn(|| (0..3).for_each(|_| drop(kiln.ok("prune --all --force"))));
    });
    for number in 0..4 {
        let there = kiln.store().image_named(&name(format!("app:{number}"))).unwrap();
        assert_eq!(there.digest(), image.digest());
        assert!(kiln.store().has_layers(there.images()[0].layers()));
    }
    serving.get(&format!("/v2/app/blobs/{waiting}")).is(200);
    serving.stop();
    kiln.ok("prune --all --force");
    assert!(!kiln.store().blob_path(&waiting).exists());
    kiln.ok("save -o x.tar app:0");
}

#[test]
fn a_killed_server_leaves_a_good_store() {
    let kiln = Kiln::new();
    let image = local(&kiln, "app:1", &[b"one"]);
    let serving = Serving::start(&kiln, &["--writable"]);
    let bytes = noise(1 << 20);
    let begun = serving.ask("POST", "/v2/app/blobs/uploads/", &[], b"").is(202);
    let at = begun.header("location").unwrap().to_owned();
    serving.ask("PATCH", &at, &[], &bytes[..500_000]).is(202);
    // A second one in the middle of its way.
    let at = format!("/v2/app/blobs/uploads/?digest={}", BlobDigest::of(&bytes));
    let mut stream = connect(&serving.addr);
    stream.write_all(head_of("POST", &at, &[], bytes.len()).as_bytes()).unwrap();
    stream.write_all(&bytes[..600_000]).unwrap();
    let tmp = kiln.store_path().join("tmp");
    let files = || std::fs::read_dir(&tmp).unwrap().count();
    while files() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    serving.kill();
    let rows = kiln.ok("images --json").json();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(files(), 0, "the next command clears up");
    let serving = Serving::start(&kiln, &["--writable"]);
    serving.get(&format!("/v2/app/manifests/{}", image.digest())).is(200);
    serving.get(&format!("/v2/app/blobs/{}", BlobDigest::of(&bytes))).is(404);
    put_blob(&serving, "app", &bytes);
    serving.stop();
}
