//! `SOURCE_DATE_EPOCH`: where it comes from, what has it, and what keeps its own times.

use std::fs;

use kiln::image::{AnyImage, History, Image};
use kiln::layer::Name;

use super::bench::{Bench, Caller, busybox, callers, file};
use crate::support::git::{git, serve};
use crate::support::kiln::Output;

const NOVEMBER: &str = "2023-11-14T22:13:20Z";

/// An image `base` with a time and a history of its own.
fn with_base(caller: Caller) -> (Bench, Image) {
    let bench = Bench::new(caller);
    bench.base("base", &[busybox(), vec![file("of-base", 0o644, "b")]]);
    let name = "base".parse().unwrap();
    let store = bench.store();
    let image = store.image_named(&name).unwrap().images()[0].clone();
    let mut config = image.config().clone();
    config.created = Some("2025-01-02T03:04:05.678901234+02:00".into());
    for (created, empty_layer) in
        [("2019-05-05T00:00:00Z", false), ("2024-12-31T23:59:59.5Z", false)]
    {
        config.history.push(History {
            created: Some(created.into()),
            created_by: Some("somebody else's".into()),
            empty_layer,
            ..History::default()
        });
    }
    let image = kiln::image::assemble(config, image.layers()).unwrap();
    store.keep(&name, &AnyImage::Image(image.clone())).unwrap();
    (bench, image)
}

fn run(bench: &Bench, epoch: Option<&str>, args: &str) -> Output {
    let args = format!("build --progress=plain -t out -f Dockerfile {args}");
    let mut call = bench.call(args.split_whitespace());
    if let Some(epoch) = epoch {
        call.env("SOURCE_DATE_EPOCH", epoch);
    }
    bench.run(&mut call)
}

/// What is new has the time, unless it is older; what is the base's stays as it was.
#[test]
fn build_epoch_is_of_what_is_new() {
    for caller in callers() {
        let (bench, base) = with_base(caller);
        bench.file("a", "A");
        let text = "FROM base\nCOPY a /a\nLABEL x=y\n\
            RUN touch /new /of-base && touch -d @1500000000 /old\nWORKDIR /w\n";
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let from_env = run(&bench, Some("1700000000"), "context").success().text();
        let image = bench.image();
        let config = image.config();
        assert_eq!(config.created.as_deref(), Some(NOVEMBER));
        // Bytes and history of the base.
        assert_eq!(image.layers()[..2], *base.layers(), "{caller:?}");
        let (theirs, ours) = config.history.split_at(2);
        assert_eq!(theirs, base.config().history);
        assert_eq!(ours.len(), 4);
        assert!(ours.iter().all(|entry| entry.created.as_deref() == Some(NOVEMBER)), "{ours:?}");
        let store = bench.store();
        let rootfs = kiln::rootfs::Rootfs::open(&store, image.layers()).unwrap();
        let time = |name: &str| {
            rootfs.view().get(&Name::clean(name.as_bytes()).unwrap()).unwrap().entry.mtime
        };
        let times = ["a", "new", "of-base", "w", "old", "etc"].map(time);
        let new = 1_700_000_000;
        assert_eq!(times, [new, new, new, new, 1_500_000_000, 1_000_000], "{caller:?}");
        // The flag says the same, and goes before; another time is another image.
        let flag = |seconds: &str, epoch| {
            let args = format!("--no-cache --build-arg SOURCE_DATE_EPOCH={seconds} context");
            run(&bench, epoch, &args).success().text()
        };
        assert_eq!(flag("1700000000", None), from_env, "{caller:?}");
        assert_eq!(flag("1700000000", Some("5")), from_env, "{caller:?}");
        assert_ne!(flag("1700000001", None), from_env, "{caller:?}");
        run(&bench, Some("today"), "context").failure(1).says("`today` is not a SOURCE_DATE_EPOCH");
        bench.clean();
    }
}

/// A step's programs see it, declared or not, if anybody set it; the image does not.
#[test]
fn build_epoch_is_given_to_run() {
    let bench = Bench::with_busybox(Caller::Own);
    let seen = |text: &str, epoch: Option<&str>, args: &str| {
        let run_line = "RUN echo \"${SOURCE_DATE_EPOCH-none}\" >/seen\n";
        fs::write(bench.path("Dockerfile"), format!("{text}{run_line}")).unwrap();
        run(&bench, epoch, &format!("{args} context")).success();
        let config = bench.image().config().clone();
        let told = config.history.last().unwrap().created_by.clone().unwrap();
        (bench.content("seen").trim().to_owned(), config.config.env, told)
    };
    let path = ["PATH=/bin".to_owned()];
    let arg = "--build-arg SOURCE_DATE_EPOCH=7";
    let declared = "FROM busybox\nARG SOURCE_DATE_EPOCH\n";
    for (text, epoch, args, expected) in [
        ("FROM busybox\n", None, "", "none"),
        ("FROM busybox\n", Some("5"), "", "5"),
        ("FROM busybox\n", Some("5"), arg, "7"),
        ("ARG SOURCE_DATE_EPOCH=6\nFROM busybox\n", None, "", "6"),
        ("ARG SOURCE_DATE_EPOCH=6\nFROM busybox\n", Some("5"), "", "5"),
        (declared, None, "", "none"),
        (declared, None, arg, "7"),
        // What a stage sets for itself is no time of what is made, and is seen as it is set.
        ("FROM busybox\nARG SOURCE_DATE_EPOCH=8\n", None, "", "8"),
    ] {
        let (found, env, told) = seen(text, epoch, args);
        assert_eq!(found, expected, "{text:?} {epoch:?} {args}");
        assert_eq!(env, path, "{text:?}");
        let in_history = text.starts_with("FROM busybox\nARG");
        assert_eq!(told.contains("SOURCE_DATE_EPOCH="), in_history, "{text:?}: {told}");
    }
    let own = "FROM busybox\nENV SOURCE_DATE_EPOCH=9\n";
    let (found, env, _) = seen(own, Some("5"), "");
    assert_eq!((found.as_str(), env[1].as_str()), ("9", "SOURCE_DATE_EPOCH=9"));
    bench.clean();
}

/// Of a repository, and of a folder that git has checked out.
#[test]
fn build_epoch_of_the_context() {
    const TEXT: &str = "FROM busybox\nCOPY f /f\nRUN echo $SOURCE_DATE_EPOCH >/seen\n";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("Dockerfile", TEXT).file("f", "F").file("sub/f", "S");
        fs::write(bench.path("Dockerfile"), TEXT).unwrap();
        let asks = "--build-arg SOURCE_DATE_EPOCH=context";
        run(&bench, None, &format!("{asks} context"))
            .failure(1)
            .says("asks for the time of `context`, which has none: fatal: not a git repository")
            .says("SOURCE_DATE_EPOCH=SECONDS");
        git(&bench.context(), "init --quiet");
        run(&bench, None, &format!("{asks} context")).failure(1).says("which has none: fatal:");
        git(&bench.context(), "add .");
        git(&bench.context(), "commit --quiet -m one");
        let created = || {
            let seconds = bench.content("seen");
            (bench.image().config().created.clone().unwrap(), seconds.trim().to_owned())
        };
        let commit = || ("2001-09-09T01:46:40Z".to_owned(), "1000000000".to_owned());
        let folder = run(&bench, None, &format!("{asks} context")).success().text();
        assert_eq!(created(), commit(), "{caller:?}");
        assert_eq!(run(&bench, Some("context"), "context").success().text(), folder);
        // Below the work tree's root, and with changes that are in no commit.
        bench.file("sub/f", "changed");
        run(&bench, Some("context"), "context/sub").success();
        assert_eq!(created(), commit(), "{caller:?}");
        // A folder with a name.
        let named = "--build-context repo=context --build-arg SOURCE_DATE_EPOCH=repo";
        fs::create_dir(bench.path("other")).unwrap();
        fs::write(bench.path("other/f"), "F").unwrap();
        assert_eq!(run(&bench, None, &format!("{named} other")).success().text(), folder);
        // The same of the repository, without anybody who asks for it but the file.
        let asking = format!("ARG SOURCE_DATE_EPOCH=context\n{TEXT}");
        bench.file("Dockerfile", &asking);
        git(&bench.context(), "commit --quiet -am two");
        git(&bench.context(), "update-server-info");
        let server = serve(&runtime, &bench.context(), "");
        let url = format!("http://{}/dumb/.git", server.addr);
        let call = format!("build -q -t out {url}");
        bench.run(&mut bench.call(call.split(' '))).success();
        assert_eq!(created(), commit(), "{caller:?}");
        // What the file says by itself, a folder without a commit takes for nothing.
        fs::write(bench.path("Dockerfile"), asking).unwrap();
        run(&bench, None, "other").success().says("which has none: fatal: not a git repository");
        assert_eq!(created(), ("1980-01-01T00:00:00Z".to_owned(), String::new()), "{caller:?}");
        bench.clean();
    }
}
