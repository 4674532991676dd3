//! Small images that would make work, or a report, without end.

use serde_json::{Map, Value, json};

use super::document::{entry, index};
use super::{Blob, Image, Tar, differ, one, said, two};
use crate::support::kiln::Kiln;

/// One manifest that is listed again and again is read once; an index of too many images is
/// refused.
#[test]
fn an_index_does_not_fill_memory() {
    let kiln = Kiln::new();
    let (amd, arm) = (entry(&kiln, "amd64", "x"), entry(&kiln, "arm64", "x"));
    index(&kiln, "a", &vec![amd.clone(); 10_000], json!({}));
    index(&kiln, "b", &[amd], json!({}));
    let lines = said(&kiln, "");
    assert_eq!(lines.len(), 9999, "entries alone: {:?}", &lines[..3]);
    assert!(lines.iter().all(|line| line.starts_with("index manifests[linux/amd64#")));
    let many: Vec<Value> =
        (0..257).map(|number| entry(&kiln, "arm64", &number.to_string())).collect();
    index(&kiln, "b", &many, json!({}));
    kiln.fails(2, "diff a b").says("it has more than 256 images");
    index(&kiln, "b", &[arm], json!({}));
    // In a folder as in the store.
    let from = kiln.store_path();
    let blobs = from.join("blobs");
    let folder = kiln.path("layout");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(blobs, folder.join("blobs")).unwrap();
    std::fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    index(&kiln, "many", &many, json!({}));
    std::fs::copy(from.join("index.json"), folder.join("index.json")).unwrap();
    let names = |name: &str| format!("oci:{}:docker.io/library/{name}:latest", folder.display());
    kiln.fails(2, &format!("diff {} a", names("many"))).says("it has more than 256 images");
    let lines = lines_of(&kiln, &format!("{} {}", names("a"), names("b")));
    assert_eq!(lines.len(), 10_003, "{:?}", &lines[..3]);
}

fn lines_of(kiln: &Kiln, args: &str) -> Vec<String> {
    super::lines(&super::differ(kiln, &format!("--format json {args}")).json())
}

/// A tar with a file that is a hole of so many bytes.
fn hole(size: u64, last: &str) -> Vec<u8> {
    let map = format!("0,0,{size},0");
    let size = size.to_string();
    let records: super::Records<'_> =
        &[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", size.as_bytes())];
    Tar::new().entry(b"hole", b'0', b"", records, |_| ()).file("in", last).done()
}

#[test]
fn a_layer_of_a_hole_is_refused() {
    let kiln = Kiln::new();
    two(&kiln, &hole(1 << 40, "1"), &hole(1 << 40, "2"));
    let refused = kiln.fails(2, "diff a b");
    refused.says("cannot be compared: with it there are files with more holes");
    // Holes as files have them.
    two(&kiln, &hole(1 << 20, "1"), &hole(1 << 20, "2"));
    assert_eq!(said(&kiln, "")[0], "~ in file");
}

/// Nothing is read while a hole is hashed: a signal ends that too.
#[test]
fn a_signal_ends_a_hole() {
    let kiln = Kiln::new();
    two(&kiln, &hole(60 << 30, "1"), &hole(60 << 30, "2"));
    let mut call = kiln.args(["diff", "a", "b"]);
    let child = call.command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let tmp = kiln.store_path().join("tmp");
    let entries = || std::fs::read_dir(&tmp).map_or(0, Iterator::count);
    while entries() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(entries(), 0);
}

/// Documents of a megabyte, each of whose thousands of leaves has a path of half of it.
#[test]
fn long_paths_do_not_multiply() {
    let kiln = Kiln::new();
    let document = |n: u32| {
        let leaves: Map<String, Value> = (0..40_000).map(|at| (at.to_string(), n.into())).collect();
        json!({ "k".repeat(500_000): leaves, "text": "x".repeat(10_000) + &n.to_string() })
    };
    let tar = |n: u32| one("f", document(n).to_string());
    let mut image = Image::of(&kiln, &[Blob::plain(&tar(1))]);
    image.config["more"] = document(1);
    image.keep(&kiln, "a");
    let mut image = Image::of(&kiln, &[Blob::plain(&tar(2))]);
    image.config["more"] = document(2);
    image.keep(&kiln, "b");
    let report = differ(&kiln, "--format json a b").json();
    let config = report["images"][0]["config"].as_array().unwrap();
    assert_eq!(config.len(), 10_001);
    assert_eq!(config[10_000]["note"], "30001 more fields differ");
    let content = &report["images"][0]["layers"][0]["files"]["files"][0]["content"];
    assert_eq!(content["format"], "json");
    assert_eq!(
        (content["fields"].as_array().unwrap().len(), &content["more"]),
        (16, &json!(39_985))
    );
    let text = differ(&kiln, "a b").text();
    assert!(text.len() < 10_000_000, "{}", text.len());
    assert!(text.contains("…: (none)") || text.contains("… (30001 more fields differ)"), "more");
}

/// A table of contents of 200,000 entries is not held; 20,000 are counted.
#[test]
fn many_members_are_counted_alone() {
    let archive = |count: usize, n: u8| {
        let mut one = [0; 46];
        one[..4].copy_from_slice(b"PK\x01\x02");
        one[16] = n;
        let table = one.repeat(count);
        let mut end = b"PK\x05\x06".to_vec();
        end.extend([0; 8]);
        end.extend((table.len() as u32).to_le_bytes());
        end.extend(4_u32.to_le_bytes());
        end.extend([0, 0]);
        [b"PK\x03\x04".to_vec(), table, end].concat()
    };
    for (count, expected) in [(20_000, "zip"), (200_000, "data")] {
        let kiln = Kiln::new();
        two(&kiln, &one("f", archive(count, 1)), &one("f", archive(count, 2)));
        let report = differ(&kiln, "--format json a b").json();
        let content = &report["images"][0]["layers"][0]["files"]["files"][0]["content"];
        assert_eq!(content["format"], expected);
        if expected == "zip" {
            assert_eq!(content["more"], count - 16);
        }
    }
}
