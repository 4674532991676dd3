//! Memory does not grow with what is built, as GNU time counts it: the largest process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use super::bench::{Bench, callers};
use crate::support::registry::TestRegistry;

/// KiB: the most that any command may take, whatever the size of a layer.
const LIMIT: u64 = 96 << 10;

/// Runs kiln, and gives the most memory that a process of it had, in KiB.
#[track_caller]
fn peak(bench: &Bench, args: &str) -> u64 {
    let call = bench.call(args.split_whitespace());
    let mut timed = Command::new("time");
    timed.args(["-f", "%M", "-o"]).arg(bench.path("peak")).arg(call.get_program());
    timed.args(call.get_args()).env_clear().current_dir(bench.path(""));
    timed.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bench.run(&mut timed).success();
    let said = fs::read_to_string(bench.path("peak")).unwrap();
    said.trim().parse().unwrap_or_else(|_| panic!("{said}"))
}

/// 8 GiB in one file. Most of it are holes, so that the disk need not hold it; what is no
/// hole does not compress, so that blobs are larger than any buffer too.
fn large(bench: &Bench) {
    let file = File::create(bench.context().join("large")).unwrap();
    file.set_len(8 << 30).unwrap();
    let mut state = 1_u64;
    let mut block = vec![0; 1 << 20];
    for number in 0..256 {
        for word in block.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
        }
        file.write_all_at(&block, (1 << 30) + (number << 20)).unwrap();
    }
}

#[test]
fn build_push_pull_save_and_load_in_bounded_memory() {
    let registry = TestRegistry::start(None);
    let name = format!("{}/large:1", registry.addr);
    let bench = Bench::new(callers()[0]);
    large(&bench);
    fs::write(bench.path("Dockerfile"), "FROM scratch\nCOPY large /large\n").unwrap();
    let within = |what: &str, args: &str| {
        let peak = peak(&bench, args);
        assert!(peak < LIMIT, "{what}: {peak} KiB of {LIMIT}");
    };
    within("build", &format!("build -q -f Dockerfile -t {name} context"));
    within("rebuild", &format!("build -q -f Dockerfile -t {name} context"));
    within("push", &format!("push {name}"));
    within("save", &format!("save {name} -o large.tar"));
    fs::remove_dir_all(bench.path("store")).unwrap();
    within("load", "load -i large.tar");
    fs::remove_file(bench.path("large.tar")).unwrap();
    fs::remove_dir_all(bench.path("store")).unwrap();
    within("pull", &format!("pull {name}"));
}

/// Bytes of memory that a file of the context may cost: its name and what is known of it.
const PER_FILE: u64 = 450;

#[test]
fn build_of_many_files_takes_memory_for_their_names_only() {
    let bench = Bench::new(callers()[0]);
    fs::write(bench.path("Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
    let with = |folders: std::ops::Range<u32>| {
        for folder in folders {
            fs::create_dir(bench.context().join(folder.to_string())).unwrap();
            for file in 0..1000 {
                fs::write(bench.context().join(format!("{folder}/a-file-{file}")), "x").unwrap();
            }
        }
        peak(&bench, "build -q -f Dockerfile -t out context")
    };
    let few = with(0..10);
    let many = with(10..100);
    let each = (many.saturating_sub(few) << 10) / 90_000;
    assert!(each < PER_FILE, "{each} bytes a file: {few} KiB for 10,000, {many} for 100,000");
}

#[test]
fn build_of_many_layers_takes_little_memory_for_each() {
    let bench = Bench::with_busybox(callers()[0]);
    bench.file("a", "A");
    let with = |layers: usize| {
        let steps: String = (0..layers).map(|n| format!("COPY a /{n}\n")).collect();
        fs::write(bench.path("Dockerfile"), format!("FROM busybox\n{steps}RUN true\n")).unwrap();
        peak(&bench, "build -q -f Dockerfile -t out context")
    };
    let (few, many) = (with(10), with(400));
    let each = (many.saturating_sub(few)) / 390;
    assert!(each < 16, "{each} KiB a layer: {few} KiB for 10, {many} for 400");
}
