//! Walks the needed stages, and begins each on its image or stage.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::lint::Settings;
use crate::dockerfile::{Dockerfile, Instruction, Stage};
use crate::image::ImageConfig;
use crate::platform::Platform;

use super::bases::{Layout, Origin};
use super::config;
use super::graph::{BaseRequest, Bases, PlanRequest, Step, StepId};
use super::history;
use super::instruction::InStage;
use super::names;
use super::op::{BaseImage, BaseOp, CopyFrom, CopyHints, CopyOp, CopySource, Op};
use super::outline::Uses;
use super::path;
use super::rules::{self, Once};
use super::scope::{Globals, Vars};
use super::triggers::Triggers;

/// What a stage has come to.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// `ENV` and `ARG` together, as steps and words see them. Of two that have
    /// one name the later wins, as in BuildKit.
    pub(super) vars: Vars,
    /// Every `ARG` so far, also of the stages below.
    pub(super) args: Vec<(String, Option<String>)>,
    pub(super) config: ImageConfig,
    pub(super) platform: Platform,
    pub(super) root: StepId,
    /// Whether a stage of the file has set it already.
    pub(super) workdir_set: bool,
    /// The image below, if nothing is known of it but its name.
    pub(super) guess: Option<BaseRequest>,
}

/// How the steps of a stage are called and counted.
pub(super) struct Numbering {
    /// Empty in a file of one stage.
    stage: String,
    total: usize,
    done: usize,
    /// Whether the instruction is one.
    trigger: bool,
    /// What stands before the stage: empty, or a platform and a space.
    platform: String,
}

impl Numbering {
    pub(super) fn name(&mut self, text: &str) -> String {
        self.done += 1;
        let (stage, total, done) = (&self.stage, self.total, self.done);
        let space = if stage.is_empty() { "" } else { " " };
        let width = total.to_string().len();
        let trigger = if self.trigger { "ONBUILD " } else { "" };
        let platform = &self.platform;
        format!("[{platform}{stage}{space}{done:width$}/{total}] {trigger}{text}")
    }
}

pub(super) struct Walk<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) ask: &'a PlanRequest,
    pub(super) globals: &'a Globals,
    pub(super) bases: &'a Bases,
    pub(super) layout: &'a Layout,
    pub(super) triggers: &'a Triggers,
    pub(super) steps: Vec<Step>,
    pub(super) out: Vec<Diagnostic>,
    pub(super) done: BTreeMap<usize, State>,
    /// The stage's steps are to be made whether they are known or not.
    anew: bool,
    pub(super) lint: &'a Settings,
    /// The images that a rule has to know.
    pub(super) doubts: Vec<BaseRequest>,
    pub(super) uses: Uses,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        file: &'a Dockerfile,
        ask: &'a PlanRequest,
        globals: &'a Globals,
        bases: &'a Bases,
        layout: &'a Layout,
        triggers: &'a Triggers,
        lint: &'a Settings,
    ) -> Self {
        Self {
            file,
            ask,
            globals,
            bases,
            layout,
            triggers,
            steps: Vec::new(),
            out: Vec::new(),
            done: BTreeMap::new(),
            anew: false,
            lint,
            doubts: Vec::new(),
            uses: Uses::default(),
        }
    }

    /// Plans every needed stage; gives the target's outcome. None if `out` has
    /// an error.
    pub(super) fn run(&mut self) -> Option<State> {
        for (at, stage) in self.file.stages.iter().enumerate() {
            if let Some(start) = &self.layout.starts[at] {
                let named = |word: &String| {
                    stage.from.name.as_ref().is_some_and(|n| n.value.eq_ignore_ascii_case(word))
                };
                self.anew = self.ask.anew.iter().any(named);
                let state = self.stage(at, stage, start)?;
                self.done.insert(at, state);
            }
        }
        let state = self.done.remove(&self.layout.target)?;
        (!self.out.iter().any(Diagnostic::is_error)).then_some(state)
    }

    fn stage(&mut self, at: usize, stage: &Stage, start: &Origin) -> Option<State> {
        let mut numbering = self.numbering(at, stage, start);
        let mut state = self.begin(stage, start, &mut numbering)?;
        let triggers = self.triggers;
        let lint = self.lint.clone();
        let once = Once::default();
        let mut in_stage = InStage { walk: self, at, state: &mut state, numbering, once, lint };
        for (number, instruction) in stage.instructions.iter().enumerate() {
            in_stage.numbering.trigger = triggers.has(at, number);
            if in_stage.walk.ask.several {
                in_stage.numbering.platform =
                    names::platforms(&in_stage.state.platform, &in_stage.state.vars);
            }
            in_stage.lint = in_stage.walk.lint.above(in_stage.walk.file.note(instruction.span()));
            in_stage.instruction(number, instruction);
        }
        Some(state)
    }

    fn numbering(&self, at: usize, stage: &Stage, start: &Origin) -> Numbering {
        let makes_step = |instruction: &&Instruction| {
            matches!(
                instruction,
                Instruction::Add(_)
                    | Instruction::Copy(_)
                    | Instruction::Run(_)
                    | Instruction::Workdir(_)
            )
        };
        let from = usize::from(matches!(start, Origin::Image { .. }));
        let name = match &stage.from.name {
            _ if self.file.stages.len() == 1 => String::new(),
            Some(name) => name.value.clone(),
            None => format!("stage-{at}"),
        };
        Numbering {
            stage: name,
            total: from + stage.instructions.iter().filter(makes_step).count(),
            done: 0,
            trigger: false,
            platform: match start {
                Origin::Image { platform, .. } if self.ask.several => format!("{platform} "),
                _ => String::new(),
            },
        }
    }

    fn begin(&mut self, stage: &Stage, start: &Origin, numbering: &mut Numbering) -> Option<State> {
        let from = &stage.from;
        let mut state = match start {
            Origin::Stage(below) => self.done.get(below)?.clone(),
            Origin::Scratch | Origin::Files(_) => {
                let mut config = ImageConfig::scratch(&self.ask.platform);
                config.config.working_dir = "/".to_owned();
                if let Origin::Files(_) = start {
                    let told = format!("FROM {} # context", from.image.value);
                    config.history.push(history::entry(told, true, self.ask.epoch));
                }
                State {
                    vars: Vars::default(),
                    args: Vec::new(),
                    config,
                    platform: self.ask.platform.clone(),
                    root: self.base(start, from.image.span, &mut |text| text.to_owned())?,
                    workdir_set: false,
                    guess: None,
                }
            }
            Origin::Image { reference, platform } => {
                let root = self.base(start, from.image.span, &mut |text| numbering.name(text))?;
                let base = self.bases.get(reference, platform)?;
                let mut config = base.config.clone();
                history::reconcile(&mut config, base.layers.len());
                State {
                    vars: Vars::default(),
                    args: Vec::new(),
                    config,
                    platform: platform.clone(),
                    root,
                    workdir_set: false,
                    guess: self.bases.is_guess(reference, platform).then(|| BaseRequest {
                        reference: reference.clone(),
                        platform: platform.clone(),
                        span: from.image.span,
                    }),
                }
            }
        };
        let config = &mut state.config.config;
        // They happen in this stage, and not in what starts from it.
        config.on_build = None;
        if !config.env.iter().any(|entry| entry.starts_with("PATH="))
            && state.platform.os != "windows"
        {
            config.env.push(format!("PATH={}", config::DEFAULT_PATH));
        }
        // In a stage on a stage too: its ENV comes before the ARGs it inherits.
        state.vars.set_all(&config.env);
        if !config.working_dir.is_empty() {
            config.working_dir = path::join("/", &config.working_dir);
        }
        Some(state)
    }

    /// The step of an image or of `scratch`, which several stages may share.
    pub(super) fn base(
        &mut self,
        origin: &Origin,
        span: Span,
        name: &mut dyn FnMut(&str) -> String,
    ) -> Option<StepId> {
        let (image, text) = match origin {
            Origin::Stage(_) => return None,
            Origin::Files(context) => return self.files(*context, span),
            Origin::Scratch => (None, "FROM scratch".to_owned()),
            Origin::Image { reference, platform } => {
                let base = self.bases.get(reference, platform)?;
                rules::base_platform(reference, platform, base, span, self.lint, &mut self.out);
                let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
                let text = format!("FROM {}{tag}@{}", reference.name(), base.digest);
                let image = BaseImage {
                    reference: reference.clone(),
                    digest: base.digest,
                    layers: base.layers.clone(),
                    platform: platform.clone(),
                };
                (Some(image), text)
            }
        };
        // Counted even where the step is there already.
        let name = name(&text);
        let op = Op::Base(BaseOp { image });
        match self.steps.iter().find(|step| step.op == op) {
            Some(known) => Some(known.id),
            None => Some(self.push(op, Vec::new(), Some(span), name)),
        }
    }

    /// The step that makes a root of a named context's files.
    fn files(&mut self, context: usize, span: Span) -> Option<StepId> {
        let root = self.base(&Origin::Scratch, span, &mut |text| text.to_owned())?;
        let op = Op::Copy(CopyOp {
            from: CopyFrom::Named(context),
            sources: vec![CopySource { path: ".".to_owned(), below: None }],
            repositories: Vec::new(),
            remotes: Vec::new(),
            contents: Vec::new(),
            destination: "/".to_owned(),
            excludes: Vec::new(),
            owner: None,
            mode: None,
            unpack: false,
            link: true,
            hints: CopyHints::default(),
        });
        if let Some(known) = self.steps.iter().find(|step| step.op == op) {
            return Some(known.id);
        }
        let name = format!("[context {}] load files", self.ask.contexts[context].0);
        Some(self.push(op, vec![root], Some(span), name))
    }

    pub(super) fn push(
        &mut self,
        op: Op,
        inputs: Vec<StepId>,
        span: Option<Span>,
        name: String,
    ) -> StepId {
        let id = StepId(self.steps.len());
        self.steps.push(Step {
            id,
            op,
            inputs,
            span,
            name,
            epoch: self.ask.epoch,
            anew: self.anew,
        });
        id
    }
}

/// A named context takes the place of a stage of its name: nothing of that is done.
pub(super) fn replaced(file: &mut Cow<'_, Dockerfile>, ask: &PlanRequest) {
    for at in 0..file.stages.len() {
        let Some(name) = &file.stages[at].from.name else { continue };
        if ask.context(&name.value, &ask.platform).is_some() {
            let name = name.clone();
            let stage = &mut file.to_mut().stages[at];
            stage.from.image = name;
            stage.instructions.clear();
        }
    }
}
