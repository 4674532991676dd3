//! Bundles that were damaged, or made to be refused.

use std::fs;
use std::path::Path;

use kiln::digest::BlobDigest;

use super::{large, signed, text};
use crate::cli::keep;
use crate::support::kiln::Kiln;

/// Where the content of a file begins in a tar.
fn place(archive: &[u8], name: &str) -> usize {
    let mut at = 0;
    loop {
        let header = &archive[at..at + 512];
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size.trim_matches('\0'), 8).unwrap();
        if header.starts_with(name.as_bytes()) {
            return at + 512;
        }
        at += 512 + size.next_multiple_of(512);
    }
}

fn blob(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A byte of each kind of thing: whatever it is, nothing has a name in the end, and what was
/// damaged is named.
#[test]
fn damage_is_found_wherever_it_is() {
    let from = Kiln::new();
    let (index, [signature, ..]) = signed(&from);
    let store = from.store();
    let image = store.image_named(&"app:1".parse().unwrap()).unwrap().images()[0].clone();
    let signed: serde_json::Value =
        serde_json::from_slice(&store.document(&signature).unwrap()).unwrap();
    let content: BlobDigest = signed["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    from.ok("bundle -o b.tar --image app:1");
    let good = fs::read(from.path("b.tar")).unwrap();
    for (what, name, says) in [
        ("index", blob(&index), index.to_string()),
        ("manifest", blob(&image.digest()), image.digest().to_string()),
        ("config", blob(&image.config_raw().digest), image.config_raw().digest.to_string()),
        ("layer", blob(&large(&from)), large(&from).to_string()),
        ("signature", blob(&signature), signature.to_string()),
        ("its blob", blob(&content), content.to_string()),
        ("layout", "oci-layout".into(), "layout".into()),
        ("index.json", "index.json".into(), "index.json".into()),
    ] {
        let mut bytes = good.clone();
        let at = place(&bytes, &name);
        bytes[at + 1] ^= 0x15;
        fs::write(from.path("bad.tar"), bytes).unwrap();
        let to = Kiln::new();
        let failed = to.fails(1, &format!("load -i {}", text(from.path("bad.tar"))));
        assert!(failed.stderr.contains(&says), "{what}: {}", failed.stderr);
        assert_eq!(to.store().names().unwrap(), [], "{what}");
        assert_eq!(to.store().subjects().unwrap(), [], "{what}");
    }
    for end in [700, good.len() / 2, good.len() - 1024] {
        fs::write(from.path("bad.tar"), &good[..end]).unwrap();
        Kiln::new().fails(1, &format!("load -i {}", text(from.path("bad.tar"))));
    }
    let says = format!("`app:1`: blob {}", large(&from));
    let mut bytes = good;
    let at = place(&bytes, &blob(&large(&from)));
    bytes[at] ^= 1;
    fs::write(from.path("bad.tar"), bytes).unwrap();
    Kiln::new().fails(1, &format!("load -i {}", text(from.path("bad.tar")))).says(&says);
}

/// A list that says of a manifest that it refers to another.
#[test]
fn a_list_that_lies_is_refused() {
    let from = Kiln::new();
    let (_, [_, sbom, upon]) = signed(&from);
    from.ok("bundle -o b.tar --image app:1");
    let good = fs::read(from.path("b.tar")).unwrap();
    // The lists of two subjects change places: both have one entry.
    let one = format!("sha256-{}", sbom.hex());
    let at = place(&good, "index.json");
    let end = at + good[at..].iter().position(|byte| *byte == 0).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&good[at..end]).unwrap();
    let other = index["manifests"].as_array().unwrap().iter().find_map(|entry| {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
        (name.starts_with("sha256-") && name != one).then(|| name.to_owned())
    });
    let other = other.unwrap();
    let told = String::from_utf8(good[at..end].to_vec()).unwrap();
    let told = told.replace(&one, "X").replace(&other, &one).replace('X', &other);
    let mut bytes = good.clone();
    bytes[at..end].copy_from_slice(told.as_bytes());
    fs::write(from.path("bad.tar"), bytes).unwrap();
    let to = Kiln::new();
    to.fails(1, &format!("load -i {}", text(from.path("bad.tar")))).says("listed as referring to");
    assert_eq!(to.store().names().unwrap(), []);
    assert_ne!(upon, sbom);
}

#[test]
fn memory_does_not_grow_with_blobs() {
    let from = Kiln::new();
    keep(&from, "small");
    fs::create_dir(from.path("c")).unwrap();
    let file = fs::File::create(from.path("c/large")).unwrap();
    file.set_len(192 << 20).unwrap();
    fs::write(from.path("c/Dockerfile"), "FROM scratch\nCOPY large /\n").unwrap();
    from.ok("build --compression uncompressed -t large c");
    let bundle = |image: &str| {
        let file = format!("{image}.tar");
        let (made, peak) = from.peak(&["bundle", "-o", &file, "--split", "50m", "--image", image]);
        made.success();
        let to = Kiln::new();
        let first = text(from.path(format!("{file}.001")));
        let (loaded, load) = to.peak(&["load", "-i", &first]);
        loaded.success();
        [peak, load]
    };
    let (small, large) = (bundle("small"), bundle("large"));
    for (small, large) in small.into_iter().zip(large) {
        assert!(large < small + (24 << 10), "{small} KiB, {large} KiB");
    }
}

/// `index.json` may name one manifest as often as it has room for that.
#[test]
fn memory_does_not_grow_with_what_is_listed_again() {
    let from = Kiln::new();
    fs::create_dir(from.path("c")).unwrap();
    let label = "x".repeat(1 << 20);
    fs::write(from.path("c/Dockerfile"), format!("FROM scratch\nLABEL a={label}\n")).unwrap();
    from.ok("build -t app c");
    from.ok("bundle -o once.tar --image app");
    let again = |times: usize| {
        let once = fs::read(from.path("once.tar")).unwrap();
        let mut to = tar::Builder::new(fs::File::create(from.path("again.tar")).unwrap());
        for entry in tar::Archive::new(once.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            if entry.path().unwrap() == Path::new("index.json") {
                let mut index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                let one = index["manifests"][0].clone();
                index["manifests"] = vec![one; times].into();
                bytes = serde_json::to_vec(&index).unwrap();
            }
            let mut header = entry.header().clone();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            to.append(&header, bytes.as_slice()).unwrap();
        }
        to.finish().unwrap();
        let file = text(from.path("again.tar"));
        let listed = from.peak(&["bundle", "--list", &file]).1;
        let kiln = Kiln::new();
        let (loaded, load) = kiln.peak(&["load", "-i", &file]);
        assert_eq!(loaded.success().text(), "app:latest\n");
        [listed, load]
    };
    for (few, many) in again(1).into_iter().zip(again(400)) {
        assert!(many < few + (24 << 10), "{few} KiB, {many} KiB");
    }
}

/// An archive in which texts were replaced by others of the same length, and all digests that
/// lead to them are right again.
pub(super) fn forged(archive: &[u8], replaced: &[(String, String)]) -> Vec<u8> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        files.push((name, bytes));
    }
    let mut waiting: std::collections::VecDeque<_> = replaced.to_vec().into();
    while let Some((old, new)) = waiting.pop_front() {
        for (name, bytes) in &mut files {
            let Ok(text) = std::str::from_utf8(bytes) else { continue };
            let changed = text.replace(&old, &new);
            if changed != text && !name.ends_with('/') {
                *bytes = changed.into_bytes();
                if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                    let now = BlobDigest::of(bytes).hex();
                    waiting.push_back((hex.to_owned(), now.clone()));
                    *name = format!("blobs/sha256/{now}");
                }
            }
        }
    }
    let mut to = tar::Builder::new(Vec::new());
    for (name, bytes) in files.iter().filter(|(name, _)| !name.ends_with('/')) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        to.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    to.into_inner().unwrap()
}
