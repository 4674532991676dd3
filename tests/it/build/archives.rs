//! Archives as contexts, on stdin, by name and by URL; and those that `ADD` unpacks.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use kiln::layer::{Compression, Compressor, Entry, Kind, LayerForm, LayerWriter, Name, RawBytes};

use super::bench::{Bench, callers, dir, file, symlink};
use crate::support::http::{Server, answer};
use crate::support::kiln::Output;

/// `hello`, as xz and bzip2 pack it; no tar.
const XZ: &[u8] = include_bytes!("../../../testdata/layer/hello.xz");

fn tar(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let form = LayerForm::from(Compression::None);
    let mut writer = LayerWriter::new(Vec::new(), form);
    for (entry, content) in entries {
        writer.entry(entry, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap().0
}

fn packed(tar: &[u8], compression: Compression) -> Vec<u8> {
    let mut to = Compressor::new(Vec::new(), compression);
    to.write_all(tar).unwrap();
    to.finish().unwrap()
}

fn bzip2(tar: &[u8]) -> Vec<u8> {
    let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    to.write_all(tar).unwrap();
    to.finish().unwrap()
}

/// Builds with something on stdin.
fn piped(bench: &Bench, args: &str, stdin: &[u8]) -> Output {
    let args = format!("build --progress=plain -t out {args}");
    let mut call = bench.call(args.split_whitespace());
    let path = bench.path("stdin");
    fs::write(&path, stdin).unwrap();
    call.stdin(Stdio::from(fs::File::open(&path).unwrap()));
    bench.run(&mut call)
}

fn context() -> Vec<(Entry, Vec<u8>)> {
    let long = format!("{}/file", "long".repeat(40));
    let owned = |(entry, content)| (Entry { uid: 5, gid: 6, ..entry }, content);
    vec![
        file("Dockerfile", 0o644, "FROM scratch\nCOPY . /c/\n"),
        file(".dockerignore", 0o644, "*\n"),
        owned(dir("d", 0o700)),
        owned(file("d/secret", 0o000, "s")),
        file("d/Other", 0o644, "FROM scratch\nCOPY d/hard /o\n"),
        (
            Entry {
                kind: Kind::Hardlink { target: Name::clean(b"d/secret").unwrap() },
                ..file("d/hard", 0, "").0
            },
            vec![],
        ),
        symlink("link", "d/secret"),
        file(&long, 0o4755, "long"),
    ]
}

#[test]
fn build_archive_contexts() {
    let plain = tar(&context());
    let forms = [
        packed(&plain, Compression::Gzip),
        packed(&plain, Compression::Zstd),
        bzip2(&plain),
        plain.clone(),
    ];
    for caller in callers() {
        let bench = Bench::new(caller);
        let mut digests = Vec::new();
        for form in &forms {
            digests.push(piped(&bench, "-", form).success().text());
        }
        fs::write(bench.path("ctx.tar.gz"), &forms[0]).unwrap();
        digests.push(piped(&bench, "ctx.tar.gz", b"").success().text());
        digests.dedup();
        assert_eq!(digests.len(), 1);
        let long = "long".repeat(40);
        assert_eq!(
            bench.layer(0),
            [
                "d 755 0:0 c".to_owned(),
                "f 644 0:0 c/.dockerignore 2".to_owned(),
                "f 644 0:0 c/Dockerfile 24".to_owned(),
                "d 700 5:6 c/d".to_owned(),
                "f 644 0:0 c/d/Other 28".to_owned(),
                "f 0 0:0 c/d/hard 1".to_owned(),
                "h 0 0:0 c/d/secret = c/d/hard".to_owned(),
                "l 777 0:0 c/link -> d/secret".to_owned(),
                format!("d 755 0:0 c/{long}"),
                format!("f 4755 0:0 c/{long}/file 4"),
            ],
            "{caller:?}"
        );
        piped(&bench, "- -f d/Other", &plain).success();
        assert_eq!(bench.content("/o"), "s");
        piped(&bench, "ctx.tar.gz -f -", b"FROM scratch\nCOPY link /l\n").success();
        assert_eq!(bench.content("/l"), "s");
        // As a named one.
        piped(&bench, "- --build-context n=ctx.tar.gz", b"FROM scratch\nCOPY --from=n d/hard /n\n")
            .success();
        assert_eq!(bench.content("/n"), "s");
        bench.clean();
    }
}

#[test]
fn build_stdin_forms() {
    let bench = Bench::new(callers()[0]);
    piped(&bench, "-", b"FROM scratch\nCOPY <<E /x\nhi\nE\n").success();
    assert_eq!(bench.content("/x"), "hi\n");
    for (args, stdin, says) in [
        ("-", b"FROM scratch\nCOPY x /\n".as_slice(), "source not found: x"),
        ("- -f -", b"FROM scratch\n", "both the context and the Dockerfile"),
        ("- -f x", b"FROM scratch\n", "stdin is no archive"),
        ("-", &tar(&[file("x", 0o644, "")]), "no `Dockerfile` in the context"),
        ("-", &tar(&context())[..3000], "archive"),
        ("-", XZ, "cut off"),
        ("-", b"\x1f\x8b\x08\0\0", "the context's archive"),
    ] {
        let output = piped(&bench, args, stdin);
        assert_ne!(output.code, Some(0), "{args}");
        assert!(output.stderr.contains(says), "{args}: {}", output.stderr);
    }
    bench.clean();
}

#[test]
fn build_hostile_contexts() {
    let bench = Bench::new(callers()[0]);
    fs::write(bench.path("outside"), "outside").unwrap();
    let dockerfile = || file("Dockerfile", 0o644, "FROM scratch\nCOPY a /a\n");
    let raw = |name: &str, kind: tar::EntryType, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_ustar_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let with = |parts: &[Vec<u8>]| {
        let first = tar(&[dockerfile()]);
        // Without the two blocks at its end.
        let mut all = first[..1024].to_vec();
        parts.iter().for_each(|part| all.extend_from_slice(part));
        all.extend_from_slice(&[0; 1024]);
        all
    };
    let outside = bench.path("outside").display().to_string();
    let regular = tar::EntryType::Regular;
    let huge = format!("9 path=a\n{}", "x".repeat(2 << 20));
    for (what, archive, says) in [
        ("above", with(&[raw("../a", regular, "", b"x")]), "leads out of the archive"),
        ("hard link out", with(&[raw("a", tar::EntryType::Link, "../outside", b"")]), "leads out"),
        ("link out", with(&[raw("a", tar::EntryType::Symlink, &outside, b"")]), "source not found"),
        (
            "through a link",
            with(&[raw("l", tar::EntryType::Symlink, "/tmp", b""), raw("l/a", regular, "", b"x")]),
            "no folder",
        ),
        (
            "header",
            with(&[raw("x", tar::EntryType::XHeader, "", huge.as_bytes())]),
            "extended header of",
        ),
        ("sparse", with(&[raw("a", tar::EntryType::GNUSparse, "", b"")]), "sparse"),
    ] {
        let output = piped(&bench, "-", &archive);
        assert_eq!(output.code, Some(1), "{what}");
        assert!(output.stderr.contains(says), "{what}: {}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{what}");
    }
    // A device is data to carry; no node is made.
    piped(&bench, "-", &with(&[raw("a", tar::EntryType::Char, "", b"")])).success();
    assert!(bench.layer(0)[0].starts_with("c 644 0:0 a"), "{:?}", bench.layer(0));
    // An absolute name is one within.
    piped(&bench, "-", &with(&[raw("/a", regular, "", b"in")])).success();
    assert_eq!(bench.content("/a"), "in");
    // So is where the Dockerfile's own link leads.
    let linked = [
        (
            Entry {
                kind: Kind::Symlink { target: RawBytes(b"/real".to_vec()) },
                ..file("Dockerfile", 0o777, "").0
            },
            vec![],
        ),
        file("real", 0o644, "FROM scratch\nCOPY real /r\n"),
    ];
    piped(&bench, "-", &tar(&linked)).success();
    bench.clean();
}

fn server(runtime: &tokio::runtime::Runtime) -> Server {
    let plain = tar(&context());
    let gzip = packed(&plain, Compression::Gzip);
    runtime.block_on(Server::start(move |request| match request.path.as_str() {
        "/ctx" => answer("200 OK", &[], &plain),
        "/ctx.tar.gz" => answer("200 OK", &[], &gzip),
        "/df" => answer("200 OK", &[], b"FROM scratch\nCOPY context /copy\n"),
        _ => answer("404 Not Found", &[], b"no"),
    }))
}

#[test]
fn build_contexts_of_urls() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = server(&runtime);
    let at = format!("http://{}", server.addr);
    let bench = Bench::with_busybox(callers()[0]);
    for name in ["ctx", "ctx.tar.gz"] {
        piped(&bench, &format!("{at}/{name}"), b"").success();
        assert_eq!(bench.content("/c/d/secret"), "s");
    }
    piped(&bench, &format!("-f d/Other {at}/ctx"), b"").success();
    assert_eq!(bench.content("/o"), "s");
    // What is no archive is the Dockerfile, whatever --file says.
    piped(&bench, &format!("-f other {at}/df"), b"").success();
    assert_eq!(bench.content("/copy"), "FROM scratch\nCOPY context /copy\n");
    piped(&bench, &format!("--build-context n={at}/df -"), b"FROM scratch\nCOPY --from=n / /\n")
        .success();
    assert_eq!(bench.layer(0), ["f 600 0:0 context 32"]);
    piped(&bench, &format!("{at}/none"), b"").failure(1).says("404");
    // ADD leaves an archive of a URL as it is, unless it is told to unpack it.
    bench.built(&format!("FROM busybox\nADD {at}/ctx.tar.gz /a/\n"));
    assert_eq!(bench.layer(0).len(), 2, "{:?}", bench.layer(0));
    bench.built(&format!("FROM busybox\nADD --unpack=true {at}/ctx.tar.gz {at}/df /a/\n"));
    assert_eq!(bench.content("/a/d/Other"), "FROM scratch\nCOPY d/hard /o\n");
    assert_eq!(bench.content("/a/df"), "FROM scratch\nCOPY context /copy\n");
    bench.built(&format!("FROM busybox\nADD --unpack=false {at}/ctx.tar.gz /a/\n"));
    assert_eq!(bench.layer(0).len(), 2);
    bench.clean();
}

#[test]
fn build_add_archives_of_every_kind() {
    let bench = Bench::with_busybox(callers()[0]);
    let plain = tar(&[file("in", 0o644, "in")]);
    bench
        .file("a.tar.bz2", bzip2(&plain))
        .file("b.xz", XZ)
        .file("c.zst", packed(&plain, Compression::Zstd));
    bench.file("d.xz", fs::read(crate::support::kiln::data().join("layer/in.tar.xz")).unwrap());
    bench.built("FROM busybox\nADD a.tar.bz2 /a/\nADD b.xz /b\nADD c.zst /c/\nADD d.xz /d/\n");
    for name in ["/a/in", "/c/in", "/d/in"] {
        assert_eq!(bench.content(name), "in");
    }
    // Compressed, and no archive: a file.
    assert_eq!(bench.tree().get("b").map(|line| line.contains("64")), Some(true));
    bench.clean();
}
