//! Layers and files that break their formats, and names that speak to terminals.

use super::content::{ar, elf, pyc, zip};
use super::{Blob, Image, Tar, differ, one, two};
use crate::support::kiln::Kiln;

/// Every file is what its format says but for some bytes, or cut off.
#[test]
fn broken_files_are_compared_as_far_as_they_go() {
    let whole = [
        ("prog", elf(&[(".text", b"abcdef"), (".comment", b"GCC\0")])),
        ("lib.a", ar(0, "content\n")),
        ("app.jar", zip(7, b"content")),
        ("m.pyc", pyc(0, 7, "code")),
        ("f.gz", Blob::gzip(b"content", flate2::GzBuilder::new(), 6).bytes),
        ("f.tar", one("in", "content")),
        ("f.json", b"{\"a\": [1, 2, {\"b\": 3}]}".to_vec()),
    ];
    let mut state = 12_345_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut a, mut b) = (Tar::new(), Tar::new());
    let mut count = 0;
    for (name, content) in &whole {
        for round in 0..120 {
            let mut broken = content.clone();
            for _ in 0..=round % 3 {
                let at = random(broken.len());
                broken[at] = [0, 0xff, 0x7f, random(256) as u8][random(4)];
            }
            if round % 4 == 0 {
                broken.truncate(random(broken.len()));
            }
            if broken == *content {
                continue;
            }
            let path = format!("{round}/{name}");
            a = a.file(&path, content);
            b = b.file(&path, &broken);
            count += 1;
        }
    }
    let kiln = Kiln::new();
    two(&kiln, &a.done(), &b.done());
    let json = differ(&kiln, "--all --format json a b").json();
    let files = json["images"][0]["layers"][0]["files"]["files"].as_array().unwrap();
    assert_eq!(files.len(), count);
    for file in files {
        assert!(file["content"]["offset"].is_u64(), "{file}");
    }
    differ(&kiln, "--all a b");
}

/// Small files that promise more than they have are not followed: sections that are the whole
/// file again and again, members that are holes.
#[test]
fn small_files_do_not_make_long_work() {
    let kiln = Kiln::new();
    let program = |last: u8| {
        let names: Vec<String> = (0..2000).map(|number| format!(".s{number}")).collect();
        let empty: Vec<(&str, &[u8])> =
            names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let mut program = elf(&empty);
        let begin = u64::from_le_bytes(program[40..48].try_into().unwrap()) as usize;
        let size = program.len() as u64;
        for section in 1..=2000 {
            let at = begin + section * 64;
            program[at + 24..at + 32].copy_from_slice(&0_u64.to_le_bytes());
            program[at + 32..at + 40].copy_from_slice(&size.to_le_bytes());
        }
        program[16] = last;
        program
    };
    let holes = |last: &str| {
        let map = b"0,0,1099511627776,0";
        let records: super::Records<'_> =
            &[("GNU.sparse.map", map), ("GNU.sparse.size", b"1099511627776")];
        Tar::new().entry(b"hole", b'0', b"", records, |_| ()).file("in", last).done()
    };
    let tar = |last: u8| {
        let text = char::from(last).to_string();
        Tar::new().file("prog", program(last)).file("f.tar", holes(&text)).done()
    };
    two(&kiln, &tar(b'1'), &tar(b'2'));
    let lines = super::said(&kiln, "");
    let formats: Vec<&String> = lines.iter().filter(|line| line.contains(" offset ")).collect();
    assert_eq!(formats.len(), 2, "{lines:?}");
    assert!(formats.iter().all(|line| line.starts_with("  data ")), "{lines:?}");
}

#[test]
fn what_is_shown_does_not_move_the_cursor() {
    let kiln = Kiln::new();
    let tar = |content: &str| {
        let tar = Tar::new().entry(b"a\x1b[2Jb\r\xc2\x9b1m", b'0', content.as_bytes(), &[], |_| ());
        tar.link("l", b'2', &format!("\u{1b}]0;{}", content.trim())).done()
    };
    let mut image = Image::of(&kiln, &[Blob::plain(&tar("one\u{1b}[31m\u{202e}\n"))]);
    image.config["author"] = "\u{1b}[2J".into();
    image.config["history"][0]["created_by"] = "RUN \u{1b}[2J".into();
    image.keep(&kiln, "a");
    let mut image = Image::of(&kiln, &[Blob::plain(&tar("two\u{7}\n"))]);
    image.config["\u{1b}[H"] = "x".into();
    image.config["history"][0]["created_by"] = "RUN \u{1b}[2J".into();
    image.keep(&kiln, "b");
    let text = differ(&kiln, "--all a b").text();
    assert!(text.contains("a\\u{1b}[2Jb\\u{d}\\u{9b}1m"), "{text}");
    assert!(text.contains("RUN \\u{1b}[2J"), "{text}");
    let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(bad), "{text:?}");
}

#[test]
fn what_cannot_be_compared_is_said_and_exits_2() {
    let kiln = Kiln::new();
    let good = one("f", "x");
    Image::of(&kiln, &[Blob::plain(&good)]).keep(&kiln, "a");
    let of = |bytes: Vec<u8>, media_type: &'static str| {
        let blob = Blob { bytes, media_type, ..Blob::plain(b"other") };
        Image::of(&kiln, &[blob]).keep(&kiln, "b");
    };
    let plain = "application/vnd.oci.image.layer.v1.tar";
    of(good[..700].to_vec(), plain);
    kiln.fails(2, "diff a b").says("the archive is cut off");
    of(one("../f", "x"), plain);
    kiln.fails(2, "diff a b").says("leads out of the archive");
    of(b"no gzip at all".to_vec(), "application/vnd.oci.image.layer.v1.tar+gzip");
    kiln.fails(2, "diff a b").says("gzip");
    of(Tar::new().entry(b"f", b'0', b"", &[], |h| h.set_size(1 << 40)).done(), plain);
    kiln.fails(2, "diff a b").says("cut off");
    // The last one's blob is damaged, then gone.
    let tar = one("f", "other");
    Image::of(&kiln, &[Blob::plain(&tar)]).keep(&kiln, "b");
    differ(&kiln, "a b");
    let path = kiln.store().blob_path(&kiln::digest::BlobDigest::of(&tar));
    std::fs::write(&path, one("f", "third")).unwrap();
    kiln.fails(2, "diff a b").says("is damaged");
    std::fs::remove_file(&path).unwrap();
    kiln.fails(2, "diff a b").says("is not in the store").says("pull it again");
    kiln.fails(2, "diff a nowhere").says("no image `nowhere:latest`");
    kiln.fails(2, "diff a").says("<B>");
    let left: Vec<_> = std::fs::read_dir(kiln.store_path().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A file of 200 MB that differs at its end takes no memory to speak of.
#[test]
fn memory_does_not_grow_with_a_file() {
    const SIZE: usize = 200 << 20;
    let kiln = Kiln::new();
    for (name, last) in [("a", 1_u8), ("b", 2)] {
        let mut content = vec![0; SIZE];
        content[SIZE - 1] = last;
        let tar = one("f", &content);
        drop(content);
        Image::of(&kiln, &[Blob::gzip(&tar, flate2::GzBuilder::new(), 1)]).keep(&kiln, name);
    }
    let peak = |args: &[&str]| -> u64 {
        let (output, peak) = kiln.peak(args);
        assert!(output.code == Some(1) || output.code == Some(0), "{}", output.stderr);
        peak
    };
    let nothing = peak(&["diff", "a", "a"]);
    let all = peak(&["diff", "a", "b"]);
    assert!(all < nothing + (16 << 10), "{nothing} KiB before, {all} KiB with the files");
    let text = differ(&kiln, "a b").text();
    let expected = format!("content: data, differs from byte {} on in 1 byte", SIZE - 1);
    assert!(text.contains(&expected), "{text}");
}
