//! The graph of steps, and what a caller gives and gets.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::diagnostic::{Diagnostic, Span};
use crate::digest::BlobDigest;
use crate::dockerfile::RunNetwork;
use crate::epoch::Epoch;
use crate::image::ImageConfig;
use crate::layer::Layer;
use crate::platform::Platform;
use crate::reference::Reference;

use super::op::Op;

/// What is to be built of a Dockerfile.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// What the image is for.
    pub platform: Platform,
    /// What the build runs on: `BUILDPLATFORM`.
    pub build_platform: Platform,
    /// A stage's name, or its number from 0; none for the last stage.
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    /// Written over the labels of the file.
    pub labels: BTreeMap<String, String>,
    /// What stands for a stage, an image, or a name of `--from`. A name is an
    /// image's short one without `:latest`; `::PLATFORM` behind it limits it to one
    /// platform.
    pub contexts: Vec<(String, NamedContext)>,
    /// The network of a `RUN` that names none.
    pub network: RunNetwork,
    /// Lines of a `RUN`'s `/etc/hosts`: a name and its address.
    pub hosts: Vec<(String, IpAddr)>,
    /// An `ARG SOURCE_DATE_EPOCH` before the first `FROM` holds instead, unless
    /// `build_args` has that name.
    pub epoch: Epoch,
    /// Somebody chose the platform: the config says it then, whatever the image
    /// is for that the target starts from.
    pub chosen: bool,
    /// The platform stands in the names of steps, as several are built at once.
    pub several: bool,
    /// Names of stages whose steps are to be made anew.
    pub anew: Vec<String>,
}

/// What a name of `--build-context` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    Image(Reference),
    Scratch,
    /// Files that the build reads by themselves.
    Files,
}

impl PlanRequest {
    /// What a name of the file stands for, if anything.
    #[must_use]
    pub fn context(&self, name: &str, platform: &Platform) -> Option<(usize, &NamedContext)> {
        let name = match name.parse::<Reference>() {
            Ok(reference) => reference.familiar(),
            Err(_) => name.to_owned(),
        };
        let name = name.strip_suffix(":latest").unwrap_or(&name);
        let find = |wanted: &str| self.contexts.iter().position(|(known, _)| known == wanted);
        let at = find(&format!("{name}::{platform}")).or_else(|| find(name))?;
        Some((at, &self.contexts[at].1))
    }
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one exists at a time")]
pub enum Planned {
    /// Resolve these, add them to the [`Bases`], and ask again.
    Missing(Vec<BaseRequest>),
    Ready(Plan),
}

/// An image that the plan needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRequest {
    pub reference: Reference,
    pub platform: Platform,
    /// Where the file names it.
    pub span: Span,
}

/// The images that are known.
#[derive(Debug, Clone, Default)]
pub struct Bases(pub BTreeMap<(Reference, Platform), Base>);

impl Bases {
    pub fn insert(&mut self, reference: Reference, platform: Platform, base: Base) {
        self.0.insert((reference, platform), base);
    }
    #[must_use]
    pub fn get(&self, reference: &Reference, platform: &Platform) -> Option<&Base> {
        self.0.get(&(reference.clone(), platform.clone()))
    }
}

/// One platform's image, as a base.
#[derive(Debug, Clone)]
pub struct Base {
    /// As it was asked for.
    pub reference: Reference,
    /// The manifest's.
    pub digest: BlobDigest,
    pub config: ImageConfig,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

/// Everything that a build of one platform does.
#[derive(Debug, Clone)]
pub struct Plan {
    pub platform: Platform,
    /// What the target needs and nothing else. A step's inputs stand before it,
    /// and its id is its place.
    pub steps: Vec<Step>,
    /// The step whose root is the image's.
    pub result: StepId,
    /// The image's, without diff IDs. Its history has an entry with a layer for
    /// each layer of the base and for each step above it, in order.
    pub config: ImageConfig,
    /// A span of nothing at byte 0 means the request and not the file.
    pub warnings: Vec<Diagnostic>,
}

/// The steps of one or more plans; what they have in common is there once.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// A step's inputs stand before it, and its id is its place.
    pub steps: Vec<Step>,
    /// For each plan, the step whose root is the image's.
    pub results: Vec<StepId>,
}

impl Graph {
    /// Joins plans, as those of several platforms: a stage that does the same for
    /// each of them is one.
    #[must_use]
    pub fn of(plans: &[Plan]) -> Self {
        let mut graph = Self::default();
        for plan in plans {
            let mut places: Vec<StepId> = Vec::with_capacity(plan.steps.len());
            for step in &plan.steps {
                let mut step = step.clone();
                for input in &mut step.inputs {
                    *input = places[input.0];
                }
                step.id = StepId(graph.steps.len());
                let same = |other: &&mut Step| {
                    other.op == step.op && other.inputs == step.inputs && other.epoch == step.epoch
                };
                match graph.steps.iter_mut().find(same) {
                    Some(known) => {
                        known.anew |= step.anew;
                        places.push(known.id);
                    }
                    None => {
                        places.push(step.id);
                        graph.steps.push(step);
                    }
                }
            }
            graph.results.push(places[plan.result.0]);
        }
        graph
    }

    #[must_use]
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0]
    }

    /// What the root after a step is made of: its base, then step by step.
    #[must_use]
    pub fn chain(&self, id: StepId) -> Vec<StepId> {
        let mut chain = vec![id];
        let mut at = id;
        while let Some(&below) = self.step(at).inputs.first() {
            chain.push(below);
            at = below;
        }
        chain.reverse();
        chain
    }
}

/// A step's place in [`Plan::steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One layer to make, or the layers to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub id: StepId,
    pub op: Op,
    /// The first is what the step stands on; a base has none. The others are
    /// what it copies from.
    pub inputs: Vec<StepId>,
    /// The instruction, or the word that names a base.
    pub span: Option<Span>,
    /// For people, as `[build 2/4] RUN make`.
    pub name: String,
    /// The time of what the step makes.
    pub epoch: Epoch,
    /// Made even if its layer is known; no part of the key.
    pub anew: bool,
}
