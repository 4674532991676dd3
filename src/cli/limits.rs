//! The flags that limit what a container, or each `RUN` of a build, may use.

use super::report::CliError;
use super::value::{Cpus, MemorySwap, PidsLimit, Processors, Quota, Size};
use crate::container::{LimitChanges, Limits};
use crate::sandbox::{self, Own, Ulimit};

const HEADING: &str = "Limits of the container, or of each RUN";

/// Microseconds: the kernel's usual period, and those that it takes.
const PERIOD: u64 = 100_000;

/// What processes may use together: of `run`, `update` and `build`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LimitFlags {
    /// Most memory, in bytes or with a unit (k, m, g): 64m; 0 is no limit
    ///
    /// This, --cpus and --pids-limit need a control group, which `kiln doctor` tells of.
    /// Where none can be made a container is refused; a RUN is limited process by process
    /// as far as that goes, and what is not limited is said.
    #[arg(short, long, help_heading = HEADING, value_name = "SIZE")]
    pub memory: Option<Size>,

    /// Most memory and swap together; -1 is swap without a limit [default: no swap where
    /// memory is limited]
    #[arg(long, help_heading = HEADING, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory_swap: Option<MemorySwap>,

    /// Most processor time, in processors: 1.5
    #[arg(long, help_heading = HEADING, value_name = "COUNT", conflicts_with_all = ["cpu_period", "cpu_quota"])]
    pub cpus: Option<Cpus>,

    /// Microseconds that --cpu-quota is a part of [default: 100000]
    #[arg(long, help_heading = HEADING, value_name = "TIME", requires = "cpu_quota",
        value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    pub cpu_period: Option<u64>,

    /// Most processor time in each period, in microseconds; as --cpus of the ratio
    #[arg(long, help_heading = HEADING, value_name = "TIME", allow_negative_numbers = true)]
    pub cpu_quota: Option<Quota>,

    /// Most processes; -1 is no limit
    #[arg(long, help_heading = HEADING, value_name = "COUNT", allow_negative_numbers = true)]
    pub pids_limit: Option<PidsLimit>,
}

/// What each process has for itself: of `run` and `build`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct OwnLimitFlags {
    /// Processors to run on: 0-3,5; a program may choose others again
    #[arg(long, help_heading = HEADING, value_name = "LIST")]
    pub cpuset_cpus: Option<Processors>,

    /// Limit of each process (core, nofile, nproc, …), -1 for none; may be repeated
    #[arg(long = "ulimit", help_heading = HEADING, value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<Ulimit>,

    /// Size of /dev/shm [default: 64m]
    #[arg(long, help_heading = HEADING, value_name = "SIZE")]
    pub shm_size: Option<Size>,
}

impl LimitFlags {
    /// What the flags change of a container's limits.
    pub(super) fn changes(&self) -> LimitChanges {
        let quota = self.cpu_quota.map(|quota| {
            let period = self.cpu_period.unwrap_or(PERIOD);
            #[expect(clippy::cast_precision_loss, reason = "both are below 2^53")]
            quota.0.map(|quota| quota as f64 / period as f64)
        });
        LimitChanges {
            memory: self.memory.map(|size| Some(size.0).filter(|&bytes| bytes > 0)),
            memory_swap: self.memory_swap.map(|swap| swap.0),
            cpus: self.cpus.map(|cpus| Some(cpus.0)).or(quota),
            pids: self.pids_limit.map(|pids| pids.0),
        }
    }

    /// The limits of something new.
    pub(super) fn limits(&self) -> Limits {
        self.changes().apply(&Limits::default())
    }

    /// Those of each `RUN`.
    pub(super) fn of_steps(&self, own: &OwnLimitFlags) -> Result<sandbox::Limits, CliError> {
        let Limits { memory, memory_swap, cpus, pids } = self.limits();
        let limits = sandbox::Limits { memory, memory_swap, cpus, pids, ..Default::default() };
        let own = own.own();
        sandbox::cgroup::check(&limits).map_err(|error| CliError::usage(error.to_string()))?;
        Ok(sandbox::Limits { own, ..limits })
    }
}

impl OwnLimitFlags {
    /// The last of several with one name counts.
    pub(super) fn own(&self) -> Own {
        let mut ulimits: Vec<Ulimit> = Vec::new();
        for ulimit in &self.ulimits {
            ulimits.retain(|other| other.resource != ulimit.resource);
            ulimits.push(*ulimit);
        }
        let cpuset = self.cpuset_cpus.clone().unwrap_or_default().0;
        let shm = self.shm_size.map(|size| size.0).filter(|&bytes| bytes > 0);
        Own { ulimits, cpuset, shm }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parse(line: &str) -> Result<sandbox::Limits, String> {
        let command =
            OwnLimitFlags::augment_args(LimitFlags::augment_args(clap::Command::new("x")));
        let found = command.try_get_matches_from(line.split(' ')).map_err(|e| e.to_string())?;
        let together = LimitFlags::from_arg_matches(&found).map_err(|e| e.to_string())?;
        let own = OwnLimitFlags::from_arg_matches(&found).map_err(|e| e.to_string())?;
        together.of_steps(&own).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn what_docker_takes() {
        let limits = parse(
            "x -m 64m --memory-swap 128m --cpu-quota 50000 --cpu-period 25000 --pids-limit 9 \
             --ulimit nofile=1:2 --ulimit core=0 --ulimit nofile=3 --shm-size 1m --cpuset-cpus 0-1,3",
        )
        .unwrap();
        let own = Own {
            ulimits: vec!["core=0".parse().unwrap(), "nofile=3".parse().unwrap()],
            cpuset: vec![0, 1, 3],
            shm: Some(1 << 20),
        };
        let expected = sandbox::Limits {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            cpus: Some(2.0),
            pids: Some(9),
            own,
            ..sandbox::Limits::default()
        };
        assert_eq!(limits, expected);
        let none = "x -m 0 --memory-swap -1 --cpu-quota -1 --pids-limit -1 --shm-size 0";
        let limits = parse(&none.replace("--memory-swap -1 ", "")).unwrap();
        assert_eq!(limits, sandbox::Limits::default());
        assert_eq!(parse("x -m 8m --memory-swap -1").unwrap().memory_swap, Some(u64::MAX));
        assert_eq!(parse("x --cpu-quota 50000").unwrap().cpus, Some(0.5));
    }

    #[test]
    fn what_makes_no_sense() {
        for (line, says) in [
            ("x -m 1k", "too small"),
            ("x --memory-swap 64m", "limit that as well"),
            ("x -m 64m --memory-swap 32m", "the sum of both"),
            ("x --cpus 1 --cpu-quota 5000", "--cpu-quota"),
            ("x --cpu-period 5000", "--cpu-quota"),
            ("x --cpu-quota 5000 --cpu-period 5", "--cpu-period"),
            ("x --cpu-quota 5", "--cpu-quota"),
            ("x --ulimit locks=5", "the kernel holds no such limit"),
            ("x --ulimit nofile=5:1", "above the hard one"),
            ("x --ulimit files=5", "core, cpu"),
            ("x --cpuset-cpus 3-1", "--cpuset-cpus"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(says), "{line}: {said}");
        }
    }
}
