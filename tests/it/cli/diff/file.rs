//! Files of layers: presence, attributes, and the tar's own details.

use super::{Records, Tar, one, said, two};
use crate::support::kiln::Kiln;

/// `f` with a changed header.
fn header(edit: impl Fn(&mut tar::Header)) -> Vec<u8> {
    Tar::new().entry(b"f", b'0', b"x", &[], edit).done()
}

/// `f` with records before it.
fn records(records: Records<'_>) -> Vec<u8> {
    Tar::new().entry(b"f", b'0', b"x", records, |_| ()).done()
}

fn device(minor: u32) -> Vec<u8> {
    let edit = |header: &mut tar::Header| {
        header.set_device_major(1).unwrap();
        header.set_device_minor(minor).unwrap();
    };
    Tar::new().entry(b"d", b'3', b"", &[], edit).done()
}

/// What the header of GNU's long name leads in.
fn long_name() -> Vec<u8> {
    let name = [b"f\0".to_vec()].concat();
    let tar = Tar::new().entry(b"././@LongLink", b'L', &name, &[], |_| ());
    tar.entry(b"f", b'0', b"x", &[], |_| ()).done()
}

/// What it is about, two tars, and what is said.
type Case = (&'static str, Vec<u8>, Vec<u8>, Vec<String>);

#[test]
fn each_difference_is_named_and_nothing_else() {
    let f = || one("f", "x");
    let two_files = |a: &str, b: &str| Tar::new().file(a, "1").file(b, "2").done();
    let hard = |names: [&str; 3]| {
        Tar::new()
            .file(names[0], "x")
            .link(names[1], b'1', names[0])
            .link(names[2], b'1', names[0])
            .done()
    };
    let mut longer = f();
    longer.extend([0; 512]);
    let global = {
        let record = b"16 comment=abcd\n";
        let tar = Tar::new().entry(b"pax_global_header", b'g', record, &[], |_| ());
        tar.file("f", "x").done()
    };
    let xattr = |value: &'static [u8]| records(&[("SCHILY.xattr.user.a", value)]);
    let epoch = "1970-01-01T00:00:00Z";
    let cases: Vec<Case> = vec![
        (
            "added",
            f(),
            two_files("f", "g"),
            vec![
                "~ f file".into(),
                "  text offset 0 bytes 1".into(),
                "    @@ -1 +1 @@".into(),
                "    -x (no newline)".into(),
                "    +1 (no newline)".into(),
                "+ g file".into(),
            ],
        ),
        ("removed", Tar::new().file("f", "x").file("g", "").done(), f(), vec!["- g file".into()]),
        (
            "mode",
            f(),
            header(|h| h.set_mode(0o4755)),
            vec!["~ f file".into(), "  mode: 0644 4755".into()],
        ),
        ("uid", f(), header(|h| h.set_uid(7)), vec!["~ f file".into(), "  uid: 0 7".into()]),
        ("gid", f(), header(|h| h.set_gid(8)), vec!["~ f file".into(), "  gid: 0 8".into()]),
        (
            "mtime",
            f(),
            header(|h| h.set_mtime(60)),
            vec!["~ f file".into(), format!("  mtime: {epoch} 1970-01-01T00:01:00Z")],
        ),
        (
            "nanoseconds",
            records(&[("mtime", b"1.25")]),
            records(&[("mtime", b"1.5")]),
            vec![
                "~ f file".into(),
                "  mtime: 1970-01-01T00:00:01.25Z 1970-01-01T00:00:01.5Z".into(),
            ],
        ),
        (
            "size",
            f(),
            one("f", "xy"),
            vec![
                "~ f file".into(),
                "  size: 1 2".into(),
                "  text offset 1".into(),
                "    @@ -1 +1 @@".into(),
                "    -x (no newline)".into(),
                "    +xy (no newline)".into(),
            ],
        ),
        (
            "type",
            f(),
            Tar::new().entry(b"f", b'6', b"", &[], |_| ()).done(),
            vec!["~ f file".into(), "  type: file fifo".into(), "  size: 1 -".into()],
        ),
        (
            "target",
            Tar::new().link("l", b'2', "one").done(),
            Tar::new().link("l", b'2', "two").done(),
            vec!["~ l symlink".into(), "  target: one two".into()],
        ),
        (
            "hard link or copy",
            Tar::new().file("f", "x").link("g", b'1', "f").done(),
            Tar::new().file("f", "x").file("g", "x").done(),
            vec![
                "~ f file".into(),
                "  hardlink: [\"g\"] -".into(),
                "~ g file".into(),
                "  hardlink: [\"f\"] -".into(),
            ],
        ),
        (
            "hard links of another set",
            hard(["f", "g", "h"]),
            hard(["f", "g", "i"]),
            vec![
                "- h file".into(),
                "+ i file".into(),
                "~ f file".into(),
                "  hardlink: [\"g\",\"h\"] [\"g\",\"i\"]".into(),
                "~ g file".into(),
                "  hardlink: [\"f\",\"h\"] [\"f\",\"i\"]".into(),
            ],
        ),
        (
            "hard link to a lower layer",
            Tar::new().link("g", b'1', "one").done(),
            Tar::new().link("g", b'1', "two").done(),
            vec!["~ g hardlink".into(), "  target: one two".into()],
        ),
        (
            "xattr",
            xattr(b"1"),
            xattr(b"\x00\x01"),
            vec!["~ f file".into(), "  xattr[user.a]: 1 0x0001".into()],
        ),
        ("xattr added", f(), xattr(b"1"), vec!["~ f file".into(), "  xattr[user.a]: - 1".into()]),
        ("device", device(3), device(5), vec!["~ d char".into(), "  device: 1:3 1:5".into()]),
        (
            "whiteout",
            f(),
            Tar::new().file("f", "x").file("etc/.wh.gone", "").done(),
            vec!["+ etc/.wh.gone whiteout".into()],
        ),
        (
            "opaque",
            f(),
            Tar::new().file("f", "x").file("etc/.wh..wh..opq", "").done(),
            vec!["+ etc/.wh..wh..opq opaque".into()],
        ),
        (
            "twice",
            f(),
            Tar::new().file("f", "y").file("f", "x").done(),
            vec!["~ f file".into(), "  occurrences: 1 2".into()],
        ),
        (
            "order",
            Tar::new().file("f", "1").file("g", "2").done(),
            Tar::new().file("g", "2").file("f", "1").done(),
            vec!["layer tar.order: f g (the same names in another order from entry 1 on)".into()],
        ),
        (
            "end",
            f(),
            longer,
            vec![
                "layer tar.end: 1024 1536 (zeros after the last entry: another writer, or another \
             block size)"
                    .into(),
            ],
        ),
        (
            "global header",
            f(),
            global,
            vec![
                "layer tar.other: 2048 3072 (what differs is between the entries: global headers, \
             padding)"
                    .into(),
            ],
        ),
        (
            "uname",
            f(),
            header(|h| h.set_username("root").unwrap()),
            vec!["~ f file".into(), "  header.uname:  root".into()],
        ),
        (
            "gname",
            f(),
            header(|h| h.set_groupname("staff").unwrap()),
            vec!["~ f file".into(), "  header.gname:  staff".into()],
        ),
        (
            "record",
            f(),
            records(&[("atime", b"5")]),
            vec!["~ f file".into(), "  pax[atime]: - 5".into()],
        ),
        (
            "time in a record",
            records(&[("mtime", b"0")]),
            f(),
            vec!["~ f file".into(), "  pax[mtime]: 0 -".into()],
        ),
        ("long name", f(), long_name(), vec!["~ f file".into(), "  longName: false true".into()]),
        (
            "magic",
            f(),
            header(|h| h.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0")),
            vec![
                "~ f file".into(),
                "  header.magic: ustar ustar ".into(),
                "  header.version: 00  ".into(),
            ],
        ),
        (
            "number",
            f(),
            header(|h| h.as_mut_bytes()[108..116].copy_from_slice(b"     0 \0")),
            vec!["~ f file".into(), "  header.uid: 0000000      0 ".into()],
        ),
        (
            "names that are no text",
            Tar::new().entry(b"\xff%", b'0', b"", &[], |_| ()).done(),
            Tar::new().done(),
            vec!["- %FF%25 file".into()],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, a, b, expected) in cases {
        let kiln = Kiln::new();
        two(&kiln, &a, &b);
        let lines = said(&kiln, "");
        if lines != expected {
            wrong.push((what, lines));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_same_is_the_same() {
    let kiln = Kiln::new();
    two(&kiln, &one("f", "x"), &one("f", "x"));
    assert_eq!(kiln.ok("diff a b").text(), "a and b are the same\n");
    assert_eq!(kiln.ok("diff --format json a b").json()["same"], true);
}

#[test]
fn what_matters_comes_first_and_the_rest_is_counted() {
    let kiln = Kiln::new();
    let tar = |time: u64, last: &str| {
        let mut tar = Tar::new();
        for number in 0..50 {
            let name = format!("f{number:02}");
            tar = tar.entry(name.as_bytes(), b'0', b"x", &[], |header| header.set_mtime(time));
        }
        tar.file("z", last).done()
    };
    two(&kiln, &tar(0, "one\n"), &tar(1, "two\n"));
    let lines = said(&kiln, "");
    assert_eq!(
        lines[..5],
        ["~ z file", "  text offset 0 bytes 3", "    @@ -1 +1 @@", "    -one", "    +two"]
    );
    assert_eq!(lines[5], "~ f00 file");
    assert_eq!(lines.last().unwrap(), "31 omitted");
    let json = super::differ(&kiln, "--format json a b").json();
    let files = &json["images"][0]["layers"][0]["files"];
    assert_eq!((&files["changed"], &files["attributes"]["mtime"]), (&51.into(), &50.into()));
    assert_eq!(said(&kiln, "--all").iter().filter(|line| line.starts_with('~')).count(), 51);
    let text = super::differ(&kiln, "a b").text();
    for line in [
        "  layer 1 differs: RUN make",
        "    51 files: 51 changed (content 1, mtime 50)",
        "    ~ z",
        "        content: text, differs from byte 0 on in 3 bytes",
        "          -one",
        "    … 31 more (--all lists them)",
    ] {
        assert!(text.lines().any(|one| one == line), "`{line}` is not in\n{text}");
    }
    assert_eq!(text.matches("hint: set SOURCE_DATE_EPOCH").count(), 1, "{text}");
}

#[test]
fn usual_culprits_come_with_a_hint() {
    let kiln = Kiln::new();
    let culprits = [
        ("etc/machine-id", "random ID"),
        ("etc/shadow", "third field"),
        ("usr/lib/x/__pycache__/m.cpython-312.pyc", "PYTHONDONTWRITEBYTECODE"),
        ("var/cache/ldconfig/aux-cache", "ldconfig keeps inodes"),
        ("var/lib/apt/lists/x_InRelease", "rm -rf /var/lib/apt/lists"),
        ("var/log/apt/history.log", "remove /var/log/apt"),
        ("var/log/dpkg.log", "remove /var/log/apt"),
    ];
    let tar = |content: &str| {
        let tar = culprits.iter().fold(Tar::new(), |tar, (path, _)| tar.file(path, content));
        tar.file("usr/bin/tool", content).done()
    };
    two(&kiln, &tar("1"), &tar("2"));
    let json = super::differ(&kiln, "--format json a b").json();
    let files = json["images"][0]["layers"][0]["files"]["files"].as_array().unwrap().clone();
    for (path, says) in culprits {
        let file = files.iter().find(|file| file["path"] == path).unwrap();
        let hint = file["hint"].as_str().unwrap_or_default();
        assert!(hint.contains(says), "{path}: {hint}");
    }
    let tool = files.iter().find(|file| file["path"] == "usr/bin/tool").unwrap();
    assert_eq!(tool.get("hint"), None);
}
