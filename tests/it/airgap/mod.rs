//! The air gap: what is locked and packed on one machine is built, signed, verified, served and
//! rolled out on another, which no route leads to.
//!
//! The two are network namespaces with a store, an `/etc` and, over there, a control plane of
//! their own. A folder goes from one to the other, as on a disk.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;

use crate::build::offline::World;
use crate::deploy::world::world;
use crate::support::apart::part;
use crate::support::kiln::{Kiln, tool};
use crate::support::{Ended, root_only};

const NAME: &str = "airgap::the_air_gap";

/// What is rolled out: built of what was locked, and told what it is made of.
const POLICY: &str = "\
version = 1
keys = { release = 'release.pub' }
[[image]]
names = ['**']
signed-by = ['release']
[image.provenance]
signed-by = ['release']
lock = 'context/kiln.lock'
[[image.attestation]]
type = 'spdxjson'
signed-by = ['release']
";

/// What is carried, by name.
struct Disk(PathBuf);

impl Disk {
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

#[test]
fn the_air_gap() {
    if !rustix::process::geteuid().is_root() {
        return root_only("two networks are made");
    }
    let folder = tempfile::tempdir().unwrap();
    part(NAME, "here", folder.path(), |disk| here(&Disk(disk.to_owned())));
    part(NAME, "there", folder.path(), |disk| there(&Disk(disk.to_owned())));
}

/// Where there are a registry, files and repositories.
fn here(disk: &Disk) {
    let world = World::new();
    let kiln = Kiln::new();
    let context = disk.path("context");
    fs::create_dir(&context).unwrap();
    let text = format!("{}COPY own /own\nCMD [\"sleep\", \"1000\"]\n", world.dockerfile());
    disk.write("context/Dockerfile", text);
    disk.write("context/own", "own");
    kiln.ok(&format!("lock {context}"));
    let built = kiln.ok(&format!("build --locked -t app {context}")).text();
    disk.write("digest", built.trim());
    kiln.ok(&format!("bundle -o {} {context}", disk.path("inputs.tar")));
    disk.write("registry", world.registry());
}

/// Where there is nothing but the disk.
fn there(disk: &Disk) {
    // A machine without a route is none to an API server; this one leads back to it.
    tool("ip", &["route", "add", "default", "dev", "lo"]);
    let Some(cluster) = world() else { return };
    assert!(TcpStream::connect(disk.read("registry")).is_err(), "a route leads here");
    let mut kiln = Kiln::new();
    kiln.set("COSIGN_PASSWORD", "secret");
    let (context, inputs) = (disk.path("context"), disk.path("inputs.tar"));
    let lacking = kiln.fails(1, &format!("build --offline {context}"));
    assert_eq!(lacking.stderr.matches("is not here").count(), 4, "{}", lacking.stderr);

    let (key, public) = (disk.path("release.key"), disk.path("release.pub"));
    let prefix = disk.path("release");
    kiln.ok(&format!("--offline generate-key-pair --output-key-prefix {prefix}"));
    let line = format!("build --offline --bundle {inputs} -t app --provenance=true --sbom=true");
    let built = kiln.ok(&format!("{line} --sign-key {key} {context}")).text();
    assert_eq!(built.trim(), disk.read("digest"), "another image than where the inputs are from");

    kiln.ok(&format!("--offline verify --key {public} app"));
    disk.write("policy.toml", POLICY);
    let policy = disk.path("policy.toml");
    kiln.ok(&format!("--offline verify --policy {policy} app"));
    kiln.ok(&format!("--offline generate-key-pair --output-key-prefix {prefix}2"));
    kiln.fails(1, &format!("--offline verify --key {prefix}2.pub app"));

    let mut server = Ended(kiln.args(["serve", "--addr", "127.0.0.1:0"]).command.spawn().unwrap());
    let mut addr = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut addr).unwrap();
    let name = format!("{}/app", addr.trim());
    kiln.ok(&format!("verify --key {public} docker://{name}"));
    let space = cluster.namespace("airgap");
    let line =
        format!("deploy --name app --image {name} --namespace {space} --verify-policy {policy}");
    let call = kiln.args(line.split_whitespace()).env("KUBECONFIG", &cluster.kubeconfig);
    let done = call.run().success().text();
    assert!(done.starts_with("deployment/app created, running\n"), "{done}");
    assert!(done.trim().ends_with(&format!("/app@{}", built.trim())), "{done}");
    let object = cluster.object(&space, "deployment/app");
    let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, &format!("{name}@{}", built.trim()));
}
