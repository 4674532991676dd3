//! `kiln doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde::Serialize;

use super::invocation::Invocation;
use super::report::CliError;
use crate::rootfs::{self, Work};
use crate::sandbox::binfmt::Handlers;
use crate::sandbox::{
    Cancel, Ids, Io, Limits, Network, Root, Sandbox, SandboxError, SandboxSpec, Tier, survey,
};
use crate::store::Store;

const JSON_HELP: &str = "\
Fields of --json; `reason` is null where `usable` is true, and `change` where nothing is
known to help:
  sandbox               name of the tier that is taken, null if none works
  tiers[]               every tier, the best first
    .tier .usable .reason .change
  run                   whether a step can be started in that tier, to its last preparation
    .usable .reason
  overlay               whether layers can be stacked on the store's file system
    .usable .reason .store .filesystem
  cgroups.memory|cpu|pids   whether --memory, --cpus, --pids-limit hold for all of a step's
    .usable .reason         processes together
  user_namespaces       whether this user may make them
    .usable .reason .change
  no_new_privs          true: set-user-ID programs, as newuidmap, give no rights here
  seccomp_notification  whether a process can answer for the system calls of another
    .usable .reason
  binfmt                programs of other architectures
    .visible            binfmt_misc is mounted; else handlers may work unseen
    .enabled            they are switched on as a whole
    .handlers[]         .name .enabled .fixed .interpreter .architectures[]; steps need one
                        that is enabled and fixed (flag F)
  kernel                release of the kernel
More fields may be added; these stay.";

/// Check what this machine allows, and what to change where it does not
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON_HELP)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    usable: bool,
    reason: Option<String>,
}

impl Finding {
    fn of<E: ToString>(result: Result<(), E>) -> Self {
        let reason = result.err().map(|error| error.to_string());
        Self { usable: reason.is_none(), reason }
    }
}

#[derive(Debug, Serialize)]
struct TierFinding {
    tier: &'static str,
    #[serde(flatten)]
    finding: Finding,
    change: Option<String>,
    #[serde(skip)]
    meaning: &'static str,
}

#[derive(Debug, Serialize)]
struct Overlay {
    #[serde(flatten)]
    finding: Finding,
    store: PathBuf,
    filesystem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Cgroups {
    memory: Finding,
    cpu: Finding,
    pids: Finding,
}

#[derive(Debug, Serialize)]
struct Namespaces {
    #[serde(flatten)]
    finding: Finding,
    change: Option<String>,
}

#[derive(Debug, Serialize)]
struct Handler {
    name: String,
    enabled: bool,
    fixed: bool,
    interpreter: String,
    architectures: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Binfmt {
    visible: bool,
    enabled: bool,
    handlers: Vec<Handler>,
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Findings {
    sandbox: Option<&'static str>,
    tiers: Vec<TierFinding>,
    run: Finding,
    overlay: Overlay,
    cgroups: Cgroups,
    user_namespaces: Namespaces,
    no_new_privs: bool,
    seccomp_notification: Finding,
    binfmt: Binfmt,
    kernel: String,
}

/// Probes every tier, and what else a step needs.
///
/// # Errors
/// If nothing that runs a command works here.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let found = Findings::of_machine(invocation)?;
    if args.json {
        invocation.print_json(&found)?;
    } else {
        invocation.print(found.text())?;
    }
    match (&found.sandbox, &found.run.reason) {
        (None, _) => Err(CliError::plain("RUN and `kiln run` do not work here")
            .hint("Dockerfiles without RUN build all the same")),
        (Some(tier), Some(why)) => {
            Err(CliError::plain(format!("no step can be started in the sandbox {tier}: {why}"))
                .hint("Dockerfiles without RUN build all the same"))
        }
        (Some(_), None) => Ok(()),
    }
}

impl Findings {
    fn of_machine(invocation: &Invocation) -> Result<Self, CliError> {
        let mut chosen = None;
        let mut tiers = Vec::new();
        for tier in Tier::ALL {
            let tried = match Sandbox::open(Some(tier)) {
                Ok(sandbox) => {
                    chosen.get_or_insert(sandbox);
                    Ok(())
                }
                Err(SandboxError::NoTier { refused }) => {
                    Err(refused.into_iter().map(|(_, why)| why).collect::<Vec<_>>().join("; "))
                }
                Err(error) => return Err(error.into()),
            };
            let change = tried.is_err().then(|| tier.change());
            let finding = Finding::of(tried);
            tiers.push(TierFinding { tier: tier.name(), finding, change, meaning: tier.meaning() });
        }
        let namespaces = tiers.iter().find(|one| one.tier == Tier::SingleId.name());
        let user_namespaces = Namespaces {
            finding: Finding::of(
                namespaces.and_then(|one| one.finding.reason.clone()).map_or(Ok(()), Err),
            ),
            change: namespaces.and_then(|one| one.change.clone()),
        };
        let (run, overlay) = start(chosen.as_ref(), invocation);
        let survey::Controllers { memory, cpu, pids } = survey::Controllers::of_machine()?;
        Ok(Self {
            sandbox: chosen.map(|sandbox| sandbox.tier().name()),
            tiers,
            run,
            overlay,
            cgroups: Cgroups {
                memory: Finding::of(memory),
                cpu: Finding::of(cpu),
                pids: Finding::of(pids),
            },
            user_namespaces,
            no_new_privs: survey::no_new_privs(),
            seccomp_notification: Finding::of(survey::seccomp_notification()),
            binfmt: Binfmt::of(Handlers::of_machine()),
            kernel: survey::kernel_release(),
        })
    }

    /// A line each; below it what to change.
    fn text(&self) -> String {
        let mut lines = Vec::new();
        let mut line = |usable: bool, name: &str, text: &str, change: Option<&String>| {
            let mark = if usable { "yes " } else { "no  " };
            let text = if text.is_empty() { String::new() } else { format!(": {text}") };
            lines.push(format!("{mark} {name}{text}"));
            lines.extend(change.map(|change| format!("       change: {change}")));
        };
        for one in &self.tiers {
            let taken = if self.sandbox == Some(one.tier) { "taken; " } else { "" };
            let good = format!("{taken}{}", one.meaning);
            let text = one.finding.reason.as_ref().unwrap_or(&good);
            line(one.finding.usable, one.tier, text, one.change.as_ref());
        }
        let reason = |finding: &Finding| finding.reason.clone().unwrap_or_default();
        line(self.run.usable, "start of a step", &reason(&self.run), None);
        let Overlay { finding, store, filesystem } = &self.overlay;
        let kind = filesystem.as_ref().map_or(String::new(), |kind| format!(" on {kind}"));
        let text = match &finding.reason {
            Some(why) => format!("{}{kind}: {why}", store.display()),
            None => format!("{}{kind}", store.display()),
        };
        line(finding.usable, "overlay", &text, None);
        let Cgroups { memory, cpu, pids } = &self.cgroups;
        for (name, finding) in [("memory", memory), ("cpu", cpu), ("pids", pids)] {
            line(finding.usable, &format!("cgroup {name}"), &reason(finding), None);
        }
        // Its change is said with the tier.
        let namespaces = &self.user_namespaces.finding;
        line(namespaces.usable, "user namespaces", &reason(namespaces), None);
        let privileges = if self.no_new_privs { "no_new_privs is set" } else { "" };
        line(!self.no_new_privs, "privileges by set-user-ID programs", privileges, None);
        let notification = &self.seccomp_notification;
        line(notification.usable, "seccomp notification", &reason(notification), None);
        let (usable, text) = self.binfmt.text();
        line(usable, "other architectures", &text, None);
        lines.push(format!("     kernel: {}", self.kernel));
        lines.join("\n")
    }
}

impl Binfmt {
    fn of(handlers: Handlers) -> Self {
        let Handlers { visible, enabled, all } = handlers;
        let handlers = all.into_iter().map(|one| Handler {
            enabled: one.enabled,
            fixed: one.is_fixed(),
            architectures: one.architectures().collect(),
            name: one.name,
            interpreter: one.interpreter,
        });
        Self { visible, enabled, handlers: handlers.collect() }
    }

    fn text(&self) -> (bool, String) {
        if !self.visible {
            return (false, "binfmt_misc is not mounted; handlers of the host may work".into());
        }
        let mut usable = false;
        let lines: Vec<String> = self
            .handlers
            .iter()
            .filter(|one| !one.architectures.is_empty())
            .map(|one| {
                let why = match (self.enabled && one.enabled, one.fixed) {
                    (false, _) => ", disabled",
                    (true, false) => ", without flag F",
                    (true, true) => "",
                };
                usable |= why.is_empty();
                format!("{} by {}{why}", one.architectures.join(", "), one.name)
            })
            .collect();
        if lines.is_empty() {
            return (false, "no handler is registered in binfmt_misc".into());
        }
        (usable, lines.join("; "))
    }
}

/// Starts a step that has no program: everything is done for it but that. Also whether
/// its root could be mounted, on the store's file system.
fn start(sandbox: Option<&Sandbox>, invocation: &Invocation) -> (Finding, Overlay) {
    let folder = invocation.store_folder();
    let no = |why: String| (Finding::of(Err(why.clone())), Finding::of(Err(why)));
    let (run, finding) = match (sandbox, Store::open(&folder)) {
        (None, _) => no("no sandbox works here".to_owned()),
        (Some(_), Err(error)) => no(error.to_string()),
        (Some(sandbox), Ok(store)) => match attempt(sandbox, &store) {
            Ok(()) => {
                let overlay = sandbox.no_overlay().map_or(Ok(()), |why| Err(why.to_owned()));
                (Finding::of(Ok::<_, String>(())), Finding::of(overlay))
            }
            Err(Attempt::Overlay(why)) => no(why),
            Err(Attempt::Other(why)) => (Finding::of(Err(why)), Finding::of(Ok::<_, String>(()))),
        },
    };
    let filesystem = survey::file_system(&folder);
    (run, Overlay { finding, store: folder, filesystem })
}

/// Where a start came to its end.
enum Attempt {
    Overlay(String),
    Other(String),
}

fn attempt(sandbox: &Sandbox, store: &Store) -> Result<(), Attempt> {
    let other = |error: &dyn std::error::Error| Attempt::Other(error.to_string());
    let work = Work::new(store, sandbox, "doctor").map_err(|error| other(&error))?;
    let [lower, upper, overlay] = ["lower", "upper", "work"].map(|name| work.path().join(name));
    for folder in [&lower, &upper, &overlay] {
        fs::create_dir(folder)
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)))
            .map_err(|error| other(&error))?;
    }
    rootfs::settle(store, sandbox).map_err(|error| other(&error))?;
    let lowers = if sandbox.is_plain() { Vec::new() } else { vec![lower] };
    let spec = SandboxSpec {
        root: Root::Overlay { lowers, upper, work: overlay },
        argv: vec!["/nothing".to_owned()],
        env: Vec::new(),
        cwd: "/".into(),
        user: Ids::default(),
        hostname: "kiln".to_owned(),
        mounts: Vec::new(),
        network: Network::Host,
        privileged: false,
        limits: Limits::default(),
        stop_signal: libc::SIGTERM,
    };
    match sandbox.run(&spec, Io::default(), &Cancel::new()) {
        // There is no such program, as there should not be.
        Ok(_) | Err(SandboxError::Exec { .. }) => Ok(()),
        Err(error) if error.is_of_overlay() => Err(Attempt::Overlay(error.to_string())),
        Err(error) => Err(other(&error)),
    }
}
