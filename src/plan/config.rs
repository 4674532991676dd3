//! Values that the image config has a form of its own for.

use serde_json::{Map, Value, json};

use crate::dockerfile::{CommandLine, HealthTest, Healthcheck, history};
use crate::epoch::Epoch;
use crate::image::{Config, ImageConfig};

use super::graph::PlanRequest;

/// What programs are looked for in if the image does not say.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runs a text if `SHELL` names nothing.
fn default_shell(os: &str) -> &'static [&'static str] {
    if os == "windows" { &["cmd", "/S", "/C"] } else { &["/bin/sh", "-c"] }
}

/// The arguments of a command: the shell's words before a text.
pub(super) fn arguments(config: &ImageConfig, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
        CommandLine::Shell(text) => {
            let mut argv = match &config.config.shell {
                Some(shell) if !shell.is_empty() => shell.clone(),
                Some(_) | None => {
                    default_shell(&config.os).iter().map(|&word| word.to_owned()).collect()
                }
            };
            argv.push(text.value.clone());
            argv
        }
    }
}

/// A list that is absent where it has nothing, as Go writes it.
pub(super) fn or_absent(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

/// Sets a variable of the image where it stands, or at the end.
pub(super) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let own = |old: &&mut String| old.split_once('=').map_or(old.as_str(), |(own, _)| own) == name;
    match env.iter_mut().find(own) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

pub(super) fn expose(config: &mut Config, ports: &[String]) {
    config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), Default::default())));
}

/// True for what `kill` would take: a number, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let step = |rest: Option<&str>, most: u8| {
        rest.and_then(|rest| rest.parse::<u8>().ok()).is_some_and(|n| (1..=most).contains(&n))
    };
    NAMES.contains(&name)
        || step(name.strip_prefix("RTMIN+"), 15)
        || step(name.strip_prefix("RTMAX-"), 14)
}

/// A `HEALTHCHECK` as the config has it, and as the history tells it.
pub(super) fn healthcheck(check: &Healthcheck) -> (Value, String) {
    let test: Vec<String> = match &check.test {
        HealthTest::None => vec!["NONE".to_owned()],
        HealthTest::Cmd(CommandLine::Shell(text)) => {
            vec!["CMD-SHELL".to_owned(), text.value.clone()]
        }
        HealthTest::Cmd(CommandLine::Exec(words)) => std::iter::once("CMD".to_owned())
            .chain(words.iter().map(|word| word.value.clone()))
            .collect(),
    };
    let told = history::healthcheck(check, &test);
    let mut fields = Map::from_iter([("Test".to_owned(), json!(test))]);
    for (name, time) in [
        ("Interval", &check.interval),
        ("Timeout", &check.timeout),
        ("StartPeriod", &check.start_period),
        ("StartInterval", &check.start_interval),
    ] {
        let time = time.as_ref().map(|time| time.value).unwrap_or_default();
        // The parser keeps times within 63 bits of nanoseconds.
        if let Some(nanos) = u64::try_from(time.as_nanos()).ok().filter(|nanos| *nanos > 0) {
            fields.insert(name.to_owned(), json!(nanos));
        }
    }
    let retries = check.retries.as_ref().map_or(0, |retries| retries.value);
    if retries > 0 {
        fields.insert("Retries".to_owned(), json!(retries));
    }
    (Value::Object(fields), told)
}

/// What remains when all instructions are done.
pub(super) fn finish(config: &mut ImageConfig, ask: &PlanRequest) {
    let labels = ask.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
    config.config.labels.extend(labels);
    if ask.chosen {
        let same = config.os == ask.platform.os && config.architecture == ask.platform.architecture;
        config.os.clone_from(&ask.platform.os);
        config.architecture.clone_from(&ask.platform.architecture);
        if !same || ask.platform.variant.is_some() {
            config.variant.clone_from(&ask.platform.variant);
        }
        if !same || ask.platform.os_version.is_some() {
            config.os_version.clone_from(&ask.platform.os_version);
        }
    }
    let usual = config.platform().normalized();
    (config.architecture, config.variant) = (usual.architecture, usual.variant);
    config.created = Some(Epoch::rfc3339(ask.epoch));
    config.rootfs.kind = "layers".to_owned();
    config.rootfs.diff_ids.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "rtmin", "64"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "SIG", "TERMINATE", "RTMIN+16", "RTMAX-0", "-1"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }

    #[test]
    fn variables_keep_their_place() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned(), "C".to_owned()];
        set_env(&mut env, "AB", "3");
        set_env(&mut env, "C", "");
        set_env(&mut env, "D", "a=b");
        assert_eq!(env, ["A=1", "AB=3", "C=", "D=a=b"]);
    }
}
