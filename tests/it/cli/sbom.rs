//! `sbom`: what is listed is what the package managers' own programs list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Read, Write as _};
use std::path::Path;

use kiln::digest::{BlobDigest, DiffId};
use kiln::image::{AnyImage, Image, ImageConfig, assemble};
use kiln::layer::{Compression, Layer};
use kiln::sbom::{self, Kind, OpenError, Options, Sbom};

use super::layer_tar;
use crate::support::kiln::{Kiln, tool};
use crate::support::skip;

/// Files in place of layers, lowest first.
type Files<'f> = &'f [(&'f str, &'f [u8])];

/// An image of such layers, and its blobs.
fn image(layers: &[Files<'_>]) -> (Image, BTreeMap<BlobDigest, Vec<u8>>) {
    let mut blobs = BTreeMap::new();
    let layers: Vec<Layer> = layers
        .iter()
        .map(|files| {
            let tar = layer_tar(files);
            let (digest, size) = (BlobDigest::of(&tar), tar.len() as u64);
            let diff_id = DiffId::of(&tar);
            blobs.insert(digest, tar);
            Layer { diff_id, digest, size, compression: Compression::None }
        })
        .collect();
    let config = ImageConfig::scratch(&"linux/amd64".parse().unwrap());
    (assemble(config, &layers).unwrap(), blobs)
}

fn listed(layers: &[Files<'_>]) -> Sbom {
    let (image, blobs) = image(layers);
    let open = |digest: &BlobDigest| -> Result<Box<dyn Read>, OpenError> {
        Ok(Box::new(Cursor::new(blobs.get(digest).ok_or("no blob")?.clone())))
    };
    let scratch = tempfile::tempdir().unwrap();
    let options = Options { scratch: scratch.path(), stop: &|| false };
    sbom::of(&image, &open, options).unwrap()
}

fn purls(sbom: &Sbom) -> Vec<&str> {
    sbom.components.iter().map(|one| one.purl.as_str()).collect()
}

/// `NAME VERSION` of all of a kind.
fn set(sbom: &Sbom, kind: Kind) -> BTreeSet<String> {
    let of_kind = sbom.components.iter().filter(|one| one.kind == kind);
    of_kind.map(|one| format!("{} {}", one.name, one.version)).collect()
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn debian_packages_are_those_of_dpkg() {
    let Some(images) = kiln::env::path("KILN_TEST_IMAGES") else {
        return skip("there is no image to look into: KILN_TEST_IMAGES names no images");
    };
    let kiln = Kiln::new();
    let place = format!("oci:{}", images.join("debian").display());
    let folder = kiln.path("root");
    fs::create_dir(&folder).unwrap();
    let layout = kiln.path("layout.tar");
    kiln.ok(&format!("copy {place} docker-archive:{}:debian:x", layout.display()));
    let (layout, folder) = (layout.to_str().unwrap(), folder.to_str().unwrap());
    for layer in tool("tar", &["-tf", layout]).lines().filter(|name| name.ends_with(".tar")) {
        tool("tar", &["-xf", layout, "-C", folder, layer]);
        let layer = format!("{folder}/{layer}");
        tool("tar", &["-xf", &layer, "-C", folder, "--wildcards", "*var/lib/dpkg*"]);
    }
    let admin = format!("--admindir={folder}/var/lib/dpkg");
    let all = tool("dpkg-query", &[&admin, "-W", "-f=${Package} ${Version}\\n"]);

    let document = kiln.ok(&format!("sbom {place} --format cyclonedx-json")).json();
    let deb = |one: &&serde_json::Value| {
        one["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:deb/debian/"))
    };
    let found = document["components"].as_array().unwrap().iter().filter(deb);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let found: BTreeSet<String> =
        found.map(|one| format!("{} {}", text(&one["name"]), text(&one["version"]))).collect();
    assert!(found.len() > 50, "{found:?}");
    assert_eq!(found, lines(&all));

    let document = kiln.ok(&format!("sbom {place}")).json();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    let others = Kiln::new().ok(&format!("sbom {place}")).stdout;
    assert!(kiln.ok(&format!("sbom {place}")).stdout == others, "stores differ");
}

/// What a header in a package file is as a database has it: without its magic number.
fn header(package: &[u8]) -> &[u8] {
    let number = |at: usize| u32::from_be_bytes(package[at..at + 4].try_into().unwrap()) as usize;
    let length = |at: usize| 8 + 16 * number(at + 8) + number(at + 12);
    // Behind the lead; the signature ends at a multiple of eight.
    let at = (96 + 8 + length(96)).next_multiple_of(8);
    &package[at + 8..at + 8 + length(at)]
}

/// Makes two packages, of which one has so many files that its header fills several pages.
fn packages(folder: &Path) -> Vec<String> {
    for (name, epoch, files) in [("alpha", "", 1), ("beta", "Epoch: 4\n", 2000)] {
        let spec = format!(
            "Name: {name}\nVersion: 1.2\nRelease: 3\n{epoch}Summary: x\nLicense: MIT\n\
             Vendor: Somebody\nBuildArch: noarch\n%description\nx\n%install\n\
             mkdir -p %{{buildroot}}/opt/{name}\n\
             for i in $(seq {files}); do touch %{{buildroot}}/opt/{name}/f$i; done\n\
             %files\n/opt/{name}\n"
        );
        let path = folder.join(format!("{name}.spec"));
        fs::write(&path, spec).unwrap();
        let top = format!("_topdir {}/top", folder.display());
        tool("rpmbuild", &["-bb", "--quiet", "--define", &top, path.to_str().unwrap()]);
    }
    let at = |name| format!("{}/top/RPMS/noarch/{name}-1.2-3.noarch.rpm", folder.display());
    vec![at("alpha"), at("beta")]
}

#[test]
fn rpm_packages_are_those_of_rpm() {
    let kiln = Kiln::new();
    let files = packages(&kiln.path(""));
    let folder = kiln.path("db");
    fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    let mut install = vec!["--dbpath", folder, "-i", "--justdb", "--nodeps", "--nosignature"];
    install.extend(files.iter().map(String::as_str));
    tool("rpm", &install);
    let query = ["--dbpath", folder, "-qa", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\\n"];
    let expected = lines(&tool("rpm", &query));
    assert_eq!(expected.len(), 2);
    let release: (&str, &[u8]) = ("etc/os-release", b"ID=fedora\nVERSION_ID=40\n");

    let database = fs::read(Path::new(folder).join("rpmdb.sqlite")).unwrap();
    let sqlite = listed(&[&[("usr/lib/sysimage/rpm/rpmdb.sqlite", &database), release]]);
    assert_eq!((set(&sqlite, Kind::Rpm), sqlite.warnings.len()), (expected.clone(), 0));
    let purl = "pkg:rpm/fedora/beta@1.2-3?arch=noarch&distro=fedora-40&epoch=4";
    assert!(purls(&sqlite).contains(&purl), "{:?}", purls(&sqlite));
    let source = sqlite.components[0].source.as_deref();
    assert_eq!(source, Some("alpha-1.2-3.src.rpm"));

    // What rpm before 4.16 had; a program of Berkeley DB's own writes it.
    let mut dump = "VERSION=3\nformat=bytevalue\ntype=hash\nHEADER=END\n".to_owned();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (at, file) in files.iter().enumerate() {
        let package = fs::read(file).unwrap();
        dump.push_str(&format!(" {:02x}000000\n {}\n", at + 1, hex(header(&package))));
    }
    dump.push_str(" 00000000\n 03000000\nDATA=END\n");
    fs::write(kiln.path("dump"), dump).unwrap();
    let path = kiln.path("Packages");
    let (dump, path) = (kiln.path("dump"), path.to_str().unwrap());
    tool("db5.3_load", &["-f", dump.to_str().unwrap(), path]);
    let old = fs::read(path).unwrap();
    let bdb = listed(&[&[("var/lib/rpm/Packages", &old), release]]);
    assert_eq!((set(&bdb, Kind::Rpm), bdb.warnings.len()), (expected, 0));

    // Damaged ones are told of, whatever is cut off or bent.
    for (name, bytes) in [("rpmdb.sqlite", &database), ("Packages", &old)] {
        let path = format!("var/lib/rpm/{name}");
        for part in 0..64 {
            let end = bytes.len() * part / 64;
            let cut = listed(&[&[(&path, &bytes[..end])]]);
            assert!(!cut.warnings.is_empty(), "{name}: {end} bytes of it are whole");
            assert_eq!(cut.warnings[0].path, format!("/{path}"));
            let mut bent = bytes.to_vec();
            bent[end..(end + 64).min(bytes.len())].fill(0xff);
            listed(&[&[(&path, &bent)]]);
        }
        let one = listed(&[&[(&path, &bytes[..bytes.len() - 1])]]);
        let text = String::from_utf8(one.spdx()).unwrap();
        assert!(text.contains(&format!("incomplete: /{path}: ")), "{text}");
        let text = String::from_utf8(one.cyclonedx()).unwrap();
        assert!(text.contains("\"aggregate\": \"incomplete\""), "{text}");
    }
}

#[test]
fn modules_are_those_that_go_lists() {
    let (Some(crane), Some(go)) = (kiln::env::path("KILN_TEST_CRANE"), go()) else {
        return skip("there is no program of Go's: KILN_TEST_CRANE names none");
    };
    let listing = tool(&go, &["version", "-m", crane.to_str().unwrap()]);
    let mut expected = BTreeSet::new();
    for line in listing.lines().map(str::trim) {
        let fields: Vec<&str> = line.split('\t').collect();
        if let ["mod" | "dep", name, version, ..] = fields[..] {
            expected.insert(format!("{name} {version}"));
        }
    }
    let program = fs::read(&crane).unwrap();
    let sbom = listed(&[&[("usr/bin/crane", &program)]]);
    let mut found = set(&sbom, Kind::Golang);
    let library = found.iter().find(|one| one.starts_with("stdlib ")).cloned().unwrap();
    found.remove(&library);
    let version = listing.split_whitespace().nth(1).unwrap();
    assert_eq!(library, version.replace("go", "stdlib "));
    assert!(expected.len() > 5, "{listing}");
    assert_eq!(found, expected);
    // What is cut off has no tables, or says what is wrong; either way it is no panic.
    for part in 0..32 {
        listed(&[&[("crane", &program[..program.len() * part / 32])]]);
    }
}

/// Go, where the tests' set-up has found one.
fn go() -> Option<String> {
    ["go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"].into_iter().map(str::to_owned).find(|go| {
        std::process::Command::new(go).arg("version").output().is_ok_and(|out| out.status.success())
    })
}

const METADATA: &[u8] = b"Metadata-Version: 2.4\nName: Zope.Some_Thing\nVersion: 1.0\n\
    License-Expression: MIT\n\ntext";
const APK: &[u8] = b"P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\nR:ld-musl.so\n\n";

#[test]
fn only_what_the_last_layer_leaves_is_listed() {
    let lower: Files<'_> = &[
        ("etc/os-release", b"ID=alpine\nVERSION_ID=3.20.1\n"),
        ("lib/apk/db/installed", APK),
        ("lib/ld-musl.so", b"x"),
        ("app/node_modules/gone/package.json", b"{\"name\":\"gone\",\"version\":\"1\"}"),
        ("app/node_modules/@a/b/package.json", b"{\"name\":\"@a/b\",\"version\":\"1\"}"),
    ];
    let upper: Files<'_> = &[
        ("app/node_modules/.wh.gone", b""),
        ("usr/lib/python3/z.dist-info/METADATA", METADATA),
        ("lib/apk/db/installed", APK),
        ("src/Cargo.lock", b"[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\n"),
        ("app/node_modules/broken/package.json", b"{"),
    ];
    let sbom = listed(&[lower, upper]);
    let expected = [
        "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1",
        "pkg:cargo/serde@1.0.1",
        "pkg:npm/%40a/b@1",
        "pkg:pypi/zope-some-thing@1.0",
    ];
    assert_eq!(purls(&sbom), expected);
    let layers: Vec<usize> =
        sbom.components.iter().map(|one| one.found.first().unwrap().layer).collect();
    assert_eq!(layers, [0, 1, 0, 1], "that of the package's own files");
    let warned: Vec<&str> = sbom.warnings.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(warned, ["/app/node_modules/broken/package.json"]);
    assert_eq!(sbom.spdx(), listed(&[lower, upper]).spdx());
    assert_ne!(sbom.cyclonedx(), listed(&[lower]).cyclonedx());
}

/// A program that names crates, made by the tools that every compiler has.
#[test]
fn crates_in_a_program() {
    let kiln = Kiln::new();
    let list = br#"{"packages":[{"name":"a","version":"1.0.0","source":"crates.io"},
        {"name":"made-with","version":"2.0.0","source":"crates.io","kind":"build"}]}"#;
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(list).unwrap();
    let section = kiln.path("section");
    fs::write(&section, zlib.finish().unwrap()).unwrap();
    let program = kiln.path("program");
    let add = format!(".dep-v0={}", section.display());
    tool("objcopy", &["--add-section", &add, "/usr/bin/true", program.to_str().unwrap()]);
    let sbom = listed(&[&[("bin/program", &fs::read(program).unwrap())]]);
    assert_eq!(purls(&sbom), ["pkg:cargo/a@1.0.0"]);
}

#[test]
fn memory_does_not_grow_with_programs() {
    let kiln = Kiln::new();
    let peak = |name: &str, size: usize| {
        let mut program = fs::read("/usr/bin/true").unwrap();
        program.resize(size, 0);
        let (image, blobs) = image(&[&[("bin/program", &program)]]);
        let store = kiln.store();
        for blob in blobs.values() {
            store.put(blob).unwrap();
        }
        store.keep(&name.parse().unwrap(), &AnyImage::Image(image)).unwrap();
        let (output, peak) = kiln.peak(&["sbom", name]);
        output.success();
        peak
    };
    let (small, large) = (peak("small", 1 << 20), peak("large", 200 << 20));
    assert!(large < small + (16 << 10), "{small} KiB, and with 200 MiB {large} KiB");
}

#[test]
fn an_index_has_one_for_each_platform() {
    let kiln = Kiln::new();
    super::keep_index(&kiln, "many");
    let text = kiln.ok("sbom many").text();
    assert_eq!(text.matches("\"SPDX-2.3\"").count(), 2);
    let one = kiln.ok("sbom many --platform linux/arm64").json();
    assert_eq!(one["packages"][0]["comment"], "a container image for linux/arm64");
    kiln.fails(2, "sbom many -o file").says("--platform");
    kiln.fails(1, "sbom many --platform linux/s390x").says("only for linux/amd64, linux/arm64");
    kiln.ok("sbom many --platform linux/arm64 -o file --format cyclonedx-json");
    let file: serde_json::Value =
        serde_json::from_slice(&fs::read(kiln.path("file")).unwrap()).unwrap();
    assert_eq!(file["specVersion"], "1.6");
    kiln.fails(1, "sbom nothing");
}
