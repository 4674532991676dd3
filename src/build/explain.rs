//! Why a step is made although an earlier build has made it.
//!
//! For each step that was made or found, what its key was made of is remembered (`trace`):
//! under the instruction's text in its stage, so that a line which is put in above changes
//! nothing; and by its place there, for an instruction whose text was changed. A step that
//! is not found is compared with that. It is a help for people: whatever of it is missing
//! or damaged makes no build fail, and no step be made or left.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::BuildRequest;
use super::files::Files;
use super::step::traced::{File, MAX_FILES, Source};
use super::step::{Bench, Prepared};
use super::trace::{self, Book, Listed, Stack, Trace};
use crate::digest::Digest;
use crate::plan::{Graph, Op, Step, StepId};
use crate::progress::{Cause, Change, Task};
use crate::store::Store;

/// As many files are named; of the others, how many there are.
const NAMED: usize = 10;

/// The traces of a build's steps.
#[derive(Debug)]
pub(super) struct Traces<'a> {
    store: &'a Store,
    graph: &'a Graph,
    /// The build's identity: the Dockerfile and the context, by their names.
    build: Digest,
    ids: Vec<Id>,
    /// Read when it is first needed.
    book: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    book: Book,
    changed: bool,
}

/// Under what a step is remembered.
#[derive(Debug)]
struct Id {
    text: String,
    place: String,
}

/// What the store has under a step's key that is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Useless {
    /// It must not be used: `--no-cache`, or the filter of that name.
    NoCache { filter: bool },
    /// Its layer is not there any more.
    Layer,
    /// It was made where there was no network, which it may have been found to lack.
    Offline,
}

impl<'a> Traces<'a> {
    pub(super) fn new(ask: &BuildRequest, store: &'a Store, graph: &'a Graph) -> Self {
        let context = match &ask.context {
            Files::Folder(folder) => {
                std::fs::canonicalize(folder).unwrap_or_default().display().to_string()
            }
            Files::Nothing | Files::Checkout(_) | Files::Unpacked(_) => String::new(),
        };
        let build = Digest::of(format!("{}\n{context}", ask.dockerfile.name()).as_bytes());
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        let mut id = |step: &Step| {
            let (stage, number, name) = parts(&step.name);
            let text = step.span.and_then(|span| ask.dockerfile.text().get(span.range()));
            let of = (stage.to_owned(), text.unwrap_or(name).to_owned());
            let text = format!("{stage}\n{}", of.1);
            let count = seen.entry(of).or_default();
            *count += 1;
            Id {
                // A text may hold what nobody should read in the store.
                text: Digest::of(format!("{text}\n{count}").as_bytes()).short(),
                place: format!("{stage} {number}"),
            }
        };
        let ids = graph.steps.iter().map(&mut id).collect();
        Self { store, graph, build, ids, book: Mutex::default() }
    }

    fn book<T>(&self, work: impl FnOnce(&mut Open) -> T) -> T {
        let mut book: MutexGuard<'_, Option<Open>> =
            self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let load = || Open { book: Book::load(self.store, &self.build), changed: false };
        work(book.get_or_insert_with(load))
    }

    /// Remembers a step that was found, unless it was so the last time.
    pub(super) fn hit(&self, step: &Step, prepared: &Prepared<'_>, bench: &Bench<'_>) {
        let key = prepared.key().0;
        let Id { text, place } = &self.ids[step.id.0];
        let known = self.book(|Open { book, .. }| {
            book.steps.get(text).is_some_and(|trace| trace.key == key)
                && book.places.get(place) == Some(text)
        });
        if !known {
            self.made(step, prepared, bench);
        }
    }

    /// Remembers a step that was made.
    pub(super) fn made(&self, step: &Step, prepared: &Prepared<'_>, bench: &Bench<'_>) {
        let Some((trace, sources)) = self.trace(step, prepared, bench) else { return };
        for source in &sources {
            // What cannot be remembered is not explained.
            let _ = trace::keep(self.store, source);
        }
        let Id { text, place } = &self.ids[step.id.0];
        self.book(|open| {
            open.changed = true;
            open.book.steps.insert(text.clone(), trace);
            open.book.places.insert(place.clone(), text.clone());
        });
    }

    /// Writes down what is new.
    pub(super) fn keep(&self) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Open { book, changed }) = &mut *book
            && std::mem::take(changed)
        {
            let seen = |text: &str| self.ids.iter().any(|id| id.text == text);
            // As above.
            let _ = book.save(self.store, &self.build, seen);
        }
    }

    fn trace(
        &self,
        step: &Step,
        prepared: &Prepared<'_>,
        bench: &Bench<'_>,
    ) -> Option<(Trace, Vec<Source>)> {
        let roots = step.inputs.iter().zip(prepared.roots());
        let stacks = roots.map(|(&id, layers)| Stack::new(self.base(id), layers)).collect();
        let sources = prepared.sources(bench).ok()?;
        Some((Trace::new(prepared.key().0, step, stacks, &sources), sources))
    }

    /// The image that a root begins with.
    fn base(&self, id: StepId) -> Option<(String, String)> {
        let first = *self.graph.chain(id).first()?;
        let Op::Base(base) = &self.graph.step(first).op else { return None };
        let image = base.image.as_ref()?;
        Some((image.reference.familiar(), image.digest.to_string()))
    }

    /// What an earlier build remembered of the step, and whether its text was another one.
    fn before(&self, step: &Step) -> Option<(Trace, bool)> {
        let Id { text, place } = &self.ids[step.id.0];
        self.book(|Open { book, .. }| {
            if let Some(trace) = book.steps.get(text) {
                return Some((trace.clone(), false));
            }
            let other = book.places.get(place)?;
            // A line that was put in above another one has no earlier build.
            let elsewhere = self.ids.iter().any(|id| id.text == *other);
            let trace = book.steps.get(other).filter(|_| !elsewhere)?;
            Some((trace.clone(), true))
        })
    }

    /// Tells why a step is made, if an earlier build has made it.
    pub(super) fn missed(
        &self,
        step: &Step,
        prepared: &Prepared<'_>,
        bench: &Bench<'_>,
        task: &Task,
        useless: Option<Useless>,
    ) {
        let causes = match useless {
            Some(useless) => vec![cause_of(useless)],
            None => self.causes(step, prepared, bench).unwrap_or_default(),
        };
        if !causes.is_empty() {
            task.causes(causes);
        }
    }

    fn causes(
        &self,
        step: &Step,
        prepared: &Prepared<'_>,
        bench: &Bench<'_>,
    ) -> Option<Vec<Cause>> {
        let (before, other) = self.before(step)?;
        let (now, taken) = self.trace(step, prepared, bench)?;
        if before.key == now.key {
            let text = "the record of the step is no longer in the store";
            return Some(vec![Cause::new("store", "", Change::Removed, text)]);
        }
        let mut causes = Vec::new();
        let labels = |trace: &Trace| {
            let own = trace.fields.iter().filter(|(label, _)| !label.starts_with('$'));
            own.map(|(label, _)| label.clone()).collect::<Vec<_>>()
        };
        if labels(&before) != labels(&now) {
            let text = "another instruction stood here";
            return Some(vec![Cause::new("instruction", "", Change::Changed, text)]);
        }
        if before.format != now.format {
            let text = "another version of kiln makes such steps differently";
            causes.push(Cause::new("kiln", "", Change::Changed, text));
        }
        fields(&before, &now, &mut causes);
        let stacks = (before.stacks.iter(), now.stacks.iter());
        if stacks.0.len() != stacks.1.len() {
            let text = "it reads other roots";
            causes.push(Cause::new("parent", "", Change::Changed, text));
        } else {
            let all = stacks.0.zip(stacks.1).zip(&step.inputs).enumerate();
            causes.extend(
                all.filter_map(|(at, ((before, now), id))| self.stack(before, now, *id, at > 0)),
            );
        }
        for now in &taken {
            match before.sources.iter().find(|source| source.label == now.label) {
                Some(before) if before.digest == now.digest => {}
                Some(before) => {
                    causes.extend(sources(before, before.files(self.store), now));
                }
                // The fields say that there is one more.
                None => {}
            }
        }
        if causes.is_empty() {
            let (text, kind) = match other {
                true => ("the instruction was changed", "instruction"),
                false => ("something changed that is not remembered", "unknown"),
            };
            causes.push(Cause::new(kind, "", Change::Changed, text));
        }
        Some(causes)
    }

    /// The lowest thing of a root that is not as it was.
    fn stack(&self, before: &Stack, now: &Stack, id: StepId, read: bool) -> Option<Cause> {
        let same = before.layers.iter().zip(&now.layers).take_while(|(a, b)| a == b).count();
        if before.layers == now.layers {
            return None;
        }
        let chain = self.graph.chain(id);
        let from = if read { "what it copies from: " } else { "" };
        let base = match chain.first().map(|&id| &self.graph.step(id).op) {
            Some(Op::Base(base)) => base.image.as_ref().map_or(0, |image| image.layers.len()),
            _ => 0,
        };
        if before.base != now.base && (same < base || base == 0) {
            let name = now.base.as_ref().map_or("scratch", |(name, _)| name);
            let text = match (&before.base, &now.base) {
                (Some((a, old)), Some((b, new))) if a == b => format!("{a}: {old} → {new}"),
                (old, new) => format!("{} → {}", image(old.as_ref()), image(new.as_ref())),
            };
            let text = format!("{from}base image {text}");
            return Some(Cause::new("base", name, Change::Changed, text));
        }
        // Each step above the base makes one layer.
        let step = chain.get(1 + same.saturating_sub(base)).map(|&id| &self.graph.step(id).name);
        Some(match step {
            Some(step) => {
                let text = format!("{from}`{step}` gave another layer");
                Cause::new("parent", step, Change::Changed, text)
            }
            None => {
                let text = format!("{from}there are fewer steps before it");
                Cause::new("parent", "", Change::Removed, text)
            }
        })
    }
}

fn image(base: Option<&(String, String)>) -> String {
    base.map_or_else(|| "scratch".into(), |(name, digest)| format!("{name}@{digest}"))
}

fn cause_of(useless: Useless) -> Cause {
    match useless {
        Useless::NoCache { filter: false } => {
            Cause::new("option", "--no-cache", Change::Added, "--no-cache")
        }
        Useless::NoCache { filter: true } => {
            Cause::new("option", "--no-cache-filter", Change::Added, "--no-cache-filter")
        }
        Useless::Layer => {
            let text = "its layer is no longer in the store";
            Cause::new("store", "", Change::Removed, text)
        }
        Useless::Offline => {
            let text = "it was made with --offline, and may have done without what it takes from \
                        the network";
            Cause::new("option", "--offline", Change::Removed, text)
        }
    }
}

/// `[platform stage 2/4] text`: what is before the number, the number, and the text.
fn parts(name: &str) -> (&str, &str, &str) {
    let Some((inside, text)) = name.strip_prefix('[').and_then(|name| name.split_once("] ")) else {
        return ("", "", name);
    };
    let (stage, number) = inside.rsplit_once(' ').unwrap_or(("", inside));
    (stage.trim_end(), number.split('/').next().unwrap_or(number), text)
}

fn fields(before: &Trace, now: &Trace, causes: &mut Vec<Cause>) {
    let old: BTreeMap<&str, u64> = before.fields.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let new: BTreeMap<&str, u64> = now.fields.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let mut all: Vec<&str> = now.fields.iter().map(|(label, _)| label.as_str()).collect();
    all.extend(before.fields.iter().map(|(k, _)| k.as_str()).filter(|k| !new.contains_key(k)));
    for label in all {
        let change = match (old.get(label), new.get(label)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        let (kind, name) = match label.strip_prefix('$') {
            Some(name) => ("variable", name),
            None => ("instruction", label),
        };
        // Its value may be a secret that somebody gave as an argument.
        let what = if kind == "variable" { format!("variable `{name}`") } else { name.to_owned() };
        causes.push(Cause::new(kind, name, change, format!("{what} {}", verb(change))));
    }
}

fn verb(change: Change) -> &'static str {
    match change {
        Change::Changed => "was changed",
        Change::Added => "was added",
        Change::Removed => "was removed",
        Change::Mode => "has another mode",
    }
}

fn sources(before: &Listed, old: Option<Vec<File>>, now: &Source) -> Vec<Cause> {
    let (Some(old), Some(new)) = (&old, &now.files) else {
        let why = match (before.is_nowhere(), &now.files) {
            (true, None) if !now.label.starts_with("the context") => String::new(),
            (true, _) | (_, None) => {
                format!(": more than {MAX_FILES} files are too many to remember each")
            }
            (false, Some(_)) => ": which files it had is no longer in the store".into(),
        };
        let text = format!("{} changed{why}", now.label);
        return vec![Cause::new("source", &now.label, Change::Changed, text)];
    };
    files(old, new, &now.label)
}

fn files(old: &[File], new: &[File], label: &str) -> Vec<Cause> {
    let by_name = |files: &'_ [File]| -> BTreeMap<String, File> {
        files.iter().map(|file| (file.name.clone(), file.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let mut changes: Vec<(&str, Change)> = Vec::new();
    for (name, file) in &new {
        match old.get(name) {
            None => changes.push((name, Change::Added)),
            Some(was) if was == file => {}
            Some(was) if (was.kind, was.content) == (file.kind, file.content) => {
                changes.push((name, Change::Mode));
            }
            Some(_) => changes.push((name, Change::Changed)),
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    changes.extend(gone.map(|name| (name.as_str(), Change::Removed)));
    let told = |(name, change): &(&str, Change)| {
        let name = if name.is_empty() { "." } else { name };
        Cause::new("file", name, *change, format!("`{name}` {}", verb(*change)))
    };
    let mut causes: Vec<Cause> = changes.iter().take(NAMED).map(told).collect();
    if let Some(more) = changes.len().checked_sub(NAMED).filter(|&more| more > 0) {
        let noun = if more == 1 { "file" } else { "files" };
        causes.push(Cause::new("file", "", Change::Changed, format!("{more} more {noun}")));
    }
    if causes.is_empty() {
        // Another order, or other names for what is copied.
        let text = format!("{label} gives the same files otherwise");
        causes.push(Cause::new("source", label, Change::Changed, text));
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_steps() {
        assert_eq!(parts("[2/4] RUN [x] y"), ("", "2", "RUN [x] y"));
        assert_eq!(parts("[build  2/14] RUN x"), ("build", "2", "RUN x"));
        assert_eq!(
            parts("[linux/amd64->arm64 build 12/14] COPY a b"),
            ("linux/amd64->arm64 build", "12", "COPY a b")
        );
        assert_eq!(parts("odd"), ("", "", "odd"));
    }

    #[test]
    fn files_one_by_one() {
        let file =
            |name: &str, mode, content| File { name: name.into(), mode, kind: b'f', content };
        let told = |old: &[File], new: &[File]| {
            let causes = files(old, new, "the context");
            causes.into_iter().map(|cause| cause.text).collect::<Vec<_>>()
        };
        let old = [file("a", 1, 1), file("b", 1, 2), file("c", 1, 3), file("e", 1, 4)];
        let new = [file("a", 1, 1), file("b", 2, 2), file("c", 1, 4), file("d", 1, 1)];
        let expected =
            ["`b` has another mode", "`c` was changed", "`d` was added", "`e` was removed"];
        assert_eq!(told(&old, &new), expected);
        assert_eq!(told(&old, &old), ["the context gives the same files otherwise"]);
        let many: Vec<File> = (10..25).map(|n| file(&format!("f{n}"), 1, n)).collect();
        let told_many = told(&[], &many);
        assert_eq!((told_many.len(), told_many[10].as_str()), (11, "5 more files"));
    }
}
