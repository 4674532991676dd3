//! Flags of `docker buildx build` and `docker build` that kiln has not. What asks for
//! nothing is accepted; for the rest it is said why, and what to use instead.

use crate::cli::report::CliError;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct RefusedFlags {
    #[arg(long, hide = true, value_name = "NAME")]
    builder: Option<String>,
    #[arg(long, hide = true, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    #[arg(short, long, hide = true, value_name = "WEIGHT")]
    cpu_shares: Option<String>,
    #[arg(long, hide = true, value_name = "LIST")]
    cpuset_mems: Option<String>,
    #[arg(long, hide = true, value_name = "KIND")]
    isolation: Option<String>,
    #[arg(long, hide = true, value_name = "SPEC")]
    security_opt: Vec<String>,
    #[arg(long, hide = true, value_name = "SPEC")]
    policy: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    squash: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    compress: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<String>,
    /// Accepted: no step leaves a container.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_rm: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<String>,
}

/// A flag that kiln has not.
struct Case<'a> {
    flag: &'static str,
    values: &'a [String],
    /// Values that ask for nothing; no value at all never does.
    nothing: &'static [&'static str],
    why: &'static str,
    instead: &'static str,
}

/// Values of a switch that is off, and of one that is on.
const OFF: &[&str] = &["", "0", "f", "F", "false", "False", "FALSE"];
const ON: &[&str] = &["1", "t", "T", "true", "True", "TRUE"];

impl RefusedFlags {
    /// Refuses what asks for something.
    pub(super) fn check(&self) -> Result<(), CliError> {
        for Case { flag, values, nothing, why, instead } in self.cases() {
            let Some(value) = values.iter().find(|value| !nothing.contains(&value.as_str())) else {
                continue;
            };
            let shown = if ON.contains(&value.as_str()) { "" } else { &format!("={value}") };
            return Err(CliError::usage(format!("{flag}{shown}: {why}")).hint(instead));
        }
        Ok(())
    }

    fn cases(&self) -> [Case<'_>; 12] {
        let case =
            |flag, values, nothing, (why, instead)| Case { flag, values, nothing, why, instead };
        [
            case(
                "--builder",
                self.builder.as_slice(),
                &["", "default"],
                (
                    "kiln has no builders: it builds by itself, without a daemon",
                    "leave it out; --store names the folder that builds share",
                ),
            ),
            case(
                "--cgroup-parent",
                self.cgroup_parent.as_slice(),
                &[""],
                (
                    "steps stay in the control group of the caller",
                    "start kiln in the group, as with `systemd-run --scope --slice=NAME kiln build …`",
                ),
            ),
            case(
                "--cpu-shares",
                self.cpu_shares.as_slice(),
                &["", "0"],
                ("steps have no weights against each other", "--cpus limits their processor time"),
            ),
            case(
                "--cpuset-mems",
                self.cpuset_mems.as_slice(),
                &[""],
                (
                    "steps take memory of any node",
                    "start kiln by `numactl --membind=LIST`; steps inherit it",
                ),
            ),
            case(
                "--isolation",
                self.isolation.as_slice(),
                &["", "default"],
                ("steps run in kiln's own sandbox", "--sandbox chooses its tier"),
            ),
            case(
                "--security-opt",
                &self.security_opt,
                &[""],
                (
                    "steps run in kiln's own sandbox, whose filter is always on",
                    "leave it out; --sandbox chooses the tier",
                ),
            ),
            case(
                "--policy",
                &self.policy,
                &[""],
                (
                    "kiln evaluates no policies of sources",
                    "name bases by digest, and files of URLs with ADD --checksum",
                ),
            ),
            case(
                "--squash",
                self.squash.as_slice(),
                OFF,
                (
                    "kiln keeps the layers as the Dockerfile makes them",
                    "copy the files of a stage into one layer: FROM scratch, COPY --from=STAGE / /",
                ),
            ),
            case(
                "--compress",
                self.compress.as_slice(),
                OFF,
                (
                    "the context is read where it lies and sent nowhere",
                    "leave it out; -o type=…,compression= is about layers",
                ),
            ),
            case(
                "--rm",
                self.rm.as_slice(),
                ON,
                ("a step leaves no container that could be kept", "leave it out"),
            ),
            // Either way no step leaves a container.
            case(
                "--force-rm",
                self.force_rm.as_slice(),
                &["", "0", "f", "false", "False", "1", "t", "true", "True"],
                ("true or false is expected", "leave it out"),
            ),
            case(
                "--disable-content-trust",
                self.disable_content_trust.as_slice(),
                ON,
                (
                    "kiln verifies no signatures of Docker Content Trust",
                    "name bases by digest: what a digest names is always verified",
                ),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn check(line: &str) -> Result<(), String> {
        let command = RefusedFlags::augment_args(clap::Command::new("build"));
        let found = command.try_get_matches_from(line.split(' ')).unwrap();
        RefusedFlags::from_arg_matches(&found).unwrap().check().map_err(|error| match error {
            CliError::Usage { message, hint } => format!("{message}; {}", hint.unwrap_or_default()),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_asks_for_nothing_is_accepted() {
        for line in [
            "build",
            "build --builder default --isolation=default",
            "build --rm --force-rm --disable-content-trust --compress=false",
            "build --rm=true --squash=0",
        ] {
            check(line).unwrap();
        }
    }

    #[test]
    fn what_asks_for_something_says_what_to_do() {
        for (line, says) in [
            ("build --builder remote", "without a daemon"),
            ("build --cgroup-parent x", "systemd-run"),
            ("build -c 512", "--cpus"),
            ("build --cpuset-mems 0", "numactl"),
            ("build --isolation hyperv", "--sandbox"),
            ("build --security-opt seccomp=x", "--sandbox"),
            ("build --policy filename=x", "digest"),
            ("build --squash", "--squash: kiln keeps"),
            ("build --compress", "sent nowhere"),
            ("build --rm=false", "leaves no container"),
            ("build --disable-content-trust=false", "digest"),
        ] {
            let said = check(line).unwrap_err();
            assert!(said.contains(says), "{line}: {said}");
        }
    }
}
