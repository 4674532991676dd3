//! What a step starts, and when that ends; what it says while it runs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::bench::{Bench, Caller, callers};

/// What is promised.
const SOON: Duration = Duration::from_secs(1);

/// The best tier, and the one that emulates users.
const TIERS: [&str; 2] = ["", "--sandbox=single-id"];

/// A session of its own whose parents are gone, deaf to all that asks it to end; one
/// that is stopped; one that starts others again and again; one that holds the output.
const NASTY: &str = r#"(busybox setsid sh -c 'trap "" TERM HUP INT QUIT; (sleep 401 &); while :; do sleep 402; done' &) ; \
(sh -c 'kill -STOP $$; sleep 403' &) ; (while :; do sleep 0.01; done &) ; (sleep 404 &) ; \
trap '' TERM; sleep 0.2; echo begun; "#;

/// All processes that descend from one, with it.
fn family(first: u32) -> Vec<u32> {
    let mut found = vec![first];
    loop {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let more: Vec<u32> = all
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| !found.contains(pid))
            .filter(|&pid| parent(pid).is_some_and(|parent| found.contains(&parent)))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|(_, parent)| parent)
}

/// A zombie is dead, and waits for a parent that may be slow.
fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !['Z', 'X'].contains(&state))
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// A build whose step has begun and stays; in a process group of its own, as a shell
/// starts it.
fn begun(bench: &Bench, step: &str, flags: &str) -> (Child, BufReader<ChildStderr>) {
    let mark = bench.path("");
    fs::write(
        bench.path("Dockerfile"),
        format!("FROM busybox\nENV MARK={}\nRUN {step}\n", mark.display()),
    )
    .unwrap();
    let args = format!("build --progress=plain --no-cache {flags} -t out -f Dockerfile context");
    let mut child = bench.call(args.split_whitespace()).process_group(0).spawn().unwrap();
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with(" begun\n") || line.contains("RUN") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the step begins");
    }
    (child, reader)
}

/// The processes of the bench are gone soon after `what`.
#[track_caller]
fn gone(bench: &Bench, family: &[u32], since: Instant, what: &str) {
    loop {
        let left: Vec<u32> = family.iter().copied().filter(|&pid| is_alive(pid)).collect();
        let marked = bench.processes();
        if left.is_empty() && marked.is_empty() {
            return;
        }
        assert!(since.elapsed() < SOON, "after {what}: {left:?} {marked:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everything that a step started ends with it, and the build goes on at once.
#[test]
fn rule_29_all_ends_with_the_step() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        let file = format!(
            "FROM busybox\nENV MARK={}\nRUN {NASTY} touch /x\nRUN ! grep -x sleep /proc/[0-9]*/comm\n",
            bench.path("").display()
        );
        for flags in TIERS {
            let start = Instant::now();
            bench.build(&file, &format!("--no-cache {flags}")).success();
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
            bench.clean();
        }
    }
}

/// It ends with kiln, with the helper, and with the keeper, however they end.
#[test]
fn rule_29_all_ends_with_kiln() {
    let all = ["kiln", "helper", "keeper", "step"].map(|up| TIERS.map(|flags| (up, flags)));
    for caller in callers() {
        for (up, flags) in all.iter().flatten().copied() {
            let bench = Bench::with_busybox(caller);
            let (mut child, mut rest) = begun(&bench, &format!("{NASTY} sleep 405"), flags);
            let family = family(child.id());
            // The first process of the step: the only one below the keeper.
            let below = |pid: u32| family.iter().copied().find(|&one| parent(one) == Some(pid));
            let zygote = below(child.id()).unwrap();
            let helper = below(zygote).unwrap();
            let keeper = below(helper).unwrap();
            let step = below(keeper).unwrap();
            assert!(family.len() >= 9, "{family:?}");
            let target = match up {
                "kiln" => child.id(),
                "helper" => helper,
                "keeper" => keeper,
                _ => step,
            };
            let start = Instant::now();
            signal(target, Signal::KILL);
            let dead: Vec<u32> = family.iter().copied().filter(|&pid| pid != child.id()).collect();
            gone(&bench, &dead, start, up);
            let status = child.wait().unwrap();
            let mut said = String::new();
            rest.read_to_string(&mut said).unwrap();
            if up == "kiln" {
                assert_eq!(status.signal(), Some(9));
                // What it could not clear, the next one does.
                bench.built("FROM busybox\nRUN true\n");
            } else {
                assert_eq!(status.code(), Some(1), "{up}: {said}");
                let how = match up {
                    "step" => "RUN failed with signal 9 (SIGKILL)",
                    "keeper" => "the process's keeper was killed",
                    _ => "the sandbox helper ended before its work was done",
                };
                assert!(said.contains(how), "{up}: {said}");
            }
            bench.clean();
        }
    }
}

/// Ctrl-C goes to the whole group of processes that the terminal has in front.
#[test]
fn rule_29_all_ends_at_ctrl_c() {
    for caller in callers() {
        // One that is deaf to being asked, one that takes its time.
        let traps = ["trap '' TERM", "trap 'sleep 300' TERM"];
        for (trap, flags) in traps.into_iter().zip(TIERS) {
            let bench = Bench::with_busybox(caller);
            let (mut child, _rest) =
                begun(&bench, &format!("{NASTY} {trap}; sleep 405 & wait"), flags);
            let family = family(child.id());
            let start = Instant::now();
            kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.code(), Some(130), "{trap}");
            assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
            gone(&bench, &family, Instant::now(), trap);
            bench.clean();
        }
    }
}

/// A stopped kiln holds its step up, and one that is killed then takes it along.
#[test]
fn rule_29_all_ends_with_a_stopped_kiln() {
    let bench = Bench::with_busybox(callers()[0]);
    let (mut child, _rest) = begun(&bench, &format!("{NASTY} sleep 405"), "");
    let family = family(child.id());
    signal(child.id(), Signal::STOP);
    let start = Instant::now();
    signal(child.id(), Signal::KILL);
    child.wait().unwrap();
    gone(&bench, &family, start, "a stopped kiln");
    bench.built("FROM busybox\nRUN true\n");
    bench.clean();
}

/// How a step ended is said as it was.
#[test]
fn build_says_how_a_step_ended() {
    for caller in callers() {
        let bench = Bench::with_busybox(caller);
        for (step, says, hint) in [
            ("exit 200", "RUN failed with exit code 200\n", ""),
            ("exit 255", "RUN failed with exit code 255\n", ""),
            // The shell tells of its child's signal.
            (
                "sh -c 'kill -SEGV $$'; exit $?",
                "RUN failed with exit code 139\n",
                "was ended by signal 11 (SIGSEGV)",
            ),
            ("sh -c 'kill -TERM $$'; exit $?", "exit code 143\n", "by signal 15 (SIGTERM)"),
            // The first process itself: signals of the kernel's end it as well.
            (
                "ulimit -t 1; while :; do :; done",
                "RUN failed with signal 9 (SIGKILL)\n",
                "signal 9",
            ),
        ] {
            let output = bench.build(&format!("FROM busybox\nRUN {step}\n"), "").failure(1);
            output.says(says).says(hint);
        }
        bench.clean();
    }
}

/// A line is seen while the step goes on, with what it belongs to.
#[test]
fn build_tells_lines_as_they_come() {
    for caller in callers() {
        for mode in ["plain", "rawjson"] {
            let bench = Bench::with_busybox(caller);
            let step = "echo one; sleep 1; echo two >&2; sleep 1; printf three";
            fs::write(bench.path("Dockerfile"), format!("FROM busybox\nRUN {step}\n")).unwrap();
            let args = format!("build --progress={mode} -f Dockerfile context");
            let mut child = bench.call(args.split(' ')).spawn().unwrap();
            let mut seen = Vec::new();
            let mut name = None;
            for line in BufReader::new(child.stderr.take().unwrap()).lines() {
                let line = line.unwrap();
                let (id, text) = if mode == "plain" {
                    if line.contains("RUN echo") {
                        name = line.split(' ').next().map(str::to_owned);
                        continue;
                    }
                    let mut words = line.splitn(3, ' ');
                    (words.next().map(str::to_owned), words.nth(1).unwrap_or_default().to_owned())
                } else {
                    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                    for vertex in json["vertexes"].as_array().into_iter().flatten() {
                        if vertex["name"].as_str().is_some_and(|name| name.contains("RUN echo")) {
                            name = vertex["digest"].as_str().map(str::to_owned);
                        }
                    }
                    let log = &json["logs"][0];
                    let text = log["data"].as_str().map(decoded).unwrap_or_default();
                    (log["vertex"].as_str().map(str::to_owned), text.trim_end().to_owned())
                };
                if ["one", "two", "three"].contains(&text.as_str()) {
                    assert_eq!(id, name, "{line}");
                    seen.push((text, Instant::now()));
                }
            }
            assert!(child.wait().unwrap().success());
            let words: Vec<&str> = seen.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!(words, ["one", "two", "three"], "{mode}");
            for pair in seen.windows(2) {
                let between = pair[1].1 - pair[0].1;
                assert!(between > Duration::from_millis(500), "{mode}: {between:?}");
            }
            bench.clean();
        }
    }
}

/// Base64, as protobuf has bytes in JSON.
fn decoded(text: &str) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let (mut held, mut bytes) = (0, Vec::new());
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = letters.iter().position(|known| *known == letter).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is no text, or no line, is told and harms nothing.
#[test]
fn build_tells_output_that_is_no_text() {
    let bench = Bench::with_busybox(Caller::Own);
    let step = r"head -c 100000 /dev/zero | tr '\0' x; echo; head -c 3000000 /dev/urandom; \
        printf '\n\033[2J\033]0;title\007bell\n10%%\r50%%\r100%%\r\n\377\376bad\nü'; printf '€'";
    let output = bench.build(&format!("FROM busybox\nRUN {step}\n"), "").success();
    let said = &output.stderr;
    let long: usize =
        said.lines().map(|line| line.matches('x').count()).filter(|n| *n > 1000).sum();
    assert!(long >= 100_000, "the long line is there: {long}");
    for text in [" bell\n", " 100%\n", "\u{fffd}\u{fffd}bad\n", " ü€\n", "DONE"] {
        assert!(said.contains(text), "{text:?}");
    }
    let escaped = said.chars().all(|c| c == '\n' || c == '\t' || !c.is_control());
    assert!(escaped, "no control character reaches the terminal");
    bench.clean();
}
