//! `RUN --mount`, and the network of a step.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;

use super::bench::{Bench, Caller, callers};

/// Builds one step for every caller; its layer must be what is expected.
#[track_caller]
fn runs(dockerfile: &str, more: &str, expected: &[&str]) {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("d/f", "in the context\n").file("d/skipped", "").file("top", "T\n");
        bench.file(".dockerignore", "d/skipped\n").file("secret", "hush\n");
        bench.build(dockerfile, more).success();
        assert_eq!(bench.layer(0), expected, "{caller:?}");
        bench.clean();
    }
}

#[test]
fn build_mount_of_the_context() {
    // Root's, less what is ignored, and gone afterwards.
    runs(
        "FROM busybox\nRUN --mount=target=/src,source=d set -e; stat -c '%u %g %a' /src/f >/o; \
         ls /src >>/o; ! touch /src/new; cat /o >&2; test \"$(echo $(cat /o))\" = '0 0 644 f'\n",
        "",
        &["f 644 0:0 o 10"],
    );
    // What is written is lost; a file can be mounted, too.
    runs(
        "FROM busybox\nRUN --mount=target=/src,rw --mount=source=top,target=/etc/top,rw \
         set -e; echo new >/src/d/f; echo more >>/etc/top; cp /src/d/f /etc/top /srv/ || \
         { mkdir /srv; cp /src/d/f /etc/top /srv/; }\n",
        "",
        &["d 755 0:0 srv", "f 644 0:0 srv/f 4", "f 644 0:0 srv/top 7"],
    );
}

#[test]
fn build_mount_of_the_context_is_in_the_key() {
    let bench = Bench::with_busybox(Caller::Own);
    bench.file("d/f", "1").file("other", "1");
    let text = "FROM busybox\nRUN --mount=source=d,target=/src cp /src/f /f\n";
    bench.built(text);
    bench.file("other", "2");
    assert!(bench.build(text, "").success().stderr.contains("CACHED"));
    bench.file("d/f", "22");
    bench.built(text);
    assert_eq!(bench.layer(0), ["f 644 0:0 f 2"]);
    bench
        .build("FROM busybox\nRUN --mount=source=no,target=/x true\n", "")
        .failure(1)
        .says("2 | RUN --mount=source=no,target=/x true");
    bench.clean();
}

#[test]
fn build_mount_of_a_stage() {
    runs(
        "FROM busybox AS a\nRUN mkdir /out && echo a >/out/a && chown 33:34 /out/a\nFROM scratch AS s\n\
         FROM busybox\nRUN --mount=from=a,source=/out,target=/x,rw --mount=from=busybox,target=/bb \
         set -e; rm /x/a; touch /x/b; cp /bb/etc/group /g; rmdir /nothing 2>/dev/null || true\n",
        "",
        &["f 644 0:0 g 35"],
    );
    runs(
        "FROM busybox AS a\nRUN mkdir /out && echo a >/out/a && chown 33:34 /out/a\n\
         FROM busybox\nRUN --mount=from=a,source=out/a,target=/deep/er/a stat -c %u /deep/er/a >/o\n",
        "",
        &["f 644 0:0 o 3"],
    );
    let bench = Bench::with_busybox(Caller::Own);
    let text = "FROM busybox AS a\nFROM busybox\nRUN --mount=from=a,source=/no,target=/x true\n";
    bench.build(text, "").failure(1).says("mount: no not found");
}

#[test]
fn build_mount_of_a_cache() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let step = |n: u32| {
            format!(
                "FROM busybox\nRUN --mount=type=cache,target=/c,id=k,mode=0750,uid=33,gid=34 \
                 set -e; stat -c '%u:%g %a' /c >/o; ls /c >>/o; touch /c/{n}\n"
            )
        };
        bench.built(&step(1));
        assert_eq!(bench.content("/o"), "33:34 750\n", "{caller:?}");
        bench.built(&step(2));
        assert_eq!(bench.content("/o"), "33:34 750\n1\n", "{caller:?}");
        // Other settings are another cache, and it is in no layer.
        bench.built("FROM busybox\nRUN --mount=type=cache,target=/c,id=k ls /c >/o\n");
        assert_eq!(bench.layer(0), ["f 644 0:0 o 0"]);
        // A new one begins with files of a stage.
        bench.built(
            "FROM busybox AS s\nRUN mkdir /seed && touch /seed/a\nFROM busybox\n\
             RUN --mount=type=cache,target=/c,from=s,source=/seed touch /c/b\n\
             RUN --mount=type=cache,target=/c,from=s,source=/seed ls /c >/o\n",
        );
        assert_eq!(bench.content("/o"), "a\nb\n", "{caller:?}");
        bench.clean();
    }
}

#[test]
fn build_mount_of_a_locked_cache_waits() {
    let bench = Bench::with_busybox(Caller::Own);
    // Two stages at once: each sees the other's mark or none, never a half.
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,target=/c,sharing=locked set -e; \
             test ! -e /c/busy; touch /c/busy; sleep 0.5; rm /c/busy; echo {name} >/{name}\n"
        )
    };
    bench.built(&format!(
        "{}{}FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        stage("a"),
        stage("b")
    ));
    // A private one is not waited for.
    let both = |sharing: &str, name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,id={sharing},target=/c,sharing={sharing} \
             set -e; touch /c/{name}; sleep 1; ls /c >/{name}\n"
        )
    };
    bench.built(&format!(
        "{}{}FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        both("private", "a"),
        both("private", "b")
    ));
    assert_eq!((bench.content("/a"), bench.content("/b")), ("a\n".into(), "b\n".into()));
    bench.clean();
}

/// Steps that run at once make the mount points within a shared cache once.
#[test]
fn build_mounts_within_a_shared_cache() {
    let (mut text, deep) = (String::new(), ["c"; 60].join("/"));
    for stage in 0..12 {
        text.push_str(&format!(
            "FROM busybox AS s{stage}\nRUN --mount=type=cache,target=/a/b \
             --mount=type=cache,target=/a/b/{deep} echo {stage} > /x\n"
        ));
    }
    text.push_str("FROM scratch\n");
    for stage in 0..12 {
        text.push_str(&format!("COPY --from=s{stage} /x /{stage}\n"));
    }
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.build(&text, "").success();
    }
}

#[test]
fn build_mount_of_a_tmpfs() {
    runs(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=64k set -e; stat -c %a /t >/o; \
         touch /t/x; ! dd if=/dev/zero of=/t/y bs=1k count=100 2>/dev/null\n",
        "",
        &["f 644 0:0 o 5"],
    );
}

#[test]
fn build_mount_of_a_secret() {
    runs(
        "FROM busybox\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,target=/a/b,mode=0440,uid=33 \
         --mount=type=secret,id=s,env=S --mount=type=secret,id=absent set -e; \
         stat -c '%a %u' /run/secrets/s /a/b >/o; test \"$(echo $S)\" = hush; \
         test ! -e /run/secrets/absent; test \"$(cat /run/secrets/s)\" = hush\n",
        "--secret id=s,src=context/secret",
        &["f 644 0:0 o 13"],
    );
    let bench = Bench::with_busybox(Caller::Own);
    bench.file("secret", "verysecret");
    let text = "FROM busybox\nRUN --mount=type=secret,id=s,required true\n";
    bench.build(text, "").failure(1).says("secret `s` is required");
    // Its value is no part of the key, nor of anything that is kept.
    let built = bench.build(text, "--secret id=s,src=context/secret").success();
    assert!(!built.stderr.contains("verysecret"));
    bench.file("secret", "othersecret");
    let again = bench.build(text, "--secret id=s,src=context/secret").success();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
    for entry in walkdir::WalkDir::new(bench.store_path()) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            let found = bytes.windows(10).any(|part| part == b"verysecret");
            assert!(!found, "{}", entry.path().display());
        }
    }
}

#[test]
fn build_mount_of_an_ssh_agent() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        // An agent that answers every request with a word.
        let path = bench.path("agent");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Caller::User { uid, gid } = caller {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut asked = [0; 5];
                if client.read_exact(&mut asked).is_ok() {
                    let _ = client.write_all(b"known");
                }
            }
        });
        let nc = "busybox nc local:$SSH_AUTH_SOCK";
        let text = format!(
            "FROM busybox\nUSER 33\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && \
             test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0; : {nc}\n"
        );
        let more = format!("--ssh default={}", path.display());
        bench.build(&text, &more).success();
        assert_eq!(bench.layer(0), [] as [&str; 0]);
        let text = "FROM busybox\nRUN --mount=type=ssh,id=x,required true\n";
        bench.build(text, &more).failure(1).says("ssh agent `x` is required");
        bench
            .build("FROM busybox\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n", "")
            .success();
        bench.clean();
    }
}

#[test]
fn build_network_and_hosts_of_a_step() {
    runs(
        "FROM busybox\nRUN --network=none grep -c : /proc/net/dev >/o; grep -q here /etc/hosts\n",
        "--add-host here:192.0.2.1",
        &["f 644 0:0 o 2"],
    );
    runs("FROM busybox\nRUN grep -c : /proc/net/dev >/o\n", "--network none", &["f 644 0:0 o 2"]);
    let bench = Bench::with_busybox(Caller::Own);
    bench
        .build("FROM busybox\nRUN --security=insecure true\n", "")
        .failure(1)
        .says("2 | RUN --security=insecure true");
}
