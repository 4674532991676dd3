//! Limits by control groups.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use kiln::sandbox::cgroup::{Cgroup, CgroupError};
use kiln::sandbox::{Exit, Limits, Mount, MountKind, SandboxError, Tier};

use super::fixture::{Fixture, output};

/// As root groups are made below the own one. An ordinary user has them where
/// the group was given to it, and else the error says what to give.
#[test]
fn limits_hold_and_go() {
    let root = rustix::process::geteuid().is_root();
    let fixture = Fixture::new(if root { Tier::Root } else { Tier::Subuid });
    let mut spec = fixture
        .script("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done 2>&1; echo ready; sleep 1000");
    let name = format!("kiln-test-{}", std::process::id());
    spec.limits = Limits { pids: Some(5), cgroup: name.clone(), ..Limits::default() };
    let (io, reader) = output();
    let running = match fixture.sandbox.start(&spec, io) {
        Err(SandboxError::Cgroup(CgroupError::Unavailable { why, .. })) if !root => {
            let uid = rustix::process::geteuid().as_raw().to_string();
            assert!(why.contains(&uid) && why.contains("/sys/fs/cgroup"), "{why}");
            return;
        }
        other => other.unwrap(),
    };
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    let refused = lines.find(|line| line.contains("fork"));
    assert!(refused.is_some());
    let group = Cgroup::open(&name).unwrap();
    let folders: Vec<PathBuf> = group.folders().map(Path::to_owned).collect();
    assert!(!folders.is_empty());
    let held = |file: &str| {
        let found = folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok());
        found.map(|text| text.trim().to_owned())
    };
    assert_eq!(held("pids.max").as_deref(), Some("5"));
    let limits = Limits {
        memory: Some(64 << 20),
        cpus: Some(0.5),
        pids: Some(100),
        cgroup: name.clone(),
        ..Limits::default()
    };
    group.set(&limits).unwrap();
    assert_eq!(held("pids.max").as_deref(), Some("100"));
    let memory = held("memory.limit_in_bytes").or_else(|| held("memory.max"));
    assert_eq!(memory.as_deref(), Some("67108864"));
    let cpu = held("cpu.cfs_quota_us").or_else(|| held("cpu.max"));
    assert!(cpu.is_some_and(|cpu| cpu.starts_with("50000")));
    drop(running);
    assert!(folders.iter().all(|folder| !folder.exists()));
    assert!(matches!(Cgroup::open(&name), Err(CgroupError::Missing(_))));
}

#[test]
fn memory_beyond_the_limit_kills() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let fixture = Fixture::new(Tier::Root);
    let mut spec = fixture.spec(&["sh", "-c", "exec head -c 300000000 /dev/zero > /dev/shm/x"]);
    spec.mounts = vec![Mount {
        target: PathBuf::from("/dev/shm"),
        what: MountKind::Tmpfs { size: None, mode: 0o1777, read_only: false },
    }];
    spec.limits = Limits {
        memory: Some(32 << 20),
        cgroup: format!("kiln-test-memory-{}", std::process::id()),
        ..Limits::default()
    };
    let (exit, text) = fixture.run(&spec);
    assert_eq!(exit, Exit::Signal(9), "{text}");
}
