//! The graph of steps, and what a caller gives and gets.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;

use crate::diagnostic::{Diagnostic, Span};
use crate::digest::BlobDigest;
use crate::dockerfile::{Ignore, RunNetwork};
use crate::epoch::Epoch;
use crate::image::ImageConfig;
use crate::layer::Layer;
use crate::platform::Platform;
use crate::reference::Reference;

use super::op::Op;
use super::outline::Outline;

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
    /// `RUN --security=insecure` is allowed.
    pub insecure: bool,
    /// Layers of `RUN`s are [normalized](super::RunOp::normalize).
    pub normalize: bool,
    /// Lines of a `RUN`'s `/etc/hosts`: a name and its address.
    pub hosts: Vec<(String, IpAddr)>,
    /// Of what is made, unless `SOURCE_DATE_EPOCH` says another one.
    pub epoch: Epoch,
    /// Those of commits: of `context`, the build context, and of named ones; or why there
    /// is none. Needed only if [`asks_for_times`](super::asks_for_times) says so.
    pub times: BTreeMap<String, Result<Epoch, String>>,
    /// Somebody chose the platform: the config says it then, whatever the image
    /// is for that the target starts from.
    pub chosen: bool,
    /// The platform stands in the names of steps, as several are built at once.
    pub several: bool,
    /// Names of stages whose steps are to be made anew.
    pub anew: Vec<String>,
    /// What the context keeps from the build, for the rule that looks at it.
    pub ignore: Option<Ignore>,
    /// Look at every stage, unless a target is named: nothing is to be built.
    pub all_stages: bool,
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
    /// A request that asks for nothing but a platform, which is this machine's too.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            build_platform: platform.clone(),
            platform,
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            contexts: Vec::new(),
            network: RunNetwork::Default,
            insecure: false,
            normalize: false,
            hosts: Vec::new(),
            epoch: Epoch::DEFAULT,
            times: BTreeMap::new(),
            chosen: false,
            several: false,
            anew: Vec::new(),
            ignore: None,
            all_stages: false,
        }
    }

    /// What BuildKit's argument `BUILDKIT_NAME` is set to, if it is.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        let value = self.build_args.get(&format!("BUILDKIT_{name}"))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

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

impl BaseRequest {
    /// Whether two are for the same image. A name without a registry may lead elsewhere
    /// than the full one that is its equal.
    #[must_use]
    pub fn is(&self, reference: &Reference, platform: &Platform) -> bool {
        self.reference == *reference
            && self.reference.short() == reference.short()
            && self.platform == *platform
    }
}

/// What tells images apart, as [`BaseRequest::is`] does.
fn key(reference: &Reference, platform: &Platform) -> (Reference, Option<String>, Platform) {
    (reference.clone(), reference.short().map(str::to_owned), platform.clone())
}

/// The images that are known, and guesses in the place of others.
#[derive(Debug, Clone, Default)]
pub struct Bases(BTreeMap<(Reference, Option<String>, Platform), (Base, Certainty)>);

/// How much of an image is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    Known,
    /// Nothing; it is asked for when a rule's answer depends on it.
    Guessed,
    /// Nothing, and it cannot be had.
    GivenUp,
}

impl Bases {
    pub fn insert(&mut self, reference: Reference, platform: Platform, base: Base) {
        self.0.insert(key(&reference, &platform), (base, Certainty::Known));
    }

    /// Lets an empty image stand for one, where nothing is to be built. The plan asks
    /// again for the image if a rule needs it.
    pub fn guess(&mut self, want: &BaseRequest) {
        self.stand_in(want, Certainty::Guessed);
    }

    /// As [`Self::guess`], and the plan does not ask again.
    pub fn give_up(&mut self, want: &BaseRequest) {
        self.stand_in(want, Certainty::GivenUp);
    }

    fn stand_in(&mut self, want: &BaseRequest, certainty: Certainty) {
        let base = Base {
            reference: want.reference.clone(),
            digest: BlobDigest::of(b""),
            config: ImageConfig::scratch(&want.platform),
            layers: Vec::new(),
        };
        self.0.insert(key(&want.reference, &want.platform), (base, certainty));
    }

    #[must_use]
    pub fn get(&self, reference: &Reference, platform: &Platform) -> Option<&Base> {
        Some(&self.entry(reference, platform)?.0)
    }

    /// Whether an empty image stands for it.
    #[must_use]
    pub fn is_guess(&self, reference: &Reference, platform: &Platform) -> bool {
        self.entry(reference, platform).is_some_and(|(_, certainty)| match certainty {
            Certainty::Known => false,
            Certainty::Guessed | Certainty::GivenUp => true,
        })
    }

    /// Whether the plan is to ask for an image that it could do without until now.
    pub(super) fn is_open(&self, want: &BaseRequest) -> bool {
        let entry = self.entry(&want.reference, &want.platform);
        entry.is_some_and(|(_, certainty)| *certainty == Certainty::Guessed)
    }

    fn entry(&self, reference: &Reference, platform: &Platform) -> Option<&(Base, Certainty)> {
        self.0.get(&key(reference, platform))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
    /// What the build can be given.
    pub outline: Outline,
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
        // By what they stand on and read: few steps have all of that in common.
        let mut alike: HashMap<(Vec<StepId>, Epoch), Vec<StepId>> = HashMap::new();
        for plan in plans {
            let mut places: Vec<StepId> = Vec::with_capacity(plan.steps.len());
            for step in &plan.steps {
                let mut step = step.clone();
                for input in &mut step.inputs {
                    *input = places[input.0];
                }
                step.id = StepId(graph.steps.len());
                let alike = alike.entry((step.inputs.clone(), step.epoch)).or_default();
                match alike.iter().find(|other| graph.steps[other.0].op == step.op) {
                    Some(known) => {
                        graph.steps[known.0].anew |= step.anew;
                        places.push(*known);
                    }
                    None => {
                        alike.push(step.id);
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
