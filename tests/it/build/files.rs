//! `-o type=tar` and `-o type=local`: the files of an image.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::bench::{Bench, busybox, callers, dir, entry, file, symlink as link};
use crate::support::kiln::tool;
use kiln::layer::Kind;

fn bench(caller: super::bench::Caller) -> Bench {
    let bench = Bench::new(caller);
    let mut more = vec![
        dir("d", 0o750),
        file("d/f", 0o4755, "content"),
        entry(
            "d/h",
            Kind::Hardlink { target: kiln::layer::Name::clean(b"d/f").unwrap() },
            0o4755,
            vec![],
        ),
        entry("d/null", Kind::Char { major: 1, minor: 3 }, 0o666, vec![]),
        entry("d/pipe", Kind::Fifo, 0o620, vec![]),
        link("d/out", "/etc"),
        dir("closed", 0o500),
        file("closed/x", 0o400, "x"),
        file("gone", 0o644, "gone"),
    ];
    (more[1].0.uid, more[1].0.gid) = (33, 34);
    bench.base("busybox", &[busybox(), more]);
    bench
}

#[test]
fn build_output_tar() {
    let mut all = Vec::new();
    for caller in callers() {
        let bench = bench(caller);
        bench
            .build("FROM busybox\nRUN rm /gone && touch /new\n", "-o type=tar,dest=out.tar")
            .success();
        let args = "build -q -f Dockerfile -o - context";
        let stdout = bench.run(&mut bench.call(args.split(' '))).success().stdout;
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        let bytes = fs::read(bench.path("out.tar")).unwrap();
        assert!(stdout.len() > 1 << 20, "the tar is on stdout");
        let path = bench.path("out.tar");
        let list = tool("tar", &["-tvf", path.to_str().unwrap(), "--numeric-owner"]);
        let has = |start: &str, end: &str| {
            let found = list.lines().any(|line| line.starts_with(start) && line.ends_with(end));
            assert!(found, "{start} … {end}: {list}");
        };
        has("-rwsr-xr-x 33/34", " d/f");
        has("hrwsr-xr-x 33/34", " d/h link to d/f");
        has("crw-rw-rw- 0/0", " d/null");
        has("prw--w---- 0/0", " d/pipe");
        has("lrwxrwxrwx 0/0", " d/out -> /etc");
        has("dr-x------ 0/0", " closed/");
        has("drwxrwxrwt 0/0", " tmp/");
        has("-rw-r--r-- 0/0", " new");
        assert!(!list.contains("gone") && !list.contains(".wh."));
        all.push(bytes);
        bench.clean();
    }
    assert!(all.windows(2).all(|two| two[0] == two[1]), "the same whoever builds");
}

#[test]
fn build_output_local() {
    for caller in callers() {
        let bench = bench(caller);
        let output =
            bench.build("FROM busybox\nRUN rm /gone\n", "-o type=local,dest=to/here").success();
        output.says("device `d/null` is left out of to/here");
        let at = |name: &str| bench.path("to/here").join(name);
        let mode = |name: &str| at(name).symlink_metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("d"), mode("d/f"), mode("closed"), mode("tmp")),
            (0o750, 0o755, 0o500, 0o1777)
        );
        assert_eq!(fs::read_link(at("d/out")).unwrap().to_str(), Some("/etc"));
        let (f, h) = (at("d/f").metadata().unwrap(), at("d/h").metadata().unwrap());
        assert_eq!((f.ino(), f.uid()), (h.ino(), at("d").metadata().unwrap().uid()));
        assert_eq!((f.mtime(), at("d").metadata().unwrap().mtime()), (1_000_000, 1_000_000));
        assert!(!at("gone").exists() && !at("d/null").exists() && at("d/pipe").exists());
        // Once more over what is there: merged.
        fs::write(bench.path("to/here/mine"), "mine").unwrap();
        bench.build("FROM busybox\nRUN rm /gone\n", "-o to/here").success();
        assert!(at("mine").exists() && at("closed/x").exists());
        bench.clean();
    }
}

/// Nothing outside the folder is touched, whatever links lie in it (threats, rules 1, 2, 5).
#[test]
fn build_output_local_stays_in_its_folder() {
    for caller in callers() {
        let bench = bench(caller);
        let outside = bench.path("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("f"), "canary").unwrap();
        fs::create_dir(bench.path("to")).unwrap();
        symlink(&outside, bench.path("to/d")).unwrap();
        bench.build("FROM busybox\n", "-o type=local,dest=to").success();
        // The image has a folder where the link was: the link is replaced.
        assert!(bench.path("to/d").symlink_metadata().unwrap().is_dir());
        assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "canary");
        fs::remove_dir_all(bench.path("to")).ok();
        fs::create_dir_all(bench.path("to2/d/f")).unwrap();
        bench.build("FROM busybox\n", "-o type=local,dest=to2").failure(1).says("to2/d/f");
        fs::create_dir(bench.path("to3")).unwrap();
        symlink(outside.join("f"), bench.path("to3/gone")).unwrap();
        bench.build("FROM busybox\n", "-o type=local,dest=to3").success();
        assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "canary");
        assert_eq!(fs::read_to_string(bench.path("to3/gone")).unwrap(), "gone");
        fs::write(bench.path("file"), "").unwrap();
        bench.build("FROM busybox\n", "-o type=local,dest=file").failure(1).says("file");
    }
}
