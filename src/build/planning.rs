//! From the Dockerfile to the plans of all platforms, with the bases that they need.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{BrokenRules, BuildError};
use super::request::{BuildEnv, BuildRequest};
use super::{ignored, inputs, resolve, stoppable, times};
use crate::diagnostic::Diagnostic;
use crate::dockerfile;
use crate::dockerfile::lint::Settings;
use crate::plan::{self, BaseRequest, Bases, Plan, PlanRequest, Planned};
use crate::platform::Platform;
use crate::progress::Progress;

/// What is built for, each platform once.
pub(super) fn platforms(ask: &BuildRequest) -> Vec<Platform> {
    let mut platforms = Vec::new();
    for platform in &ask.platforms {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    platforms
}

/// Plans every platform, and resolves the bases that they turn out to need, those
/// of one round at once.
pub(super) async fn planned(
    ask: &BuildRequest,
    env: &BuildEnv<'_>,
    file: &dockerfile::Dockerfile,
    said: Vec<Diagnostic>,
) -> Result<Vec<Plan>, BuildError> {
    let platforms = platforms(ask);
    let ignore = ask.ignore.as_ref().map(|text| ignored(Some(text))).transpose()?;
    let times = times::times(ask, file);
    let request = |platform: &Platform| PlanRequest {
        ignore: ignore.clone(),
        times: times.clone(),
        ..plan_request(ask, platform, platforms.len() > 1)
    };
    for name in &ask.no_cache_filter {
        let own = |stage: &dockerfile::Stage| {
            stage.from.name.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case(name))
        };
        if !file.stages.iter().any(own) {
            env.progress.warn(format!("--no-cache-filter: no stage is named `{name}`"));
        }
    }
    let requests: Vec<PlanRequest> = platforms.iter().map(request).collect();
    let wrong = |error: plan::PlanError| BuildError::Dockerfile {
        source_text: ask.dockerfile.clone(),
        diagnostics: error.diagnostics,
    };
    let mut bases = Bases::default();
    loop {
        let (mut plans, mut wanted) = (Vec::new(), Vec::<BaseRequest>::new());
        for request in &requests {
            // What is wrong where an empty image stands for one may come of that.
            let made = plan::plan(file, request, &bases);
            match made.map_err(|error| unlocked(ask, env).unwrap_or_else(|| wrong(error)))? {
                Planned::Missing(more) => {
                    for want in more {
                        let same = |known: &BaseRequest| known.is(&want.reference, &want.platform);
                        if !wanted.iter().any(same) {
                            wanted.push(want);
                        }
                    }
                }
                Planned::Ready(plan) => plans.push(plan),
            }
        }
        if wanted.is_empty() {
            inputs::refuse_unlocked(&plans, env);
            if let Some(error) = unlocked(ask, env) {
                return Err(error);
            }
            let mut said = said;
            for warning in plans.iter().flat_map(|plan| &plan.warnings) {
                if !said.contains(warning) {
                    said.push(warning.clone());
                }
            }
            said.sort_by_key(|said| said.span.start);
            warn(ask, env.progress, &said);
            let settings = Settings::of(file, &ask.build_args);
            let fails = settings.is_ok_and(|settings| settings.fails());
            return match broken(&said).filter(|_| fails) {
                Some(rules) => Err(rules.into()),
                None => Ok(plans),
            };
        }
        let mut open = Vec::with_capacity(wanted.len());
        for want in wanted {
            // With an empty image in its place the rest is found out as well.
            match resolve::is_allowed(&want, ask, env)? {
                true => open.push(want),
                false => bases.give_up(&want),
            }
        }
        let wanted = open;
        let found = wanted.iter().map(|want| stoppable(env, resolve::base(want, ask, env)));
        let found = futures_util::future::try_join_all(found).await?;
        for (want, base) in wanted.into_iter().zip(found) {
            bases.insert(want.reference, want.platform, base);
        }
    }
}

pub(super) fn plan_request(ask: &BuildRequest, platform: &Platform, several: bool) -> PlanRequest {
    PlanRequest {
        platform: platform.clone(),
        build_platform: Platform::host(),
        target: ask.target.clone(),
        build_args: ask.build_args.clone(),
        labels: ask.labels.clone(),
        contexts: ask
            .contexts
            .iter()
            .map(|(name, source)| (name.clone(), resolve::named(source)))
            .collect(),
        network: ask.network,
        insecure: ask.insecure,
        normalize: ask.normalize,
        hosts: ask.hosts.clone(),
        epoch: ask.epoch,
        times: BTreeMap::new(),
        chosen: !ask.platforms.is_empty(),
        several,
        anew: ask.no_cache_filter.clone(),
        ignore: None,
        all_stages: false,
    }
}

/// The refusal of all that the lock does not have, if there is anything.
fn unlocked(ask: &BuildRequest, env: &BuildEnv<'_>) -> Option<BuildError> {
    let unlocked = env.sources.refused();
    let source_text = ask.dockerfile.clone();
    (!unlocked.is_empty()).then_some(BuildError::Unlocked { source_text, unlocked })
}

/// The rules that warnings are about; none if there are none.
pub(super) fn broken(warnings: &[Diagnostic]) -> Option<BrokenRules> {
    let names: BTreeSet<&'static str> =
        warnings.iter().filter_map(|said| Some(said.rule?.name)).collect();
    (!names.is_empty()).then_some(BrokenRules(names))
}

fn warn(ask: &BuildRequest, progress: &Progress, warnings: &[Diagnostic]) {
    for warning in warnings {
        let line = ask.dockerfile.line(warning.span.start);
        let place = if warning.span.end == 0 {
            String::new()
        } else {
            format!("{}:{line}: ", ask.dockerfile.name())
        };
        let hint = warning.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let rule = warning.rule.map(|rule| format!("{}: ", rule.name)).unwrap_or_default();
        progress.warn(format!("{place}{rule}{}{hint}", warning.message));
    }
}
