//! What the sandbox costs: `cargo bench --bench sandbox`. As root it compares the tiers
//! `root` and `single-id`, as anybody else `subuid` and `single-id`; with bubblewrap and
//! buildah, where they are installed. The install needs the images and packages of
//! `tests/run --setup-only`. What a run of it said is in `benches/README.md`.

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use kiln::sandbox::{
    Cancel, Exit, Ids, Io, Limits, Network, Root, Sandbox, SandboxSpec, Tier, set_helper,
};

type Done = Result<(), Box<dyn std::error::Error>>;

/// A static program of every Debian machine's tests.
const BUSYBOX: &str = "/bin/busybox";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn main() -> ExitCode {
    // Cargo says `--bench`, and nothing to the helpers.
    set_helper(kiln().into());
    match all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn kiln() -> &'static str {
    env!("CARGO_BIN_EXE_kiln")
}

fn all() -> Done {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    for name in ["bin", "proc", "dev", "sys", "etc", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    for name in ["true", "sh"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    println!("| what | least | median | CPU | against the first |\n|---|---|---|---|---|");
    one_command(folder.path(), &root)?;
    twenty_steps(folder.path(), &root)?;
    install(folder.path())
}

fn tiers() -> [Tier; 2] {
    let best = if rustix::process::geteuid().is_root() { Tier::Root } else { Tier::Subuid };
    [best, Tier::SingleId]
}

// --- one command -----------------------------------------------------------------

fn one_command(folder: &Path, root: &Path) -> Done {
    const TIMES: usize = 200;
    let plain = measured(TIMES, |_| run(&mut Command::new(root.join("bin/true"))))?;
    let table = Table::new(plain);
    table.line("`true`, without a sandbox", plain);
    for tier in tiers() {
        let before = children()?;
        let sandbox = Sandbox::open(Some(tier))?;
        let uppers = folder.join(format!("uppers-{tier}"));
        for number in 0..TIMES {
            for name in ["upper", "work"] {
                fs::create_dir_all(uppers.join(number.to_string()).join(name))?;
            }
        }
        let mut cost = measured(TIMES, |number| {
            let place = uppers.join(number.to_string());
            let spec = spec(root, &place.join("upper"), &place.join("work"));
            match sandbox.run(&spec, Io::default(), &Cancel::new())? {
                Exit::Code(0) => Ok(()),
                other => Err(format!("`true` ended with {other:?}").into()),
            }
        })?;
        // The zygote has waited for the helpers, and kiln waits for the zygote now.
        drop(sandbox);
        cost.cpu = (children()? - before) / f64::from(TIMES as u32);
        table.line(&format!("`true` in kiln's sandbox, {tier}"), cost);
        fs::remove_dir_all(&uppers)?;
    }
    if has("bwrap") {
        let cost = measured(TIMES, |_| {
            run(Command::new("bwrap").arg("--bind").arg(root).args([
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
                "--unshare-all",
                "/bin/true",
            ]))
        })?;
        table.line("`true` in bubblewrap", cost);
    }
    if has("buildah") {
        buildah(folder, root, &table)?;
    }
    Ok(())
}

fn spec(root: &Path, upper: &Path, work: &Path) -> SandboxSpec {
    let (lowers, upper, work) = (vec![root.to_owned()], upper.to_owned(), work.to_owned());
    SandboxSpec {
        root: Root::Overlay { lowers, upper, work },
        argv: vec!["/bin/true".into()],
        env: vec![("PATH".into(), "/bin".into())],
        cwd: PathBuf::from("/"),
        user: Ids::default(),
        hostname: "bench".into(),
        mounts: Vec::new(),
        network: Network::Host,
        privileged: false,
        limits: Limits::default(),
        stop_signal: 15,
    }
}

/// Its isolation that needs no runtime, in a container that was made before.
fn buildah(folder: &Path, root: &Path, table: &Table) -> Done {
    let command = |args: &[&str]| {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(folder.join("buildah"))
            .arg("--runroot")
            .arg(folder.join("buildah-run"))
            .args(["--storage-driver", "vfs"])
            .args(args);
        command
    };
    let output = command(&["from", "scratch"]).output()?;
    let name = String::from_utf8(output.stdout)?.trim().to_owned();
    run(command(&["copy", "-q", &name]).arg(root))?;
    for isolation in ["chroot", "oci"] {
        let once = || run(&mut command(&["run", "--isolation", isolation, &name, "/bin/true"]));
        if once().is_err() {
            println!("| `buildah run`, isolation {isolation} | does not run here | | | |");
            continue;
        }
        table.line(&format!("`buildah run`, isolation {isolation}"), measured(15, |_| once())?);
    }
    run(&mut command(&["rm", &name]))
}

// --- a stage ---------------------------------------------------------------------

fn twenty_steps(folder: &Path, root: &Path) -> Done {
    let mut table = None;
    for tier in tiers() {
        for steps in [1, 20] {
            let dockerfile = folder.join("Dockerfile");
            let lines: String =
                (0..steps).map(|number| format!("RUN [\"/bin/true\", \"{number}\"]\n")).collect();
            fs::write(&dockerfile, format!("FROM scratch\nCOPY bin /bin\n{lines}"))?;
            let place = Store::new(folder, tier)?;
            // What all have in common is made before.
            place.build(&dockerfile, root, &["--no-cache"])?;
            let cost = measured(9, |_| place.build(&dockerfile, root, &["--no-cache"]))?;
            table
                .get_or_insert_with(|| Table::new(cost))
                .line(&format!("`kiln build`, {steps} × `RUN true`, {tier}"), cost);
        }
    }
    Ok(())
}

/// A store that a tier has for itself.
struct Store {
    folder: PathBuf,
    tier: Tier,
}

impl Store {
    fn new(above: &Path, tier: Tier) -> std::io::Result<Self> {
        let folder = above.join(format!("store-{tier}"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        Ok(Self { folder, tier })
    }

    fn build(&self, dockerfile: &Path, context: &Path, more: &[&str]) -> Done {
        run(Command::new(kiln())
            .args(["build", "-q", "--sandbox", self.tier.name(), "-f"])
            .arg(dockerfile)
            .args(more)
            .arg(context)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", &self.folder)
            .env("KILN_STORE", self.folder.join("store")))
    }
}

// --- an install ------------------------------------------------------------------

/// Of Debian packages, without a network.
fn install(folder: &Path) -> Done {
    let images = kiln::env::path("KILN_TEST_IMAGES");
    let (Some(images), Some(debs)) = (images, kiln::env::path("KILN_TEST_DEBS")) else {
        println!("| `apt-get install` | without KILN_TEST_IMAGES, KILN_TEST_DEBS | | | |");
        return Ok(());
    };
    let layout = images.join("debian");
    let contexts = [
        format!("--build-context=debian=oci-layout://{}:latest", layout.display()),
        format!("--build-context=debs={}", debs.display()),
    ];
    let mut more: Vec<&str> = contexts.iter().map(String::as_str).collect();
    let mount = "RUN --mount=type=bind,from=debs,target=/debs";
    let dockerfile = |name: &str, command: &str| -> std::io::Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, format!("FROM debian\n{mount} {command}\n"))?;
        Ok(path)
    };
    let nothing = dockerfile("nothing", "true")?;
    let apt = dockerfile(
        "install",
        "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && \
         echo 'deb [trusted=yes] file:/debs ./' >/etc/apt/sources.list && apt-get -qq update && \
         DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends \
         nginx-light openssh-server git sudo rsync cron man-db redis-server >/dev/null",
    )?;
    let mut table = None;
    for tier in tiers() {
        let place = Store::new(folder, tier)?;
        more.truncate(contexts.len());
        // The image and the packages are unpacked before, and not measured.
        place.build(&nothing, folder, &more)?;
        more.push("--no-cache");
        let without = measured(3, |_| place.build(&nothing, folder, &more))?;
        let with = measured(3, |_| place.build(&apt, folder, &more))?;
        let cost = Cost {
            least: with.least - without.least,
            wall: with.wall - without.wall,
            cpu: with.cpu - without.cpu,
        };
        table
            .get_or_insert_with(|| Table::new(cost))
            .line(&format!("`apt-get install` without a network, {tier}"), cost);
    }
    Ok(())
}

// --- measuring -------------------------------------------------------------------

/// Of one execution, in milliseconds.
#[derive(Clone, Copy)]
struct Cost {
    least: f64,
    wall: f64,
    /// A mean: the kernel counts in hundredths of a second.
    cpu: f64,
}

/// The least and the median time, and what children used of the processors.
fn measured(
    times: usize,
    mut once: impl FnMut(usize) -> Done,
) -> Result<Cost, Box<dyn std::error::Error>> {
    let (mut all, cpu) = (Vec::new(), children()?);
    for number in 0..times {
        let started = Instant::now();
        once(number)?;
        all.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    all.sort_by(f64::total_cmp);
    let wall = all.get(times / 2).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "some hundred at most")]
    let times = times as f64;
    let least = all.first().copied().unwrap_or_default();
    Ok(Cost { least, wall, cpu: (children()? - cpu) / times })
}

/// Milliseconds of the processors that children have used who were waited for, and
/// theirs: the 16th and 17th field of proc(5)'s stat, in hundredths of a second.
fn children() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let mut ticks = 0_u32;
    for field in fields.skip(13).take(2) {
        ticks += field.parse::<u32>()?;
    }
    Ok(f64::from(ticks) * 10.0)
}

/// Lines that are compared with the first.
struct Table {
    first: Cost,
}

impl Table {
    fn new(first: Cost) -> Self {
        Self { first }
    }

    fn line(&self, what: &str, cost: Cost) {
        let Cost { least, wall, cpu } = cost;
        let ratio = if self.first.cpu > 100.0 {
            format!("{:.2} × the CPU", cpu / self.first.cpu)
        } else {
            format!("{:+.1} ms in the median", wall - self.first.wall)
        };
        println!("| {what} | {least:.1} ms | {wall:.1} ms | {cpu:.1} ms | {ratio} |");
    }
}

fn has(program: &str) -> bool {
    PATH.split(':').any(|folder| Path::new(folder).join(program).exists())
}

fn run(command: &mut Command) -> Done {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {said}", output.status).into())
}
