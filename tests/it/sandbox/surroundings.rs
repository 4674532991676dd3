//! What a process sees, who it is, and what it may not do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use kiln::sandbox::{Exit, Ids, Network, Sandbox, SandboxError, Tier};

use super::fixture::{Fixture, changes, each, parent};

#[test]
fn surroundings_are_those_of_the_specification() {
    // Something a careless child would inherit.
    let leak = rustix::io::dup(std::io::stderr()).unwrap();
    each(|fixture| {
        let mut spec = fixture.spec(&["env"]);
        spec.env.push(("GREETING".to_owned(), "a b\"c".to_owned()));
        assert_eq!(fixture.output(&spec), "PATH=/bin:/usr/bin\nGREETING=a b\"c\n");
        // The last is the folder itself.
        assert_eq!(fixture.output(&fixture.spec(&["ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
        assert_eq!(fixture.output(&fixture.script("echo /proc/[0-9]*; echo $$")), "/proc/1\n1\n");
        assert_eq!(fixture.output(&fixture.spec(&["cat", "/proc/sys/kernel/hostname"])), "step\n");
        assert_eq!(fixture.output(&fixture.script("umask; read x; echo $?")), "0022\n1\n");
        let mounts = fixture.output(&fixture.spec(&["cat", "/proc/self/mountinfo"]));
        assert!(!mounts.contains(fixture.folder.path().to_str().unwrap()), "{mounts}");
        let below = ["/proc", "/sys", "/dev"];
        for line in mounts.lines() {
            let place = line.split(' ').nth(4).unwrap();
            let known = place == "/" || below.iter().any(|folder| place.starts_with(folder));
            assert!(known, "{line}");
        }
        let signals = fixture.output(&fixture.spec(&["cat", "/proc/self/status"]));
        for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
            assert!(signals.contains(line), "{signals}");
        }
        let mut spec = fixture.script("pwd; ls -ld . | head -c 10");
        spec.cwd = PathBuf::from("/srv/new");
        assert_eq!(fixture.output(&spec), "/srv/new\ndrwxr-xr-x");
        assert_eq!(
            changes(fixture, &spec),
            BTreeMap::from([("srv".to_owned(), 'd'), ("srv/new".to_owned(), 'd')])
        );
    });
    drop(leak);
}

#[test]
fn users_and_groups() {
    each(|fixture| {
        let mut spec = fixture.script("id -u; id -g; id -G; echo out > /dev/stdout");
        assert_eq!(fixture.output(&spec), "0\n0\n0\nout\n");
        spec = fixture.script("id -u; id -g; id -G; echo out > /dev/stdout; touch /x");
        spec.user = Ids { uid: 7, gid: 8, groups: vec![9] };
        let (exit, text) = fixture.run(&spec);
        assert!(text.starts_with("7\n8\n8 9\nout\n"), "{text}");
        // Also where the kernel takes the user for root.
        assert!(text.contains("Permission denied"), "{text}");
        assert_eq!(exit, Exit::Code(1));
        assert!(fixture.sandbox.has_id(65535));
        // It would mean "stay root" to the kernel.
        spec.user.uid = u32::MAX;
        assert!(matches!(fixture.error(&spec), SandboxError::Unmapped { .. }));
    });
}

/// What is made while another process makes and removes the folder or the file belongs to
/// its maker all the same.
#[test]
fn owners_in_a_race() {
    each(|fixture| {
        let race = fixture.path("lower/race");
        fs::create_dir(&race).unwrap();
        fs::set_permissions(&race, fs::Permissions::from_mode(0o777)).unwrap();
        let mut spec = fixture.script(
            "cd /race
             { for i in $(busybox seq 1500); do mkdir d; true >f; rm -r d f; done &
               for i in $(busybox seq 1500); do mkdir d/e && busybox mv d/e e$i
               true >>f && busybox mv f f$i; done
               wait; } 2>told
             busybox grep -e denied -e permitted told
             busybox stat -c %u e* f* 2>/dev/null | busybox sort -u",
        );
        spec.user = Ids { uid: 7, gid: 8, groups: vec![8] };
        assert_eq!(fixture.output(&spec), "7\n", "{}", fixture.sandbox.tier());
        // Nor is it another's for a moment to who looks, writes or changes its mode.
        let mut spec = fixture.script(
            "cd /race
             { for i in $(busybox seq 600); do mkdir d; true >f; rm -r d f; done; : >end; } &
             until test -e end; do
               busybox stat -c owner%u d f; echo x >>f; busybox chmod 755 d
             done >told 2>&1
             wait
             busybox grep -q owner7 told || echo nothing was seen
             busybox grep -e owner0 -e denied -e permitted told; true",
        );
        spec.user = Ids { uid: 7, gid: 8, groups: vec![8] };
        assert_eq!(fixture.output(&spec), "", "{}", fixture.sandbox.tier());
    });
}

#[test]
fn rights_are_bounded() {
    each(|fixture| {
        let status = fixture.output(&fixture.spec(&["cat", "/proc/self/status"]));
        for (set, expected) in [
            ("CapInh", "0000000000000000"),
            ("CapPrm", "00000000a80425fb"),
            ("CapEff", "00000000a80425fb"),
            ("CapBnd", "00000000a80425fb"),
            ("CapAmb", "0000000000000000"),
            // `sudo` in a build step works.
            ("NoNewPrivs", "0"),
        ] {
            assert!(status.contains(&format!("{set}:\t{expected}")), "{status}");
        }
        for refused in [
            "mount -t tmpfs x /etc",
            "echo h > /proc/sys/kernel/hostname",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            "echo h > /proc/sysrq-trigger",
            "mkdir /sys/fs/cgroup/x",
            "ls /sys/firmware | head -c 1 | grep .",
            // Where it is a record, it opens as an empty file.
            "mknod /disk b 254 0 && head -c 1 /disk | grep .",
            "mknod /dev/mem2 c 1 1 && head -c 1 /dev/mem2 | grep .",
            ": < /dev/tty",
            "unshare -U true",
        ] {
            let (exit, text) = fixture.run(&fixture.script(refused));
            assert_ne!(exit, Exit::Code(0), "{refused}: {text}");
        }
        assert_eq!(
            fixture.output(&fixture.script("cat /proc/keys /proc/timer_list | wc -c")),
            "0\n"
        );
    });
}

/// What runs inside may execute `/proc/self/exe`, which is the helper until then.
#[test]
fn the_helper_cannot_be_overwritten() {
    each(|fixture| {
        let running = fixture.start("echo ready; sleep 1000");
        let helper = parent(running.pid());
        let exe = |pid| rustix::fs::statvfs(format!("/proc/{pid}/exe")).unwrap().f_flag;
        assert!(exe(helper).contains(rustix::fs::StatVfsMountFlags::RDONLY));
        drop(running);
        assert_eq!(fixture.run(&fixture.spec(&["/proc/self/exe", "--version"])).0, Exit::Code(0));
    });
}

#[test]
fn devices_work() {
    each(|fixture| {
        let script =
            "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 9 /dev/urandom | wc -c
            echo s > /dev/shm/s; cat /dev/shm/s; echo $(ls /dev); : > /dev/full && echo full
            echo t > /dev/ptmx || echo none";
        let text = fixture.output(&fixture.script(script));
        let expected =
            "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert!(text.starts_with(&format!("4\n9\ns\n{expected}\nfull\n")), "{text}");
    });
}

#[test]
fn networks() {
    each(|fixture| {
        let mut spec = fixture.script("echo /sys/class/net/*; cat /sys/class/net/lo/flags");
        assert_eq!(fixture.output(&spec), "/sys/class/net/lo\n0x9\n");
        spec = fixture.spec(&["cat", "/proc/net/dev"]);
        spec.network = Network::Host;
        let names = |text: &str| -> Vec<String> {
            let names = text.lines().filter_map(|line| line.split_once(':'));
            names.map(|(name, _)| name.trim().to_owned()).collect()
        };
        let host = fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(names(&fixture.output(&spec)), names(&host));
    });
}

#[test]
fn kinds_name_the_mapping() {
    let kind = |tier| Fixture::new(tier).sandbox.kind().to_owned();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(kind(Tier::SingleId), format!("one-{uid}"));
    let best = Sandbox::open(None).unwrap();
    if uid == 0 {
        assert_eq!((best.kind(), best.refused().len()), ("root", 0));
        assert_eq!(best.overlay_xattr(), "trusted.overlay.");
    } else {
        assert!(best.kind().starts_with("map-"), "{}", best.kind());
        assert_eq!(best.refused()[0].0, Tier::Root);
        assert_eq!(best.overlay_xattr(), "user.overlay.");
        let error = Sandbox::open(Some(Tier::Root)).unwrap_err().to_string();
        assert!(error.contains("not run as root"), "{error}");
    }
}
