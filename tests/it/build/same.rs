//! The same input gives the same digest.

use std::fs;

use super::bench::{Bench, Caller, callers, ordinary};

/// Something of everything: owners, links, modes, times, many files.
const DOCKERFILE: &str = "\
FROM busybox AS made
COPY many /many
RUN mkdir -p /o/a /o/b && echo x >/o/f && ln /o/f /o/h && ln -s f /o/s && chmod 1777 /o/b && \
    chown -R 0:0 /o && date >/o/a/never-mind && rm /o/a/never-mind && find /many -name '*7' | sort >/o/list
FROM busybox
RUN rm -r /etc/group && mkdir /etc/group && mknod /pipe p
COPY --from=made /o /o
ADD many.tar /unpacked/
WORKDIR /w/x
RUN touch here; rm -r /unpacked/1*
";

fn context(bench: &Bench) {
    for number in 0..200 {
        bench.file(format!("many/{number}"), format!("{number}").repeat(50));
    }
    // Enough for several blocks to be compressed at once.
    let large: String = (0..1_000_000_u64).map(|n| format!("{}\n", n * n % 10_007)).collect();
    bench.file("many/large", large);
    let done = std::process::Command::new("tar")
        .current_dir(bench.context().join("many"))
        .args([
            "--sort=name",
            "--mtime=@1234567",
            "--owner=0",
            "--group=0",
            "-cf",
            "../many.tar",
            ".",
        ])
        .status();
    assert!(done.unwrap().success());
}

fn digest(caller: Caller, change: impl FnOnce(&Bench, &mut std::process::Command)) -> String {
    let bench = Bench::with_busybox(caller);
    context(&bench);
    fs::write(bench.path("Dockerfile"), DOCKERFILE).unwrap();
    let mut call = bench.call("build -q -f Dockerfile context".split(' '));
    change(&bench, &mut call);
    bench.run(&mut call).success().text()
}

/// With the store on a tmpfs, where folders list in another order and hard links, sparse
/// files and attributes are another driver's.
fn in_memory(caller: Caller) -> String {
    let bench = Bench::with_busybox_in("/dev/shm", caller);
    context(&bench);
    fs::write(bench.path("Dockerfile"), DOCKERFILE).unwrap();
    let mut call = bench.call("build -q -f Dockerfile context".split(' '));
    bench.run(&mut call).success().text()
}

#[test]
fn build_gives_the_same_whoever_builds_where_and_when() {
    let all = callers();
    let first = digest(all[0], |_, _| ());
    for &caller in &all {
        assert_eq!(digest(caller, |_, _| ()), first, "{caller:?}");
        let threads = |n: &'static str| {
            digest(caller, move |_, call| {
                call.env("RAYON_NUM_THREADS", n).env("TZ", "Asia/Tokyo").env("LANG", "de_DE.UTF-8");
            })
        };
        for number in ["1", "2", "8"] {
            assert_eq!(threads(number), first, "{caller:?}: {number} threads");
        }
        assert_eq!(in_memory(caller), first, "{caller:?}: a store in memory");
        let elsewhere = digest(caller, |bench, call| {
            fs::rename(bench.context(), bench.path("elsewhere")).unwrap();
            *call = bench.call(["build", "-q", "-f", "../Dockerfile", "."]);
            call.current_dir(bench.path("elsewhere"));
        });
        assert_eq!(elsewhere, first, "{caller:?}: another folder");
    }
}

#[test]
fn build_gives_the_same_under_any_umask() {
    use std::os::unix::process::CommandExt as _;
    for caller in callers() {
        let with = |mask: &str| {
            let bench = Bench::with_busybox(caller);
            context(&bench);
            fs::write(bench.path("Dockerfile"), DOCKERFILE).unwrap();
            let call = bench.call("build -q -f Dockerfile context".split(' '));
            let mut shell = std::process::Command::new("sh");
            shell.arg("-c").arg(format!("umask {mask}; exec \"$@\"")).arg("sh");
            shell.arg(call.get_program()).args(call.get_args()).current_dir(bench.path("."));
            shell.arg0("sh").env_clear().stdin(std::process::Stdio::null());
            for (name, value) in call.get_envs() {
                if let Some(value) = value {
                    shell.env(name, value);
                }
            }
            bench.run(&mut shell).success().text()
        };
        assert_eq!(with("077"), with("000"), "{caller:?}");
        assert_eq!(with("022"), with("027"), "{caller:?}");
    }
}

#[test]
fn build_gives_the_same_in_every_tier() {
    let first = digest(callers()[0], |_, _| ());
    for caller in callers() {
        let is_root = caller == Caller::Own && rustix::process::geteuid().is_root();
        let tiers: &[&str] =
            if is_root { &["root", "single-id"] } else { &["subuid", "single-id"] };
        for tier in tiers {
            let found = digest(caller, |_, call| {
                call.arg("--sandbox").arg(tier);
            });
            assert_eq!(found, first, "{caller:?} {tier}");
        }
    }
}

/// With one ID, owners that only the base image has stay what they are.
#[test]
fn build_with_one_id_keeps_the_owners_of_the_base() {
    use super::bench::{busybox, dir, file, symlink};
    let mut digests = Vec::new();
    for caller in callers() {
        for tier in ["", "--sandbox single-id"] {
            let bench = Bench::new(caller);
            let mut theirs = vec![
                dir("own", 0o755),
                file("own/f", 0o644, "f"),
                symlink("own/l", "f"),
                dir("own/d", 0o750),
            ];
            for (entry, _) in &mut theirs {
                (entry.uid, entry.gid) = (33, 34);
            }
            bench.base("busybox", &[busybox(), theirs]);
            bench
                .build(
                    "FROM busybox\nRUN chmod 600 /own/f; touch /own/d/new; chmod 711 /own\n",
                    tier,
                )
                .success();
            assert_eq!(
                bench.layer(0),
                [
                    "d 711 33:34 own",
                    "d 750 33:34 own/d",
                    "f 644 0:0 own/d/new 0",
                    "f 600 33:34 own/f 1"
                ],
                "{caller:?} {tier}"
            );
            digests.push(bench.image().digest());
            // A link cannot carry the record of its owner, which goes with it all the same.
            bench.build("FROM busybox\nRUN mv /own/l /own/m\n", tier).success();
            assert_eq!(
                bench.layer(0),
                ["d 755 33:34 own", "w 0 0:0 own/.wh.l", "l 777 33:34 own/m -> f"],
                "{caller:?}"
            );
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[test]
fn build_with_an_epoch() {
    let caller = ordinary().unwrap_or(Caller::Own);
    let at = |seconds: &'static str| {
        digest(caller, move |_, call| {
            call.env("SOURCE_DATE_EPOCH", seconds);
        })
    };
    assert_eq!(at("1700000000"), at("1700000000"));
    assert_ne!(at("1700000000"), at("1700000001"));
    let bench = Bench::with_busybox(caller);
    bench.file("a", "A");
    fs::write(bench.path("Dockerfile"), "FROM busybox\nCOPY a /a\nRUN touch /b\n").unwrap();
    let mut call = bench.call("build -q -t out -f Dockerfile context".split(' '));
    bench.run(call.env("SOURCE_DATE_EPOCH", "1700000000")).success();
    let image = bench.image();
    assert_eq!(image.config().created.as_deref(), Some("2023-11-14T22:13:20Z"));
    let store = bench.store();
    let rootfs = kiln::rootfs::Rootfs::open(&store, image.layers()).unwrap();
    let time = |name: &[u8]| {
        rootfs.view().get(&kiln::layer::Name::clean(name).unwrap()).unwrap().entry.mtime
    };
    assert_eq!((time(b"a"), time(b"b"), time(b"etc")), (1_700_000_000, 1_700_000_000, 1_000_000));
    let output = bench.run(
        bench.call(["build", "-f", "Dockerfile", "context"]).env("SOURCE_DATE_EPOCH", "today"),
    );
    output.failure(1).says("`today` is not a SOURCE_DATE_EPOCH");
}
