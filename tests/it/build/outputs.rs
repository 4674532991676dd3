//! `-o` in all its forms, with skopeo and umoci as readers.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::bench::{Bench, Caller, callers, dir, file};
use crate::support::kiln::tool;
use crate::support::registry::skopeo;

const TEXT: &str = "FROM scratch\nCOPY a /a\nCMD [\"/a\"]\n";

fn bench(caller: Caller) -> Bench {
    let bench = Bench::with_busybox(caller);
    bench.file("a", "A");
    bench
}

/// A call without a name for the image.
fn unnamed(bench: &Bench, text: &str, more: &str) -> crate::support::kiln::Output {
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let args = "build --progress=plain -f Dockerfile context";
    bench.run(&mut bench.call(args.split(' ').chain(more.split_whitespace())))
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A document of a layout, by its descriptor.
fn document(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    json(layout.join("blobs/sha256").join(&digest[7..]))
}

/// The platforms of a build for two.
const TWO: &str = "--platform linux/amd64,linux/arm64";

#[test]
fn build_output_archives() {
    for caller in callers() {
        let bench = bench(caller);
        let more = "-t team/app:2 -o type=oci,dest=new/oci.tar -o type=docker,dest=docker.tar";
        let digest = bench.build(TEXT, more).success().text();
        for (form, name) in [
            ("oci-archive:new/oci.tar", "docker.io/team/app:2"),
            ("docker-archive:docker.tar", "team/app:2"),
        ] {
            let (kind, path) = form.split_once(':').unwrap();
            let at = format!("{kind}:{}:{name}", bench.path(path).display());
            let seen: Value = serde_json::from_str(&skopeo(&["inspect", &at])).unwrap();
            let config = skopeo(&["inspect", "--config", &at]);
            assert!(config.contains("\"/a\""), "{config}");
            if kind == "oci-archive" {
                assert_eq!(seen["Digest"], digest.trim());
            }
        }
        bench.clean();
    }
}

#[test]
fn build_output_without_a_place() {
    let bench = bench(Caller::Own);
    // Stdout is the archive's alone; the digest is said elsewhere.
    let output = bench.build(TEXT, "-o type=oci --iidfile id").success();
    let digest = fs::read_to_string(bench.path("id")).unwrap();
    assert!(output.stderr.contains(&format!("built {digest}")), "{}", output.stderr);
    assert!(output.stdout.ends_with(&[0; 1024]), "the archive's end is stdout's");
    fs::write(bench.path("out.tar"), &output.stdout).unwrap();
    let at = format!("oci-archive:{}", bench.path("out.tar").display());
    let seen: Value = serde_json::from_str(&skopeo(&["inspect", &at])).unwrap();
    assert_eq!(seen["Digest"], digest.as_str());
    // A docker archive without a file is loaded: kept in the store.
    for more in ["-o type=docker", "--load", "--load -o type=image,store=false", "-o type=image"] {
        assert_eq!(bench.build(TEXT, &format!("-t loaded {more}")).success().text().trim(), digest);
        assert_eq!(
            bench.store().image_named(&"loaded".parse().unwrap()).unwrap().digest().to_string(),
            digest
        );
        assert!(bench.store().untag(&"loaded".parse().unwrap()).unwrap());
    }
    for more in ["-o type=cacheonly", "-o type=image,store=false"] {
        bench.build(TEXT, &format!("-t loaded {more}")).success();
        assert!(bench.store().find(&"loaded".parse().unwrap()).unwrap().is_none(), "{more}");
    }
    // An output's own names, where no tag gives one.
    unnamed(&bench, TEXT, "-o type=image,\"name=x/one,x/two:2\"").success();
    let names = bench.store().names().unwrap();
    let names: Vec<String> = names.iter().map(|(name, _)| name.familiar()).collect();
    assert!(
        names.contains(&"x/one:latest".into()) && names.contains(&"x/two:2".into()),
        "{names:?}"
    );
    let canonical =
        unnamed(&bench, TEXT, "-o type=image,name=x/three,name-canonical=true").success();
    let by_digest = format!("x/three@{}", canonical.text().trim());
    assert!(bench.store().find(&by_digest.parse().unwrap()).unwrap().is_some());
    bench.clean();
}

#[test]
fn build_output_layout() {
    for caller in callers() {
        let bench = bench(caller);
        let to = "-o type=oci,tar=false,dest=layout";
        let first = unnamed(&bench, TEXT, to).success().text();
        let layout = bench.path("layout");
        let at = format!("oci:{}:latest", layout.display());
        let seen: Value = serde_json::from_str(&skopeo(&["inspect", &at])).unwrap();
        assert_eq!(seen["Digest"], first.trim());
        assert_eq!(json(layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
        // What is there stays, even what kiln does not know.
        let mut index = json(layout.join("index.json"));
        index["extra"] = "kept".into();
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        bench.build(&format!("{TEXT}ENV A=1\n"), &format!("-t x/app:v1 {to}")).success();
        let third =
            bench.build(&format!("{TEXT}ENV A=2\n"), &format!("-t x/app:v1 {to}")).success();
        let index = json(layout.join("index.json"));
        assert_eq!(index["extra"], "kept");
        let names: Vec<(&Value, &Value)> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["annotations"])
            .map(|notes| {
                (&notes["org.opencontainers.image.ref.name"], &notes["io.containerd.image.name"])
            })
            .collect();
        assert_eq!(names.len(), 3, "latest, and the two names of the later builds: {index}");
        assert_eq!(names[0], (&"latest".into(), &Value::Null));
        assert!(names.contains(&(&"v1".into(), &"docker.io/x/app:v1".into())), "{names:?}");
        let at = format!("oci:{}:v1", layout.display());
        let seen: Value = serde_json::from_str(&skopeo(&["inspect", &at])).unwrap();
        assert_eq!(seen["Digest"], third.text().trim());
        let listed = tool("umoci", &["ls", "--layout", layout.to_str().unwrap()]);
        assert!(listed.contains("latest") && listed.contains("v1"), "{listed}");
        assert!(!layout.join("index.json.lock").exists());
        // It is a named context of the next build.
        let more = "--build-context other=oci-layout://layout:v1";
        bench.build("FROM busybox\nCOPY --from=other /a /b\n", more).success();
        assert_eq!(bench.layer(0), ["f 644 0:0 b 1"]);
        fs::write(layout.join("index.json"), "{").unwrap();
        bench.build(TEXT, to).failure(1).says("layout is no image layout").says("hint:");
        bench.clean();
    }
}

#[test]
fn build_output_media_types_and_compression() {
    let bench = bench(Caller::Own);
    let layout = bench.path("l");
    let manifest = |more: &str| {
        let _ = fs::remove_dir_all(&layout);
        let output = unnamed(&bench, TEXT, &format!("-o type=oci,tar=false,dest=l,{more}"));
        let digest = output.success().text();
        let entry = &json(layout.join("index.json"))["manifests"][0];
        assert_eq!(entry["digest"], digest.trim(), "the digest that is told is that of the output");
        let manifest = document(&layout, entry);
        assert_eq!(entry["mediaType"], manifest["mediaType"]);
        manifest
    };
    let docker = manifest("oci-mediatypes=false");
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(docker["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    let kind = |manifest: &Value| manifest["layers"][0]["mediaType"].as_str().unwrap().to_owned();
    assert_eq!(kind(&docker), "application/vnd.docker.image.rootfs.diff.tar.gzip");
    for (compression, ending, begins) in
        [("gzip", "tar+gzip", "\u{1f}"), ("zstd", "tar+zstd", "("), ("uncompressed", "tar", "a")]
    {
        let made = manifest(&format!("compression={compression},force-compression=true"));
        assert_eq!(kind(&made), format!("application/vnd.oci.image.layer.v1.{ending}"));
        let digest = made["layers"][0]["digest"].as_str().unwrap();
        let bytes = fs::read(layout.join("blobs/sha256").join(&digest[7..])).unwrap();
        assert_eq!(bytes[0], begins.as_bytes()[0], "{compression}");
    }
    // The base's layer is gzip, and stays so.
    let text = "FROM busybox\nCOPY a /a\n";
    let more = "-o type=oci,dest=x.tar,compression=zstd";
    bench.build(text, more).success();
    let layers: Vec<_> = bench.image().layers().iter().map(|layer| layer.compression).collect();
    use kiln::layer::Compression::{Gzip, Zstd};
    assert_eq!(layers, [Gzip, Zstd]);
    fs::remove_file(bench.path("x.tar")).unwrap();
    bench
        .build(text, &format!("{more},force-compression=true"))
        .failure(1)
        .says("force-compression=true cannot be had: layer sha256:")
        .says("of the base image is gzip");
    assert!(!bench.path("x.tar").exists());
    bench.clean();
}

#[test]
fn build_output_annotations() {
    let bench = bench(Caller::Own);
    let layout = bench.path("l");
    let flags = "--annotation all=1 --annotation index:i=2 --annotation index-descriptor:d=3 \
        --annotation manifest[linux/arm64]:arm=4 --annotation manifest-descriptor:e=5 \
        --annotation index,manifest:both=6 --metadata-file meta";
    let own =
        "-o type=oci,tar=false,dest=l,annotation.own=7,annotation-manifest[linux/amd64].all=8";
    bench.build(TEXT, &format!("{TWO} {flags} {own}")).success();
    let entry = &json(layout.join("index.json"))["manifests"][0];
    assert_eq!(entry["annotations"]["d"], "3");
    let index = document(&layout, entry);
    assert_eq!(index["annotations"], serde_json::json!({"i": "2", "both": "6"}));
    let entries = index["manifests"].as_array().unwrap();
    let of = |at: usize| document(&layout, &entries[at])["annotations"].clone();
    assert_eq!(of(0), serde_json::json!({"all": "8", "both": "6", "own": "7"}));
    assert_eq!(of(1), serde_json::json!({"all": "1", "both": "6", "own": "7", "arm": "4"}));
    assert!(entries.iter().all(|entry| entry["annotations"]["e"] == "5"));
    let meta = json(bench.path("meta"));
    assert_eq!(meta["containerimage.descriptor"]["annotations"]["d"], "3");
    assert_eq!(meta["containerimage.digest"], entry["digest"]);
    assert_eq!(meta.get("containerimage.config.digest"), None, "an index has none");
    // The stored image has those of the flag, and not the output's own.
    let stored = bench.store().image_named(&"out".parse().unwrap()).unwrap();
    let stored: Value = serde_json::from_slice(&stored.images()[0].manifest().bytes).unwrap();
    assert_eq!(stored["annotations"], serde_json::json!({"all": "1", "both": "6"}));

    bench
        .build(TEXT, "--annotation a=1 --annotation manifest-descriptor:m=2 --metadata-file meta")
        .success();
    let image = bench.image();
    let meta = json(bench.path("meta"));
    assert_eq!(meta["containerimage.descriptor"]["annotations"]["m"], "2");
    assert_eq!(meta["containerimage.config.digest"], image.config_raw().digest.to_string());
    assert_eq!(meta["image.name"], "docker.io/library/out:latest");
    for (more, says) in [
        ("--annotation index:a=b", "one platform has none"),
        ("--annotation index-descriptor:a=b", "one platform has none"),
        ("--annotation manifest[linux/s390x]:a=b", "linux/s390x, which is not built"),
        ("--annotation x:a=b", "`x` is no type"),
        ("--annotation a", "KEY=VALUE"),
        ("--annotation a=b -o type=image,oci-mediatypes=false", "docker's media types"),
        ("-o type=oci,dest=x,annotation-index.a=b", "one platform has none"),
    ] {
        bench.build(TEXT, more).failure(2).says(says);
    }
    assert!(!bench.path("x").exists());
    bench.clean();
}

#[test]
fn build_output_of_several_platforms() {
    for caller in callers() {
        let bench = bench(caller);
        let digest = bench.build(TEXT, &format!("{TWO} -o type=oci,dest=x.tar")).success().text();
        let at = format!("oci-archive:{}", bench.path("x.tar").display());
        let raw: Value = serde_json::from_str(&skopeo(&["inspect", "--raw", &at])).unwrap();
        let listed: Vec<&Value> = raw["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["platform"]["architecture"])
            .collect();
        assert_eq!(listed, ["amd64", "arm64"]);
        let to = format!("dir:{}", bench.path("dir").display());
        skopeo(&["copy", "--all", &at, &to]);
        let manifest = fs::read(bench.path("dir/manifest.json")).unwrap();
        assert_eq!(kiln::digest::Digest::of(&manifest).to_string(), digest.trim());
        let arm = skopeo(&["--override-arch", "arm64", "inspect", "--config", &at]);
        assert!(arm.contains("arm64"), "{arm}");
        // A docker archive has room for one; where it is only kept there is no archive.
        bench
            .build(TEXT, &format!("{TWO} -o type=docker,dest=y.tar"))
            .failure(2)
            .says("room for one platform")
            .says("type=oci");
        bench.build(TEXT, &format!("{TWO} -o type=docker")).success();
        bench.build(TEXT, "--platform linux/arm64 -o type=docker,dest=y.tar").success();
        let at = format!("docker-archive:{}", bench.path("y.tar").display());
        assert!(skopeo(&["inspect", "--config", &at]).contains("arm64"));
        bench.clean();
    }
}

#[test]
fn build_output_files_of_platforms() {
    let bench = bench(Caller::Own);
    let text = "FROM scratch\nARG TARGETARCH\nCOPY a /only-$TARGETARCH\n";
    let list = |folder: &str| {
        let walk = walkdir::WalkDir::new(bench.path(folder)).min_depth(1).sort_by_file_name();
        let names = walk.into_iter().map(|entry| {
            let entry = entry.unwrap();
            entry.path().strip_prefix(bench.path(folder)).unwrap().to_str().unwrap().to_owned()
        });
        names.collect::<Vec<_>>().join(" ")
    };
    let split = "linux_amd64 linux_amd64/only-amd64 linux_arm64 linux_arm64/only-arm64";
    bench.build(text, &format!("{TWO} -o one")).success();
    assert_eq!(list("one"), split);
    bench.build(text, &format!("{TWO} -o type=local,dest=two,platform-split=false")).success();
    assert_eq!(list("two"), "only-amd64 only-arm64");
    let more = "--platform linux/arm64 -o type=local,dest=three,platform-split=true";
    bench.build(text, more).success();
    assert_eq!(list("three"), "linux_arm64 linux_arm64/only-arm64");
    bench.build(text, &format!("{TWO} -o type=tar,dest=x.tar")).success();
    let path = bench.path("x.tar");
    let names = tool("tar", &["-tf", path.to_str().unwrap()]);
    assert_eq!(names.lines().count(), 4, "{names}");
    assert!(names.contains("linux_arm64/only-arm64"), "{names}");
    // A file of both has no one place.
    bench
        .build(TEXT, &format!("{TWO} -o type=tar,dest=y.tar,platform-split=false"))
        .failure(1)
        .says("`a` is in the image for linux/amd64 and in that for linux/arm64")
        .says("platform-split");
    assert!(!bench.path("y.tar").exists());
    bench.clean();
}

#[test]
fn build_output_several_at_once() {
    let bench = bench(Caller::Own);
    let more = "-o type=oci,dest=a.tar -o type=tar,dest=b.tar -o type=local,dest=c -o type=docker,dest=d.tar \
        -o type=oci,tar=false,dest=e -o type=image";
    bench.build(TEXT, more).success();
    for made in ["a.tar", "b.tar", "c/a", "d.tar", "e/index.json"] {
        assert!(bench.path(made).exists(), "{made}");
    }
    assert_eq!(bench.image().layers().len(), 1);
    for (more, says) in [
        ("-o type=oci -o -", "two outputs go to stdout"),
        ("-o type=oci,dest=x -o type=tar,dest=x", "two outputs go to x"),
        ("-o type=oci,dest=x,compression=zstd -o type=image,compression=gzip", "compression"),
        ("-o type=oci,dest=x,frob=1", "no attribute `frob`"),
    ] {
        bench.build(TEXT, more).failure(2).says(says);
        assert!(!bench.path("x").exists());
    }
    bench.clean();
}

/// What fails or is stopped leaves no part of a file.
#[test]
fn build_output_whole_or_not_at_all() {
    let bench = Bench::new(Caller::Own);
    bench.base("busybox", &[vec![dir("d", 0o755), file("d/f", 0o644, vec![7; 1 << 20])]]);
    let layer = {
        bench.build("FROM busybox\n", "").success();
        bench.image().layers()[0].clone()
    };
    fs::write(bench.path("x.tar"), "before").unwrap();
    let path = bench.store().blob_path(&layer.digest);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    for more in ["type=oci,dest=x.tar", "type=docker,dest=x.tar"] {
        bench.build("FROM busybox\n", &format!("-o {more}")).failure(1).says("sha256:");
        assert_eq!(fs::read_to_string(bench.path("x.tar")).unwrap(), "before");
    }
    bench.build("FROM busybox\n", "-o type=oci,tar=false,dest=l").failure(1);
    assert!(!bench.path("l/index.json").exists(), "no index names what is not there");
    let blobs: Vec<_> = fs::read_dir(bench.path("l/blobs/sha256")).unwrap().flatten().collect();
    for blob in blobs {
        let digest = kiln::digest::Digest::of(&fs::read(blob.path()).unwrap());
        assert_eq!(format!("sha256:{}", blob.file_name().to_str().unwrap()), digest.to_string());
    }
    bench.clean();
}

/// `script` gives its child a terminal.
#[test]
fn build_output_is_not_written_to_a_terminal() {
    let bench = bench(Caller::Own);
    fs::write(bench.path("Dockerfile"), TEXT).unwrap();
    for output in ["-", "type=oci", "type=docker,dest=-"] {
        let call = bench.call([]);
        let command =
            format!("{} build -f Dockerfile -o {output} context", call.get_program().display());
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).current_dir(bench.path(""));
        script.env("KILN_STORE", bench.store_path()).env("TERM", "xterm");
        let said = String::from_utf8_lossy(&script.output().unwrap().stdout).into_owned();
        assert!(said.contains("not written to a terminal"), "{output}: {said}");
    }
}
