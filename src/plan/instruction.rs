//! What each instruction of a stage does: it makes a step, or edits the config;
//! what it leaves for those after it (`ENV`, `USER`, `WORKDIR`, `SHELL`, …) is
//! carried along in the [`State`].

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::history as texts;
use crate::dockerfile::lint::{self, Settings};
use crate::dockerfile::{
    Arg, Env, Expose, Instruction, Label, Pair, Ports, Spanned, Stopsignal, User, Volume, Workdir,
    expand,
};

use super::config;
use super::graph::StepId;
use super::history;
use super::op::{Op, WorkdirOp};
use super::path;
use super::rules::{Once, Sure};
use super::scope::{define, fill, fill_words};
use super::stage::{Numbering, State, Walk};

/// Arguments that choose what is scanned, and are no variables of steps.
const SCANNING: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// A stage that is being walked.
pub(super) struct InStage<'w, 'a, 's> {
    pub(super) walk: &'w mut Walk<'a>,
    pub(super) at: usize,
    pub(super) state: &'s mut State,
    pub(super) numbering: Numbering,
    pub(super) once: Once,
    /// The rules that hold for the instruction.
    pub(super) lint: Settings,
}

impl InStage<'_, '_, '_> {
    pub(super) fn instruction(&mut self, number: usize, instruction: &Instruction) {
        match instruction {
            Instruction::Add(it) => self.add(it),
            Instruction::Arg(it) => self.arg(it),
            Instruction::Cmd(it) => {
                self.command_rules(instruction, &it.command);
                let argv = config::arguments(&self.state.config, &it.command);
                self.tell(texts::exec("CMD", &argv));
                self.state.config.config.cmd = config::or_absent(argv);
                self.state.config.config.args_escaped = true;
            }
            Instruction::Copy(it) => self.copy(number, it),
            Instruction::Entrypoint(it) => {
                self.command_rules(instruction, &it.command);
                let argv = config::arguments(&self.state.config, &it.command);
                self.tell(texts::exec("ENTRYPOINT", &argv));
                self.state.config.config.entrypoint = config::or_absent(argv);
                // Arguments that were meant for another program.
                if self.once.cmd.is_none() {
                    self.state.config.config.cmd = None;
                }
            }
            Instruction::Env(it) => self.env(it),
            Instruction::Expose(it) => self.expose(it),
            Instruction::Healthcheck(it) => {
                self.used_once(instruction);
                let (check, told) = config::healthcheck(it);
                self.state.config.config.healthcheck = Some(check);
                self.tell(told);
            }
            Instruction::Label(it) => self.label(it),
            Instruction::Maintainer(it) => {
                self.state.config.author = Some(it.name.value.clone());
                self.tell(texts::word("MAINTAINER", &it.name.value));
            }
            // The history has none of it, as BuildKit's.
            Instruction::Onbuild(it) => {
                self.state.config.config.on_build.get_or_insert_default().push(it.trigger.clone());
            }
            Instruction::Run(it) => self.run(number, it),
            Instruction::Shell(it) => {
                let shell: Vec<String> =
                    it.arguments.iter().map(|word| word.value.clone()).collect();
                self.tell(texts::list("SHELL", &shell));
                self.state.config.config.shell = Some(shell);
            }
            Instruction::Stopsignal(it) => self.stopsignal(it),
            Instruction::User(it) => self.user(it),
            Instruction::Volume(it) => self.volume(it),
            Instruction::Workdir(it) => self.workdir(it),
        }
    }

    /// Adds an entry without a layer to the history.
    fn tell(&mut self, created_by: String) {
        let entry = history::entry(created_by, false, self.walk.ask.epoch);
        self.state.config.history.push(entry);
    }

    /// Adds a step on top of the stage's root, and its entry to the history.
    pub(super) fn step(
        &mut self,
        op: Op,
        more: impl IntoIterator<Item = StepId>,
        span: Span,
        name: String,
        told: String,
    ) {
        let mut inputs = vec![self.state.root];
        inputs.extend(more);
        self.state.root = self.walk.push(op, inputs, Some(span), name);
        self.state.config.history.push(history::entry(told, true, self.walk.ask.epoch));
    }

    /// The step's name: the instruction with its variables filled in.
    pub(super) fn name(&mut self, text: &str) -> String {
        let vars = &self.state.vars;
        let filled = expand(text, self.walk.file.escape, &|name| vars.get(name).map(str::to_owned));
        self.name_as_is(filled.as_ref().map_or(text, |filled| filled.value.as_str()))
    }

    pub(super) fn name_as_is(&mut self, text: &str) -> String {
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        self.numbering.name(format!("{} {}", keyword.to_uppercase(), rest.trim_start()).trim_end())
    }

    pub(super) fn fill(&mut self, word: &Spanned<String>) -> Option<String> {
        let mut undefined = Vec::new();
        let filled = fill(word, self.walk.file.escape, &self.state.vars, &mut |name, span| {
            undefined.push((name.to_owned(), span));
        });
        self.warn(undefined);
        filled.map_err(|said| self.walk.out.push(said)).ok()
    }

    pub(super) fn warn(&mut self, undefined: Vec<(String, Span)>) {
        for (name, span) in undefined {
            // Declared and not set: whoever wrote it knows that it may be empty.
            if self.state.args.iter().any(|(declared, _)| *declared == name)
                || !self.lint.follows(&lint::UNDEFINED_VAR)
                || self.sure() != Sure::Known
            {
                continue;
            }
            let said = Diagnostic::warning(span, format!("variable `{name}` is not defined"))
                .rule(&lint::UNDEFINED_VAR);
            self.walk.out.push(if self.walk.globals.declares(&name) {
                said.hint(format!("an ARG before the first FROM is for FROM alone: write ARG {name} in this stage too"))
            } else {
                said.hint(define(&name, &self.state.vars))
            });
        }
    }

    fn pairs(&mut self, pairs: &[Pair], what: &str) -> Option<Vec<(String, String)>> {
        let mut filled = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (key, value) = (self.fill(&pair.key), self.fill(&pair.value));
            let (key, value) = (key?, value?);
            if key.is_empty() {
                let said = format!("a name of {what} is empty");
                self.walk.out.push(
                    Diagnostic::error(pair.key.span, said)
                        .label("empty once its variables are filled in"),
                );
                return None;
            }
            filled.push((key, value));
        }
        Some(filled)
    }

    fn env(&mut self, env: &Env) {
        let Some(pairs) = self.pairs(&env.pairs, "ENV") else { return };
        self.old_form(env.old_form, env.span, &env.text);
        pairs.iter().zip(&env.pairs).for_each(|((name, _), pair)| {
            self.secret("ENV", name, pair.key.span);
        });
        for (name, value) in &pairs {
            self.state.vars.set(name, value);
            config::set_env(&mut self.state.config.config.env, name, value);
        }
        self.tell(joined("ENV", &pairs));
    }

    fn label(&mut self, label: &Label) {
        let Some(pairs) = self.pairs(&label.pairs, "LABEL") else { return };
        self.old_form(label.old_form, label.span, &label.text);
        self.tell(joined("LABEL", &pairs));
        self.state.config.config.labels.extend(pairs);
    }

    fn arg(&mut self, arg: &Arg) {
        let before = self.state.args.len();
        for item in &arg.items {
            let name = &item.name.value;
            self.secret("ARG", name, item.name.span);
            let value = match (self.walk.ask.build_args.get(name), &item.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => match self.fill(default) {
                    Some(value) => Some(value),
                    None => continue,
                },
                (None, None) => self.walk.globals.vars.get(name).map(str::to_owned),
            };
            if let Some(value) = value.as_ref().filter(|_| !SCANNING.contains(&name.as_str())) {
                self.state.vars.set(name, value);
            }
            let inherited = item.default.is_none() && !self.walk.ask.build_args.contains_key(name);
            let (uses, file) = (&mut self.walk.uses, self.walk.file);
            uses.arg(self.at, file, arg, name, value.as_deref(), inherited);
            self.state.args.push((name.clone(), value));
        }
        let new = self.state.args[before..].iter();
        let told = texts::pairs("ARG", new.map(|(name, value)| (name.as_str(), value.as_deref())));
        self.tell(told);
    }

    fn expose(&mut self, expose: &Expose) {
        let mut all = Vec::new();
        // BuildKit sorts the words as written; the history shows it.
        let mut words: Vec<&Spanned<String>> = expose.ports.iter().collect();
        words.sort_by_key(|word| &word.value);
        for word in words {
            let mut undefined = Vec::new();
            let escape = self.walk.file.escape;
            let filled = fill_words(word, escape, &self.state.vars, &mut |name, span| {
                undefined.push((name.to_owned(), span));
            });
            self.warn(undefined);
            let ports = filled.and_then(|words| {
                self.port_rules(&words, word.span);
                let ports: Result<Vec<Ports>, _> = words.iter().map(|word| word.parse()).collect();
                ports.map_err(|error| Diagnostic::error(word.span, format!("{error}")))
            });
            match ports {
                Ok(ports) => all.extend(ports.iter().flat_map(Ports::names)),
                Err(said) => return self.walk.out.push(said),
            }
        }
        config::expose(&mut self.state.config.config, &all);
        self.tell(texts::list("EXPOSE", &all));
    }

    fn stopsignal(&mut self, stopsignal: &Stopsignal) {
        let Some(signal) = self.fill(&stopsignal.signal) else { return };
        if !config::is_signal(&signal) {
            let said = format!("`{signal}` is no signal");
            self.walk.out.push(
                Diagnostic::error(stopsignal.signal.span, said)
                    .hint("write a name such as SIGTERM, or a number from 1 to 64"),
            );
            return;
        }
        self.tell(texts::word("STOPSIGNAL", &signal));
        self.state.config.config.stop_signal = Some(signal);
    }

    fn user(&mut self, user: &User) {
        let Some(user) = self.fill(&user.user) else { return };
        self.tell(texts::word("USER", &user));
        self.state.config.config.user = user;
    }

    fn volume(&mut self, volume: &Volume) {
        let filled: Option<Vec<String>> = volume.paths.iter().map(|path| self.fill(path)).collect();
        let Some(paths) = filled else { return };
        for (path, word) in paths.iter().zip(&volume.paths) {
            if path.is_empty() {
                let said = Diagnostic::error(word.span, "a path of VOLUME is empty")
                    .label("empty once its variables are filled in");
                self.walk.out.push(said);
            }
            self.state.config.config.volumes.insert(path.clone(), Default::default());
        }
        self.tell(texts::list("VOLUME", &paths));
    }

    pub(super) fn cwd(&self) -> String {
        path::join("/", &self.state.config.config.working_dir)
    }

    fn workdir(&mut self, workdir: &Workdir) {
        let Some(to) = self.fill(&workdir.path) else { return };
        self.relative_workdir(&to, workdir.path.span);
        // As BuildKit: the config has an absolute path as it is written.
        let shown = if to.starts_with('/') { to.clone() } else { path::join(&self.cwd(), &to) };
        let to = path::join(&self.cwd(), &to);
        let told = texts::word("WORKDIR", &shown);
        self.state.config.config.working_dir = shown;
        if to == "/" {
            return self.tell(told);
        }
        let name = self.name(&workdir.text);
        let user = &self.state.config.config.user;
        let owner = (!user.is_empty()).then(|| user.clone());
        let op = Op::Workdir(WorkdirOp { path: to, owner });
        self.step(op, None, workdir.span, name, told);
    }
}

fn joined(keyword: &str, pairs: &[(String, String)]) -> String {
    texts::pairs(keyword, pairs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))))
}
