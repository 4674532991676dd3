//! What is written is read back, by kiln and by GNU tar; what is hostile is refused.

use std::io::Read as _;
use std::process::{Command, Stdio};

use super::*;
use crate::digest::BlobDigest;

fn name(text: &[u8]) -> Name {
    Name::clean(text).unwrap()
}

fn samples() -> Vec<(Entry, Vec<u8>)> {
    let file = |path: &[u8], content: &[u8]| {
        let kind = Kind::File { size: content.len() as u64 };
        (Entry { kind, mode: 0o644, ..Entry::dir(name(path), 315_532_800) }, content.to_vec())
    };
    let long = [b"d/".as_slice(), &b"x".repeat(200), b"/", &b"y".repeat(150)].concat();
    let mut all = vec![
        (Entry::dir(name(b"d"), 1), Vec::new()),
        file(b"d/a", b"hello"),
        file(b"d/empty", b""),
        file(&long, b"long name"),
        file(b"d/\xff\xfe odd", b"no UTF-8"),
        file(b"d/block", &[7; 512]),
    ];
    let mut suid = file(b"d/suid", b"#!");
    suid.0.mode = 0o6755;
    suid.0.uid = 3_000_000_000;
    suid.0.gid = 70_000;
    suid.0.mtime = -5;
    suid.0.xattrs.insert("security.capability".into(), RawBytes(b"\0\n=\xff".to_vec()));
    all.push(suid);
    let other = |path: &[u8], kind: Kind| (Entry { kind, ..Entry::dir(name(path), 2) }, Vec::new());
    all.push(other(b"d/hard", Kind::Hardlink { target: name(b"d/a") }));
    all.push(other(b"d/soft", Kind::Symlink { target: RawBytes(b"../../etc/passwd".to_vec()) }));
    all.push(other(b"d/softlong", Kind::Symlink { target: RawBytes(b"t".repeat(300)) }));
    all.push(other(b"d/null", Kind::Char { major: 1, minor: 3 }));
    all.push(other(b"d/fifo", Kind::Fifo));
    all
}

fn written() -> Vec<u8> {
    let form = LayerForm::from(Compression::None);
    let mut writer = LayerWriter::indexed(Vec::new(), form);
    for (entry, content) in samples() {
        writer.entry(&entry, &mut content.as_slice()).unwrap();
    }
    writer.gone(&name(b"d/gone"), 3).unwrap();
    let Written { to: tar, diff_id, index, .. } = writer.finish_whole().unwrap();
    assert_eq!(diff_id, DiffId::of(&tar));
    assert_eq!(index, LayerIndex::read(tar.as_slice()).unwrap());
    tar
}

#[test]
fn round_trip() {
    let tar = written();
    let mut reader = Reader::new(tar.as_slice());
    for (entry, content) in samples() {
        assert_eq!(reader.next().unwrap().unwrap(), entry);
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!(found, content);
    }
    let mark = reader.next().unwrap().unwrap();
    assert_eq!(whiteout_of(&mark.name), Some(Whiteout::Gone(name(b"d/gone"))));
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn gnu_tar_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    std::fs::write(&path, written()).unwrap();
    let list = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(&path)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&list.stdout);
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    assert!(text.contains("-rwsr-sr-x 3000000000/70000"), "{text}");
    assert!(text.contains("d/hard link to d/a"), "{text}");
    assert!(text.contains("1,3"), "{text}");
    assert!(text.contains(&"y".repeat(150)), "{text}");
}

/// A file with holes is read whole, in whichever form GNU tar stores it.
#[test]
fn sparse_files_are_read() {
    use std::os::unix::fs::FileExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("holes")).unwrap();
    // More pieces than a header has room for, and a hole at the end.
    for piece in 0..40u64 {
        file.write_all_at(&[b'a' + u8::try_from(piece % 26).unwrap(); 3000], piece * 40_000)
            .unwrap();
    }
    file.set_len(1_700_000).unwrap();
    let whole = std::fs::read(folder.path().join("holes")).unwrap();
    std::fs::write(folder.path().join("next"), b"next").unwrap();
    for form in
        [&["--format=gnu"][..], &["--format=pax", "--sparse-version=0.1"], &["--format=pax"]]
    {
        let output = Command::new("tar")
            .args(form)
            .args(["--sparse", "--hole-detection=raw", "--sort=name", "-C"])
            .arg(folder.path())
            .args(["-cf", "-", "holes", "next"])
            .output()
            .unwrap();
        assert!(output.stdout.len() < 800_000, "{form:?}: it has no holes");
        let mut reader = Reader::new(output.stdout.as_slice());
        let entry = reader.next().unwrap().unwrap();
        assert_eq!(entry.name, name(b"holes"), "{form:?}");
        assert_eq!(entry.kind, Kind::File { size: 1_700_000 }, "{form:?}");
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert!(found == whole, "{form:?}");
        // Read in part, the rest is skipped.
        let mut reader = Reader::new(output.stdout.as_slice());
        reader.next().unwrap();
        reader.read_exact(&mut [0; 5000]).unwrap();
        assert_eq!(reader.next().unwrap().unwrap().name, name(b"next"));
        let mut found = String::new();
        reader.read_to_string(&mut found).unwrap();
        assert_eq!(found, "next");
    }
}

/// Records of global headers that change nothing are passed over.
#[test]
fn global_headers() {
    for (key, good) in [
        ("comment", true),
        ("vendor.x", true),
        ("path", false),
        ("size", false),
        ("SCHILY.xattr.user.a", false),
        ("GNU.sparse.major", false),
    ] {
        let record = pax::write(&[(key.to_owned(), b"1".to_vec())].into());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XGlobalHeader);
        header.set_size(record.len() as u64);
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend(record);
        tar.resize(1024, 0);
        assert_eq!(LayerIndex::read(tar.as_slice()).is_ok(), good, "{key}");
    }
}

/// What GNU tar writes in each of its formats is read as the same.
#[test]
fn gnu_tar_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "x".repeat(120), "y".repeat(120));
    std::fs::create_dir(folder.path().join("x".repeat(120))).unwrap();
    std::fs::write(folder.path().join(&long), b"content").unwrap();
    std::os::unix::fs::symlink("z".repeat(200), folder.path().join("link")).unwrap();
    for format in ["gnu", "pax"] {
        let output = Command::new("tar")
            .args(["--format", format, "--sort=name", "-C"])
            .arg(folder.path())
            .args(["-cf", "-", "."])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let index = LayerIndex::read(output.stdout.as_slice()).unwrap();
        let names: Vec<String> = index.iter().map(|e| e.name.display().into_owned()).collect();
        assert_eq!(
            names,
            ["".to_owned(), "link".into(), "x".repeat(120), long.clone()],
            "{format}"
        );
        assert_eq!(
            index.iter().nth(1).unwrap().kind,
            Kind::Symlink { target: RawBytes(b"z".repeat(200)) }
        );
    }
}

#[test]
fn hostile_archives_are_refused() {
    let read = |tar: &[u8]| LayerIndex::read(tar).map_err(|error| error.to_string());
    let refused = |tar: &[u8], word: &str| {
        let error = read(tar).unwrap_err();
        assert!(error.contains(word), "{error}");
    };
    let header = |kind: u8, path: &[u8], size: u64| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    refused(&header(b'0', b"../x", 0), "leads out");
    refused(&header(b'0', b"a/../../x", 0), "leads out");
    refused(&header(b'0', b"x", 100), "cut off");
    refused(&header(b'x', b"x", 1 << 31), "extended header");
    refused(&header(b'L', b"x", 1 << 40), "extended header");
    refused(&header(b'S', b"x", 0), "not GNU's");
    refused(&header(b'M', b"x", 0), "not known");
    refused(&header(b'2', b"x", 0), "no target");
    refused(&header(b'5', b"x", 512), "content");
    let mut broken = header(b'0', b"x", 0);
    broken[0] = b'y';
    refused(&broken, "checksum");
    refused(&broken[..300], "cut off");
    let mut appended = written();
    appended.extend(header(b'0', b"hidden", 0));
    refused(&appended, "after the archive's end");
    let tar = written();
    for cut in (1..tar.len() - 1024).step_by(97) {
        // Cut between two entries it is a shorter archive, as others take it too.
        let _ = read(&tar[..cut]);
    }
}

/// A large file's blocks are its own: they are the same wherever it is, and noise is not
/// mixed with text.
#[test]
fn large_files_have_blocks_of_their_own() {
    let (noise, words) = (samples::random(3 << 20), samples::text(3 << 20));
    let form = LayerForm::from(Compression::Gzip);
    let write = |files: &[(&str, &[u8])], earlier| {
        let mut writer = LayerWriter::new(Vec::new(), form).tabled(earlier);
        for (path, content) in files {
            let kind = Kind::File { size: content.len() as u64 };
            let entry = Entry { kind, ..Entry::dir(name(path.as_bytes()), 1) };
            writer.entry(&entry, &mut &**content).unwrap();
        }
        writer.finish_whole().unwrap()
    };
    let small = samples::text(100_000);
    let first = write(&[("a", &noise), ("b", &words), ("c", &small)], None);
    let bytes = first.blocks.to_bytes(form, &BlobDigest::of(&first.to));
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &first.to).unwrap();
    let earlier = Earlier::read(&bytes, form).unwrap().from(file);
    // In another order, with something before them.
    let files: [(&str, &[u8]); 4] = [("0", &small), ("a", &words), ("b", &small), ("c", &noise)];
    let second = write(&files, Some(earlier));
    assert_eq!(second.to, write(&files, None).to);
    let (all, reused) = (second.blocks.count(), second.blocks.reused());
    // Headers are parts of the first block of each file.
    assert!(all - reused <= 5 && reused >= 2, "{reused} of {all}");
    let stored = flate2::read::MultiGzDecoder::new(first.to.as_slice());
    assert_eq!(LayerIndex::read(stored).unwrap().len(), 3);
}

/// A size that nothing has, as hostile archives state it.
#[test]
fn a_size_beyond_all_bounds_is_an_error() {
    let mut header = tar::Header::new_gnu();
    header.set_path("a").unwrap();
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    for size in [u64::MAX, u64::MAX - 511, 1 << 63] {
        header.set_size(size);
        header.set_cksum();
        let bytes = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        assert!(LayerIndex::read(bytes.as_slice()).is_err(), "{size}");
    }
}
