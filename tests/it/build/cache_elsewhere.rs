//! Caches that are given on and taken: by registries, folders and images, with skopeo as
//! reader. What a `RUN` here makes it makes once: a second run would give another image.

use std::fs;
use std::path::{Path, PathBuf};

use kiln::image::Manifest;
use serde_json::{Value, json};

use super::bench::{Bench, Caller, callers};
use super::cache::made;
use crate::support::kiln::{Output, tool};
use crate::support::registry::{TestRegistry, skopeo, skopeo_copy};

const UUID: &str = "cat /proc/sys/kernel/random/uuid";

/// A stage whose layers are in no result, and a result.
fn two_stages() -> String {
    format!(
        "FROM busybox AS tools\nCOPY a /a\nRUN {UUID} >/tool\n\
         FROM busybox\nRUN {UUID} >/id\nCOPY --from=tools /tool /copy\nRUN cat /copy /id >/all\n"
    )
}

/// One that gives the same whenever it is made.
const SAME: &str = "FROM busybox\nRUN echo 1 >/one\nCOPY a /a\nRUN cat /a >/two\n";

fn bench(caller: Caller) -> Bench {
    let bench = Bench::with_busybox(caller);
    bench.file("a", "A");
    bench
}

/// As [`Bench::build`], under the names that `more` gives, if it does.
#[track_caller]
fn built(bench: &Bench, text: &str, more: &str) -> (Vec<bool>, String, Output) {
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let name = if more.contains("-t ") { "" } else { "-t out " };
    let args = format!("build --progress=plain -f Dockerfile {name}context {more}");
    let output = bench.run(&mut bench.call(args.split_whitespace())).success();
    (made(&output), output.text(), output)
}

fn raw(name: &str) -> Value {
    let seen = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&seen).unwrap()
}

/// The blobs of a folder's entry: the manifest, and what it names.
fn latest(folder: &Path) -> (Value, Value) {
    let json =
        |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = json(folder.join("index.json"));
    assert_eq!(
        index["manifests"][0]["annotations"],
        json!({"org.opencontainers.image.ref.name": "latest"})
    );
    let manifest = json(blob(folder, &index["manifests"][0]["digest"]));
    let config = json(blob(folder, &manifest["config"]["digest"]));
    (manifest, config)
}

fn blob(folder: &Path, digest: &Value) -> PathBuf {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    folder.join("blobs/sha256").join(hex)
}

/// Writes a layout's config and manifest anew, as somebody else might.
fn rewrite(folder: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    let (mut manifest, mut config) = latest(folder);
    change(&mut manifest, &mut config);
    let put = |value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = kiln::digest::BlobDigest::of(&bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
        (json!(digest), json!(bytes.len()))
    };
    let (digest, size) = put(&config);
    manifest["config"]["digest"] = digest;
    manifest["config"]["size"] = size;
    let (digest, size) = put(&manifest);
    let mut index: Value =
        serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    index["manifests"][0]["digest"] = digest;
    index["manifests"][0]["size"] = size;
    fs::write(folder.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

#[test]
fn build_takes_a_cache_from_a_registry() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    for caller in callers() {
        let one = bench(caller);
        let to = format!("--cache-to type=registry,ref={at}/cache:1,mode=max");
        let (steps, image, _) = built(&one, &two_stages(), &to);
        assert_eq!(steps, [true; 5]);
        let all = one.content("all");

        let two = bench(caller);
        let (steps, again, _) = built(&two, &two_stages(), &format!("--cache-from {at}/cache:1"));
        assert_eq!((steps, again), (vec![false; 5], image.clone()), "{caller:?}");
        assert_eq!(two.content("all"), all);
        // The tools were read by nobody: they are still where they were.
        let index = raw(&format!("{at}/cache:1"));
        let listed = index["layers"].as_array().unwrap();
        let here = |layer: &&Value| {
            let digest = layer["digest"].as_str().unwrap().parse().unwrap();
            two.store().has_blob(&digest, layer["size"].as_u64().unwrap())
        };
        assert_eq!((listed.len(), listed.iter().filter(here).count()), (5, 3));
        // What was brought is the store's own from now on.
        let own = two_stages().split_once("FROM busybox\n").unwrap().1.to_owned();
        let own = format!("FROM busybox\n{}", own.lines().next().unwrap());
        assert_eq!(built(&two, &own, "").0, [false]);
        two.clean();
    }
}

#[test]
fn build_gives_on_what_it_did_not_read() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    let one = bench(Caller::Own);
    let to = |name: &str| format!("--cache-to type=registry,ref={at}/{name},mode=max");
    let (_, image, _) = built(&one, &two_stages(), &to("one"));
    let two = bench(Caller::Own);
    let more = format!("--cache-from {at}/none,{at}/one {}", to("two"));
    let (_, again, output) = built(&two, &two_stages(), &more);
    assert_eq!(again, image);
    // One of several sources that is not there is said.
    assert!(output.stderr.contains(&format!("cache from {at}/none:latest: ")), "{}", output.stderr);
    // The same build has the same cache, wherever it was made.
    assert_eq!(raw(&format!("{at}/one")), raw(&format!("{at}/two")));
    let three = bench(Caller::Own);
    let (steps, again, _) =
        built(&three, &two_stages(), &format!("--cache-from type=registry,ref={at}/two"));
    assert_eq!((steps, again), (vec![false; 5], image));
    three.clean();
}

#[test]
fn build_cache_in_a_folder() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    for caller in callers() {
        let one = bench(caller);
        let (_, image, _) = built(&one, &two_stages(), "--cache-to type=local,dest=c,mode=max");
        let (manifest, config) = latest(&one.path("c"));
        assert_eq!(manifest["artifactType"], "application/vnd.kiln.cache.v1");
        let config_type = "application/vnd.kiln.cache.config.v1+json";
        assert_eq!(manifest["config"]["mediaType"], config_type);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 5);
        let keys: Vec<&str> = config["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["key"].as_str().unwrap())
            .collect();
        assert!(keys.len() == 5 && keys.is_sorted(), "{keys:?}");
        let layout = one.path("c").display().to_string();
        assert_eq!(tool("umoci", &["ls", "--layout", &layout]).trim(), "latest");
        // Every blob of the folder is reached from its entry, or it would go.
        let blobs = || fs::read_dir(one.path("c/blobs/sha256")).unwrap().count();
        let before = blobs();
        tool("umoci", &["gc", "--layout", &layout]);
        assert_eq!((before, blobs()), (7, 7));
        // Other tools carry it from a folder to a registry and back, whole.
        let docker = format!("docker://{at}/folder:1");
        skopeo_copy(&[], &format!("oci:{}:latest", one.path("c").display()), &docker);
        for from in [&format!("{at}/folder:1"), "type=local,src=back,tag=other"] {
            let two = bench(caller);
            skopeo_copy(&[], &docker, &format!("oci:{}:other", two.path("back").display()));
            let (steps, again, _) = built(&two, &two_stages(), &format!("--cache-from {from}"));
            assert_eq!((steps, &again), (vec![false; 5], &image), "{from}");
            two.clean();
        }
        // By its digest, whatever the index says.
        let index: Value =
            serde_json::from_slice(&fs::read(one.path("c/index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let three = bench(caller);
        fs::rename(one.path("c"), three.path("c")).unwrap();
        fs::write(three.path("c/index.json"), "{}").unwrap();
        let from = format!("--cache-from type=local,src=c,digest={digest}");
        assert_eq!(built(&three, &two_stages(), &from).0, [false; 5]);
    }
}

#[test]
fn build_cache_within_an_image() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    for caller in callers() {
        let one = bench(caller);
        let text = format!("FROM busybox\nRUN {UUID} >/id\nCOPY a /a\nRUN {UUID} >>/id\n");
        let push = format!("-t {at}/app:1 --push --cache-to type=inline");
        let (_, pushed, _) = built(&one, &text, &push);
        let two = bench(caller);
        let more = format!("{push} --cache-from {at}/app:1");
        let (steps, again, _) = built(&two, &text, &more);
        assert_eq!((steps, again), (vec![false; 3], pushed), "{caller:?}");
        // As docker's builder is told of it.
        let three = bench(caller);
        let more = format!("--cache-from {at}/app:1 --build-arg BUILDKIT_INLINE_CACHE=1");
        let (steps, with, _) = built(&three, &text, &more);
        assert_eq!(steps, [false; 3]);
        let field = |bench: &Bench| bench.image().config().other.get("kiln.cache.v1").cloned();
        let records = field(&three).unwrap();
        assert_eq!(records.as_array().unwrap().len(), 3);
        // Nothing of it is in an image that nobody asked it of, not even of its base.
        let (_, without, _) = built(&three, &text, "");
        assert_eq!(field(&three), None);
        assert_ne!(with, without);
        built(&three, &format!("FROM {at}/app:1\nCOPY a /b\n"), "");
        assert_eq!(field(&three), None);
        three.clean();
    }
}

#[test]
fn build_cache_of_several_platforms() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    let text = "FROM scratch\nARG TARGETARCH\nCOPY a /$TARGETARCH\n";
    let two = "--platform linux/amd64,linux/arm64";
    let one = bench(Caller::Own);
    let more = format!("{two} -t {at}/app --push --cache-to type=inline --cache-to {at}/cache");
    let (steps, pushed, _) = built(&one, text, &more);
    assert_eq!(steps, [true; 2]);
    for from in ["app", "cache"] {
        let other = bench(Caller::Own);
        let more = format!("{more} --cache-from {at}/{from}");
        let (steps, again, _) = built(&other, text, &more);
        assert_eq!((steps, &again), (vec![false; 2], &pushed), "{from}");
    }
}

/// min has what the result is made of; what it takes from other stages is made again.
#[test]
fn build_cache_min_and_max() {
    let text = "FROM busybox AS tools\nRUN echo tool >/tool\nRUN echo 2 >/2\n\
                FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\nCOPY --from=tools /tool /copy\n";
    let one = bench(Caller::Own);
    let (_, image, _) =
        built(&one, text, "--cache-to type=local,dest=min --cache-to type=local,dest=max,mode=max");
    for (mode, layers, steps) in [("min", 2, [true, true, false, false]), ("max", 4, [false; 4])] {
        let (manifest, _) = latest(&one.path(mode));
        assert_eq!(manifest["layers"].as_array().unwrap().len(), layers, "{mode}");
        let two = bench(Caller::Own);
        fs::rename(one.path(mode), two.path(mode)).unwrap();
        let (found, again, _) = built(&two, text, &format!("--cache-from type=local,src={mode}"));
        let mut found = found;
        found.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!((found, &again), (steps.to_vec(), &image), "{mode}");
        two.clean();
    }
}

/// Whatever a cache holds: the image is the one that is built without it, and what was
/// wrong is said.
#[test]
fn build_refuses_what_a_cache_claims() {
    let plain = bench(Caller::Own);
    let (_, image, _) = built(&plain, SAME, "");
    let base = plain.image().layers()[0].clone();
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    type Damage<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: Vec<(&str, &str, Damage<'_>)> = vec![
        (
            "a layer's bytes",
            "does not match",
            Box::new(|folder| {
                flip(&blob(folder, &latest(folder).0["layers"][1]["digest"]));
            }),
        ),
        (
            "a layer that is gone",
            "No such file",
            Box::new(|folder| {
                fs::remove_file(blob(folder, &latest(folder).0["layers"][0]["digest"])).unwrap();
            }),
        ),
        (
            "a layer that is a link",
            "cannot open",
            Box::new(|folder| {
                let path = blob(folder, &latest(folder).0["layers"][0]["digest"]);
                let moved = folder.join("moved");
                fs::rename(&path, &moved).unwrap();
                std::os::unix::fs::symlink(moved, path).unwrap();
            }),
        ),
        (
            "a layer that is a fifo",
            "no regular file",
            Box::new(|folder| {
                let path = blob(folder, &latest(folder).0["layers"][0]["digest"]);
                fs::remove_file(&path).unwrap();
                tool("mkfifo", &[path.to_str().unwrap()]);
            }),
        ),
        (
            "another layer's diff ID",
            "uncompressed bytes are",
            Box::new(|folder| {
                rewrite(folder, |_, config| {
                    let other = config["records"][1]["diffId"].clone();
                    config["records"][0]["diffId"] = other;
                });
            }),
        ),
        (
            "the base's diff ID",
            "uncompressed bytes are",
            Box::new(|folder| {
                rewrite(folder, |_, config| config["records"][2]["diffId"] = json!(base.diff_id));
            }),
        ),
        (
            "an unlisted layer",
            "is not listed",
            Box::new(|folder| {
                rewrite(folder, |_, config| config["records"][0]["digest"] = json!(base.digest));
            }),
        ),
        (
            "another size",
            "size is not the listed one",
            Box::new(|folder| {
                rewrite(folder, |_, config| config["records"][0]["size"] = json!(1));
            }),
        ),
        (
            "another size, and listed",
            "does not match",
            Box::new(|folder| {
                rewrite(folder, |manifest, config| {
                    for record in config["records"].as_array_mut().unwrap() {
                        record["size"] = json!(10);
                    }
                    for layer in manifest["layers"].as_array_mut().unwrap() {
                        layer["size"] = json!(10);
                    }
                });
            }),
        ),
        (
            "a layer of another compression",
            "layer sha256:",
            Box::new(|folder| {
                rewrite(folder, |manifest, _| {
                    for layer in manifest["layers"].as_array_mut().unwrap() {
                        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
                    }
                });
            }),
        ),
        (
            "a config's bytes",
            "what is stored as",
            Box::new(|folder| {
                flip(&blob(folder, &latest(folder).0["config"]["digest"]));
            }),
        ),
        (
            "no config",
            "malformed",
            Box::new(|folder| {
                rewrite(folder, |_, config| *config = json!([]));
            }),
        ),
        (
            "no index",
            "has no index.json",
            Box::new(|folder| {
                fs::remove_file(folder.join("index.json")).unwrap();
            }),
        ),
        (
            "no entry",
            "has no entry named `latest`",
            Box::new(|folder| {
                fs::write(folder.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#)
                    .unwrap();
            }),
        ),
        (
            "no folder",
            "has no index.json",
            Box::new(|folder| {
                fs::remove_dir_all(folder).unwrap();
            }),
        ),
    ];
    let made_one = bench(Caller::Own);
    let (_, same, _) = built(&made_one, SAME, "--cache-to type=local,dest=good");
    assert_eq!(same, image);
    for (what, says, damage) in cases {
        let two = bench(Caller::Own);
        let folder = two.path("c");
        let good = made_one.path("good");
        tool("cp", &["-r", good.to_str().unwrap(), folder.to_str().unwrap()]);
        damage(&folder);
        let (_, found, output) = built(&two, SAME, "--cache-from type=local,src=c");
        assert_eq!(found, image, "{what}");
        assert!(output.stderr.contains(says), "{what}: {}", output.stderr);
        assert!(output.stderr.contains("cache from c: "), "{what}: {}", output.stderr);
        // What is in the store is right, also for whoever comes next.
        let (steps, again, _) = built(&two, SAME, "");
        assert_eq!((steps, again), (vec![false; 3], found), "{what}");
        assert_eq!(two.content("two"), "A", "{what}");
        two.clean();
    }
}

#[test]
fn build_refuses_what_a_registry_has_changed() {
    let registry = TestRegistry::start(None);
    let at = &registry.addr;
    let one = bench(Caller::Own);
    let (_, image, _) = built(&one, SAME, &format!("--cache-to {at}/cache"));
    let digest =
        raw(&format!("{at}/cache"))["layers"][0]["digest"].as_str().unwrap()[7..].to_owned();
    let path = registry
        .data()
        .join("docker/registry/v2/blobs/sha256")
        .join(&digest[..2])
        .join(&digest)
        .join("data");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let two = bench(Caller::Own);
    let (_, again, output) = built(&two, SAME, &format!("--cache-from {at}/cache"));
    assert_eq!(again, image);
    assert!(output.stderr.contains("does not match"), "{}", output.stderr);
    assert!(made(&output).contains(&true), "{}", output.stderr);
    // An image without records of its own, and something that is no cache at all.
    let push = built(&two, SAME, &format!("-t {at}/app --push")).1;
    assert!(push.contains("/app@"));
    let three = bench(Caller::Own);
    let (steps, _, output) = built(&three, SAME, &format!("--cache-from {at}/app"));
    assert_eq!(steps, [true; 3]);
    assert!(output.stderr.contains("neither a cache of kiln's"), "{}", output.stderr);
}

/// The store's own record holds over one from elsewhere, and `--no-cache` over both.
#[test]
fn build_asks_its_own_store_first() {
    let text = format!("FROM busybox\nRUN {UUID} >/id\n");
    let (one, two) = (bench(Caller::Own), bench(Caller::Own));
    let theirs = built(&one, &text, "--cache-to type=local,dest=c").1;
    let own = built(&two, &text, "").1;
    assert_ne!(theirs, own);
    fs::rename(one.path("c"), two.path("c")).unwrap();
    let from = "--cache-from type=local,src=c";
    assert_eq!(built(&two, &text, from).1, own);
    let anew = built(&two, &text, &format!("{from} --no-cache"));
    assert_eq!(anew.0, [true]);
    assert!(![theirs, own].contains(&anew.1));
}

/// In another form than is wanted a layer is written anew, as one of the own store.
#[test]
fn build_cache_has_the_form_of_the_layers() {
    let one = bench(Caller::Own);
    let to = "--cache-to type=local,dest=c,compression=zstd,compression-level=5";
    let (_, zstd, _) = built(&one, SAME, to);
    let (manifest, config) = latest(&one.path("c"));
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    }
    assert!(config["records"][0]["form"].as_str().unwrap().starts_with("zstd-5 "));
    let two = bench(Caller::Own);
    fs::rename(one.path("c"), two.path("c")).unwrap();
    let (steps, gzip, _) = built(&two, SAME, "--cache-from type=local,src=c");
    assert_eq!((steps, gzip), (vec![false; 3], built(&bench(Caller::Own), SAME, "").1));
    assert_eq!(built(&two, SAME, "--compression zstd --compression-level 5").1, zstd);
    let image = two.image();
    let listed = Manifest::read(&image.manifest().bytes).unwrap();
    assert!(listed.layers[1].media_type.as_str().ends_with("+zstd"));
    two.build(
        SAME,
        "--cache-to type=local,dest=d,compression=zstd -o type=oci,dest=x,compression=gzip",
    )
    .failure(2)
    .says("outputs and caches ask for different values of compression");
}

#[test]
fn build_cache_that_cannot_be_written() {
    let bench = bench(Caller::Own);
    let to = "--cache-to type=registry,ref=127.0.0.1:1/x";
    bench.build(SAME, to).failure(1).says("cannot export cache to 127.0.0.1:1/x:latest");
    let ignored = bench.build(SAME, &format!("{to},ignore-error=true")).success();
    assert!(ignored.stderr.contains("the cache could not be exported"), "{}", ignored.stderr);
    assert!(!ignored.text().is_empty());
    bench.file("file", "");
    bench
        .build(SAME, "--cache-to type=local,dest=context/file")
        .failure(1)
        .says("cannot export cache");
    for (flags, says) in [
        ("--cache-to type=gha", "type `gha` is not known; registry, local and inline are"),
        ("--cache-from type=s3,bucket=b", "type `s3` is not known; registry and local are"),
        ("--cache-to type=local", "type=local needs dest=FOLDER"),
        ("--cache-to type=inline,mode=max", "type=registry and type=local hold all"),
    ] {
        bench.build(SAME, flags).failure(2).says(says);
    }
    // Nothing to give on, and nothing asked for.
    let none =
        bench.build("FROM busybox\n", "--cache-to type=local,dest=c --cache-from=").success();
    assert!(none.stderr.contains("no step has made a layer"), "{}", none.stderr);
    assert!(!bench.path("c").exists());
    bench.clean();
}

/// What `RUN --mount=type=cache` has kept goes from machine to machine.
#[test]
fn build_cache_with_mounts() {
    const MOUNT: &str = "--mount=type=cache,target=/c,id=k,mode=0750,uid=33,gid=34";
    let fill = format!(
        "FROM busybox\nRUN {MOUNT} set -e; echo first >/c/log; mkdir /c/d; ln -s d /c/l; \
         touch /c/d/f; chown 7:8 /c/d/f; chmod 4750 /c/d/f; touch -d @1234567890 /c/d/f /c/d\n"
    );
    let look = format!(
        "FROM busybox\nRUN {MOUNT} stat -c '%n %u:%g %a' /c /c/l/f >/o; cat /c/log >>/o; \
         stat -c %Y /c/d/f /c/d >>/o; test -L /c/l && echo link >>/o\n"
    );
    let seen = "/c 33:34 750\n/c/l/f 7:8 4750\nfirst\n1234567890\n1234567890\nlink\n";
    for caller in callers() {
        let one = bench(caller);
        let to = |folder: &str| format!("--cache-to type=local,dest={folder},mounts=true");
        built(&one, &fill, &format!("{} --cache-to type=local,dest=plain", to("c")));
        let (manifest, config) = latest(&one.path("c"));
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&config["mounts"][0]["id"], &config["mounts"][0]["uid"]),
            (&json!("k"), &json!(33))
        );
        // Not unless it is asked for.
        assert_eq!(latest(&one.path("plain")).1.get("mounts"), None);
        // It is left as it was, and packed again it is the same.
        built(&one, &fill, &to("again"));
        assert_eq!(latest(&one.path("again")), (manifest.clone(), config.clone()));
        built(&one, &look, "");
        assert_eq!(one.content("o"), seen, "{caller:?}");

        let carry = |to: &Bench| {
            let (from, to) = (one.path("c"), to.path("c"));
            tool("cp", &["-r", from.to_str().unwrap(), to.to_str().unwrap()]);
        };
        let from = "--cache-from type=local,src=c";
        let two = bench(caller);
        carry(&two);
        // Nobody looked into it: it is passed on, and no cache is here.
        built(&two, &fill, &format!("{from} {}", to("on")));
        assert_eq!(latest(&two.path("on")), (manifest.clone(), config));
        assert!(!two.path("store/caches").read_dir().is_ok_and(|kinds| {
            kinds.flatten().any(|kind| kind.path().read_dir().unwrap().next().is_some())
        }));
        assert_eq!(built(&two, &look, from).0, [true]);
        assert_eq!(two.content("o"), seen, "{caller:?}");
        two.clean();

        // What has no place in a layer is said, and fails no build.
        let odd =
            fill.replace("mkdir /c/d;", "mkdir /c/d; touch /c/.wh.x;").replace("id=k", "id=o");
        let (_, _, output) = built(&two, &odd, &to("odd"));
        assert!(output.stderr.contains("the cache `o` is not given on: "), "{}", output.stderr);
        assert_eq!(latest(&two.path("odd")).1.get("mounts"), None);

        // A cache that is here stays what it is.
        let three = bench(caller);
        built(&three, &fill.replace("first", "own"), "");
        carry(&three);
        built(&three, &look, from);
        assert_eq!(three.content("o"), seen.replace("first", "own"), "{caller:?}");

        // One that is not what its record says is said, and begins empty.
        let four = bench(caller);
        carry(&four);
        let path = blob(&four.path("c"), &latest(&four.path("c")).1["mounts"][0]["digest"]);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(path, bytes).unwrap();
        let empty = look.replace("stat -c '%n %u:%g %a' /c /c/l/f >/o;", "ls -a /c >/o; exit 0;");
        let (_, _, output) = built(&four, &empty, from);
        assert_eq!(four.content("o"), ".\n..\n", "{caller:?}");
        assert!(output.stderr.contains("cache from c: digest does not match"), "{}", output.stderr);
        four.clean();
    }
}
