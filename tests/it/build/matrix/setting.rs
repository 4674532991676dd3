//! Under what conditions something is built, and the builds themselves: one shell script
//! for a column, in whatever surroundings.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::subjects::{Column, Order};
use crate::build::bench::{Bench, Caller, program};
use crate::build::nested;
use crate::support::CAPABILITIES;

/// What is not as usual; the default is the usual.
#[derive(Default)]
pub(super) struct Setting {
    /// Whoever runs the tests, if nobody else is named.
    pub(super) caller: Option<Caller>,
    /// The tier that is asked for.
    pub(super) tier: Option<&'static str>,
    /// The folder of the home with store and contexts, where it is not the usual one.
    pub(super) below: Option<&'static str>,
    /// Names of the store and of the folder of contexts.
    pub(super) names: Option<(&'static str, &'static str)>,
    /// What the shell does before the first build.
    pub(super) first: &'static str,
    /// What stands before each call of kiln.
    pub(super) with: &'static str,
    pub(super) order: Option<Order>,
    pub(super) touched: bool,
    pub(super) around: Around,
    pub(super) then: Then,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    #[default]
    Nothing,
    /// An overlay over the home.
    Overlay,
    /// Another host name.
    Host,
    /// A container with an engine's default rights, whose root is an overlay.
    Container,
}

impl Around {
    /// What kiln says where this is so.
    pub(super) fn sign(self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Host => None,
            // Of a root that is a copy.
            Self::Overlay | Self::Container => Some("plain folder"),
        }
    }
}

/// What follows the first build of a subject, and must give the same.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    #[default]
    Nothing,
    /// From the store's cache, and in an empty store from the cache that the first gave on.
    Cached,
    /// After a clean-up of all that can be made again.
    Pruned,
}

impl Then {
    /// How often a subject is built.
    pub(super) fn builds(self) -> usize {
        match self {
            Self::Nothing => 1,
            Self::Pruned => 2,
            Self::Cached => 3,
        }
    }
}

/// The script's begin.
const BEGIN: &str = r#"program=$1 home=${2%/}
cd "$home"
core=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
kiln() { KILN_STORE=$store $with "$program" "$@"; }
build() {
    name=$1; shift
    digest=$(kiln build -v --progress=plain "$@" 2>said) || { cat said >&2; exit 1; }
    echo "$name $digest"
    grep -o -e '^sandbox: .*' -e 'plain folder' said >&2 || :
}
"#;

/// An overlay over the folder `$0`, in a mount namespace that ends with it; then the rest.
const OVERLAY: &str = r#"mkdir "$0.upper" "$0.work" &&
mount -t overlay -o "$OPTIONS,lowerdir=$0,upperdir=$0.upper,workdir=$0.work" overlay "$0" &&
cd "$0" && "$@"; code=$?; cd / && umount "$0"; rm -r "$0.upper" "$0.work"; exit $code"#;

const HOST: &str = r#"hostname elsewhere.example && exec "$@""#;

/// The digests of a column's subjects under a setting, and what kiln said.
pub(super) struct Built {
    /// By the subject's name, those of each build.
    pub(super) digests: BTreeMap<String, Vec<String>>,
    pub(super) said: String,
}

impl Setting {
    /// Builds a column.
    ///
    /// # Errors
    /// What was said where a build failed.
    pub(super) fn build(&self, column: &Column) -> Result<Built, String> {
        let below = self.below.map_or_else(std::env::temp_dir, Into::into);
        let bench = Bench::new_in(below, self.caller.unwrap_or(Caller::Own));
        let (_, contexts) = self.names.unwrap_or(("store", "contexts"));
        for subject in &column.subjects {
            let to = bench.path(contexts).join(&subject.name);
            subject.place(&to, self.order.unwrap_or(Order::Forwards));
            if self.touched {
                touch(&to);
            }
        }
        fs::write(bench.path("script"), self.script(column)).unwrap();
        let mut command = bench.command("sh".as_ref());
        command.args(["-eu", "script"]).arg(program()).arg(bench.path(""));
        if let Some(path) = kiln::env::path("CONTAINERS_REGISTRIES_CONF") {
            command.env("CONTAINERS_REGISTRIES_CONF", path);
        }
        let output = bench.run(&mut self.around(&bench, command));
        let text = output.text();
        if output.code != Some(0) {
            return Err(format!("{:?}: {text}{}", output.code, output.stderr));
        }
        let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let (name, digest) = line.split_once(' ').unwrap();
            digests.entry(name.to_owned()).or_default().push(digest.to_owned());
        }
        Ok(Built { digests, said: output.stderr })
    }

    /// `$1` is kiln, `$2` the home. A line on stdout for each build: the subject's name and
    /// the digest. What kiln says is told of a build that fails; else only its sandbox is.
    fn script(&self, column: &Column) -> String {
        let (store, contexts) = self.names.unwrap_or(("store", "contexts"));
        let mut text =
            format!("{BEGIN}with=\"{}\"\nstore=$home/'{store}'\n{}\n", self.with, self.first);
        let load = column
            .base
            .as_ref()
            .map(|base| format!("kiln load -q -i '{}' >said\n", base.display()));
        text.push_str(load.as_deref().unwrap_or_default());
        let tier = self.tier.map(|tier| format!("--sandbox={tier}")).unwrap_or_default();
        for subject in &column.subjects {
            let (name, args) = (&subject.name, subject.args.join(" "));
            let build = |more: &str| format!("build {name} {tier} {more} {args}\n");
            let _ = writeln!(text, "cd \"$home/{contexts}/{name}\"");
            match self.then {
                Then::Nothing => text.push_str(&build("")),
                Then::Cached => {
                    text.push_str(&build("--cache-to type=local,dest=../cache,mode=max"));
                    text.push_str(&build(""));
                    text.push_str("store=$home/empty\n");
                    text.push_str(load.as_deref().unwrap_or_default());
                    text.push_str(&build("--cache-from type=local,src=../cache"));
                    let _ = writeln!(text, "store=$home/'{store}'\nrm -r ../cache");
                }
                Then::Pruned => {
                    text.push_str(&build(""));
                    text.push_str("kiln prune --all --force >said\n");
                    text.push_str(load.as_deref().unwrap_or_default());
                    text.push_str(&build(""));
                }
            }
        }
        text
    }

    fn around(&self, bench: &Bench, call: Command) -> Command {
        let root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        match self.around {
            Around::Nothing => return call,
            Around::Overlay => {
                command.arg(if root { "-m" } else { "-Urm" }).args(["sh", "-c", OVERLAY]);
                // Without a slash at its end.
                command.arg(bench.path("").components().collect::<PathBuf>());
            }
            Around::Host => {
                command.args(["--uts", "sh", "-c", HOST, "sh"]);
            }
            Around::Container => return nested::contained(bench, &call, 0, CAPABILITIES),
        }
        command.arg(call.get_program()).args(call.get_args()).env_clear();
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("OPTIONS", if root { "volatile" } else { "userxattr" });
        command.current_dir(call.get_current_dir().unwrap()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Gives all files other times, and other owners where that can be.
fn touch(folder: &Path) {
    let mut command = Command::new("find");
    command.arg(folder).args(["-exec", "touch", "-h", "-d", "2001-02-03", "{}", "+"]);
    assert!(command.status().unwrap().success());
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("chown");
        let status = command.args(["-hR", "1234:5678"]).arg(folder).status();
        assert!(status.unwrap().success());
    }
}
