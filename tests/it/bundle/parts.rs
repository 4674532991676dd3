//! Bundles in parts: each is checked by itself, and what is wrong with one is named.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use kiln::bundle::{Making, make};
use kiln::copy::{Env, Parcel};
use kiln::output::Work;
use kiln::progress::Progress;
use kiln::registry::{Options, Registries};

use super::text;
use crate::cli::{image, keep};
use crate::support::kiln::{Kiln, program, tool};

/// Where blobs are larger than a part; gives the number of parts.
fn parted(kiln: &Kiln) -> usize {
    keep(kiln, "app:1");
    noise(kiln);
    kiln.ok("bundle -o b.tar --split 64k --image app:1 --image noise");
    (1..).take_while(|number| part(kiln, *number).exists()).count()
}

/// An image with a layer that does not get smaller.
fn noise(kiln: &Kiln) {
    let mut state = 1_u32;
    let bytes: Vec<u8> = (0..300_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect();
    fs::create_dir_all(kiln.path("noise")).unwrap();
    fs::write(kiln.path("noise/bytes"), bytes).unwrap();
    fs::write(kiln.path("noise/Dockerfile"), "FROM scratch\nCOPY bytes /\n").unwrap();
    kiln.ok("build -t noise noise");
}

fn part(kiln: &Kiln, number: usize) -> std::path::PathBuf {
    kiln.path(format!("b.tar.{number:03}"))
}

#[test]
fn parts_are_the_archive() {
    let kiln = Kiln::new();
    let count = parted(&kiln);
    assert!(count > 4, "{count}");
    let whole = kiln.ok("bundle -o whole.tar --image app:1 --image noise").text();
    let joined: Vec<u8> = (1..=count).flat_map(|n| fs::read(part(&kiln, n)).unwrap()).collect();
    assert!(joined == fs::read(kiln.path("whole.tar")).unwrap());
    let listing = kiln.ok("bundle --list b.tar.001 --format json").json();
    assert_eq!(listing["digest"], whole.trim());
    // By the machine's own tool.
    let mut check = kiln.program("sha256sum");
    check.command.args(["--check", "--quiet", "b.tar.sha256"]);
    check.run().success();
    for name in ["b.tar.001", "b.tar"] {
        let to = Kiln::new();
        let printed = to.ok(&format!("load -i {}", text(kiln.path(name)))).text();
        assert_eq!(printed, "app:1\nnoise:latest\n");
        assert_eq!(to.ok("images --digests").text(), kiln.ok("images --digests").text());
    }
    kiln.fails(1, "load -i b.tar.002").says("name the first: b.tar.001");
    // There may be more parts than a process may have files open.
    let few = format!("ulimit -n 40; exec \"$0\" bundle --list {}", text(kiln.path("small.tar")));
    kiln.ok("bundle -o small.tar --split 4k --image app:1 --image noise");
    assert!(kiln.path("small.tar.064").exists());
    let mut call = kiln.program("sh");
    call.command.arg("-c").arg(few).arg(program());
    call.run().success();
    // Neither form is written beside the other, nor guessed at.
    kiln.fails(1, "bundle -o b.tar --image noise").says("in parts").says("remove");
    kiln.fails(1, "bundle -o whole.tar --split 64k --image noise").says("one file");
    fs::copy(kiln.path("whole.tar"), kiln.path("b.tar")).unwrap();
    kiln.fails(1, "load -i b.tar").says("as one file and in parts");
    fs::remove_file(kiln.path("b.tar")).unwrap();
    // An increment may be made over one in parts.
    kiln.ok("bundle -o since.tar --since b.tar.001 --image noise");
    assert_eq!(kiln.ok("bundle --list since.tar --format json").json()["since"][0], whole.trim());
    let place = format!("oci-archive:{}:docker.io/library/noise:latest", text(kiln.path("x.tar")));
    tool("sh", &["-c", &format!("cat {}/b.tar.0* > {0}/x.tar", text(kiln.path("")))]);
    tool("skopeo", &["--insecure-policy", "inspect", &place]);
}

#[test]
fn a_part_that_is_wrong_is_named() {
    let kiln = Kiln::new();
    let count = parted(&kiln);
    let good: Vec<Vec<u8>> = (1..=count).map(|n| fs::read(part(&kiln, n)).unwrap()).collect();
    let list = fs::read(kiln.path("b.tar.sha256")).unwrap();
    let refused = |says: &[&str]| {
        let to = Kiln::new();
        let failed = to.fails(1, &format!("load -i {}", text(part(&kiln, 1))));
        says.iter().fold(failed, |failed, text| failed.says(text));
        assert_eq!(to.ok("images -q").text(), "", "nothing has got a name");
    };
    let restore = || {
        for (at, bytes) in good.iter().enumerate() {
            fs::write(part(&kiln, at + 1), bytes).unwrap();
        }
        fs::write(kiln.path("b.tar.sha256"), &list).unwrap();
    };
    // In the middle of a blob; the blob and its image are named, too.
    let mut bytes = good[2].clone();
    bytes[40_000] ^= 1;
    fs::write(part(&kiln, 3), bytes).unwrap();
    refused(&["b.tar.003 is not what b.tar.sha256 says", "`noise:latest`", "blob sha256:"]);
    restore();
    fs::write(part(&kiln, 2), &good[2]).unwrap();
    fs::write(part(&kiln, 3), &good[1]).unwrap();
    refused(&["b.tar.002 has what b.tar.sha256 lists as part 3", "b.tar.003 has what"]);
    restore();
    for number in [1, 2, count] {
        fs::write(part(&kiln, number), &good[number - 1][..700]).unwrap();
        refused(&[&format!("b.tar.{number:03} is not what")]);
        restore();
    }
    fs::remove_file(part(&kiln, 2)).unwrap();
    fs::remove_file(part(&kiln, count)).unwrap();
    refused(&["b.tar.002 is not there", &format!("b.tar.{count:03} is not there")]);
    restore();
    fs::remove_file(kiln.path("b.tar.sha256")).unwrap();
    refused(&["the list of parts is not there", "b.tar.sha256"]);
    fs::write(kiln.path("b.tar.sha256"), "x  b.tar.001\n").unwrap();
    refused(&["no list of parts"]);
    restore();
    Kiln::new().ok(&format!("load -i {}", text(part(&kiln, 1))));
}

/// Whenever the work is stopped: parts that are there are whole, are not written again, and
/// nothing else is left.
#[test]
fn a_bundle_that_was_stopped_goes_on() {
    let kiln = Kiln::new();
    let store = kiln.store();
    keep(&kiln, "app:1");
    noise(&kiln);
    let folder = kiln.path("out");
    fs::create_dir(&folder).unwrap();
    let making = Making { to: folder.join("b.tar"), split: Some(30_000), since: Vec::new() };
    let task = Progress::silent().task("test");
    let (at, silent) = (registries(&kiln), Progress::silent());
    let env = Env { store: Some(&store), from: &at, to: &at, progress: &silent, stop: &|| false };
    let mut parcel = Parcel::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in ["app:1", "noise:latest"] {
        let place = format!("store:{name}").parse().unwrap();
        runtime.block_on(parcel.gather(&place, name, &env)).unwrap();
    }
    let inodes = || -> Vec<(String, u64)> {
        let files = fs::read_dir(&folder).unwrap().map(Result::unwrap);
        let mut all: Vec<_> = files
            .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().ino()))
            .collect();
        all.sort();
        all
    };
    let mut before: Vec<(String, u64)> = Vec::new();
    let mut grew = 0;
    for allowed in 0_u32.. {
        let left = Cell::new(allowed);
        let stop = || left.replace(left.get().saturating_sub(1)) == 0;
        let done = make(parcel.clone(), &making, &store, &Work::new(&task, &stop));
        let now = inodes();
        assert_eq!(now[..before.len()], before, "what was finished stays");
        grew += usize::from(now.len() > before.len());
        if done.is_ok() {
            assert!(now.last().unwrap().0.ends_with(".sha256"));
            break;
        }
        assert!(now.iter().all(|(name, _)| !name.starts_with('.') && !name.ends_with("sha256")));
        before = now;
    }
    assert!(grew > 1, "it was stopped between parts");
    task.done();
    let to = Kiln::new();
    to.ok(&format!("load -i {}", text(folder.join("b.tar.001"))));
    // An image is added: what stands before it in the archive is not the same, and is replaced.
    kiln.ok("bundle -o out/b.tar --split 30000 --image app:1");
    let said = kiln.ok("bundle -o out/b.tar --split 30000 --image app:1").stderr;
    assert!(said.contains("is of an earlier bundle"), "{said}");
    let to = Kiln::new();
    assert_eq!(to.ok(&format!("load -i {}", text(folder.join("b.tar.001")))).text(), "app:1\n");
}

fn registries(kiln: &Kiln) -> Registries {
    let conf = kiln.path("registries.conf");
    fs::write(&conf, "").unwrap();
    let auth_file = Some(kiln.path("auth.json"));
    Registries::load(Options { auth_file, registries_conf: Some(conf), ..Options::default() })
        .unwrap()
}

/// What is there already is not read again.
#[test]
fn a_load_that_broke_off_goes_on() {
    let kiln = Kiln::new();
    parted(&kiln);
    let to = Kiln::new();
    let last = text(part(&kiln, 1));
    // The first image is whole in the store; then the archive ends.
    let layers = image(&to, "linux/amd64").layers().to_vec();
    let held: Vec<u64> = layers
        .iter()
        .map(|layer| to.store().blob_path(&layer.digest).metadata().unwrap().ino())
        .collect();
    to.ok(&format!("load -i {last}"));
    let now: Vec<u64> = layers
        .iter()
        .map(|layer| to.store().blob_path(&layer.digest).metadata().unwrap().ino())
        .collect();
    assert_eq!(held, now);
}
