//! `RUN` in a stage: what is run, and what it sees.

use std::collections::HashSet;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::history as texts;
use crate::dockerfile::{CommandLine, Run, RunNetwork, Security, Spanned};

use super::config;
use super::instruction::InStage;
use super::op::{Op, Proxies, RunHints, RunOp, Script};
use super::scope::proxies;
use super::time;

/// Where scripts of heredocs appear.
const SCRIPTS: &str = "/dev/pipes";

impl InStage<'_, '_, '_> {
    pub(super) fn run(&mut self, number: usize, run: &Run) {
        let insecure =
            match run.security {
                Security::Sandbox => false,
                Security::Insecure(span) => {
                    if !self.walk.ask.insecure {
                        let said = "RUN --security=insecure is not allowed by whoever builds";
                        self.walk.out.push(Diagnostic::error(span, said).hint(
                            "if you trust the Dockerfile, build with --allow security.insecure",
                        ));
                    }
                    true
                }
            };
        let mut more = Vec::new();
        let Some(mounts) = self.mounts(number, run, &mut more) else { return };
        let (command, script) = command(run);
        let argv = config::arguments(&self.state.config, &command);
        let vars = &self.state.vars;
        let mut args: Vec<(String, String)> = Vec::new();
        let mut known: HashSet<&str> = HashSet::new();
        for (name, value) in &self.state.args {
            if known.insert(name) {
                let now = vars.get(name).or(value.as_deref()).unwrap_or_default();
                args.push((name.clone(), now.to_owned()));
            }
        }
        let told = texts::run(&args, &argv);
        let mut env = vars.to_vec();
        // For tools that write times into files. It is no argument of the step, so the
        // history is silent; what the file itself sets holds.
        if let Some(epoch) = self.walk.globals.epoch.filter(|_| vars.get(time::ARGUMENT).is_none())
        {
            env.push((time::ARGUMENT.to_owned(), epoch.to_string()));
        }
        let op = Op::Run(RunOp {
            argv,
            script,
            mounts,
            network: match run.network {
                RunNetwork::Default => self.walk.ask.network,
                named => named,
            },
            insecure,
            normalize: self.walk.ask.normalize,
            hosts: self.walk.ask.hosts.clone(),
            hostname: self.walk.ask.setting("SANDBOX_HOSTNAME").map(str::to_owned),
            env,
            user: self.state.config.config.user.clone(),
            cwd: self.cwd(),
            platform: self.state.platform.clone(),
            hints: RunHints { proxies: Proxies(proxies(self.walk.ask)) },
        });
        // As written: what its variables mean is the shell's matter.
        let mut text = run.text.clone();
        if let Some(script) = run.script() {
            text.push_str(&format!(" ({})", summary(&script.content)));
        }
        let name = self.name_as_is(&text);
        self.step(op, more, run.span, name, told);
    }
}

/// What a `RUN` runs once its heredocs are in their place: a script that names its
/// interpreter is a file, another the shell's text, and what stands among other
/// words is left to the shell.
fn command(run: &Run) -> (CommandLine, Option<Script>) {
    let CommandLine::Shell(text) = &run.command else { return (run.command.clone(), None) };
    let (value, script) = match run.script() {
        Some(heredoc) if heredoc.text().starts_with("#!") => {
            let path = format!("{SCRIPTS}/{}", heredoc.name);
            let text = heredoc.text().into_owned();
            (path.clone(), Some(Script { path, text }))
        }
        Some(heredoc) => (heredoc.text().into_owned(), None),
        None if run.heredocs.is_empty() => (text.value.clone(), None),
        None => (run.reconstituted(&text.value), None),
    };
    (CommandLine::Shell(Spanned::new(value, text.span)), script)
}

/// A heredoc's first line, for a step's name.
fn summary(content: &str) -> String {
    let mut lines = content.trim().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first}...") } else { first.to_owned() }
}
