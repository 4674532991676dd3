//! What kiln must not leave behind: processes, mounts, control groups,
//! containers, unfinished work.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use walkdir::WalkDir;

use crate::support::kiln::Kiln;

/// Checks that a home has nothing at work and nothing unfinished. Processes end
/// a moment after the command that ended them.
#[track_caller]
pub(super) fn none(kiln: &Kiln) {
    let home = kiln.path("");
    let mut found = Vec::new();
    for _ in 0..100 {
        found = traces(&home, &kiln.store_path());
        if found.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("left behind: {found:#?}");
}

/// Checks that nothing is left of a container's control groups.
#[track_caller]
pub(super) fn no_group(id: &str) {
    let left = groups(id);
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// The control groups of a container.
pub(super) fn groups(id: &str) -> Vec<std::path::PathBuf> {
    let all = WalkDir::new("/sys/fs/cgroup").into_iter().filter_map(Result::ok);
    let named = all.filter(|entry| {
        entry.file_type().is_dir() && entry.file_name().to_str().is_some_and(|n| n.contains(id))
    });
    named.map(walkdir::DirEntry::into_path).collect()
}

fn traces(home: &Path, store: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, but) in [("tmp", ""), ("containers", "lock")] {
        let entries = fs::read_dir(store.join(folder)).into_iter().flatten().filter_map(Result::ok);
        let left = entries.filter(|entry| entry.file_name() != but);
        found.extend(left.map(|entry| entry.path().display().to_string()));
    }
    let home = home.as_os_str().as_bytes();
    for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        found.extend(ties(&entry.path(), home).into_iter().map(|tie| format!("{pid}: {tie}")));
    }
    found
}

/// How a process depends on a folder, if it does.
fn ties(process: &Path, folder: &[u8]) -> Vec<String> {
    let has = |bytes: &[u8]| bytes.windows(folder.len()).any(|part| part == folder);
    let mut ties = Vec::new();
    // `mountinfo` names the places in the file system of what is mounted, also
    // in a container; of this process it would show what the host sees.
    for file in ["cmdline", "environ", "mountinfo"] {
        // It ended meanwhile, or is another user's.
        let Ok(bytes) = fs::read(process.join(file)) else { continue };
        if has(&bytes) {
            let line = bytes.split(|byte| *byte == b'\n').find(|line| has(line)).unwrap_or(&bytes);
            ties.push(format!("{file}: {}", String::from_utf8_lossy(line)));
        }
    }
    for link in ["cwd", "root", "exe"] {
        let Ok(target) = fs::read_link(process.join(link)) else { continue };
        if target.as_os_str().as_bytes().starts_with(folder) {
            ties.push(format!("{link}: {}", target.display()));
        }
    }
    ties
}
