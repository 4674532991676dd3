//! The cases of `testdata/dockerfile` and `testdata/ignore`, and mutations of them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity, Source, Span};

use super::ast::{CommandLine, Dockerfile, Instruction, Pair, Spanned};
use super::instruction::{Arg, HealthTest};
use super::{
    Heredoc, Ignore, Inline, RunNetwork, Security, Transfer, expand, expand_unquoted, expand_words,
    glob, parse,
};

fn testdata(area: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(area)
}

/// Every file below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.into_path())
        .collect();
    found.sort();
    found
}

/// Compares with the expected text beside a case; `KILN_BLESS=1` writes it. A
/// text that is expected to be empty has no file.
#[expect(clippy::disallowed_methods, reason = "for the developer at the terminal only")]
fn check(expected: &Path, found: &str) {
    if std::env::var_os("KILN_BLESS").is_some() {
        match found {
            "" => drop(fs::remove_file(expected)),
            found => fs::write(expected, found).unwrap(),
        }
    }
    let want = fs::read_to_string(expected).unwrap_or_default();
    assert_eq!(want, found, "{}", expected.display());
}

/// Writes an AST, one instruction a line, every word with its place.
struct Dump<'a> {
    src: &'a Source,
    text: String,
}

impl Dump<'_> {
    /// `line:column`, after making sure that the place is one.
    fn place(&self, span: Span) -> String {
        let text = self.src.text();
        assert!(span.start <= span.end && span.end <= text.len(), "{span:?} in {text:?}");
        assert!(text.is_char_boundary(span.start), "{span:?} in {text:?}");
        assert!(text.is_char_boundary(span.end), "{span:?} in {text:?}");
        let column = |at: usize| text[..at].chars().rev().take_while(|&c| c != '\n').count() + 1;
        let (first, last) = (self.src.line(span.start), self.src.line(span.end));
        let (start, end) = (column(span.start), column(span.end));
        if first == last {
            format!("{first}:{start}-{end}")
        } else {
            format!("{first}:{start}-{last}:{end}")
        }
    }

    fn word(&mut self, name: &str, word: &Spanned<String>) {
        let place = self.place(word.span);
        write!(self.text, "  {name}{place} {:?}", word.value).unwrap();
    }
    fn optional(&mut self, name: &str, word: Option<&Spanned<String>>) {
        if let Some(word) = word {
            self.word(name, word);
        }
    }
    fn words(&mut self, words: &[Spanned<String>]) {
        words.iter().for_each(|word| self.word("", word));
    }
    fn pairs(&mut self, pairs: &[Pair], old_form: bool) {
        self.text.push_str(if old_form { " (old form)" } else { "" });
        for pair in pairs {
            self.word("key ", &pair.key);
            self.word("", &pair.value);
        }
    }
    fn command(&mut self, command: &CommandLine) {
        match command {
            CommandLine::Shell(text) => self.word("shell ", text),
            CommandLine::Exec(arguments) => {
                self.text.push_str("  exec");
                self.words(arguments);
            }
        }
    }
    fn arg(&mut self, arg: &Arg) {
        let place = self.place(arg.span);
        write!(self.text, "ARG {place}").unwrap();
        for item in &arg.items {
            self.word("name ", &item.name);
            self.optional("", item.default.as_ref());
        }
        self.text.push('\n');
    }

    fn switches(&mut self, switches: &[(&str, Option<bool>)]) {
        for (name, value) in switches {
            if let Some(value) = value {
                write!(self.text, "  {name}={value}").unwrap();
            }
        }
    }

    fn transfer(&mut self, files: &Transfer) {
        self.words(&files.sources);
        for Inline { name, text, expand, span } in &files.contents {
            let place = self.place(*span);
            write!(self.text, "  inline {place} {name:?} {text:?} expand={expand}").unwrap();
        }
        self.word("to ", &files.destination);
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let place = self.place(instruction.span());
        write!(self.text, "  {} {place}", instruction.keyword()).unwrap();
        match instruction {
            Instruction::Arg(it) => {
                self.text.truncate(self.text.rfind('\n').map_or(0, |at| at + 1));
                self.text.push_str("  ");
                return self.arg(it);
            }
            Instruction::Add(it) => {
                self.optional("chown ", it.chown.as_ref());
                self.optional("chmod ", it.chmod.as_ref());
                self.optional("checksum ", it.checksum.as_ref());
                self.switches(&[
                    ("link", it.link.then_some(true)),
                    ("keep-git-dir", it.keep_git_dir),
                    ("unpack", it.unpack),
                ]);
                it.excludes.iter().for_each(|word| self.word("exclude ", word));
                self.transfer(&it.files);
            }
            Instruction::Copy(it) => {
                self.optional("from ", it.from.as_ref());
                self.optional("chown ", it.chown.as_ref());
                self.optional("chmod ", it.chmod.as_ref());
                self.switches(&[
                    ("link", it.link.then_some(true)),
                    ("parents", it.parents.then_some(true)),
                ]);
                it.excludes.iter().for_each(|word| self.word("exclude ", word));
                self.transfer(&it.files);
            }
            Instruction::Onbuild(it) => write!(self.text, "  {:?}", it.trigger).unwrap(),
            Instruction::Cmd(it) => self.command(&it.command),
            Instruction::Entrypoint(it) => self.command(&it.command),
            Instruction::Run(it) => {
                it.mounts.iter().for_each(|word| self.word("mount ", word));
                if it.network != RunNetwork::Default {
                    write!(self.text, "  network {:?}", it.network).unwrap();
                }
                if let Security::Insecure(span) = it.security {
                    let place = self.place(span);
                    write!(self.text, "  insecure {place}").unwrap();
                }
                self.command(&it.command);
                for heredoc in &it.heredocs {
                    let Heredoc { name, content, expand, chomp, span } = heredoc;
                    let place = self.place(*span);
                    write!(self.text, "  heredoc {place} {name:?} {content:?}").unwrap();
                    self.switches(&[("expand", Some(*expand)), ("chomp", Some(*chomp))]);
                }
            }
            Instruction::Env(it) => self.pairs(&it.pairs, it.old_form),
            Instruction::Label(it) => self.pairs(&it.pairs, it.old_form),
            Instruction::Expose(it) => self.words(&it.ports),
            Instruction::Volume(it) => self.words(&it.paths),
            Instruction::Shell(it) => self.words(&it.arguments),
            Instruction::Maintainer(it) => self.word("", &it.name),
            Instruction::Stopsignal(it) => self.word("", &it.signal),
            Instruction::User(it) => self.word("", &it.user),
            Instruction::Workdir(it) => self.word("", &it.path),
            Instruction::Healthcheck(it) => {
                let times = [
                    ("interval", &it.interval),
                    ("timeout", &it.timeout),
                    ("start-period", &it.start_period),
                    ("start-interval", &it.start_interval),
                ];
                for (name, time) in times {
                    if let Some(time) = time {
                        let place = self.place(time.span);
                        write!(self.text, "  {name} {place} {:?}", time.value).unwrap();
                    }
                }
                if let Some(retries) = &it.retries {
                    let place = self.place(retries.span);
                    write!(self.text, "  retries {place} {}", retries.value).unwrap();
                }
                match &it.test {
                    HealthTest::None => self.text.push_str("  none"),
                    HealthTest::Cmd(command) => self.command(command),
                }
            }
        }
        self.text.push('\n');
    }
}

fn dump(src: &Source, file: &Dockerfile) -> String {
    let mut dump = Dump { src, text: format!("escape {}\n", file.escape) };
    for (name, directive) in [("syntax", &file.syntax), ("check", &file.check)] {
        if directive.is_some() {
            dump.optional(&format!("{name} "), directive.as_ref());
            dump.text.push('\n');
        }
    }
    file.meta_args.iter().for_each(|arg| dump.arg(arg));
    for stage in &file.stages {
        let (place, from) = (dump.place(stage.span), dump.place(stage.from.span));
        write!(dump.text, "stage {place} FROM {from}").unwrap();
        dump.optional("platform ", stage.from.platform.as_ref());
        dump.word("", &stage.from.image);
        dump.optional("as ", stage.from.name.as_ref());
        dump.text.push('\n');
        stage.instructions.iter().for_each(|instruction| dump.instruction(instruction));
    }
    dump.text
}

fn told(src: &Source, diagnostics: &[Diagnostic]) -> String {
    let places = Dump { src, text: String::new() };
    let mut text = String::new();
    for Diagnostic { severity, message, span, label, hint, rule: _ } in diagnostics {
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(text, "{} {severity} {message}", places.place(*span)).unwrap();
        for (name, more) in [("label", Some(label)), ("hint", hint.as_ref())] {
            if let Some(more) = more.filter(|more| !more.is_empty()) {
                writeln!(text, "    {name}: {more}").unwrap();
            }
        }
    }
    text
}

#[test]
fn dockerfiles() {
    let mut count = 0;
    for path in files(&testdata("dockerfile")) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("Dockerfile") => {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let src = Source::new(name, fs::read_to_string(&path).unwrap());
                let (file, diagnostics) = parse(&src);
                check(&path.with_extension("ast"), &dump(&src, &file));
                check(&path.with_extension("err"), &told(&src, &diagnostics));
                count += 1;
            }
            Some("ast" | "err") => {
                assert!(path.with_extension("Dockerfile").exists(), "{} is unused", path.display());
            }
            _ => panic!("{} is no case", path.display()),
        }
    }
    assert!(count > 20);
}

#[test]
fn ignore_files() {
    for path in files(&testdata("ignore")) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("dockerignore") => {
                let paths = fs::read_to_string(path.with_extension("paths")).unwrap();
                let mut found = String::new();
                match Ignore::parse(&fs::read_to_string(&path).unwrap()) {
                    Err(error) => writeln!(found, "error {error}").unwrap(),
                    Ok(ignore) => {
                        for name in paths.lines() {
                            match ignore.excluded(name) {
                                None => write!(found, "in         {name}").unwrap(),
                                Some(rule) => {
                                    write!(found, "out line {:<2}{name}", rule.line).unwrap();
                                    assert!(!rule.pattern.is_empty());
                                }
                            }
                            let below = ignore.may_reinclude_below(name);
                            writeln!(found, "{}", if below { "  (look below)" } else { "" })
                                .unwrap();
                        }
                    }
                }
                check(&path.with_extension("out"), &found);
            }
            Some("paths" | "out") => {
                assert!(path.with_extension("dockerignore").exists(), "{}", path.display());
            }
            _ => panic!("{} is no case", path.display()),
        }
    }
}

/// What is pruned holds nothing that is kept.
#[test]
fn pruning_loses_nothing() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let parts = ["a", "b", "*", "**", "/", "!", "\n", "?", "\n!", "**/", "[ab]", "c"];
    for _ in 0..20_000 {
        let Ok(ignore) = Ignore::parse(&random.text(&parts, 10)) else { continue };
        let path = random.text(&["a/", "b/", "c/", "ab/"], 3) + "a";
        if ignore.excluded(&path).is_some() {
            continue;
        }
        for (at, _) in path.match_indices('/') {
            let folder = &path[..at];
            assert!(
                ignore.excluded(folder).is_none() || ignore.may_reinclude_below(folder),
                "{ignore:?} {folder} {path}"
            );
        }
    }
}

/// Xorshift: the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
    fn text(&mut self, parts: &[&str], most: usize) -> String {
        (0..=self.below(most)).map(|_| parts[self.below(parts.len())]).collect()
    }
    fn mutate(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(6) {
            let at = self.below(chars.len() + 1);
            let end = (at + self.below(8)).min(chars.len());
            match self.below(3) {
                0 => drop(chars.drain(at..end)),
                1 => {
                    let again: Vec<char> = chars[at..end].to_vec();
                    let to = self.below(chars.len() + 1);
                    chars.splice(to..to, again);
                }
                _ => {
                    let odd = "\\`\"'$\n\r\t #[]{}=<-:\u{feff}\u{0}한\u{a0}%/*?";
                    let odd = odd.chars().nth(self.below(odd.chars().count())).unwrap();
                    chars.insert(at, odd);
                }
            }
        }
        chars.into_iter().collect()
    }
}

/// Whatever the text: no panic, and every place is a place in it.
#[test]
fn any_text_is_answered() {
    let mut random = Random(88_172_645_463_325_252);
    let seeds: Vec<String> = files(&testdata("dockerfile"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "Dockerfile"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let vars = |name: &str| name.len().is_multiple_of(2).then(|| name.repeat(3));
    for round in 0..3_000 {
        let text = random.mutate(&seeds[round % seeds.len()]);
        let src = Source::new("Dockerfile", text.as_str());
        let (file, diagnostics) = parse(&src);
        told(&src, &diagnostics);
        dump(&src, &file);
        let _ = Ignore::parse(&text).map(|ignore| ignore.excluded("a/b/c").is_some());
        for line in text.lines() {
            for escape in ['\\', '`'] {
                let results = [
                    expand(line, escape, &vars).map(|expanded| expanded.variables),
                    expand_unquoted(line, escape, &vars).map(|expanded| expanded.variables),
                    expand_words(line, escape, &vars).map(|expanded| expanded.variables),
                ];
                for result in results {
                    let ranges = match result {
                        Ok(variables) => variables.into_iter().map(|it| it.range).collect(),
                        Err(error) => vec![error.range],
                    };
                    for range in ranges {
                        assert!(line.get(range.clone()).is_some(), "{range:?} of {line:?}");
                    }
                }
            }
            let _ = glob::matches(line, b"a/\xffb");
        }
    }
}
