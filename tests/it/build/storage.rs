//! Roots where overlayfs cannot help: a store that lies on an overlay, more layers
//! than it stacks. The layers are the same.

use std::process::{Command, Stdio};

use super::bench::{Bench, Caller, busybox, callers, dir, entry, file};
use kiln::layer::Kind;

/// Mounts an overlay on the store, and then does the rest.
const SCRIPT: &str = r#"mkdir "$0.upper" "$0.work" && shift 0 &&
mount -t overlay -o "$OPTIONS,lowerdir=$0,upperdir=$0.upper,workdir=$0.work" overlay "$0" &&
chmod 700 "$0" && if [ -n "$OWNER" ]; then chown "$OWNER" "$0"; fi && exec "$@""#;

/// The call with the store on an overlay, in a mount namespace that ends with it.
pub(super) fn on_overlay(bench: &Bench, call: &Command) -> Command {
    let mut command = Command::new("unshare");
    let root = rustix::process::geteuid().is_root();
    command.arg(if root { "-m" } else { "-Urm" }).args(["sh", "-c", SCRIPT]);
    command.arg(bench.store_path()).arg(call.get_program()).args(call.get_args());
    let vars = call.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(vars).current_dir(call.get_current_dir().unwrap());
    command.env("OPTIONS", if root { "volatile" } else { "userxattr" });
    if let Caller::User { uid, gid } = bench.caller {
        command.env("OWNER", format!("{uid}:{gid}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(super) fn dockerfile() -> String {
    "FROM busybox\n\
         RUN mkdir -p /t/a/b /t/c /t/e && echo 1 >/t/file && ln -s file /t/link && \
         ln /t/file /t/hard && echo 2 >/t/a/b/f && touch /t/c/x /t/c/y /t/e/z && chmod 1777 /t/c && \
         mkdir /l && echo 3 >/l/a && ln /l/a /l/b && ln /l/a /l/c\n\
         RUN rm -r /t/c && mkdir /t/c && touch /t/c/new && rm -r /t/e && echo >/t/e && \
         rm /t/a/b/f && : >>/t/hard && chmod 600 /t/file && chmod 644 /t/file\n\
         RUN chown 33:34 /t/file /t/hard && chown -h 1:2 /t/link && mknod /t/fifo p && \
         chown 5:6 /t/fifo && chmod 4755 /t/e && chown 3:4 /t/e && chown -R 7:8 /several\n\
         RUN ln /t/hard /t/again && mv /t/a /t/z && mv /t/link /t/linked && mkdir /t/file2 && rmdir /t/file2 && \
         dd if=/dev/zero of=/sparse bs=1 count=1 seek=1000000 2>/dev/null\n\
         COPY file /t/copied\n\
         RUN rm /base/gone && rm -r /base/dir && mkdir /base/dir && echo new >/base/dir/f\n\
         RUN --mount=type=cache,target=/cache echo a >/cache/a && cat /cache/a >/cached\n\
         RUN --mount=type=bind,target=/ctx,rw cp /ctx/file /from-context && echo >/ctx/lost\n\
         RUN stat -c '%n %h' /l/* >/l/seen && cp -a /l /l2\n\
         RUN echo 4 >>/l/b && chmod 600 /l2/a && : >>/l/c && chown -R 9 /several\n\
         RUN cat /l/* >/l3 && stat -c '%n %a %u' /l/* /l2/* >>/l3 && rm /l/a && echo 5 >>/l/c\n\
         RUN --mount=type=tmpfs,target=/tmp/x echo >/tmp/x/y\n\
         RUN find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/list' | \
         grep -v -e '^/$' -e '^/etc' | sort | xargs stat -c '%n %f %u %g %Y' >/list\n"
        .to_owned()
}

pub(super) fn prepared(caller: Caller) -> Bench {
    let bench = Bench::new(caller);
    bench.file("file", "content\n");
    let link = |name: &str, target: &str| {
        let target = kiln::layer::Name::clean(target.as_bytes()).unwrap();
        entry(name, Kind::Hardlink { target }, 0o644, Vec::new())
    };
    let lower = vec![
        dir("base", 0o755),
        file("base/gone", 0o644, "gone"),
        file("base/earlier", 0o644, "earlier"),
        dir("base/dir", 0o750),
        file("base/dir/f", 0o640, "f"),
        file("base/dir/g", 0o640, "g"),
        dir("several", 0o755),
        file("several/one", 0o644, "the same"),
        link("several/two", "several/one"),
    ];
    // A base that removes something itself, and hides what a folder had.
    let upper = vec![
        dir("base", 0o755),
        file("base/.wh.earlier", 0, ""),
        dir("base/dir", 0o755),
        file("base/dir/.wh..wh..opq", 0, ""),
        file("base/dir/h", 0o600, "h"),
    ];
    bench.base("busybox", &[busybox(), lower, upper]);
    bench
}

#[test]
fn build_storage_on_an_overlay() {
    for caller in callers() {
        // Whoever is not root has one ID on such an overlay, as root of its namespace.
        let tiers: &[&str] = match (caller, rustix::process::geteuid().is_root()) {
            (Caller::Own, true) => &["root", "single-id"],
            (Caller::Own, false) => &[""],
            (Caller::User { .. }, _) => &["subuid", "single-id"],
        };
        for tier in tiers {
            let layers = |bench: &Bench| -> Vec<_> {
                (0..bench.image().layers().len()).map(|at| bench.layer(at)).collect()
            };
            let bench = prepared(caller);
            let digest = bench.built(&dockerfile());
            let expected = (layers(&bench), bench.content("list"), digest);
            let bench = prepared(caller);
            std::fs::write(bench.path("Dockerfile"), dockerfile()).unwrap();
            let mut args = "build -v --progress=plain -f Dockerfile -t out context".to_owned();
            if !tier.is_empty() {
                args.push_str(&format!(" --sandbox={tier}"));
            }
            args.push_str(" --output type=docker,dest=out.tar");
            let call = bench.call(args.split(' '));
            let output = bench.run(&mut on_overlay(&bench, &call)).success();
            bench.run(&mut bench.call(["load", "-i", "out.tar"])).success();
            let found = (layers(&bench), bench.content("list"), output.text().trim().to_owned());
            assert_eq!(found, expected, "{caller:?} {tier}");
            assert!(output.stderr.contains("plain folder"), "{}", output.stderr);
        }
    }
}

/// overlayfs stacks 500 folders.
#[test]
fn build_storage_of_600_layers() {
    for caller in callers() {
        let bench = Bench::new(caller);
        let mut layers = vec![busybox()];
        for number in 0..600 {
            let mut layer = vec![dir("l", 0o755), file(&format!("l/{number}"), 0o644, "x")];
            if number % 7 == 6 {
                layer.push(file(&format!("l/.wh.{}", number - 1), 0, ""));
            }
            layers.push(layer);
        }
        bench.base("many", &layers);
        bench.built(
            "FROM many\nRUN ls /l | wc -l >/count && rm /l/0 && echo y >/l/1\n\
             RUN ls /l | wc -l >>/count && cat /l/1 /l/2 >>/count && rm -r /l && mkdir /l\n\
             RUN ls /l | wc -l >>/count\n",
        );
        assert_eq!(bench.content("count"), "515\n514\ny\nx0\n", "{caller:?}");
        assert_eq!(bench.layer(1).iter().filter(|line| line.contains(".wh.")).count(), 514);
        bench.clean();
    }
}
