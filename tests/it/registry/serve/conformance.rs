//! The distribution spec's own tests of registries.

use super::*;
use crate::support::skip;

/// Runs them; gives what they said. `digests` are all that kiln knows: sha256.
fn run(program: &Path, kiln: &Kiln, serving: &Serving, settings: &[(&str, &str)]) -> String {
    let mut call = kiln.program(program);
    call.command
        .env("OCI_REGISTRY", &serving.addr)
        .env("OCI_TLS", "disabled")
        .env("OCI_RESULTS_DIR", kiln.path("results"))
        .env("OCI_DATA_SHA512", "false")
        .envs(settings.iter().copied());
    let output = call.run();
    let text = output.text();
    // Its exit code says less: where nothing may be pushed it trips over its own report in
    // YAML, once all is said.
    assert!(text.contains("OCI Conformance Result: Pass"), "{text}\n{}", output.stderr);
    text
}

/// The number behind a word of the summary.
fn count(text: &str, word: &str) -> u32 {
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{word}..")));
    line.unwrap_or_else(|| panic!("no `{word}` in {text}"))
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn the_distribution_specs_own_tests_pass() {
    let Some(program) = kiln::env::path("KILN_TEST_CONFORMANCE") else {
        return skip("KILN_TEST_CONFORMANCE is not set; tests/run builds it and sets it");
    };
    let kiln = Kiln::new();
    let serving = Serving::start(&kiln, &["--writable"]);
    // Pull, push, what is listed, and what is deleted.
    let settings = [
        ("OCI_API_BLOBS_UPLOAD_CANCEL", "true"),
        ("OCI_API_BLOBS_DIGEST_HEADER", "true"),
        ("OCI_API_MANIFESTS_DIGEST_HEADER", "true"),
    ];
    let text = run(&program, &kiln, &serving, &settings);
    for word in ["Skip", "FAIL", "Error"] {
        assert_eq!(count(&text, word), 0, "{text}");
    }
    assert!(count(&text, "Pass") > 500, "{text}");
    for api in ["Blob upload cancel", "Tag delete", "Blob push", "Referrers", "Tag listing"] {
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{api}..")));
        assert!(line.unwrap().ends_with("Pass"), "{text}");
    }

    // What was pushed, from a server that only reads.
    let (config, layer) = (b"{}", b"layer");
    put_blob(&serving, "conformance/repo1", config);
    put_blob(&serving, "conformance/repo1", layer);
    let manifest = artifact(config, &[layer], "");
    let digest = BlobDigest::of(manifest.as_bytes());
    let about = format!(
        r#","subject":{{"mediaType":"{}","digest":"{digest}","size":{}}}"#,
        MANIFEST.1,
        manifest.len()
    );
    for (tag, text) in [("1", &manifest), ("about", &artifact(config, &[layer], &about))] {
        let at = format!("/v2/conformance/repo1/manifests/{tag}");
        serving.ask("PUT", &at, &[MANIFEST], text.as_bytes()).is(201);
    }
    serving.stop();
    let serving = Serving::start(&kiln, &[]);
    let (digest, blob) = (digest.to_string(), BlobDigest::of(layer).to_string());
    let settings = [
        ("OCI_API_PUSH", "false"),
        ("OCI_API_BLOBS_DELETE", "false"),
        ("OCI_API_BLOBS_ATOMIC", "false"),
        ("OCI_API_MANIFESTS_DELETE", "false"),
        ("OCI_API_MANIFESTS_ATOMIC", "false"),
        ("OCI_API_TAGS_DELETE", "false"),
        ("OCI_API_TAGS_ATOMIC", "false"),
        ("OCI_RO_DATA_TAGS", "1 about"),
        ("OCI_RO_DATA_MANIFESTS", &digest),
        ("OCI_RO_DATA_BLOBS", &blob),
        ("OCI_RO_DATA_REFERRERS", &digest),
    ];
    let text = run(&program, &kiln, &serving, &settings);
    for word in ["FAIL", "Error"] {
        assert_eq!(count(&text, word), 0, "{text}");
    }
    assert!(count(&text, "Pass") > 10, "{text}");
}
