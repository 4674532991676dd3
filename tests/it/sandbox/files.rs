//! The root, its mounts, and what the upper folder holds afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kiln::sandbox::{Exit, Mount, MountKind, Root, SandboxError};

use super::fixture::{changes, each, output, upper};

#[test]
fn the_upper_holds_the_change_and_nothing_else() {
    each(|fixture| {
        let mut spec = fixture.spec(&["true"]);
        let file = |target: &str, content: &str| Mount {
            target: PathBuf::from(target),
            what: MountKind::File {
                content: content.as_bytes().to_vec(),
                mode: 0o644,
                owner: (0, 0),
            },
        };
        spec.mounts = vec![
            file("/etc/resolv.conf", "nameserver 192.0.2.1\n"),
            file("/etc/hosts", ""),
            file("/run/secrets/deep/er/token", "hush"),
            Mount { target: PathBuf::from("/var/cache/x"), what: tmpfs() },
        ];
        assert_eq!(fixture.output(&spec), "");
        assert_eq!(changes(fixture, &spec), BTreeMap::new());

        let mounts = spec.mounts.clone();
        spec = fixture.script(
            "cat /run/secrets/deep/er/token; echo 127.0.0.1 x >> /etc/hosts; echo new > /etc/new
             rm /etc/passwd; touch /run/own /var/cache/x/lost; mkdir /made",
        );
        spec.mounts = mounts;
        assert_eq!(fixture.output(&spec), "hush");
        let expected = [
            ("etc", 'd'),
            ("etc/new", 'f'),
            ("etc/passwd", 'w'),
            ("made", 'd'),
            ("run", 'd'),
            ("run/own", 'f'),
        ];
        let expected = expected.map(|(path, kind)| (path.to_owned(), kind));
        assert_eq!(changes(fixture, &spec), BTreeMap::from(expected));
    });
}

fn tmpfs() -> MountKind {
    MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777, read_only: false }
}

#[test]
fn mounts_of_the_host() {
    each(|fixture| {
        let (shared, kept) = (fixture.path("shared"), fixture.path("kept"));
        fs::create_dir_all(shared.join("inner")).unwrap();
        fs::write(shared.join("file"), "shared\n").unwrap();
        fs::create_dir_all(&kept).unwrap();
        let bind = |target: &str, source: &Path, read_only| Mount {
            target: PathBuf::from(target),
            what: MountKind::Bind { source: source.to_owned(), read_only },
        };
        let mut spec = fixture.script(
            "cat /src/file /one; touch /src/no || echo refused; touch /src/inner/over /cache/kept
             echo > /one || echo refused; head -c 3000000 /dev/zero > /src/inner/big || echo full",
        );
        spec.mounts = vec![
            bind("/src", &shared, true),
            Mount { target: PathBuf::from("/src/inner"), what: tmpfs() },
            bind("/cache", &kept, false),
            bind("/one", &shared.join("file"), true),
        ];
        let (exit, text) = fixture.run(&spec);
        assert!(text.starts_with("shared\nshared\n"), "{text}");
        assert_eq!(text.matches("refused").count(), 2, "{text}");
        assert!(text.ends_with("full\n"), "{text}");
        assert_eq!(exit, Exit::Code(0));
        assert!(kept.join("kept").exists());
        assert_eq!(fs::read_dir(shared.join("inner")).unwrap().count(), 0);
        assert_eq!(changes(fixture, &spec), BTreeMap::new());
        spec = fixture.spec(&["true"]);
        spec.mounts = vec![bind("/x", &fixture.path("absent"), true)];
        let error = fixture.error(&spec).to_string();
        assert!(error.contains("absent") && error.contains("/x"), "{error}");
    });
}

#[test]
fn links_in_the_root_lead_nowhere_else() {
    each(|fixture| {
        let canary = fixture.path("canary");
        fs::create_dir(&canary).unwrap();
        symlink(&canary, fixture.path("lower/out")).unwrap();
        symlink("../../../../../../../../..", fixture.path("lower/etc/up")).unwrap();
        symlink("../run/systemd/resolv.conf", fixture.path("lower/etc/resolv.conf")).unwrap();
        symlink("loop", fixture.path("lower/etc/loop")).unwrap();
        symlink("/proc/self/cwd", fixture.path("lower/magic")).unwrap();
        let file = |target: &str| Mount {
            target: PathBuf::from(target),
            what: MountKind::File { content: b"in".to_vec(), mode: 0o600, owner: (0, 0) },
        };
        let mut spec = fixture.script("cat /etc/resolv.conf /out/a /b /out/../c");
        spec.mounts = ["/etc/resolv.conf", "/out/a", "/etc/up/b", "../../c"].map(file).to_vec();
        spec.cwd = PathBuf::from("/out/d");
        let (_, text) = fixture.run(&spec);
        assert!(text.starts_with("ininin"), "{text}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
        assert!(changes(fixture, &spec).values().all(|kind| *kind == 'd'));
        for target in ["/etc/loop", "/etc/loop/x", "/magic/x", "/etc/passwd/x"] {
            spec = fixture.spec(&["true"]);
            spec.mounts = vec![file(target)];
            assert!(matches!(fixture.error(&spec), SandboxError::Setup { .. }), "{target}");
        }
    });
}

#[test]
fn an_upper_of_a_container_is_used_again() {
    each(|fixture| {
        let spec = fixture.script("cat /count; echo x >> /count");
        for expected in ["", "x\n", "x\nx\n"] {
            let (io, mut reader) = output();
            let running = fixture.sandbox.start(&spec, io).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(running.wait().unwrap(), Exit::Code(0));
            assert!(text.ends_with(expected), "{text}");
        }
    });
}

#[test]
fn a_root_from_scratch() {
    each(|fixture| {
        let mut spec = fixture.spec(&["/busybox", "touch", "/made"]);
        fs::copy("/bin/busybox", upper(&spec).join("busybox")).unwrap();
        let Root::Overlay { lowers, .. } = &mut spec.root;
        lowers.clear();
        assert_eq!(fixture.output(&spec), "");
        let files = [("busybox", 'f'), ("made", 'f')].map(|(path, kind)| (path.to_owned(), kind));
        assert_eq!(changes(fixture, &spec), BTreeMap::from(files));
    });
}

#[test]
fn many_layers_and_long_paths() {
    each(|fixture| {
        let mut spec = fixture.spec(&["cat", "/layer"]);
        let Root::Overlay { lowers, .. } = &mut spec.root;
        let deep = fixture.path(&format!("with:colon,and\\more/{}", "x".repeat(200)));
        for number in (0..200).rev() {
            let lower = deep.join(number.to_string());
            fs::create_dir_all(&lower).unwrap();
            fs::write(lower.join("layer"), number.to_string()).unwrap();
            lowers.insert(0, lower);
        }
        assert_eq!(fixture.output(&spec), "0");
    });
}
