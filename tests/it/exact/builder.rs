//! kiln, as somebody, in a tier.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::experiment::Experiment;
use super::shared::Shared;
use crate::parity::tree::Tree;
use crate::support::CAPABILITIES;

/// Runs a command, and leaves in a file what it used of the processors, which other tests
/// use as well.
const TIMED: &str = r#""$@"; code=$?; times >"$0"; exit $code"#;

/// Somebody whom no file of the machine knows: as in a pod of a CI system.
const NOBODY: u32 = 4242;

/// Ends the names of those in whose steps of root set-user-ID programs gain nothing.
pub(super) const CONTAINER: &str = ", capabilities of a container";

/// Who runs kiln.
enum Caller {
    /// Whoever runs the tests.
    Own,
    /// Another one, from root.
    Other { uid: u32, gid: u32 },
}

/// What kiln may do besides what its user may.
#[derive(PartialEq)]
enum Rights {
    All,
    /// `no_new_privs`: no helper with the set-user-ID bit or capabilities works.
    Bound,
    /// Those that an engine grants root by default: no CAP_SYS_ADMIN.
    Container,
    /// The same with CAP_SYS_ADMIN, by which steps without namespaces have both `/proc` and
    /// set-user-ID programs.
    Admin,
}

pub(super) struct Builder {
    caller: Caller,
    rights: Rights,
    tier: &'static str,
}

/// What came of an experiment.
pub(super) struct Built {
    pub(super) tree: Tree,
    /// Of its layers, the base's first.
    pub(super) diff_ids: Vec<String>,
    /// Seconds of the processors.
    pub(super) cpu: f64,
}

impl fmt::Display for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, rights, tier } = self;
        match caller {
            Caller::Own => write!(f, "{tier}, own user")?,
            Caller::Other { uid, .. } => write!(f, "{tier}, user {uid}")?,
        }
        f.write_str(match rights {
            Rights::All => "",
            Rights::Bound => ", no_new_privs",
            Rights::Container => CONTAINER,
            Rights::Admin => ", those of a container and SYS_ADMIN",
        })
    }
}

impl Builder {
    /// All that there are here; for root, also as other users.
    pub(super) fn all() -> Vec<Self> {
        let own = |tier, rights| Self { caller: Caller::Own, rights, tier };
        if !rustix::process::geteuid().is_root() {
            return vec![own("subuid", Rights::All), own("single-id", Rights::Bound)];
        }
        let mut all = vec![
            own("root", Rights::All),
            own("chroot", Rights::Admin),
            own("chroot", Rights::Container),
        ];
        if let Some((uid, gid)) = test_user() {
            let caller = Caller::Other { uid, gid };
            all.push(Self { caller, rights: Rights::All, tier: "subuid" });
        }
        let caller = Caller::Other { uid: NOBODY, gid: NOBODY };
        all.push(Self { caller, rights: Rights::Bound, tier: "single-id" });
        all
    }

    pub(super) fn tier(&self) -> &'static str {
        self.tier
    }

    /// An error is how a build that fails ends.
    #[expect(clippy::print_stderr, reason = "how long each takes is of interest")]
    pub(super) fn build(&self, shared: &Shared, experiment: &Experiment) -> Result<Built, String> {
        let home = tempfile::Builder::new().prefix("kiln-exact-home-").tempdir().unwrap();
        if let Caller::Other { uid, gid } = self.caller {
            chown(home.path(), Some(uid), Some(gid)).unwrap();
        }
        let dockerfile = shared.steps().join(format!("{}.Dockerfile", experiment.name));
        fs::write(&dockerfile, experiment.dockerfile()).unwrap();
        let started = Instant::now();
        let output = self
            .command(shared.kiln().as_os_str(), home.path())
            .args(["build", "--progress=plain", "--sandbox", self.tier, "-f"])
            .arg(&dockerfile)
            .arg(format!("--build-context=debian=oci-layout://{}:latest", shared.image().display()))
            .arg(format!("--build-context=debs={}", shared.debs().display()))
            .args(["-o", "type=oci,dest=out.tar"])
            .arg(shared.steps())
            .env("KILN_STORE", home.path().join("store"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let text: Vec<&str> = said.lines().rev().take(60).collect();
        let text: Vec<&str> = text.into_iter().rev().collect();
        if !output.status.success() {
            self.clear(home.path());
            return Err(text.join("\n"));
        }
        let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu(&home.path().join("times")));
        eprintln!("{}: {self}: {wall:.1} s, {cpu:.1} s of the processors", experiment.name);
        let built = read(&home.path().join("out.tar"), experiment.text(), cpu);
        self.clear(home.path());
        Ok(built)
    }

    /// A command as the caller.
    fn command(&self, program: &std::ffi::OsStr, home: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", TIMED]).arg(home.join("times"));
        if matches!(self.rights, Rights::Container | Rights::Admin) {
            // A container's name is its own, and programs write the name into files.
            command.args(["unshare", "--uts", "sh", "-c", "hostname kiln && exec \"$@\"", "sh"]);
        }
        command.arg("setpriv");
        if let Caller::Other { uid, gid } = self.caller {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
            command.arg("--clear-groups");
        }
        match self.rights {
            Rights::All => {}
            Rights::Bound => {
                command.arg("--no-new-privs");
            }
            // Root has what the bounding set leaves once it executes a program.
            Rights::Container | Rights::Admin => {
                let admin = (self.rights == Rights::Admin).then_some(&"SYS_ADMIN");
                let names = CAPABILITIES
                    .iter()
                    .chain(admin)
                    .map(|name| format!(",+{}", name.to_lowercase()));
                let set: String = std::iter::once("-all".to_owned()).chain(names).collect();
                command.args(["--bounding-set".into(), set]);
            }
        }
        command
            .arg("--")
            .arg(program)
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(home)
            .stdin(Stdio::null());
        command
    }

    /// Files of mapped owners, and folders closed to their owner: `TempDir` does the rest.
    fn clear(&self, home: &Path) {
        if !rustix::process::geteuid().is_root() {
            let mut all = vec!["--map-root-user"];
            all.extend((self.rights == Rights::All).then_some("--map-auto"));
            all.extend(["rm", "-rf", "store", "out.tar"]);
            self.command("unshare".as_ref(), home).args(all).status().unwrap();
        }
    }
}

fn test_user() -> Option<(u32, u32)> {
    let table = fs::read_to_string("/etc/passwd").unwrap();
    let line = table.lines().find(|line| line.starts_with("kiln-test:"));
    let Some(line) = line else {
        crate::support::skip("nothing is built with a range of IDs: no user is named kiln-test");
        return None;
    };
    let mut numbers = line.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((numbers.next()?, numbers.next()?))
}

/// Seconds, from the second line that the shell's `times` writes: `1m2.03s 0m4.05s`.
fn cpu(times: &Path) -> f64 {
    let text = fs::read_to_string(times).unwrap();
    let seconds = text.lines().nth(1).unwrap().split(' ').map(|time| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    });
    seconds.sum()
}

/// Reads an archive in the OCI layout by the specification alone.
fn read(path: &Path, text: usize, cpu: f64) -> Built {
    let mut blobs = HashMap::new();
    let mut archive = tar::Archive::new(BufReader::new(File::open(path).unwrap()));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        blobs.insert(name, bytes);
    }
    let json = |name: &str| -> Value { serde_json::from_slice(&blobs[name]).unwrap() };
    let blob = |descriptor: &Value| {
        format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
    };
    let manifest = json(&blob(&json("index.json")["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap().iter();
    let diff_ids = diff_ids.map(|id| id.as_str().unwrap().to_owned()).collect();
    let mut tree = Tree::showing(text);
    for layer in manifest["layers"].as_array().unwrap() {
        let bytes = blobs[&blob(layer)].as_slice();
        let mut tar: Box<dyn io::Read> = match layer["mediaType"].as_str().unwrap() {
            kind if kind.ends_with("+gzip") => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            kind if kind.ends_with("+zstd") => {
                Box::new(zstd::stream::read::Decoder::new(bytes).unwrap())
            }
            _ => Box::new(bytes),
        };
        tree.apply(&mut tar).unwrap();
    }
    Built { tree, diff_ids, cpu }
}
