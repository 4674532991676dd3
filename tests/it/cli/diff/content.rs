//! What differs in files whose format is known.

use flate2::GzBuilder;

use super::{Blob, Tar, one, said, two};
use crate::support::kiln::Kiln;

/// A program of 64 bits with these sections.
pub(super) fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = vec![0];
    let mut body = vec![0; 64];
    let mut table = vec![vec![0; 64]];
    let mut put = |name: &str, content: &[u8], names: &mut Vec<u8>| {
        let mut entry = vec![0; 64];
        entry[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        entry[4] = 1;
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        entry[24..32].copy_from_slice(&(body.len() as u64).to_le_bytes());
        entry[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
        body.extend_from_slice(content);
        table.push(entry);
    };
    for (name, content) in sections {
        put(name, content, &mut names);
    }
    names.extend_from_slice(b".shstrtab\0");
    let all = names.clone();
    names.truncate(names.len() - 10);
    put(".shstrtab", &all, &mut names);
    body[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let begin = body.len() as u64;
    body[40..48].copy_from_slice(&begin.to_le_bytes());
    for (at, number) in [(58, 64), (60, table.len()), (62, table.len() - 1)] {
        body[at..at + 2].copy_from_slice(&(number as u16).to_le_bytes());
    }
    body.extend(table.concat());
    body
}

pub(super) fn ar(date: u32, content: &str) -> Vec<u8> {
    let size = content.len();
    format!("!<arch>\n{:16}{date:<12}{:<6}{:<6}{:<8}{size:<10}`\n{content}", "m.o/", 0, 0, 644)
        .into()
}

/// A zip archive of one stored file.
pub(super) fn zip(date: u16, content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0];
    common.extend(date.to_le_bytes());
    common.extend(crc.sum().to_le_bytes());
    common.extend([(content.len() as u32).to_le_bytes(); 2].concat());
    common.extend([5, 0, 0, 0]);
    let local =
        [b"PK\x03\x04".to_vec(), common.clone(), b"a.txt".to_vec(), content.to_vec()].concat();
    let table = [b"PK\x01\x02\x14\x00".to_vec(), common, vec![0; 14], b"a.txt".to_vec()].concat();
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    end.extend((table.len() as u32).to_le_bytes());
    end.extend((local.len() as u32).to_le_bytes());
    end.extend([0, 0]);
    [local, table, end].concat()
}

pub(super) fn pyc(flags: u8, mtime: u32, code: &str) -> Vec<u8> {
    let mut bytes = vec![0xcb, 0x0d, b'\r', b'\n', flags, 0, 0, 0];
    bytes.extend(mtime.to_le_bytes());
    bytes.extend([9, 0, 0, 0]);
    bytes.extend_from_slice(code.as_bytes());
    bytes
}

fn gzip(time: u32, name: &str, content: &[u8]) -> Vec<u8> {
    let header = GzBuilder::new().mtime(time).filename(name).operating_system(3);
    Blob::gzip(content, header, 6).bytes
}

/// What it is about, the file's name, its contents, and what is said.
type Case = (&'static str, &'static str, Vec<u8>, Vec<u8>, Vec<&'static str>);

#[test]
fn formats_say_what_differs() {
    let note = |id: u8| [b"\x04\0\0\0\x02\0\0\0\x03\0\0\0GNU\0".to_vec(), vec![id, id]].concat();
    let program = |id: u8, comment: &[u8], text: &[u8]| {
        elf(&[(".text", text), (".comment", comment), (".note.gnu.build-id", &note(id))])
    };
    let old = program(1, b"GCC: 13\0", b"\x01\x02code");
    let numbered = |last: &str| (0..100).map(|n| format!("{n}\n")).collect::<String>() + last;
    let json = |n: u32| format!("{{\"a\": {{\"b\": [1, {n}]}}, \"c\": 1}}");
    let inner = |time: u64, content: &str| {
        Tar::new().entry(b"in", b'0', content.as_bytes(), &[], |h| h.set_mtime(time)).done()
    };
    let date = |day: u16| (2020 - 1980) << 9 | 1 << 5 | day;
    let cases: Vec<Case> = vec![
        (
            "build ID",
            "prog",
            old.clone(),
            program(2, b"GCC: 13\0", b"\x01\x02code"),
            vec!["  elf offset 94 bytes 2", "    section .note.gnu.build-id: 0101 0202"],
        ),
        (
            "compiler",
            "prog",
            old.clone(),
            program(1, b"GCC: 14\0", b"\x01\x02code"),
            vec!["  elf offset 76 bytes 1", "    section .comment: GCC: 13 GCC: 14"],
        ),
        (
            "code",
            "prog",
            old.clone(),
            program(1, b"GCC: 13\0", b"\x01\x03code"),
            vec![
                "  elf offset 65 bytes 1",
                "    section .text: 6 bytes 6 bytes (from its byte 1 on)",
            ],
        ),
        (
            "a date in data",
            "prog",
            elf(&[(".rodata", b"\0built Jan 01 2020\0")]),
            elf(&[(".rodata", b"\0built Feb 02 2020\0")]),
            vec![
                "  elf offset 71 bytes 4",
                "    section .rodata: built Jan 01 2020 built Feb 02 2020 (from its byte 7 on)",
            ],
        ),
        (
            "a section more",
            "prog",
            elf(&[(".text", b"x")]),
            elf(&[(".text", b"x"), (".debug", b"yy")]),
            vec![
                "  size: 274 347",
                "  elf offset 40",
                "    section .shstrtab: .shstrtab .debug (from its byte 8 on)",
                "    section .debug: - 2",
            ],
        ),
        (
            "ar date",
            "lib.a",
            ar(0, "x\n"),
            ar(60, "x\n"),
            vec![
                "  ar offset 24 bytes 2",
                "    member m.o date: 1970-01-01T00:00:00Z 1970-01-01T00:01:00Z",
            ],
        ),
        (
            "ar content",
            "lib.a",
            ar(0, "x\n"),
            ar(0, "y\n"),
            vec!["  ar offset 68 bytes 1", "    member m.o content: 73cb3858a687 3bb2abb69ebb"],
        ),
        (
            "zip date",
            "app.jar",
            zip(date(1), b"x"),
            zip(date(2), b"x"),
            vec![
                "  zip offset 12 bytes 2",
                "    member a.txt date: 2020-01-01 00:00:00 2020-01-02 00:00:00",
            ],
        ),
        (
            "zip content",
            "app.jar",
            zip(date(1), b"x"),
            zip(date(1), b"y"),
            vec!["  zip offset 14 bytes 9", "    member a.txt content: crc 8cdc1683 crc fbdb2615"],
        ),
        (
            "pyc time",
            "m.pyc",
            pyc(0, 0, "code"),
            pyc(0, 60, "code"),
            vec![
                "  pyc offset 8 bytes 1",
                "    python.mtime: 1970-01-01T00:00:00Z 1970-01-01T00:01:00Z",
            ],
        ),
        (
            "pyc by hash",
            "m.pyc",
            pyc(1, 1, "code"),
            pyc(1, 2, "cods"),
            vec![
                "  pyc offset 8 bytes 2",
                "    python.hash: 0100000009000000 0200000009000000",
                "    python.code: 4 4 (from byte 19 on)",
            ],
        ),
        (
            "gzip time",
            "f.gz",
            gzip(0, "f", b"x"),
            gzip(60, "f", b"x"),
            vec!["  gzip offset 4 bytes 1", "    gzip.mtime: none 1970-01-01T00:01:00Z"],
        ),
        (
            "gzip name",
            "f.gz",
            gzip(0, "f", b"x"),
            gzip(0, "g", b"x"),
            vec!["  gzip offset 10 bytes 1", "    gzip.name: f g"],
        ),
        (
            "inside gzip",
            "f.json.gz",
            gzip(0, "f", json(1).as_bytes()),
            gzip(0, "f", json(2).as_bytes()),
            vec!["  gzip offset 29 bytes 5", "    json offset 16 bytes 1", "      a.b[1]: 1 2"],
        ),
        (
            "tar",
            "f.tar",
            inner(0, "x"),
            inner(60, "x"),
            vec![
                "  tar offset 145 bytes 5",
                "    member in mtime: 1970-01-01T00:00:00Z 1970-01-01T00:01:00Z",
            ],
        ),
        (
            "json",
            "f",
            json(1).into(),
            json(2).into(),
            vec!["  json offset 16 bytes 1", "    a.b[1]: 1 2"],
        ),
        (
            "spaces in json",
            "f",
            b"{\"a\":1}".to_vec(),
            b"{\"a\": 1}".to_vec(),
            vec![
                "  size: 7 8",
                "  json offset 5",
                "    encoding: 7 8 (the same values, written otherwise from byte 5 on)",
            ],
        ),
        (
            "text",
            "f",
            numbered("end\n").into(),
            numbered("new\nend\n").replace("7\n8\n", "7\n").into(),
            vec![
                "  size: 294 296",
                "  text offset 16",
                "    @@ -9 +9 @@",
                "    -8",
                "     …",
                "    +new",
            ],
        ),
        (
            "data",
            "f",
            b"\0\x01at 10:00\0".to_vec(),
            b"\0\x01at 11:00\0".to_vec(),
            vec!["  data offset 6 bytes 1", "    strings: at 10:00 at 11:00"],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, name, a, b, expected) in cases {
        let kiln = Kiln::new();
        two(&kiln, &one(name, a), &one(name, b));
        let mut lines = said(&kiln, "");
        assert_eq!(lines.remove(0), format!("~ {name} file"), "{what}");
        if lines != expected {
            wrong.push((what, lines));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A window of lines must not make what follows it look as if it were new.
#[test]
fn a_long_text_shows_what_differs_alone() {
    let kiln = Kiln::new();
    let text: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    two(&kiln, &one("f", &text), &one("f", text.replace("line 5\n", "line 5\nnew\n")));
    let lines = said(&kiln, "");
    assert_eq!(lines[3..], ["    @@ -7 +7 @@", "    +new"], "{lines:?}");
}

#[test]
fn times_in_archives_come_with_a_hint() {
    for (name, a, b, says) in [
        ("f.gz", gzip(0, "f", b"x"), gzip(60, "f", b"x"), "`gzip -n`"),
        ("lib.a", ar(0, "x\n"), ar(60, "x\n"), "`ar rcD`"),
        ("app.jar", zip(33, b"x"), zip(34, b"x"), "`zip -X`"),
    ] {
        let kiln = Kiln::new();
        two(&kiln, &one(name, a), &one(name, b));
        let text = super::differ(&kiln, "a b").text();
        assert!(text.contains("hint: ") && text.contains(says), "{text}");
    }
}
