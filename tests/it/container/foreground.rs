//! Containers in the foreground: their surroundings, volumes and output.

use std::fs;

use kiln::container::{self, LogRequest, Status, Volume};

use super::fixture::Fixture;

#[test]
fn foreground_surroundings() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("");
    ask.command.clear();
    assert_eq!(fixture.run(&ask, "").unwrap(), (0, "the default\n".into(), String::new()));
    let (code, out, err) = fixture.run(&fixture.ask("echo out; echo err >&2; exit 7"), "").unwrap();
    assert_eq!((code, &*out, &*err), (7, "out\n", "err\n"));
    assert_eq!(fixture.run(&fixture.ask("kill -9 $$; sleep 9"), "").unwrap().0 & 127, 0);

    let mut ask =
        fixture.ask("echo $GREETING $MORE $HOME $PATH; hostname; pwd; id -u; echo $HOSTNAME");
    ask.env = vec![("MORE".into(), "world".into())];
    ask.hostname = Some("box".into());
    ask.workdir = Some("/made/here".into());
    assert_eq!(
        fixture.run(&ask, "").unwrap().1,
        "hello world /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         box\n/made/here\n0\nbox\n"
    );
    let mut ask = fixture.ask("");
    ask.entrypoint = Some(vec!["cat".into()]);
    ask.command = vec!["/etc/hostname".into()];
    ask.hostname = Some("box".into());
    assert_eq!(fixture.run(&ask, "").unwrap().1, "box\n");

    // A user of the image, who may open the streams that root's pipes are.
    let mut ask = fixture.ask("id -u; id -g; echo $HOME; echo again >/dev/stdout");
    ask.user = Some("web".into());
    assert_eq!(fixture.run(&ask, "").unwrap().1, "33\n33\n/srv\nagain\n");

    // Input only where it is asked for.
    let mut ask = fixture.ask("cat; echo end");
    assert_eq!(fixture.run(&ask, "typed").unwrap().1, "end\n");
    ask.interactive = true;
    assert_eq!(fixture.run(&ask, "typed ").unwrap().1, "typed end\n");
    ask.command = vec!["true".into()];
    assert_eq!(fixture.run(&ask, "never read").unwrap().0, 0);

    // A foreground container stays until it is removed.
    let all = container::list(&fixture.store, true).unwrap();
    assert!(all.len() >= 8 && all.iter().all(|one| one.state.status == Status::Exited));
    assert!(container::list(&fixture.store, false).unwrap().is_empty());
    assert_eq!(container::stacks(&fixture.store).unwrap()[0].len(), 1);
}

#[test]
fn volumes_and_what_is_written() {
    let fixture = Fixture::new();
    let shared = fixture.folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "from outside\n").unwrap();
    let mut ask = fixture
        .ask("cat /data/in; echo x >/ro/y && exit 1; echo inside >/data/out; echo kept >/kept");
    let volume = |target: &str, read_only| Volume {
        source: shared.clone(),
        target: target.into(),
        read_only,
    };
    ask.volumes = vec![volume("/data", false), volume("/ro", true)];
    let (code, out, _) = fixture.run(&ask, "").unwrap();
    assert_eq!((code, &*out), (0, "from outside\n"));
    assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "inside\n");
    // The image is as it was.
    assert_eq!(fixture.output("cat /kept 2>/dev/null || echo gone"), "gone\n");
    ask.volumes[0].source = fixture.folder.path().join("absent");
    let error = fixture.run(&ask, "").unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}

#[test]
fn much_output_is_kept() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("seq 1 200000; head -c 100000 /dev/zero");
    ask.name = Some("loud".into());
    let (code, out, _) = fixture.run(&ask, "").unwrap();
    assert_eq!(code, 0);
    assert_eq!(out.len(), fixture.logs("loud", &LogRequest::default()).len());
    assert!(out.contains("\n199999\n200000\n"));
}
