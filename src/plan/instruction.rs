//! What each instruction of a stage does: it makes a step, or edits the config;
//! what it leaves for those after it (`ENV`, `USER`, `WORKDIR`, `SHELL`, …) is
//! carried along in the [`State`].

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::history as texts;
use crate::dockerfile::{
    self, Add, Arg, CommandLine, Copy, Env, Expose, Instruction, Label, Pair, Ports, Remote, Run,
    RunNetwork, Security, Spanned, Stopsignal, User, Volume, Workdir, expand, remote,
};

use super::bases::Origin;
use super::config;
use super::graph::StepId;
use super::history;
use super::op::{CopyFrom, CopyHints, CopyOp, Op, Proxies, RunHints, RunOp, Script, WorkdirOp};
use super::path;
use super::scope::{fill, fill_words, proxies};
use super::stage::{Numbering, State, Walk};

/// Where scripts of heredocs appear.
const SCRIPTS: &str = "/dev/pipes";

/// A stage that is being walked.
pub(super) struct InStage<'w, 'a, 's> {
    pub(super) walk: &'w mut Walk<'a>,
    pub(super) at: usize,
    pub(super) state: &'s mut State,
    pub(super) numbering: Numbering,
    /// Whether this stage has a `CMD` of its own.
    pub(super) cmd: bool,
}

impl InStage<'_, '_, '_> {
    pub(super) fn instruction(&mut self, number: usize, instruction: &Instruction) {
        match instruction {
            Instruction::Add(it) => self.add(it),
            Instruction::Arg(it) => self.arg(it),
            Instruction::Cmd(it) => {
                let argv = config::arguments(&self.state.config.config, &it.command);
                self.tell(texts::exec("CMD", &argv));
                self.state.config.config.cmd = config::or_absent(argv);
                self.cmd = true;
            }
            Instruction::Copy(it) => self.copy(number, it),
            Instruction::Entrypoint(it) => {
                let argv = config::arguments(&self.state.config.config, &it.command);
                self.tell(texts::exec("ENTRYPOINT", &argv));
                self.state.config.config.entrypoint = config::or_absent(argv);
                // Arguments that were meant for another program.
                if !self.cmd {
                    self.state.config.config.cmd = None;
                }
            }
            Instruction::Env(it) => self.env(it),
            Instruction::Expose(it) => self.expose(it),
            Instruction::Healthcheck(it) => {
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
            Instruction::Run(it) => self.run(it),
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
    fn step(&mut self, op: Op, more: Option<StepId>, span: Span, name: String, told: String) {
        let mut inputs = vec![self.state.root];
        inputs.extend(more);
        self.state.root = self.walk.push(op, inputs, Some(span), name);
        self.state.config.history.push(history::entry(told, true, self.walk.ask.epoch));
    }

    /// The step's name: the instruction with its variables filled in.
    fn name(&mut self, text: &str) -> String {
        let vars = &self.state.vars;
        let filled = expand(text, self.walk.file.escape, &|name| vars.get(name).map(str::to_owned));
        self.name_as_is(filled.as_ref().map_or(text, |filled| filled.value.as_str()))
    }

    fn name_as_is(&mut self, text: &str) -> String {
        let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        self.numbering.name(format!("{} {}", keyword.to_uppercase(), rest.trim_start()).trim_end())
    }

    fn fill(&mut self, word: &Spanned<String>) -> Option<String> {
        let mut undefined = Vec::new();
        let filled = fill(word, self.walk.file.escape, &self.state.vars, &mut |name, span| {
            undefined.push((name.to_owned(), span));
        });
        self.warn(undefined);
        filled.map_err(|said| self.walk.out.push(said)).ok()
    }

    fn warn(&mut self, undefined: Vec<(String, Span)>) {
        for (name, span) in undefined {
            // Declared and not set: whoever wrote it knows that it may be empty.
            if self.state.args.iter().any(|(declared, _)| *declared == name) {
                continue;
            }
            let said = Diagnostic::warning(span, format!("variable `{name}` is not defined"));
            self.walk.out.push(if self.walk.globals.declares(&name) {
                said.hint(format!("an ARG before the first FROM is for FROM alone: write ARG {name} in this stage too"))
            } else {
                said.hint("define it above with ARG or ENV")
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
        for (name, value) in &pairs {
            self.state.vars.set(name, value);
            config::set_env(&mut self.state.config.config.env, name, value);
        }
        self.tell(joined("ENV", &pairs));
    }

    fn label(&mut self, label: &Label) {
        let Some(pairs) = self.pairs(&label.pairs, "LABEL") else { return };
        self.tell(joined("LABEL", &pairs));
        self.state.config.config.labels.extend(pairs);
    }

    fn arg(&mut self, arg: &Arg) {
        let before = self.state.args.len();
        for item in &arg.items {
            let name = &item.name.value;
            let value = match (self.walk.ask.build_args.get(name), &item.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => match self.fill(default) {
                    Some(value) => Some(value),
                    None => continue,
                },
                (None, None) => self.walk.globals.vars.get(name).map(str::to_owned),
            };
            if let Some(value) = &value {
                self.state.vars.set(name, value);
            }
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

    fn cwd(&self) -> String {
        path::join("/", &self.state.config.config.working_dir)
    }

    fn workdir(&mut self, workdir: &Workdir) {
        let Some(to) = self.fill(&workdir.path) else { return };
        let to = path::join(&self.cwd(), &to);
        self.state.config.config.working_dir.clone_from(&to);
        let told = texts::word("WORKDIR", &to);
        if to == "/" {
            return self.tell(told);
        }
        let name = self.name(&workdir.text);
        let user = &self.state.config.config.user;
        let owner = (!user.is_empty()).then(|| user.clone());
        let op = Op::Workdir(WorkdirOp { path: to, owner });
        self.step(op, None, workdir.span, name, told);
    }

    fn not_yet(&mut self, span: Span, what: &str) {
        let said = format!("{what} is not built by this version of kiln yet");
        self.walk.out.push(Diagnostic::error(span, said).label("not supported"));
    }

    fn run(&mut self, run: &Run) {
        if let Some(mount) = run.mounts.first() {
            self.not_yet(mount.span, "RUN --mount");
        }
        if run.network != RunNetwork::Default {
            self.not_yet(run.span, "RUN --network");
        }
        if run.security != Security::Sandbox {
            self.not_yet(run.span, "RUN --security=insecure");
        }
        let (command, script) = command(run);
        let argv = config::arguments(&self.state.config.config, &command);
        let vars = &self.state.vars;
        let mut args: Vec<(String, String)> = Vec::new();
        for (name, value) in &self.state.args {
            if !args.iter().any(|(known, _)| known == name) {
                let now = vars.get(name).or(value.as_deref()).unwrap_or_default();
                args.push((name.clone(), now.to_owned()));
            }
        }
        let told = texts::run(&args, &argv);
        let proxies = proxies(self.walk.ask).into_iter();
        let proxies = proxies.filter(|(name, _)| vars.get(name).is_none()).collect();
        let op = Op::Run(RunOp {
            argv,
            script,
            env: vars.to_vec(),
            user: self.state.config.config.user.clone(),
            cwd: self.cwd(),
            platform: self.state.platform.clone(),
            hints: RunHints { proxies: Proxies(proxies) },
        });
        // As written: what its variables mean is the shell's matter.
        let mut text = run.text.clone();
        if let Some(script) = run.script() {
            text.push_str(&format!(" ({})", summary(&script.content)));
        }
        let name = self.name_as_is(&text);
        self.step(op, None, run.span, name, told);
    }

    /// Names what of a copy is not done yet.
    fn lacking(&mut self, files: &dockerfile::Transfer, asked: &[(&str, bool)], span: Span) {
        if let Some(content) = files.contents.first() {
            self.not_yet(content.span, "COPY of a heredoc");
        }
        for (flag, _) in asked.iter().filter(|(_, asked)| *asked) {
            self.not_yet(span, flag);
        }
    }

    fn copy(&mut self, number: usize, copy: &Copy) {
        let asked = [
            ("COPY --link", copy.link),
            ("COPY --parents", copy.parents),
            ("COPY --exclude", !copy.excludes.is_empty()),
        ];
        self.lacking(&copy.files, &asked, copy.span);
        let transfer = Transfer {
            keyword: "COPY",
            sources: &copy.files.sources,
            destination: &copy.files.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
        };
        let input = match (&copy.from, self.walk.layout.copies.get(&(self.at, number))) {
            (None, _) => None,
            (Some(_), Some(Origin::Stage(other))) => {
                // Stages are walked in order, and copy from earlier ones.
                let Some(other) = self.walk.done.get(other) else { return };
                Some(other.root)
            }
            (Some(from), Some(origin)) => {
                let Some(id) = self.walk.base(origin, from.span, &mut |text| text.to_owned())
                else {
                    return;
                };
                Some(id)
            }
            // Said to be wrong when the layout was made.
            (Some(_), None) => return,
        };
        self.transfer(&transfer, input, copy.span, &copy.text);
    }

    fn add(&mut self, add: &Add) {
        let asked = [
            ("ADD --link", add.link),
            ("ADD --keep-git-dir", add.keep_git_dir.is_some()),
            ("ADD --checksum", add.checksum.is_some()),
            ("ADD --unpack", add.unpack.is_some()),
            ("ADD --exclude", !add.excludes.is_empty()),
        ];
        self.lacking(&add.files, &asked, add.span);
        let transfer = Transfer {
            keyword: "ADD",
            sources: &add.files.sources,
            destination: &add.files.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
        };
        self.transfer(&transfer, None, add.span, &add.text);
    }

    fn transfer(&mut self, what: &Transfer<'_>, input: Option<StepId>, span: Span, text: &str) {
        let Some((op, told)) = self.transfer_op(what, input) else { return };
        let name = self.name(text);
        self.step(Op::Copy(op), input, span, name, told);
    }

    fn transfer_op(
        &mut self,
        what: &Transfer<'_>,
        input: Option<StepId>,
    ) -> Option<(CopyOp, String)> {
        let chown = what.chown.map(|word| self.fill(word));
        let chmod = what.chmod.map(|word| self.fill(word));
        let sources: Vec<_> = what.sources.iter().map(|word| self.fill(word)).collect();
        let destination = self.fill(what.destination)?;
        let sources: Vec<String> = sources.into_iter().collect::<Option<_>>()?;
        let given = |flag: Option<Option<String>>| match flag {
            Some(None) => None,
            Some(Some(value)) => Some(Some(value).filter(|value| !value.is_empty())),
            None => Some(None),
        };
        let (owner, chmod) = (given(chown)?, given(chmod)?);

        let (own, mode_text) = (owner.as_deref(), chmod.as_deref());
        let told = texts::copy(what.keyword, own, mode_text, &sources, &destination);

        let mode = match (chmod, what.chmod) {
            (Some(text), Some(word)) => {
                Some(mode(&text, word.span).map_err(|said| self.walk.out.push(said)).ok()?)
            }
            (Some(_) | None, _) => None,
        };
        for (source, word) in sources.iter().zip(what.sources) {
            if let Some(remote) = remote(source) {
                let kind = match remote {
                    Remote::Url => "a URL",
                    Remote::Git => "a git repository",
                };
                let said = match what.keyword {
                    "ADD" => format!("ADD of {kind} is not built yet"),
                    keyword => format!("{keyword} cannot take {kind}"),
                };
                self.walk.out.push(
                    Diagnostic::error(word.span, said)
                        .label(format!("this is {source}"))
                        .hint("fetch it in a RUN step, or put it into the context"),
                );
                return None;
            }
        }
        let op = CopyOp {
            from: if input.is_some() { CopyFrom::Input(1) } else { CopyFrom::Context },
            sources: sources.iter().map(|source| path::below_root(source)).collect(),
            destination: path::destination(&self.cwd(), &destination),
            owner,
            mode,
            unpack: what.keyword == "ADD",
            hints: CopyHints {
                sources: what.sources.iter().map(|word| word.span).collect(),
                destination: what.destination.span,
                owner: what.chown.map(|word| word.span),
            },
        };
        Some((op, told))
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

/// What `COPY` and `ADD` have in common.
struct Transfer<'a> {
    keyword: &'static str,
    sources: &'a [Spanned<String>],
    destination: &'a Spanned<String>,
    chown: Option<&'a Spanned<String>>,
    chmod: Option<&'a Spanned<String>>,
}

fn mode(text: &str, span: Span) -> Result<u32, Diagnostic> {
    let octal = text.bytes().all(|c| c.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Ok(mode),
        _ if octal => Err(Diagnostic::error(span, format!("`{text}` is no mode"))
            .hint("a mode is an octal number up to 7777, such as 755")),
        _ => Err(Diagnostic::error(span, format!("the mode `{text}` is not built yet"))
            .label("not an octal number")
            .hint("write an octal number such as 755, or use RUN chmod")),
    }
}

fn joined(keyword: &str, pairs: &[(String, String)]) -> String {
    texts::pairs(keyword, pairs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))))
}
