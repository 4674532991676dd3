//! How much memory a large layer takes: less than there is in it.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;

use super::bench::{Bench, callers};
use crate::support::kiln::Output;

/// What a process may have of memory that is its own (RLIMIT_DATA), in KiB; the stacks of its
/// threads count in full.
const LIMIT: u64 = 64 << 10;
/// Noise, so that the compressed layer is as large.
const FILE: u64 = 160 << 20;

fn limited(bench: &Bench, args: &str) -> Output {
    let call = bench.call(args.split(' '));
    let mut low = Command::new("sh");
    low.args(["-c", &format!("ulimit -d {LIMIT} && exec \"$@\""), "sh"]).arg(call.get_program());
    low.args(call.get_args()).current_dir(bench.path(".")).env_clear();
    low.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bench.run(&mut low)
}

#[test]
fn build_of_a_large_layer_in_little_memory() {
    let bench = Bench::new(callers()[0]);
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 56) as u8
    };
    // What repeats is further away than any window at these levels.
    let noise: Vec<u8> = (0..4 << 20).map(|_| byte()).collect();
    let mut file = File::create(bench.context().join("noise")).unwrap();
    (0..FILE / noise.len() as u64).for_each(|_| file.write_all(&noise).unwrap());
    drop(file);
    std::fs::write(bench.path("Dockerfile"), "FROM scratch\nCOPY noise /\n").unwrap();
    for compression in ["gzip", "zstd", "uncompressed"] {
        let out = format!("type=oci,dest={compression}.tar,compression={compression}");
        limited(&bench, &format!("build -t {compression} -o {out} -f Dockerfile context"))
            .success();
        let size = bench.path(format!("{compression}.tar")).metadata().unwrap().len();
        assert!(size > FILE, "{compression}: {size} bytes");
        limited(&bench, &format!("build -t {compression} -f Dockerfile context")).success();
    }
    for format in ["oci", "docker"] {
        limited(&bench, &format!("save --format {format} -o saved.tar gzip")).success();
        let other = Bench::new(callers()[0]);
        std::fs::rename(bench.path("saved.tar"), other.path("saved.tar")).unwrap();
        limited(&other, "load -i saved.tar").success();
    }
    bench.clean();
}
