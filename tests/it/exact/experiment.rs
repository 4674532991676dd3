//! The steps of an experiment.

use std::fmt::Write as _;
use std::fs;

use crate::support::kiln::data;

/// `NN-name.sh`, below the experiment's folder; the shell runs it.
pub(super) struct Step {
    /// Below `testdata/exact`.
    pub(super) file: String,
    /// As `USER` and `WORKDIR` have them, from this step on.
    pub(super) user: Option<String>,
    pub(super) workdir: Option<String>,
}

pub(super) struct Experiment {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

impl Experiment {
    pub(super) fn read(name: &str) -> Self {
        let folder = data().join("exact").join(name);
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let files = files.map(|file| file.into_string().unwrap());
        let mut files: Vec<String> = files.filter(|file| file.ends_with(".sh")).collect();
        files.sort();
        let steps = files.into_iter().map(|file| {
            let text = fs::read_to_string(folder.join(&file)).unwrap();
            let says = |key: &str| {
                text.lines().find_map(|line| line.strip_prefix(key)).map(|text| text.trim().into())
            };
            Step {
                file: format!("{name}/{file}"),
                user: says("# user:"),
                workdir: says("# workdir:"),
            }
        });
        Self { name: name.into(), steps: steps.collect() }
    }

    /// Text up to this length is compared line by line, and otherwise as any content: to look
    /// at all that the languages' packages have takes longer than to install them.
    pub(super) fn text(&self) -> usize {
        if self.name == "languages" { 1 << 10 } else { super::compare::TEXT }
    }

    /// True if its content is the same in every run, and so its layers.
    pub(super) fn is_deterministic(&self) -> bool {
        self.name == "bare"
    }

    pub(super) fn dockerfile(&self) -> String {
        let debs = match self.name.as_str() {
            "packages" => "--mount=type=bind,from=debs,target=/debs ",
            _ => "",
        };
        let mut text = String::from("FROM debian\n");
        for step in &self.steps {
            for (word, value) in [("USER", &step.user), ("WORKDIR", &step.workdir)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "{word} {value}");
                }
            }
            let _ =
                writeln!(text, "RUN --mount=type=bind,target=/steps {debs}sh /steps/{}", step.file);
        }
        text
    }
}
