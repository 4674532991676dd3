//! Limits and their change while the container runs.

use std::fs;

use kiln::container::{self, ContainerError, LimitChanges, Limits, LogRequest, Status};
use kiln::progress::Progress;
use kiln::sandbox::cgroup::CgroupError;

use super::fixture::Fixture;

/// Where a group of kiln's lies for one controller, in either version.
fn group_file(id: &str, files: [&str; 2]) -> Option<String> {
    let name = format!("kiln-{id}");
    let found = walkdir::WalkDir::new("/sys/fs/cgroup")
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() == name.as_str());
    found
        .flat_map(|entry| files.map(|file| entry.path().join(file)))
        .find_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
}

#[test]
fn limits_and_their_update() {
    let fixture = Fixture::new();
    let memory = ["memory.max", "memory.limit_in_bytes"];
    let mut ask = fixture.ask("sleep 1000 & echo up; sleep 1000");
    ask.limits = Limits { memory: Some(64 << 20), cpus: Some(0.5), ..Limits::default() };
    let name = match fixture.detach(ask) {
        Ok(name) => name,
        // Where groups cannot be made, a limit is refused and not forgotten.
        Err(error) => {
            assert!(error.to_string().contains("may not be written"), "{error}");
            assert_ne!(rustix::process::geteuid().as_raw(), 0, "{error}");
            assert!(fixture.folders().is_empty());
            let free = fixture.detach(fixture.ask("sleep 1000")).unwrap();
            let change = LimitChanges { pids: Some(Some(50)), ..LimitChanges::default() };
            let error = container::update(&fixture.store, &free, &change).unwrap_err();
            assert!(matches!(error, ContainerError::Cgroup(CgroupError::Unavailable { .. })));
            assert_eq!(fixture.inspect(&free).config.limits, Limits::default());
            return;
        }
    };
    let id = fixture.inspect(&name).config.id;
    assert_eq!(group_file(&id, memory).unwrap(), (64 << 20).to_string());
    let change = LimitChanges { memory: Some(Some(128 << 20)), ..LimitChanges::default() };
    let all = container::update(&fixture.store, &name, &change).unwrap();
    assert_eq!(all, Limits { memory: Some(128 << 20), cpus: Some(0.5), ..Limits::default() });
    assert_eq!(group_file(&id, memory).unwrap(), (128 << 20).to_string());
    assert_eq!(fixture.inspect(&name).config.limits, all);
    container::remove(&fixture.store, &name, true).unwrap();
    assert_eq!(group_file(&id, memory), None);

    // One that began without gets a group for all its processes.
    let name = fixture.detach(fixture.ask("sleep 1000 & sleep 1000 & echo up; wait")).unwrap();
    fixture.await_log(&name, "up");
    let id = fixture.inspect(&name).config.id;
    assert_eq!(group_file(&id, ["pids.max"; 2]), None);
    let change = LimitChanges { pids: Some(Some(50)), ..LimitChanges::default() };
    container::update(&fixture.store, &name, &change).unwrap();
    assert_eq!(group_file(&id, ["pids.max"; 2]).unwrap(), "50");
    assert_eq!(group_file(&id, ["cgroup.procs"; 2]).unwrap().lines().count(), 3);
    let lift = LimitChanges { pids: Some(None), ..LimitChanges::default() };
    container::update(&fixture.store, &name, &lift).unwrap();
    assert_eq!(group_file(&id, ["pids.max"; 2]).unwrap(), "max");
    container::kill(&fixture.store, &name, 9).unwrap();
    assert_eq!(group_file(&id, ["pids.max"; 2]), None);
}

/// What each process has for itself needs no group; a start later has it again.
#[test]
fn limits_of_each_process() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("ulimit -Sn; grep -o 'size=2048k' /proc/mounts");
    ask.own_limits.ulimits = vec!["nofile=100:200".parse().unwrap()];
    ask.own_limits.shm = Some(2 << 20);
    assert_eq!(fixture.run(&ask, "").unwrap().1, "100\nsize=2048k\n");
    let name = container::list(&fixture.store, true).unwrap()[0].config.name.clone();
    container::start(&fixture.store, &name, &Progress::silent()).unwrap();
    while fixture.inspect(&name).state.status != Status::Exited {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let log = fixture.logs(&name, &LogRequest::default());
    assert_eq!(log, "100\nsize=2048k\n".repeat(2));
    ask.own_limits.ulimits = vec!["nofile=99999999999".parse().unwrap()];
    let error = fixture.run(&ask, "").unwrap_err().to_string();
    assert!(error.contains("the hard limit of whoever calls kiln"), "{error}");
}

#[test]
fn limits_that_were_reached_are_told() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("x=0123456789abcdef; while :; do x=$x$x; done");
    ask.limits.memory = Some(32 << 20);
    match fixture.run(&ask, "") {
        Ok((code, ..)) => assert_eq!(code, 137),
        Err(error) => {
            assert!(error.to_string().contains("may not be written"), "{error}");
            assert_ne!(rustix::process::geteuid().as_raw(), 0, "{error}");
            return;
        }
    }
    let name = container::list(&fixture.store, true).unwrap()[0].config.name.clone();
    assert!(fixture.inspect(&name).state.out_of_memory);
    // Swap beside memory that is not limited is no limit at all.
    ask.limits = Limits { memory_swap: Some(64 << 20), ..Limits::default() };
    let error = fixture.run(&ask, "").unwrap_err().to_string();
    assert!(error.contains("limit that as well"), "{error}");
}
