//! Looking at a Dockerfile without building it.
//!
//! The plan is made as for a build. Of base images that the store does not have,
//! nothing is known at first; a config is fetched when a rule's answer depends on
//! it, layers never are.

use super::planning::{broken, plan_request, platforms};
use super::{BuildEnv, BuildError, BuildRequest, ignored, resolve, stoppable, times};
use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::lint::{self, Settings};
use crate::dockerfile::{self, Dockerfile};
use crate::plan::{self, BaseRequest, Bases, Outline, PlanRequest, Planned};
use crate::platform::Platform;

/// What was found out about a Dockerfile.
#[derive(Debug)]
pub struct Checked {
    pub file: Dockerfile,
    /// In the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// Why it could not be built, or why breaking a rule would end the build. A span
    /// of nothing at byte 0 means no place in the file.
    pub errors: Vec<Diagnostic>,
    /// What a build can be given; none if there is something wrong.
    pub outline: Option<Outline>,
}

/// What somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Which rules are broken: in every stage, if no target is named.
    Rules,
    /// What a build of the target can be given.
    Outline,
}

/// Looks at the Dockerfile of a request.
///
/// # Errors
/// If something besides the Dockerfile cannot be read. What is wrong with the
/// Dockerfile is in the result.
pub async fn check(
    ask: &BuildRequest,
    question: Question,
    env: &BuildEnv<'_>,
) -> Result<Checked, BuildError> {
    let (file, said) = dockerfile::parse(&ask.dockerfile);
    let ignore = ask.ignore.as_ref().map(|text| ignored(Some(text))).transpose()?;
    let mut found = Found { warnings: Vec::new(), errors: Vec::new(), outline: None };
    found.add(said);
    if found.errors.is_empty() {
        let platforms = platforms(ask);
        let times = times::times(ask, &file);
        let request = |platform: &Platform| PlanRequest {
            ignore: ignore.clone(),
            times: times.clone(),
            all_stages: question == Question::Rules,
            ..plan_request(ask, platform, platforms.len() > 1)
        };
        let requests: Vec<PlanRequest> = platforms.iter().map(request).collect();
        found.plan(ask, question, env, &file, &requests).await?;
    } else if let Ok(settings) = Settings::of(&file, &ask.build_args) {
        found.add(lint::syntax(&file, false, &settings));
    }
    let fails = Settings::of(&file, &ask.build_args).is_ok_and(|settings| settings.fails());
    if let Some(names) = broken(&found.warnings).filter(|_| fails && found.errors.is_empty()) {
        found.errors.push(Diagnostic::error(Span::default(), names.to_string()));
    }
    found.warnings.sort_by_key(|said| said.span.start);
    found.errors.sort_by_key(|said| said.span.start);
    let Found { warnings, errors, outline } = found;
    let outline = outline.filter(|_| errors.is_empty());
    Ok(Checked { file, warnings, errors, outline })
}

struct Found {
    warnings: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
    outline: Option<Outline>,
}

impl Found {
    /// Adds what is new: several platforms have much in common.
    fn add(&mut self, said: impl IntoIterator<Item = Diagnostic>) {
        let (warnings, errors) = (self.warnings.clone(), self.errors.clone());
        for one in said {
            if one.is_error() && !errors.contains(&one) {
                self.errors.push(one);
            } else if !one.is_error() && !warnings.contains(&one) {
                self.warnings.push(one);
            }
        }
    }

    async fn plan(
        &mut self,
        ask: &BuildRequest,
        question: Question,
        env: &BuildEnv<'_>,
        file: &Dockerfile,
        requests: &[PlanRequest],
    ) -> Result<(), BuildError> {
        let mut bases = Bases::default();
        loop {
            let (mut wanted, mut plans) = (Vec::<BaseRequest>::new(), Vec::new());
            for request in requests {
                match plan::plan(file, request, &bases) {
                    Err(error) => plans.push((error.diagnostics, None)),
                    Ok(Planned::Ready(plan)) => plans.push((plan.warnings, Some(plan.outline))),
                    Ok(Planned::Missing(more)) => wanted.extend(more),
                }
            }
            if wanted.is_empty() {
                for (said, outline) in plans {
                    self.add(said);
                    self.outline = self.outline.take().or(outline);
                }
                return Ok(());
            }
            for want in wanted {
                self.find(&want, ask, question, env, &mut bases).await?;
            }
        }
    }

    async fn find(
        &mut self,
        want: &BaseRequest,
        ask: &BuildRequest,
        question: Question,
        env: &BuildEnv<'_>,
        bases: &mut Bases,
    ) -> Result<(), BuildError> {
        let needed = bases.is_guess(&want.reference, &want.platform);
        if bases.get(&want.reference, &want.platform).is_some() && !needed {
            // Another platform's plan has asked for it in this round.
            return Ok(());
        }
        if let Some(base) = resolve::at_hand(want, ask, env)? {
            bases.insert(want.reference.clone(), want.platform.clone(), base);
            return Ok(());
        }
        // Only a registry tells whether an image is for another platform.
        let foreign = !Platform::host().satisfies(&want.platform);
        match question {
            Question::Outline if needed => bases.give_up(want),
            Question::Rules if needed || foreign => {
                match stoppable(env, resolve::base(want, ask, env)).await {
                    Ok(base) => {
                        bases.insert(want.reference.clone(), want.platform.clone(), base);
                    }
                    Err(BuildError::Base { name, span, source, .. }) => {
                        let said = format!("base image {name}: {source}");
                        let mut said = Diagnostic::error(span, said)
                            .label("rules that depend on it are not followed here");
                        said.hint = source.hint();
                        self.add([said]);
                        bases.give_up(want);
                    }
                    Err(error) => return Err(error),
                }
            }
            Question::Rules | Question::Outline => bases.guess(want),
        }
        Ok(())
    }
}
