//! Flags of `docker buildx build` that have no test elsewhere.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use super::bench::{Bench, Caller, callers};

#[test]
fn build_target_by_name_and_number() {
    let bench = Bench::with_busybox(Caller::Own);
    let text =
        "FROM busybox AS Base\nENV AT=0\nFROM busybox\nENV AT=1\nFROM busybox AS last\nENV AT=2\n";
    for (target, at) in [("base", "AT=0"), ("BASE", "AT=0"), ("1", "AT=1"), ("last", "AT=2")] {
        bench.build(text, &format!("--target {target}")).success();
        assert!(bench.image().config().config.env.contains(&at.to_owned()), "{target}");
    }
    bench
        .build(text, "--target bsae")
        .failure(1)
        .says("there is no target stage `bsae`")
        .says("did you mean `base`? the stages are 0 (base), 1, 2 (last)");
    let refused = bench.build(text, "--target ghost").failure(1);
    let (_, error) = refused.stderr.split_once("error: ").unwrap();
    assert!(!error.contains("-->"), "no line is to blame: {error}");
    bench.build(text, "--target 3").failure(1).says("there is no target stage `3`");
}

#[test]
fn build_arguments_and_labels() {
    let bench = Bench::with_busybox(Caller::Own);
    let text = "FROM busybox\nARG FROM_HERE=no\nARG GIVEN=no\nARG ABSENT=default\nARG EMPTY=no\n\
        LABEL said=$FROM_HERE-$GIVEN-$ABSENT-$EMPTY\nLABEL both=file\n";
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let args = "build -q -t out -f Dockerfile --build-arg FROM_HERE --build-arg GIVEN=a=b --build-arg ABSENT \
        --build-arg EMPTY= --label both=flag --label bare --label x=y=z context";
    let mut call = bench.call(args.split_whitespace());
    bench.run(call.env("FROM_HERE", "env")).success();
    let labels = bench.image().config().config.labels.clone();
    let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        labels,
        [("bare", ""), ("both", "flag"), ("said", "env-a=b-default-"), ("x", "y=z")]
    );
    bench.build(text, "--build-arg =x").failure(2).says("--build-arg");
    bench.build(text, "--label =x").failure(2).says("--label");
}

/// Switches say true and false, as docker's do.
#[test]
fn build_switches_with_values() {
    let bench = Bench::with_busybox(Caller::Own);
    let text = "FROM busybox\nRUN true\n";
    bench.build(text, "").success();
    let cached = bench.build(text, "--no-cache=false --pull=false --push=false --load=true");
    assert!(cached.success().stderr.contains("CACHED"));
    assert!(!bench.build(text, "--no-cache=true").success().stderr.contains("CACHED"));
    bench.build(text, "--push=perhaps").failure(2).says("--push");
}

#[test]
fn build_secrets_from_everywhere() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        bench.file("s", "from-file");
        fs::write(bench.path("own"), "by-id").unwrap();
        let cases = [
            ("id=x,src=context/s", "from-file"),
            ("type=file,id=x,source=context/s", "from-file"),
            ("id=x,env=SECRET", "from-env"),
            ("type=env,id=x,src=SECRET", "from-env"),
            ("type=env,id=x,env=SECRET", "from-env"),
        ];
        for (spec, value) in cases {
            let text = format!(
                "FROM busybox\nRUN --mount=type=secret,id=x,required test \"$(cat /run/secrets/x)\" = {value}\n"
            );
            fs::write(bench.path("Dockerfile"), text).unwrap();
            let args = format!("build -q --no-cache -f Dockerfile --secret {spec} context");
            let mut call = bench.call(args.split(' '));
            bench.run(call.env("SECRET", "from-env")).success();
        }
        // The id alone: the variable of that name, else the file.
        let text = "FROM busybox\nRUN --mount=type=secret,id=own,required cat /run/secrets/own\n";
        fs::write(bench.path("Dockerfile"), text).unwrap();
        let args = "build --progress=plain --no-cache -f Dockerfile --secret id=own context";
        bench.run(&mut bench.call(args.split(' '))).success().says(" by-id");
        let mut call = bench.call(args.split(' '));
        bench.run(call.env("own", "variable")).success().says(" variable");
        bench.clean();
    }
    let bench = Bench::with_busybox(Caller::Own);
    for (spec, code, says) in [
        ("id=x,env=ABSENT", 2, "variable ABSENT is not set"),
        ("id=x,src=absent", 1, "absent"),
        ("src=x", 2, "id= is missing"),
        ("id=x,type=vault", 2, "type= is file or env"),
        ("id=x,uid=3", 2, "no `uid`"),
    ] {
        bench.build("FROM busybox\n", &format!("--secret {spec}")).failure(code).says(says);
    }
}

#[test]
fn build_agents_and_hosts() {
    let bench = Bench::with_busybox(Caller::Own);
    fs::write(bench.path("key"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    for (spec, code, says) in [
        ("default", 2, "no ssh agent for `--ssh default`"),
        ("default=key", 2, "`key` is not the socket of an ssh agent"),
        ("default=key", 2, "ssh-add"),
        ("id=key,other", 2, "ssh-add"),
        ("id=absent", 1, "absent"),
    ] {
        bench.build("FROM busybox\n", &format!("--ssh {spec}")).failure(code).says(says);
    }
    let text = "FROM busybox\nRUN cat /etc/hosts\n";
    let more = "--no-cache --add-host a:192.0.2.1 --add-host b=192.0.2.2 --add-host c:[2001:db8::1] \
        --add-host d=2001:db8::2 --add-host h:host-gateway";
    let output = bench.build(text, more).success();
    let lines: Vec<Vec<&str>> =
        output.stderr.lines().map(|line| line.split_whitespace().skip(2).collect()).collect();
    for (address, name) in [
        ("192.0.2.1", "a"),
        ("192.0.2.2", "b"),
        ("2001:db8::1", "c"),
        ("2001:db8::2", "d"),
        ("127.0.0.1", "h"),
    ] {
        assert!(lines.contains(&vec![address, name]), "{name}: {}", output.stderr);
    }
    bench.build(text, "--add-host a").failure(2).says("--add-host");
    bench.build(text, "--add-host a:b").failure(2).says("no IP address");
    bench.build(text, "--network bridge").failure(2).says("possible values: default, none, host");
}

#[test]
fn build_refuses_flags_it_has_not() {
    let bench = Bench::with_busybox(Caller::Own);
    for (more, says) in [
        ("--builder other", "without a daemon"),
        ("--cgroup-parent x", "control group"),
        ("--squash", "COPY --from=STAGE"),
    ] {
        let refused = bench.build("FROM busybox\nRUN true\n", more).failure(2).says(says);
        assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
    }
    let nothing =
        "--provenance=false --sbom=false --builder default --load --rm --isolation default";
    bench.build("FROM busybox\n", nothing).success();
}

#[test]
fn build_says_as_much_as_it_is_asked_to() {
    let bench = Bench::with_busybox(Caller::Own);
    let text = "FROM busybox\nRUN echo out; echo err >&2\n";
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let run = |args: &str| {
        let args = format!("build -f Dockerfile {args} context");
        bench.run(&mut bench.call(args.split(' ')))
    };
    let digest = run("--progress=plain").success().text();
    for args in ["-q", "--quiet --progress auto", "--progress quiet", "--progress none"] {
        let output = run(args).success();
        assert_eq!((output.text(), output.stderr.as_str()), (digest.clone(), ""), "{args}");
    }
    run("-q --progress plain").failure(2).says("--quiet");
    let mut call = bench.call("build -f Dockerfile context".split(' '));
    assert_eq!(bench.run(call.env("BUILDKIT_PROGRESS", "quiet")).success().stderr, "");
    let mut call = bench.call("build -f Dockerfile context".split(' '));
    call.env("BUILDKIT_PROGRESS", "plain").env("KILN_PROGRESS", "quiet");
    assert_eq!(bench.run(&mut call).success().stderr, "");
}

/// Each line is an object of BuildKit's `SolveStatus`.
#[test]
fn build_tells_programs_what_buildkit_tells() {
    let bench = Bench::with_busybox(Caller::Own);
    let text = "FROM busybox\nRUN echo out; echo err >&2\nRUN exit 3\n";
    fs::write(bench.path("Dockerfile"), text).unwrap();
    let args = "build --progress rawjson --no-cache-filter ghost -f Dockerfile context";
    let output = bench.run(&mut bench.call(args.split(' '))).failure(1);
    let lines: Vec<Value> =
        output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all = |key: &str| -> Vec<&Value> {
        lines.iter().filter_map(|line| line[key].as_array()).flatten().collect()
    };
    let decoded = |value: &Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    let vertexes = all("vertexes");
    for vertex in &vertexes {
        let digest = vertex["digest"].as_str().unwrap();
        assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
        for time in ["started", "completed"] {
            let Some(text) = vertex[time].as_str() else { continue };
            text.parse::<jiff::Timestamp>().unwrap();
            assert!(text.ends_with('Z'), "{text}");
        }
    }
    let ended = |name: &str| {
        let of = |vertex: &&&Value| {
            vertex["name"].as_str().unwrap().contains(name) && vertex["completed"].is_string()
        };
        vertexes.iter().find(of).unwrap_or_else(|| panic!("{name}: {vertexes:?}")).to_owned()
    };
    let said = ended("RUN echo out");
    assert_eq!(said.get("error"), None);
    assert_eq!(ended("RUN exit 3")["error"], "failed");
    let logs: Vec<(u64, String)> = all("logs")
        .iter()
        .filter(|log| log["vertex"] == said["digest"])
        .map(|log| (log["stream"].as_u64().unwrap(), decoded(&log["data"])))
        .collect();
    assert!(logs.contains(&(1, "out\n".into())) && logs.contains(&(2, "err\n".into())), "{logs:?}");
    let warning = all("warnings")[0];
    assert!(decoded(&warning["short"]).contains("ghost"));
    assert!(vertexes.iter().any(|vertex| vertex["digest"] == warning["vertex"]));
    let error = &lines.last().unwrap()["error"];
    assert!(error["message"].as_str().unwrap().contains("exit code 3"), "{error}");
    assert_eq!(error["line"], 3);
    let again = bench.run(&mut bench.call(args.split(' '))).failure(1);
    assert!(again.stderr.contains("\"cached\":true"), "{}", again.stderr);
}

/// Each of two stages waits for what only the other does.
#[test]
fn build_stages_run_at_once_and_fail_at_once() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let wait = |own: &str, other: &str| {
            format!(
                "RUN --mount=type=cache,id=meet,target=/m touch /m/{own}; n=0; \
                 until test -e /m/{other}; do sleep 0.1; n=$((n+1)); test $n -lt 300; done; touch /{own}\n"
            )
        };
        let text = format!(
            "FROM busybox AS a\n{}FROM busybox AS b\n{}FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
            wait("a", "b").replace("n=0; ", "n=0; set -e; "),
            wait("b", "a").replace("n=0; ", "n=0; set -e; ")
        );
        bench.build(&text, "").success();
        let text = "FROM busybox AS a\nRUN echo begun; sleep 300\nFROM busybox AS b\nRUN sleep 1; exit 4\n\
            FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
        let start = Instant::now();
        bench.build(text, "").failure(1).says("exit code 4");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        bench.clean();
    }
}

/// The layers are there, and the output is under way when the signal comes.
#[test]
fn build_interrupted_while_it_writes_an_output() {
    let bench = Bench::with_busybox(Caller::Own);
    bench.file("big", "");
    let big = fs::OpenOptions::new().write(true).open(bench.context().join("big")).unwrap();
    big.set_len(256 << 20).unwrap();
    let text = "FROM scratch\nCOPY big /big\n";
    bench.built(text);
    for output in ["type=tar,dest=x", "type=docker,dest=x", "type=local,dest=x"] {
        let args = format!("build --progress=rawjson -f Dockerfile -o {output} context");
        let mut call = bench.call(args.split(' '));
        let mut child = call.stdout(Stdio::null()).spawn().unwrap();
        let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut lines = std::io::BufRead::lines(stderr);
        assert!(lines.any(|line| line.unwrap().contains("\"write x\"")), "{output} is begun");
        std::thread::spawn(move || lines.for_each(drop));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{output}");
        assert!(!bench.path("x").is_file() && !bench.path("x/big").exists(), "{output}");
        let _ = fs::remove_dir(bench.path("x"));
        let left: Vec<_> =
            fs::read_dir(bench.path("")).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with(".kiln-")), "{left:?}");
    }
    bench.clean();
}
