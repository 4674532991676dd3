//! A step that begins as a user: what is denied to it is the same in every tier, also
//! where the kernel takes it for root.

use super::bench::{Bench, Caller, callers};

const DOCKERFILE: &str = r#"
FROM busybox
RUN mkdir -p /etc /root /home/app /site /opt/crew /opt/own /closed /search && \
    echo 'app:x:1000:1001:app:/home/app:/bin/sh' >>/etc/passwd && \
    printf 'app:x:1001:\ncrew:x:1002:app\n' >>/etc/group && \
    chown 1000:1001 /home/app /opt/own && chmod 700 /root && \
    chgrp 1002 /opt/crew && chmod 2775 /opt/crew && mkdir -p /tmp && chmod 1777 /tmp && \
    for f in /site/f /closed/f /search/f /tmp/root /opt/own/root /site/crew; do echo text >$f; done && \
    chmod 700 /closed && chmod 711 /search && chmod 666 /tmp/root && \
    chgrp 1002 /site/crew && chmod 640 /site/crew && echo x >/site/secret && chmod 600 /site/secret
USER app
WORKDIR /home/app/work
RUN if test -w /site; then to=/site; else to=$HOME/.local; fi; mkdir -p $to/lib && echo x >$to/lib/x
RUN --mount=type=secret,id=s,uid=1000,mode=0400,target=/theirs \
    --mount=type=secret,id=s,mode=0400,target=/roots \
    --mount=type=cache,uid=1000,target=/cache --mount=type=tmpfs,target=/mem <<END
    exec 3>tries
    while read expected try; do
        if sh -c "$try" >/dev/null 2>&1; then found=yes; else found=no; fi
        echo "$found $try" >&3
        [ $found = $expected ] || echo "not $expected: $try"
    done <<TRIES
        no touch /root/x
        no ls /root
        no touch /site/x
        no : >>/site/f
        yes cat /site/f
        no cat /site/secret
        yes cat /site/crew
        no : >>/site/crew
        no ls /closed
        no cat /closed/f
        no test -e /closed/f
        yes cat /search/f
        no ls /search
        no mkdir /site/d
        no mkdir /d
        no rm -f /site/f
        no mv /site/f /tmp/f
        no mv /site/f /site/g
        no ln /site/f /opt/own/f
        yes ln -s /site/f /opt/own/l
        no ln -s x /site/l
        no rmdir /search
        no chmod 777 /site
        no chown app /site/f
        no touch -d 1970-01-02 /site/f
        no mkfifo /site/p
        yes mkdir /opt/crew/d
        yes touch /opt/crew/f
        yes mv /opt/own/root /opt/own/moved
        yes rm -f /opt/own/moved
        no rm -f /tmp/root
        yes echo more >>/tmp/root
        yes touch /tmp/mine
        yes mv /tmp/mine /tmp/own
        no mv /tmp/own /site/own
        no mv /tmp/own /tmp/root
        yes touch here
        no /site/f
        no sh /site/secret
        yes cat /theirs
        no cat /roots
        yes touch /cache/x
        yes ls /proc/self/fd
        yes echo out >/dev/stdout
        yes echo >/dev/null
        no echo 1 >/proc/sys/kernel/pid_max
        no chroot / true
        no su -c true
TRIES
END
USER root
RUN cat /site/secret && touch /site/by-root && rm /tmp/root
"#;

#[test]
fn build_denies_a_user_the_same_in_every_tier() {
    let mut digests = Vec::new();
    for caller in callers() {
        let is_root = caller == Caller::Own && rustix::process::geteuid().is_root();
        let tiers = if is_root { ["root", "single-id"] } else { ["subuid", "single-id"] };
        for tier in tiers {
            let bench = Bench::with_busybox(caller);
            bench.file("s", "hush");
            let flags = format!("--secret id=s,src=context/s --sandbox {tier}");
            let output = bench.build(DOCKERFILE, &flags).success();
            assert!(!output.stderr.contains("not "), "{caller:?} {tier}: {}", output.stderr);
            assert_eq!(
                bench.layer(2),
                [
                    "d 755 0:0 home",
                    "d 755 1000:1001 home/app",
                    "d 755 1000:1001 home/app/.local",
                    "d 755 1000:1001 home/app/.local/lib",
                    "f 644 1000:1001 home/app/.local/lib/x 2",
                ],
                "{caller:?} {tier}"
            );
            let tries = bench.content("home/app/work/tries");
            assert_eq!(tries.lines().count(), 48, "{tries}");
            digests.push((bench.image().digest(), caller, tier));
        }
    }
    let first = digests[0].0;
    for (digest, caller, tier) in &digests {
        assert_eq!(*digest, first, "{caller:?} {tier}");
    }
}
